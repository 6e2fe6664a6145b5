//! YAML, and JSON as YAML.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, NonFiniteFloatPolicy, Spanned};

use super::{Entry, Node, ParseError, Place, Value};

/// The deepest nesting of blocks. The schema needs six levels.
const DEPTH: usize = 32;
/// The most values of a file with its aliases expanded, which stops an alias bomb.
const NODES: usize = 50_000;

pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH,
            flow_nesting_limit: DEPTH,
            max_nodes: NODES,
            max_documents: 2,
            max_aliases: 1_000,
            max_recorded_anchor_events: NODES,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES },
        // `off` stays a word; only true and false are booleans.
        strict_booleans: true,
        // Non-finite numbers get an error later that names their place.
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        emit_comments: false,
        with_snippet: false,
    };
    if text.trim().is_empty() {
        return Ok(Node::new(Value::Null, Place::Text(0..0)));
    }
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().filter(|location| *location != Location::UNKNOWN).map(|at| find(text, &at));
        let mut message = message(error.without_snippet());
        let brace = place.as_ref().and_then(|place| text.split_at_checked(place.start));
        if brace.is_some_and(|(before, after)| before.ends_with('$') && after.starts_with('{')) {
            message = "between `{` and `}` a reference must be in quotes: \"${NAME}\"".to_owned();
        }
        ParseError { message, place }
    })
}

/// Returns the parser's error in a configuration's terms, without its place, which the snippet shows.
fn message(error: &serde_saphyr::Error) -> String {
    let message = error.to_string();
    let deep = ["Depth", "nesting", "recursion limit"];
    if deep.iter().any(|limit| message.contains(limit)) {
        return format!("blocks and lists are nested more than {DEPTH} deep here; flatten them");
    }
    let limits = ["budget breached", "limit exceeded", "replay", "Alias"];
    if limits.iter().any(|limit| message.contains(limit)) {
        return format!("more than {NODES} values with aliases expanded; shorten the file");
    }
    match error {
        serde_saphyr::Error::MultipleDocuments { .. } => {
            return "a second document begins here; a configuration has only one".to_owned();
        }
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            return format!("the key `{key}` appears twice; remove one");
        }
        _ if message.contains("invalid trailing content after double-quoted scalar") => {
            return "expected a comma, a colon or the end after the text before this".to_owned();
        }
        _ if message.contains("mapping values are not allowed") => {
            return "a second `: ` on a line; put the value in quotes, or add a line break".to_owned();
        }
        _ if message.contains("unexpected character") => {
            return "a value may not begin with this character: put it in quotes".to_owned();
        }
        _ => {}
    }
    match (message.split_once(": "), message.rfind(" at line ")) {
        (Some((at, message)), _) if at.starts_with("line ") => message.to_owned(),
        (_, Some(end)) => message[..end].to_owned(),
        _ => message,
    }
}

/// Returns the byte range of a place that may have only line and column.
fn find(text: &str, location: &Location) -> Range<usize> {
    if location.span().byte_offset().is_some() {
        return bytes(location);
    }
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let line = number(location.line()).saturating_sub(1);
    let begin = match line {
        0 => 0,
        line => text.match_indices('\n').nth(line - 1).map_or(text.len(), |(at, _)| at + 1),
    };
    let column = number(location.column()).saturating_sub(1);
    let start = text[begin..].char_indices().nth(column).map_or(text.len(), |(at, _)| begin + at);
    start..start
}

fn bytes(location: &Location) -> Range<usize> {
    let span = location.span();
    let number = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let start = number(span.byte_offset());
    start..start.saturating_add(number(span.byte_len()))
}

/// A value whose place is not known yet.
struct UnplacedValue(Value);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: UnplacedValue(value), referenced, .. } = Spanned::deserialize(deserializer)?;
        Ok(Self::new(value, Place::Text(bytes(&referenced))))
    }
}

impl<'de> Deserialize<'de> for UnplacedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

/// Makes a value of any kind.
struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Node>()? {
            entries.push(Entry::new(key.value, Place::Text(bytes(&key.referenced)), value));
        }
        Ok(Value::Map(entries))
    }
}
