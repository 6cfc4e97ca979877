//! A small number for a type that models are checked as: what a hit compares in place of a [`TypeId`].
//!
//! Two numbers are equal if the types are. Beyond [`TAGS`] types, which no process has, the rest have a number that is
//! no type's: their models are found all the same, under the lock.

use std::{any::TypeId, sync::OnceLock};

use super::archive::Model;

/// Types that can have a number of their own.
const TAGS: usize = 1024;

/// Types by their numbers, from the front.
static TYPES: [OnceLock<TypeId>; TAGS] = [const { OnceLock::new() }; TAGS];

/// The number of a type, the same as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeTag(u32);

impl TypeTag {
    pub(super) fn of(id: TypeId) -> Self {
        let at = TYPES.iter().position(|known| *known.get_or_init(|| id) == id);
        Self(at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX))
    }

    /// Whether it is the number of this type.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "the hot path")]
    pub(super) fn is<M: Model>(self) -> bool {
        let known = usize::try_from(self.0).ok().and_then(|at| TYPES.get(at)).and_then(OnceLock::get);
        known == Some(&TypeId::of::<M>())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::format::schema::Schema;

    #[derive(rkyv::Archive, rkyv::Serialize)]
    struct One(u8);

    #[derive(rkyv::Archive, rkyv::Serialize)]
    struct Other(u8);

    impl Model for One {
        const SCHEMA: Schema = Schema::new("one", 1);
    }

    impl Model for Other {
        const SCHEMA: Schema = Schema::new("one", 1);
    }

    #[test]
    fn a_type_has_one_number_whichever_thread_asks_and_no_other_type_has_it() {
        let ask = || thread::spawn(|| (TypeTag::of(TypeId::of::<One>()), TypeTag::of(TypeId::of::<Other>())));
        let asked: Vec<_> = (0..8).map(|_| ask()).collect();
        for thread in asked {
            let (one, other) = thread.join().unwrap();
            assert!(one.is::<One>() && other.is::<Other>());
            assert!(!one.is::<Other>() && !other.is::<One>());
        }
        assert!(!TypeTag(u32::MAX).is::<One>());
    }
}
