//! The identity of an action.

use std::{fmt, sync::Arc};

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use steadfast::{LlmRequest, chat::ToolCall};

/// The scope within which a repeated action is the same, usually one turn of one conversation. The same call in
/// another scope is another action.
///
/// A scope must stay the same when its turn is retried, and differ for the next turn. An idempotency key fulfils both.
///
/// ```
/// use steadfast::LlmRequest;
/// use steadfast_agent::Scope;
///
/// let turn = LlmRequest::prompt("Book it.").with_idempotency_key("chat-7/turn-3");
/// assert_eq!(Scope::of(&turn), Scope::of(&turn.clone().with_max_tokens(100)));
/// let by_hand = Scope::from("chat-7/turn-3");
/// # drop(by_hand);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Returns the request's own scope: its [idempotency key](LlmRequest::with_idempotency_key), within its tenant.
    /// Without a key, and with the feature `idempotency`, it is the content of the whole request: the conversation so
    /// far, which differs in the next turn. `None` if the request has neither.
    pub fn of(request: &LlmRequest) -> Option<Self> {
        let Some(key) = request.idempotency_key().filter(|key| !key.is_empty()) else {
            return Self::meaning(request);
        };
        Some(Self(join_pieces(&["key", request.tenant().map_or("", |tenant| tenant), key])))
    }

    #[cfg(feature = "idempotency")]
    fn meaning(request: &LlmRequest) -> Option<Self> {
        let meaning = steadfast::layers::cache::fingerprint(request)?;
        let hash = steadfast_internal::hex::encode(meaning.as_bytes());
        Some(Self(join_pieces(&["meaning", &hash])))
    }

    #[cfg(not(feature = "idempotency"))]
    fn meaning(_: &LlmRequest) -> Option<Self> {
        None
    }
}

impl From<&str> for Scope {
    fn from(name: &str) -> Self {
        Self(join_pieces(&["named", name]))
    }
}

impl From<String> for Scope {
    fn from(name: String) -> Self {
        Self::from(&*name)
    }
}

impl fmt::Debug for Scope {
    /// Hides the content: a caller's key may identify the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// The identity of a tool call within its [`Scope`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyBy {
    /// Its name and arguments, in any spelling. A repeated answer has new ids and, most often, the same calls.
    #[default]
    Arguments,
    /// The provider's id of the call. Use it for answers that are repeated verbatim (by an `Idempotency` layer, or
    /// from a stored conversation), with tools for which two identical calls mean two actions. A call without an id is
    /// identified by its arguments.
    CallId,
}

/// An action's key and input: the same key with another input is a conflict.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ActionKey {
    key: Arc<str>,
    input: Arc<str>,
}

impl ActionKey {
    /// Creates a custom key, for an action that is not a tool call, such as `send the summary`.
    pub fn new(scope: &Scope, action: &str) -> Self {
        Self { key: join_pieces(&[&scope.0, "action", action]), input: "".into() }
    }

    /// Creates a tool call's key.
    pub fn of_call(scope: &Scope, call: &ToolCall, by: KeyBy) -> Self {
        let input = join_pieces(&[&call.name, &canonical(&call.arguments)]);
        let key = match by {
            KeyBy::CallId if !call.id.is_empty() => join_pieces(&[&scope.0, "id", &call.id]),
            KeyBy::CallId | KeyBy::Arguments => join_pieces(&[&scope.0, "call", &input]),
        };
        Self { key, input }
    }

    /// Returns the key, which is as long as its parts together.
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// Returns the input: the tool and its arguments, in a normalized form.
    pub fn input(&self) -> &str {
        &self.input
    }
}

impl fmt::Debug for ActionKey {
    /// Shows only the length, because the key contains the arguments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActionKey({} bytes)", self.key.len())
    }
}

/// Joins pieces unambiguously: different lists give different texts.
fn join_pieces(pieces: &[&str]) -> Arc<str> {
    let mut all = String::with_capacity(pieces.iter().map(|piece| piece.len() + 8).sum());
    for piece in pieces {
        all.push_str(&piece.len().to_string());
        all.push(':');
        all.push_str(piece);
    }
    all.into()
}

/// Normalizes a call's arguments: white space, the order of fields, escapes, and the spelling of whole numbers.
/// Invalid or ambiguous JSON (a repeated field) stays unchanged, so that only the identical text matches it.
fn canonical(arguments: &str) -> String {
    if arguments.trim().is_empty() {
        // Some providers send an empty text without arguments.
        return "{}".to_owned();
    }
    let mut all = String::with_capacity(arguments.len());
    match serde_json::from_str::<&RawValue>(arguments).ok().and_then(|value| write(value, DEEPEST, &mut all)) {
        Some(()) => all,
        None => arguments.to_owned(),
    }
}

/// The maximum nesting of arguments, which is serde_json's own.
const DEEPEST: u8 = 127;
/// Doubles are not exact for whole numbers beyond 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn write(value: &RawValue, depth: u8, all: &mut String) -> Option<()> {
    let text = value.get();
    let depth = depth.checked_sub(1)?;
    match text.as_bytes().first()? {
        b'{' => {
            let mut fields = serde_json::Deserializer::from_str(text).deserialize_map(Fields).ok()?;
            fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            if fields.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return None;
            }
            all.push('{');
            for (place, (name, value)) in fields.iter().enumerate() {
                if place > 0 {
                    all.push(',');
                }
                all.push_str(&serde_json::to_string(name).ok()?);
                all.push(':');
                write(value, depth, all)?;
            }
            all.push('}');
        }
        b'[' => {
            let items = serde_json::Deserializer::from_str(text).deserialize_seq(Items).ok()?;
            all.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    all.push(',');
                }
                write(item, depth, all)?;
            }
            all.push(']');
        }
        b'"' => {
            let text: String = serde_json::from_str(text).ok()?;
            all.push_str(&serde_json::to_string(&text).ok()?);
        }
        b'-' | b'0'..=b'9' => match text.parse::<f64>() {
            Ok(number) if number.fract() == 0.0 && number.abs() < EXACT => all.push_str(&(number as i64).to_string()),
            _ => all.push_str(text),
        },
        _ => all.push_str(text),
    }
    Some(())
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall::new(id, name, arguments)
    }

    fn key(arguments: &str) -> ActionKey {
        ActionKey::of_call(&"turn".into(), &call("", "pay", arguments), KeyBy::Arguments)
    }

    #[test]
    fn how_arguments_are_written_does_not_count() {
        let same = [
            r#"{"to":"Zoë","amount":1,"tags":["a",{"x":null,"y":true}]}"#,
            r#" { "amount" : 1.0, "to" : "Zo\u00eb" , "tags":[ "a", {"y":true, "x":null} ] } "#,
        ];
        assert_eq!(key(same[0]), key(same[1]));
        assert_eq!(canonical(same[1]), r#"{"amount":1,"tags":["a",{"x":null,"y":true}],"to":"Zoë"}"#);
        assert_eq!(key(""), key("{}"));
    }

    #[test]
    fn what_differs_in_anything_that_counts_is_another_action() {
        let all = [
            "{}",
            "[]",
            "null",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            // More digits than a double has.
            r#"{"a":123456789012345678901}"#,
            r#"{"a":123456789012345678902}"#,
            r#"{"a":0.1}"#,
            r#"{"a":0.10000000000000001}"#,
            // Ambiguous, cut, and not JSON.
            r#"{"a":1,"a":2}"#,
            r#"{"a":2}"#,
            r#"{"a":"#,
            "a",
        ];
        let keys: std::collections::HashSet<_> = all.iter().map(|arguments| key(arguments)).collect();
        assert_eq!(keys.len(), all.len());
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(canonical(&deep), deep);
    }

    #[test]
    fn scope_name_and_arguments_do_not_run_into_each_other() {
        let scopes = [Scope::from("a"), Scope::from("a1:"), Scope::from("")];
        let calls = [call("", "b", "c"), call("", "bc", ""), call("", "", "bc")];
        let keys: std::collections::HashSet<_> = scopes
            .iter()
            .flat_map(|scope| calls.iter().map(move |call| ActionKey::of_call(scope, call, KeyBy::Arguments)))
            .collect();
        assert_eq!(keys.len(), 9);
        assert_ne!(Scope::of(&LlmRequest::prompt("x").with_idempotency_key("a")), Some(Scope::from("a")));
    }

    #[test]
    fn an_id_is_a_key_and_the_arguments_are_what_it_stands_for() {
        let by_id = |call| ActionKey::of_call(&"turn".into(), &call, KeyBy::CallId);
        let (first, other) = (by_id(call("1", "pay", "{}")), by_id(call("1", "pay", "[]")));
        assert_eq!(first.as_str(), other.as_str());
        assert_ne!(first.input(), other.input());
        assert_eq!(by_id(call("", "pay", "{}")), key("{}"), "without an id it is known by its arguments");
        assert!(!format!("{first:?} {:?}", Scope::from("whose")).contains("pay"));
    }
}
