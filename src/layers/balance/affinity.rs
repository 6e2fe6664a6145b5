//! Affinity: requests that share a prefix go where the provider's cache has it.

use std::{fmt, hash::Hasher};

use memchr::memmem;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    Dialect, LlmRequest, Wire,
    chat::{Chat, Role},
    internal::quick_hash::QuickHasher,
    wire::Object,
};

/// The bytes of a prefix from which providers cache it: 1,024 tokens (OpenAI; Anthropic for most models).
const LEAST: usize = 4096;
/// The bytes that are hashed of each part. Prefixes that differ later only are as good as equal.
const MOST: usize = 64 * 1024;

/// Returns the key by which a request's prefix is found: its `prompt_cache_key`, else its session, else a hash of the
/// prefix. `None` if the prefix is too short to be cached.
///
/// The prefix is the part that all turns of a conversation share: the system prompt, the tools, and the messages up to
/// the first user's, or up to the last mark of a cache in it. Later marks wander with the conversation.
pub(super) fn key(request: &LlmRequest) -> Option<u64> {
    if let Some(wire) = request.wire()
        && let Some(key) = prompt_cache_key(wire)
    {
        return Some(of_name(key));
    }
    if let Some(session) = request.session() {
        // Tenants choose the same names, such as `1`, for sessions that share nothing.
        return Some(of_session(request.tenant().map(|tenant| &**tenant), session));
    }
    match request.wire() {
        Some(wire) => of_wire(wire),
        None => of_chat(request.chat().ok()?),
    }
}

/// The hash of a prefix, part by part, and the prefix's length.
#[derive(Default)]
struct Prefix {
    hasher: QuickHasher,
    length: usize,
}

impl Prefix {
    fn add(&mut self, part: &[u8]) {
        self.hasher.write(&part[..part.len().min(MOST)]);
        self.length += part.len();
    }

    /// Returns the key of a prefix that providers cache.
    fn key(self) -> Option<u64> {
        (self.length >= LEAST).then(|| self.hasher.finish())
    }
}

fn of_name(name: &[u8]) -> u64 {
    let mut prefix = Prefix::default();
    prefix.add(name);
    prefix.hasher.finish()
}

fn of_session(tenant: Option<&str>, session: &str) -> u64 {
    let mut prefix = Prefix::default();
    for part in [tenant.unwrap_or_default(), "\0", session] {
        prefix.add(part.as_bytes());
    }
    prefix.hasher.finish()
}

fn prompt_cache_key(wire: &Wire) -> Option<&[u8]> {
    const NAME: &str = "prompt_cache_key";
    if !matches!(wire.dialect(), Dialect::OpenAi | Dialect::Responses) {
        return None;
    }
    memmem::find(wire.body(), b"\"prompt_cache_key\"")?;
    let object = Object::read(wire.body(), &[NAME]).ok()?;
    Some(&wire.body()[object.field(NAME)?.value.clone()]).filter(|key| key.len() > 2 && key.starts_with(b"\""))
}

fn of_wire(wire: &Wire) -> Option<u64> {
    if wire.body().len() < LEAST {
        return None;
    }
    let field = |name| wire.field(name).unwrap_or_default();
    let messages = match wire.dialect() {
        Dialect::Anthropic | Dialect::OpenAi => field("messages"),
        Dialect::Responses => field("input"),
        Dialect::Gemini => field("contents"),
    };
    let mut prefix = Prefix::default();
    prefix.add(field("system"));
    prefix.add(field("instructions"));
    prefix.add(field("tools"));
    if wire.dialect() == Dialect::Gemini {
        prefix.add(system_instruction(wire));
    }
    match messages.first() {
        // Reading stops in the middle of the list, which serde reports as an error.
        Some(b'[') => drop(serde_json::Deserializer::from_slice(messages).deserialize_seq(FirstTurn(&mut prefix))),
        _ => prefix.add(messages),
    }
    prefix.key()
}

fn system_instruction(wire: &Wire) -> &[u8] {
    const NAMES: [&str; 2] = ["systemInstruction", "system_instruction"];
    let object = Object::read(wire.body(), &NAMES).ok();
    let found = object.and_then(|object| NAMES.iter().find_map(|name| Some(object.field(name)?.value.clone())));
    found.map_or(&[], |value| &wire.body()[value])
}

/// Adds the messages up to the first user's to a prefix. It reads no further.
struct FirstTurn<'a>(&'a mut Prefix);

impl<'de> Visitor<'de> for FirstTurn<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(message) = list.next_element::<&'de RawValue>()? {
            let message = message.get().as_bytes();
            if is_users(message) {
                let mark = memmem::rfind(message, b"\"cache_control\"");
                self.0.add(&message[..mark.unwrap_or(message.len())]);
                return Ok(());
            }
            self.0.add(message);
        }
        Ok(())
    }
}

/// Returns true if a message's role is the user's, or if it names none, as Gemini's may.
fn is_users(message: &[u8]) -> bool {
    let Ok(object) = Object::read(message, &["role"]) else { return true };
    object.field("role").is_none_or(|role| &message[role.value.clone()] == b"\"user\"")
}

fn of_chat(chat: &Chat) -> Option<u64> {
    let users = chat.messages.iter().position(|message| message.role == Role::User);
    let first = &chat.messages[..users.map_or(chat.messages.len(), |at| at + 1)];
    let mut prefix = Prefix::default();
    prefix.add(chat.system.as_deref().unwrap_or_default().as_bytes());
    for tool in &chat.tools {
        prefix.add(tool.name.as_bytes());
        prefix.add(tool.parameters.as_str().as_bytes());
    }
    for part in first.iter().flat_map(|message| &message.content) {
        prefix.add(part.as_text().unwrap_or_default().as_bytes());
    }
    prefix.key()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

    fn long(of: char) -> String {
        of.to_string().repeat(LEAST)
    }

    fn wire(dialect: Dialect, body: &str) -> Option<u64> {
        key(&LlmRequest::from(Wire::new(dialect, body.to_owned()).unwrap()))
    }

    #[test]
    fn all_turns_of_a_conversation_have_one_key_in_each_dialect() {
        let (system, first) = (long('s'), long('f'));
        let turns = |dialect, head: &str, list: &str, user: &dyn Fn(&str) -> String, answer: &str| {
            let body = |first: &str, rest: &str| format!(r#"{{{head}"{list}":[{}{rest}]}}"#, user(first));
            let one = wire(dialect, &body(&first, ""));
            assert!(one.is_some(), "{dialect}");
            assert_eq!(one, wire(dialect, &body(&first, &format!(",{answer},{}", user("more")))), "{dialect}");
            assert_ne!(one, wire(dialect, &body("another question", "")), "{dialect}");
        };
        let role = |text: &str| format!(r#"{{"role":"user","content":"{text}"}}"#);
        let answer = r#"{"role":"assistant","content":"yes"}"#;
        turns(Dialect::Anthropic, &format!(r#""system":"{system}","#), "messages", &role, answer);
        turns(Dialect::OpenAi, &format!(r#""tools":["{system}"],"#), "messages", &role, answer);
        turns(Dialect::Responses, &format!(r#""instructions":"{system}","#), "input", &role, answer);
        let parts = |text: &str| format!(r#"{{"parts":[{{"text":"{text}"}}]}}"#);
        let model = r#"{"role":"model","parts":[]}"#;
        turns(Dialect::Gemini, &format!(r#""systemInstruction":"{system}","#), "contents", &parts, model);
    }

    #[test]
    fn a_system_message_in_the_list_is_part_of_the_prefix() {
        let ask = |system: &str| {
            let body = format!(
                r#"{{"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"hi"}}]}}"#
            );
            wire(Dialect::OpenAi, &body)
        };
        assert!(ask(&long('a')).is_some());
        assert_ne!(ask(&long('a')), ask(&long('b')));
        assert_eq!(ask("short"), None, "no provider caches it");
    }

    #[test]
    fn behind_a_mark_of_the_first_turn_requests_may_differ() {
        let ask = |question: &str| {
            let (document, mark) = (long('d'), r#","cache_control":{"type":"ephemeral"}"#);
            let body = format!(
                r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"{document}"{mark}}},
                {{"type":"text","text":"{question}"}}]}}]}}"#
            );
            wire(Dialect::Anthropic, &body)
        };
        assert_eq!(ask("why?"), ask("when?"));
        assert_eq!(ask("why?"), ask(r#"what is \"cache_control\"?"#), "words are no mark");
    }

    #[test]
    fn a_key_of_the_caller_wins_over_its_session_and_the_prefix() {
        let body = |key: &str| format!(r#"{{"prompt_cache_key":"{key}","input":"{}"}}"#, long('x'));
        let ask = |body: String| LlmRequest::from(Wire::new(Dialect::Responses, body).unwrap());
        assert_eq!(key(&ask(body("k"))), key(&ask(body("k")).with_session("s")));
        assert_ne!(key(&ask(body("k"))), key(&ask(body("l"))));
        let session = LlmRequest::prompt("hi").with_session("s");
        assert_eq!(key(&session), key(&LlmRequest::prompt("ho").with_session("s")));
        assert_eq!(key(&LlmRequest::prompt("hi")), None);
        let nothing = format!(r#"{{"prompt_cache_key":null,"input":"{}"}}"#, long('x'));
        assert!(key(&ask(nothing)).is_some());
    }

    #[test]
    fn a_session_is_its_tenants() {
        let ask = |tenant: &'static str| {
            let request = LlmRequest::prompt("hi").with_session("1");
            key(&request.with_extension(crate::request::BudgetKey::new(tenant)))
        };
        assert_eq!(ask("one"), ask("one"));
        assert_ne!(ask("one"), ask("two"));
    }

    #[test]
    fn the_typed_form_has_a_key_too() {
        let chat = |more: usize| {
            let mut chat = Chat::new([Message::user("why?")]).system(long('s'));
            for _ in 0..more {
                chat.messages.extend([Message::assistant("because"), Message::user("and?")]);
            }
            key(&LlmRequest::from(chat))
        };
        assert!(chat(0).is_some());
        assert_eq!(chat(0), chat(9));
    }

    #[test]
    fn broken_lists_end_the_prefix_and_nothing_else() {
        for list in ["[", "[1,2", r#"[{"role":"#, "{}", "3", "null", "[]"] {
            let body = format!(r#"{{"system":"{}","messages":{list}"#, long('s'));
            // Wire refuses most of them before.
            if let Ok(wire) = Wire::new(Dialect::Anthropic, format!("{body}}}")) {
                assert!(key(&LlmRequest::from(wire)).is_some(), "{list}");
            }
        }
    }
}
