//! The errors in a wrong answer, found at about the price of a right one.
//!
//! The checker's own list has, for each set of alternatives that an answer misses, the errors of every alternative, and
//! theirs in turn: an answer of 200 bytes to a page of nested blocks takes gigabytes. Here a set of alternatives is one
//! error, at its place.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use jsonschema::{Keyword, Registry, ValidationError, Validator, paths::Location};
use serde_json::{Value, json};

use super::options::options;

/// A name for the whole schema, in schemas of parts of it.
const WHOLE: &str = "urn:steadfast:schema";

/// The most that all sets of alternatives of a schema take to compile, in its size. The errors of further ones are not
/// told.
const SIZE: u64 = 50_000_000;

/// A schema, with what it takes to compile a part of it: as much as the whole.
struct Whole {
    schema: Value,
    size: u64,
    /// The size that further parts may take.
    left: AtomicU64,
}

/// Compiles a validator whose errors know alternatives as a whole.
pub(super) fn validator(schema: &Value, size: u64) -> Option<Validator> {
    let whole = Arc::new(Whole { schema: schema.clone(), size, left: AtomicU64::new(SIZE) });
    let (any, one) = (whole.clone(), whole);
    options()
        .with_keyword("anyOf", move |_, value, at| Ok(AlternativeSet::keyword(&any, "anyOf", value, at)))
        .with_keyword("oneOf", move |_, value, at| Ok(AlternativeSet::keyword(&one, "oneOf", value, at)))
        .build(schema)
        .ok()
}

/// The alternatives at one place of a schema.
struct AlternativeSet {
    whole: Arc<Whole>,
    keyword: &'static str,
    at: Location,
    count: usize,
    /// Compiled when an answer first needs it; `None` if it cannot be.
    check: OnceLock<Option<Validator>>,
}

impl AlternativeSet {
    fn keyword(whole: &Arc<Whole>, keyword: &'static str, value: &Value, at: Location) -> Box<dyn for<'a> Keyword<'a>> {
        let count = value.as_array().map_or(0, Vec::len);
        Box::new(Self { whole: whole.clone(), keyword, at, count, check: OnceLock::new() })
    }

    fn compile(&self) -> Option<Validator> {
        let take = |left: u64| left.checked_sub(self.whole.size);
        self.whole.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        let registry = Registry::new().add(WHOLE, &self.whole.schema).ok()?.prepare().ok()?;
        let at = escaped(self.at.as_str());
        let parts: Vec<Value> = (0..self.count).map(|part| json!({ "$ref": format!("{WHOLE}#{at}/{part}") })).collect();
        options().with_registry(&registry).build(&json!({ self.keyword: parts })).ok()
    }
}

impl<'a> Keyword<'a> for AlternativeSet {
    fn validate(&self, instance: &'a Value) -> Result<(), ValidationError<'a>> {
        match Keyword::is_valid(self, instance) {
            true => Ok(()),
            false => {
                let how_many = if self.keyword == "oneOf" { "exactly one" } else { "any" };
                let message = format!(
                    "the value does not match {how_many} of the {} schemas in \"{}\"",
                    self.count, self.keyword
                );
                Err(ValidationError::custom(message))
            }
        }
    }

    fn is_valid(&self, instance: &'a Value) -> bool {
        let check = self.check.get_or_init(|| self.compile());
        check.as_ref().is_none_or(|check| check.is_valid(instance))
    }
}

/// Returns a pointer as the fragment of an address.
fn escaped(pointer: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~$".contains(&byte);
    pointer
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
