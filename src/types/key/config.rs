//! The hash of a configuration: BLAKE3 over its RFC 8785 form.
//!
//! It is the plain, unkeyed BLAKE3 of the canonical text that the metadata keeps, so that anybody can check a hash
//! with `b3sum`. RFC 8785: <https://www.rfc-editor.org/rfc/rfc8785>.

use serde::Serialize;

use super::{exact, name::ModelName};
use crate::types::{
    error::{Error, ErrorKind, Result},
    hash::hash_type,
    limits,
};

hash_type! {
    /// The BLAKE3 hash of a configuration in canonical JSON.
    ConfigHash
}

impl ConfigHash {
    /// Returns the hash of a text that already is in canonical form.
    pub(crate) fn of_canonical(canonical: &str) -> Self {
        Self(blake3::hash(canonical.as_bytes()).into())
    }
}

/// Returns the RFC 8785 form of `config`, after checking that JSON can carry every number in it.
pub(super) fn canonical<C: Serialize + ?Sized>(name: &ModelName, config: &C) -> Result<String> {
    let refuse = |err: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("the configuration has no canonical JSON form: {err}");
        Error::invalid("hash config", name.as_str(), message).with_source(err)
    };
    exact::check(config).map_err(|err| refuse(Box::new(err)))?;
    let text = serde_json_canonicalizer::to_string(&config).map_err(|err| refuse(Box::new(err)))?;
    if text.len() > limits::CONFIG_BYTES_MAX {
        let message = format!(
            "the canonical configuration has {} bytes, at most {} are allowed",
            text.len(),
            limits::CONFIG_BYTES_MAX
        );
        return Err(Error::new(ErrorKind::LimitExceeded, "hash config", name.as_str(), message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn hash<C: Serialize>(config: &C) -> ConfigHash {
        let name = ModelName::new("m").unwrap();
        ConfigHash::of_canonical(&canonical(&name, config).unwrap())
    }

    fn refusal<C: Serialize>(config: &C) -> String {
        let name = ModelName::new("m").unwrap();
        canonical(&name, config).unwrap_err().to_string()
    }

    #[test]
    fn the_hash_is_blake3_of_the_canonical_text() {
        // The number examples of RFC 8785, section 3.2.2.3 and appendix B.
        let config = json!({"b": [1e30, 4.50, 2e-3, 1e-27, 333_333_333.333_333_3], "a": "\u{20ac}\n"});
        let text = canonical(&ModelName::new("m").unwrap(), &config).unwrap();
        assert_eq!(text, "{\"a\":\"\u{20ac}\\n\",\"b\":[1e+30,4.5,0.002,1e-27,333333333.3333333]}");
        assert_eq!(hash(&config).as_bytes(), blake3::hash(text.as_bytes()).as_bytes());
    }

    #[test]
    fn order_and_spelling_do_not_matter() {
        #[derive(Serialize)]
        struct Ab {
            a: u8,
            b: f32,
        }
        #[derive(Serialize)]
        struct Ba {
            b: f64,
            a: i64,
        }
        let from_text: Value = serde_json::from_str(r#"{ "b" : 25e-1, "a":1.0 }"#).unwrap();
        let expected = hash(&json!({"a": 1, "b": 2.5}));
        assert_eq!(hash(&Ab { a: 1, b: 2.5 }), expected);
        assert_eq!(hash(&Ba { b: 2.5, a: 1 }), expected);
        assert_eq!(hash(&from_text), expected);
        let one: HashMap<_, _> = (0..50).map(|i| (i.to_string(), i)).collect();
        let other: BTreeMap<_, _> = (0..50).rev().map(|i| (i.to_string(), i)).collect();
        assert_eq!(hash(&one), hash(&other));
    }

    #[test]
    fn numbers_that_json_would_change_are_refused() {
        assert!(refusal(&vec![Some(1.0), Some(f64::NAN)]).contains("NaN"));
        assert!(refusal(&json!({"seed": (1_u64 << 53)})).contains("9007199254740992"));
        assert!(refusal(&HashMap::from([("x", f32::INFINITY)])).contains("inf"));
        assert!(refusal(&i128::MIN).contains("2^53"));
        assert!(hash(&((1_u64 << 53) - 1)) != hash(&((1_u64 << 53) - 2)));
    }

    #[test]
    fn a_refused_number_is_named_by_its_field() {
        #[derive(Serialize)]
        struct Outer {
            rules: Vec<Inner>,
        }
        #[derive(Serialize)]
        struct Inner {
            seed: u64,
            stop: f64,
        }
        let text = |seed, stop| refusal(&Outer { rules: vec![Inner { seed, stop }] });
        assert!(text(1, f64::NAN).contains("form: rules.stop: NaN is not"), "{}", text(1, f64::NAN));
        assert!(text(u64::MAX, 1.0).contains("rules.seed: the integer 18446744073709551615"));
    }

    #[test]
    fn a_key_that_appears_twice_is_refused() {
        #[derive(Serialize)]
        struct Flat {
            a: u8,
            #[serde(flatten)]
            more: BTreeMap<String, u8>,
        }
        let twice = Flat { a: 1, more: BTreeMap::from([("a".into(), 2)]) };
        assert!(refusal(&twice).contains("duplicate"));
    }

    proptest! {
        #[test]
        fn any_value_changes_the_hash(a in any::<i32>(), b in any::<i32>(), x in -1e9f64..1e9, y in -1e9f64..1e9) {
            prop_assert_eq!(a == b, hash(&json!({"n": a})) == hash(&json!({"n": b})));
            prop_assert_eq!(x == y, hash(&json!([x])) == hash(&json!([y])));
            prop_assert_eq!(hash(&json!([x])), hash(&json!([x])));
        }
    }
}
