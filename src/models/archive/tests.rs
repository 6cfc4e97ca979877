//! Archives in memory, of types that are right, wrong and deep.

use super::*;

#[derive(Archive, Serialize)]
struct Line {
    slope: Vec<f64>,
}

impl Model for Line {
    const SCHEMA: Schema = Schema::new("line", 1);

    fn validate(archived: &ArchivedLine) -> Result<(), Invalid> {
        match archived.slope.iter().position(|w| !w.to_native().is_finite()) {
            Some(at) => Err(Invalid::new(format!("slope[{at}] is not finite"))),
            None => Ok(()),
        }
    }
}

/// The same fields under another type: rkyv cannot tell, `TypeId` can.
#[derive(Archive, Serialize)]
struct Strict {
    slope: Vec<f64>,
}

impl Model for Strict {
    const SCHEMA: Schema = Schema::new("line", 1);

    fn validate(_: &ArchivedStrict) -> Result<(), Invalid> {
        Err(Invalid::new("never good enough"))
    }
}

#[derive(Archive, Serialize)]
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, <__S as rancor::Fallible>::Error: Source))]
#[rkyv(bytecheck(bounds(__C: ArchiveContext, <__C as rancor::Fallible>::Error: Source)))]
struct Deep(#[rkyv(omit_bounds)] Option<Box<Deep>>);

impl Model for Deep {
    const SCHEMA: Schema = Schema::new("deep", 1);
}

#[test]
fn a_model_is_read_in_place() {
    let checked = Arc::new(ValidatedBytes::from_model(&Line { slope: vec![1.0, 2.0] }, 0).unwrap());
    let typed = ArchiveRef::<Line, _>::new(Arc::clone(&checked)).unwrap();
    assert_eq!(typed.slope.len(), 2);
    let place = checked.bytes().as_ptr_range();
    assert!(place.contains(&typed.slope.as_ptr().cast()));
}

#[test]
fn a_header_is_put_before_an_archive_that_is_read_meanwhile() {
    for numbers in [3, 100_000] {
        let line = Line { slope: vec![0.5; numbers] };
        let mut checked = ValidatedBytes::from_model(&line, 0).unwrap();
        let archive = checked.bytes().to_vec();
        let sealed = checked.sealed(&[7; HEADER_BYTES]).map(<[u8]>::to_vec);
        assert_eq!(sealed, (numbers > 3).then(|| [[7; HEADER_BYTES].as_slice(), &archive].concat()));
        let typed = ArchiveRef::<Line, _>::new(Arc::new(checked)).unwrap();
        assert!(typed.slope.iter().all(|weight| weight.to_native() == 0.5), "{numbers}");
    }
}

#[test]
fn a_model_that_refuses_itself_is_not_archived() {
    let err = ValidatedBytes::from_model(&Line { slope: vec![0.0, f64::NAN] }, 0).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidInput);
    assert!(err.message().contains("slope[1] is not finite"), "{err}");
}

#[test]
fn bytes_checked_for_one_type_are_checked_again_for_another() {
    let checked = Arc::new(ValidatedBytes::from_model(&Line { slope: vec![1.0] }, 0).unwrap());
    assert!(ArchiveRef::<Strict, _>::new(Arc::clone(&checked)).is_err());
    assert!(ArchiveRef::<Line, _>::new(checked).is_ok());
}

#[test]
fn nesting_beyond_the_limit_is_an_error_not_a_stack_overflow() {
    let deep = |levels| (0..levels).fold(Deep(None), |inner, _| Deep(Some(Box::new(inner))));
    assert!(ValidatedBytes::from_model(&deep(ARCHIVE_DEPTH_MAX / 2), 0).is_ok());
    let err = ValidatedBytes::from_model(&deep(ARCHIVE_DEPTH_MAX * 2), 0).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidInput);
}

#[test]
fn bytes_of_no_type_are_refused_whatever_their_length() {
    for len in 0..200 {
        let bytes = AlignedBuf::copy_of(&vec![0xa5; len]).unwrap();
        assert!(ValidatedBytes::from_bytes::<Line>(bytes).is_err(), "{len} bytes");
    }
}
