//! Archives in memory: bytes that were checked against a type, and typed views of them.
//!
//! Owns the [`Model`] trait and the only cast from bytes to an archived type. A [`ValidatedBytes`] buffer is proof that
//! its bytes passed rkyv's validator and the model's own `validate` for one Rust type; [`ArchiveRef`] hands that type
//! out again, at the cost of a pointer. Nothing here knows where the bytes came from.

#![allow(unsafe_code, reason = "reading an archive in place is what this file is for; see `ArchiveRef::deref`")]

use std::{
    alloc::Layout,
    any::TypeId,
    cell::Cell,
    num::NonZeroUsize,
    ops::{Deref, Range},
    ptr::NonNull,
    sync::Arc,
};

use rkyv::{
    Archive, Portable, Serialize,
    api::{
        access_pos_unchecked, check_pos_with_context,
        high::{HighSerializer, to_bytes_in},
        root_position,
    },
    bytecheck::CheckBytes,
    rancor::{self, Source, Strategy},
    ser::allocator::ArenaHandle,
    util::AlignedVec,
    validation::{ArchiveContext, Validator, archive::ArchiveValidator, shared::SharedValidator},
};

use super::type_tag::TypeTag;
use crate::{
    format::{
        buffer::{self, ALIGNMENT, AlignedBuf},
        envelope::HEADER_BYTES,
        schema::Schema,
    },
    sync::panics::contained,
    types::{
        error::{Error, ErrorKind, Result},
        limits::{ARCHIVE_BYTES_MAX, ARCHIVE_DEPTH_MAX},
    },
};

/// Room in front of an archive that was serialised: for the header of its envelope, and so much more that the archive
/// stays aligned.
const FRONT_BYTES: usize = HEADER_BYTES.next_multiple_of(ALIGNMENT);

/// A type that can be kept: any `Sized` type that derives rkyv's `Archive` and `Serialize`.
///
/// Stored types hold no hash maps, no `Rc`, `Arc` or `Box<dyn Trait>`, no recursion and no vectors of zero-sized
/// elements: a hostile or broken file could make rkyv's view of those crash or hang. No part of one wants an alignment
/// of more than 64 bytes: archives in memory have no more. Sorted vectors and flat arenas with `u32` indices do the
/// same work; [`validate`](Model::validate) is where indices are checked.
///
/// ```
/// use modelkeep::{Invalid, Model, Schema};
///
/// #[derive(rkyv::Archive, rkyv::Serialize)]
/// struct Momentum { weights: Vec<f64>, bias: f64 }
///
/// impl Model for Momentum {
///     const SCHEMA: Schema = Schema::new("momentum", 1);
///
///     fn validate(archived: &Self::Archived) -> Result<(), Invalid> {
///         if archived.weights.iter().all(|w| w.to_native().is_finite()) {
///             Ok(())
///         } else {
///             Err(Invalid::new("a weight is not finite"))
///         }
///     }
/// }
/// ```
pub trait Model:
    Sized
    + 'static
    + Archive<Archived: Portable + Send + Sync + for<'a> CheckBytes<ModelValidator<'a>>>
    + for<'a> Serialize<HighSerializer<AlignedVec<ALIGNMENT>, ArenaHandle<'a>, rancor::Error>>
{
    /// The schema: a name and a version that is raised whenever the fields change.
    const SCHEMA: Schema;

    /// Checks what the structure of the bytes cannot say: indices in range, shapes that agree, finite values.
    ///
    /// Runs after rkyv's validation, before a model is stored and again after it was loaded. The default accepts. The
    /// parts of a composed model are not asked by themselves: call `Part::validate(&archived.part)?` for each. A panic
    /// in it is a refusal, too: it may run in the background, and while others wait for a commit to be shown.
    ///
    /// # Errors
    /// [`Invalid`] with the reason; the model is then not stored, or not served.
    fn validate(archived: &Self::Archived) -> Result<(), Invalid> {
        let _: &Self::Archived = archived;
        Ok(())
    }
}

/// What rkyv checks the bytes of a model with: its own validator, which also refuses parts that want to be aligned more
/// than archives are. Types that derive `rkyv::Archive` can be checked with it.
pub type ModelValidator<'a> = Strategy<Validator<ModelBytes<'a>, SharedValidator>, rancor::Error>;

/// The bytes of a model while they are checked.
#[derive(Debug)]
pub struct ModelBytes<'a> {
    validator: ArchiveValidator<'a>,
    /// The widest alignment that was asked for and is not there.
    too_wide: &'a Cell<usize>,
}

#[derive(Debug, thiserror::Error)]
#[error("a part of it wants to be aligned to {0} bytes")]
struct TooWide(usize);

// SAFETY: it refuses more than the validator that it asks.
unsafe impl<E: Source> ArchiveContext<E> for ModelBytes<'_> {
    fn check_subtree_ptr(&mut self, ptr: *const u8, layout: &Layout) -> Result<(), E> {
        // By chance the bytes may be aligned now, and the next time they are not.
        if layout.align() > ALIGNMENT {
            self.too_wide.set(self.too_wide.get().max(layout.align()));
            return Err(E::new(TooWide(layout.align())));
        }
        self.validator.check_subtree_ptr(ptr, layout)
    }

    // # Safety: that of the trait.
    unsafe fn push_subtree_range(&mut self, root: *const u8, end: *const u8) -> Result<Range<usize>, E> {
        // SAFETY: the caller vouches for the same.
        unsafe { self.validator.push_subtree_range(root, end) }
    }

    // # Safety: that of the trait.
    unsafe fn pop_subtree_range(&mut self, range: Range<usize>) -> Result<(), E> {
        // SAFETY: the caller vouches for the same.
        unsafe { self.validator.pop_subtree_range(range) }
    }
}

/// Why a model's own `validate` refused it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    /// Returns the refusal with its reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<&str> for Invalid {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<String> for Invalid {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

/// Bytes that were checked against one Rust type.
#[derive(Debug)]
pub(crate) struct ValidatedBytes {
    bytes: AlignedBuf,
    root: RootPtr,
}

/// Where a checked archive has its root, and for which type it was checked. Good for as long as the [`ValidatedBytes`]
/// lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RootPtr {
    at: NonNull<u8>,
    checked_for: TypeId,
}

// SAFETY: a root is an address; whoever reads there vouches for what keeps it.
unsafe impl Send for RootPtr {}
// SAFETY: as above.
unsafe impl Sync for RootPtr {}

impl RootPtr {
    /// Whether the bytes were checked for this type.
    #[inline]
    pub(crate) fn is_of<M: Model>(self) -> bool {
        self.checked_for == TypeId::of::<M>()
    }

    /// The address, and the type apart from it.
    pub(super) fn into_parts(self) -> (RootAddress, TypeTag) {
        (RootAddress(self.at), TypeTag::of(self.checked_for))
    }
}

/// The address of a [`RootPtr`].
#[derive(Clone, Copy, Debug)]
pub(super) struct RootAddress(NonNull<u8>);

// SAFETY: as for a root.
unsafe impl Send for RootAddress {}
// SAFETY: as for a root.
unsafe impl Sync for RootAddress {}

impl RootAddress {
    /// As a number.
    pub(super) fn addr(self) -> usize {
        self.0.addr().get()
    }
}

impl ValidatedBytes {
    /// Serialises `model` and checks the result, so that nothing is stored which could not be read again.
    ///
    /// `expected_bytes` is a guess at the archive's size; a good one saves copying while it grows.
    pub(crate) fn from_model<M: Model>(model: &M, expected_bytes: usize) -> Result<Self> {
        let subject = M::SCHEMA.to_string();
        let expected = usize::try_from(ARCHIVE_BYTES_MAX).map_or(ALIGNMENT, |max| expected_bytes.clamp(ALIGNMENT, max));
        let mut room = buffer::room(FRONT_BYTES + expected);
        room.resize(FRONT_BYTES, 0);
        let bytes = to_bytes_in::<_, rancor::Error>(model, room).map_err(|err| {
            Error::invalid("archive model", subject.clone(), "it cannot be serialised").with_source(err)
        })?;
        let archive_bytes = bytes.len() - FRONT_BYTES;
        if archive_bytes as u64 > ARCHIVE_BYTES_MAX {
            let message = format!("{archive_bytes} bytes exceed the limit of {ARCHIVE_BYTES_MAX}");
            return Err(Error::new(ErrorKind::LimitExceeded, "archive model", subject, message));
        }
        let bytes = AlignedBuf::with_room(bytes, FRONT_BYTES);
        Self::from_bytes::<M>(bytes).map_err(|err| {
            let refused = Error::invalid("archive model", subject, err.message().to_owned());
            match err.into_source() {
                Some(source) => refused.with_source(source),
                None => refused,
            }
        })
    }

    /// Checks the structure and the meaning of `bytes` as an archived `M`.
    pub(crate) fn from_bytes<M: Model>(bytes: AlignedBuf) -> Result<Self> {
        let at = NonNull::from(check::<M>(&bytes)?).cast();
        Ok(Self { bytes, root: RootPtr { at, checked_for: TypeId::of::<M>() } })
    }

    /// The archive's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes `header` right before the archive, and returns both in one piece; `None` where there is no room for it.
    pub(crate) fn sealed(&mut self, header: &[u8; HEADER_BYTES]) -> Option<&[u8]> {
        let sealed = self.bytes.with_front(header)?;
        // The same address, of the borrow that came last.
        self.root.at = NonNull::from(sealed).cast().with_addr(self.root.at.addr());
        Some(sealed)
    }

    /// Whether the bytes lie in the file, and not in memory of their own.
    pub(crate) fn is_in_file(&self) -> bool {
        self.bytes.is_borrowed()
    }

    /// Where the root is of an `M`, checking the bytes if they were checked for another type.
    pub(crate) fn root_as<M: Model>(&self) -> Result<RootPtr> {
        if self.root.is_of::<M>() {
            return Ok(self.root);
        }
        Ok(RootPtr { at: NonNull::from(check::<M>(&self.bytes)?).cast(), checked_for: TypeId::of::<M>() })
    }

    /// Where the root is. Bytes do not move when the buffer that holds them does.
    pub(crate) fn root(&self) -> RootPtr {
        self.root
    }

    /// Whether all bytes are in memory already.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.bytes.is_at_hand()
    }

    /// Brings all bytes into memory that are not there yet, unless it is told to stop.
    pub(crate) fn populate(&self, stopped: impl Fn() -> bool) {
        self.bytes.populate(stopped);
    }
}

/// Runs rkyv's validator, with a bound on depth, and then the model's own; returns the root.
fn check<M: Model>(bytes: &[u8]) -> Result<&M::Archived> {
    const { assert!(align_of::<M::Archived>() <= ALIGNMENT, "archives are aligned to 64 bytes and no more") };
    let broken = |message: String| Error::corrupt("read archive", M::SCHEMA.to_string(), message);
    if bytes.len() < size_of::<M::Archived>() {
        return Err(broken(format!("{} bytes are too few for the type", bytes.len())));
    }
    let too_wide = Cell::new(0);
    let validator = ArchiveValidator::with_max_depth(bytes, NonZeroUsize::new(ARCHIVE_DEPTH_MAX));
    let mut context = Validator::new(ModelBytes { validator, too_wide: &too_wide }, SharedValidator::new());
    let root = root_position::<M::Archived>(bytes.len());
    // A type may check itself by code of its own, which may panic.
    let panicked = |panic| broken(format!("its check panicked: {panic}"));
    let checked = contained(|| check_pos_with_context::<M::Archived, _, rancor::Error>(bytes, root, &mut context));
    checked.map_err(panicked)?.map_err(|err| {
        let message = match too_wide.get() {
            0 => "its structure is not that of the type".into(),
            wide => format!("a part of the type wants to be aligned to {wide} bytes, and archives are to {ALIGNMENT}"),
        };
        broken(message).with_source(err)
    })?;
    // SAFETY: the line above validated an `M::Archived` at `root` in these very bytes.
    let archived = unsafe { access_pos_unchecked::<M::Archived>(bytes, root) };
    match contained(|| M::validate(archived)).map_err(panicked)? {
        Ok(()) => Ok(archived),
        Err(err) => Err(broken(format!("the model refuses it: {err}")).with_source(err)),
    }
}

/// Something that holds checked bytes.
///
/// # Safety
/// `root` and `checked` are always those of one and the same [`ValidatedBytes`], which lives as long as the holder
/// does, wherever that is moved to.
pub(crate) unsafe trait StableArchive {
    /// The root.
    fn root(&self) -> RootPtr;

    /// The bytes.
    fn checked(&self) -> &ValidatedBytes;
}

/// A holder of bytes that were checked for `M`.
pub(crate) struct ArchiveRef<M: Model, H> {
    /// In the holder's bytes.
    root: NonNull<M::Archived>,
    holder: H,
}

// SAFETY: it is a shared reference to the archive together with what keeps the archive, and archives are `Send + Sync`.
unsafe impl<M: Model, H: Send> Send for ArchiveRef<M, H> {}
// SAFETY: as above.
unsafe impl<M: Model, H: Sync> Sync for ArchiveRef<M, H> {}

impl<M: Model, H: StableArchive> ArchiveRef<M, H> {
    /// Takes the holder's bytes as an `M`, checking them again if they were checked for another Rust type.
    #[inline]
    pub(crate) fn new(holder: H) -> Result<Self> {
        let root = holder.root();
        let root = if root.is_of::<M>() { root } else { holder.checked().root_as::<M>()? };
        Ok(Self { root: root.at.cast(), holder })
    }

    /// The same, without asking the holder where the root is.
    ///
    /// # Safety
    /// It is the root of the holder's bytes, which were checked for `M`.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(super) unsafe fn vouched(holder: H, root: RootAddress) -> Self {
        Self { root: root.0.cast(), holder }
    }

    /// The same for bytes that were checked for `M`: nothing can fail, or has to be moved about.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path: moving the result costs as much as finding it")]
    pub(crate) fn known(holder: H) -> Option<Self> {
        let root = holder.root();
        root.is_of::<M>().then(|| Self { root: root.at.cast(), holder })
    }
}

impl<M: Model, H> ArchiveRef<M, H> {
    /// Gives the holder back.
    pub(crate) fn into_holder(self) -> H {
        self.holder
    }

    /// Returns the holder.
    pub(crate) fn holder(&self) -> &H {
        &self.holder
    }
}

impl<M: Model, H> Deref for ArchiveRef<M, H> {
    type Target = M::Archived;

    #[inline]
    fn deref(&self) -> &M::Archived {
        // SAFETY: it is from `check::<M>`, run now or when the holder's bytes were made, or whoever built it vouches
        // for that; and the holder keeps them where they are and as they are.
        unsafe { self.root.as_ref() }
    }
}

impl<M: Model, H: Clone> Clone for ArchiveRef<M, H> {
    fn clone(&self) -> Self {
        Self { root: self.root, holder: self.holder.clone() }
    }
}

// SAFETY: an `Arc` keeps what it points to where it is.
unsafe impl StableArchive for Arc<ValidatedBytes> {
    fn root(&self) -> RootPtr {
        self.root
    }

    fn checked(&self) -> &ValidatedBytes {
        self
    }
}

#[cfg(test)]
mod tests;
