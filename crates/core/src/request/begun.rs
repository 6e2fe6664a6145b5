//! A request that goes on with an answer that another call has begun.

use serde_json::{Value, json};

use super::{CallerPart, Content, LlmRequest};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Chat, Message, Role},
    estimate,
    wire::{Object, Wire},
};

/// The way in which a model learns where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoOn {
    /// The answer so far is the last turn, which the model continues.
    Prefill,
    /// The answer so far is a turn of the model's, and a turn of the user's asks for the rest.
    Instruction,
}

/// Marks a request whose last turn is an answer to go on with. The leaf says so in its server's own way.
#[derive(Clone, Copy, Debug)]
struct BegunAnswer;

/// The words of [`GoOn::Instruction`].
const INSTRUCTION: &str = "Your last message was cut off. Go on with it exactly where it ends, in the middle of a \
                           word if need be. Write the rest alone: no repetition, no introduction, no apology.";

impl LlmRequest {
    /// Returns why no other call can go on with a begun answer to this request; `None` if one can.
    #[doc(hidden)]
    pub fn begun_answer_stands(&self, way: GoOn) -> Option<&'static str> {
        let Ok(chat) = self.chat() else { return Some("it is no conversation") };
        let ends_with_answer = chat.messages.last().is_some_and(|last| last.role == Role::Assistant);
        match () {
            () if chat.output.is_some() => Some("it asks for a form"),
            () if self.wire().is_some_and(asks_for_several) => Some("it asks for several answers"),
            () if ends_with_answer => Some("it has begun the answer itself"),
            () if way == GoOn::Instruction && !chat.tools.is_empty() => Some("it has tools"),
            () => None,
        }
    }

    /// Returns a request that goes on with this answer, for the `time`th time. The longest answer is shorter by what
    /// is there. Layers that identify requests by key must not take it for the first one, so its key differs.
    ///
    /// # Errors
    ///
    /// The bytes have no list of turns.
    #[doc(hidden)]
    pub fn going_on(&self, answer: &str, way: GoOn, time: u16) -> Result<Self, LlmError> {
        let mut caller = CallerPart::clone(&self.caller);
        let content = match &self.caller.content {
            Content::Chat(chat) => Content::Chat(with_turns(chat, answer, way)),
            Content::Wire(wire) => Content::Wire(wire_with_turns(wire, answer, way)?),
            Content::Opaque(call) => return Err(call.no_chat()),
        };
        caller.set_content(content);
        caller.idempotency_key = caller.idempotency_key.map(|key| format!("{key}-on-{time}").into());
        if way == GoOn::Prefill {
            caller.extensions.insert(BegunAnswer);
        }
        let request = Self { caller: caller.into(), context: self.context };
        let said = u32::try_from(estimate::said(answer.len() as u64)).unwrap_or(u32::MAX);
        Ok(match self.chat()?.max_tokens {
            Some(most) => request.with_max_tokens(most.saturating_sub(said).max(1)),
            None => request,
        })
    }

    /// Returns true if the request's last turn is an answer to go on with.
    #[doc(hidden)]
    pub fn goes_on(&self) -> bool {
        self.extensions().get::<BegunAnswer>().is_some()
    }
}

/// Returns whether the bytes ask for more than one answer.
fn asks_for_several(wire: &Wire) -> bool {
    let several = |json: &[u8], name: &'static str| {
        let value = Object::read(json, &[name]).ok().and_then(|object| Some(object.field(name)?.value.clone()));
        value.is_some_and(|value| !matches!(&json[value], b"1" | b"null"))
    };
    let config = || wire.field("generationConfig").or_else(|| wire.field("generation_config"));
    match wire.dialect() {
        Dialect::OpenAi => several(wire.body(), "n"),
        Dialect::Gemini => {
            config().is_some_and(|config| several(config, "candidateCount") || several(config, "candidate_count"))
        }
        Dialect::Anthropic | Dialect::Responses => false,
    }
}

fn with_turns(chat: &Chat, answer: &str, way: GoOn) -> Chat {
    let mut chat = chat.clone();
    chat.messages.push(Message::assistant(answer.to_owned()));
    if way == GoOn::Instruction {
        chat.messages.push(Message::user(INSTRUCTION));
    }
    chat
}

/// Returns the caller's bytes with the turns behind the others, in the form of its dialect.
fn wire_with_turns(wire: &Wire, answer: &str, way: GoOn) -> Result<Wire, LlmError> {
    let turn = |role: &str, text: &str| match wire.dialect() {
        Dialect::Anthropic | Dialect::OpenAi => json!({"role": role, "content": text}),
        Dialect::Gemini => {
            json!({"role": if role == "assistant" { "model" } else { role }, "parts": [{"text": text}]})
        }
        Dialect::Responses if role == "assistant" => {
            let part = json!({"type": "output_text", "text": text, "annotations": []});
            json!({"type": "message", "role": role, "status": "completed", "content": [part]})
        }
        Dialect::Responses => json!({"type": "message", "role": role, "content": text}),
    };
    let name = match wire.dialect() {
        Dialect::Anthropic | Dialect::OpenAi => "messages",
        Dialect::Gemini => "contents",
        Dialect::Responses => "input",
    };
    let mut turns = vec![turn("assistant", answer)];
    if way == GoOn::Instruction {
        turns.push(turn("user", INSTRUCTION));
    }
    let lacks = || LlmError::new(ErrorKind::InvalidRequest, format!("`{name}` is no list"));
    let stood = wire.field(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim).ok_or_else(lacks)?;
    let before = match stood.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some(list) => list.trim().to_owned(),
        // A prompt that is one text.
        None if wire.dialect() == Dialect::Responses && stood.starts_with('"') => {
            let prompt: Value = serde_json::from_str(stood).map_err(|_| lacks())?;
            turn("user", prompt.as_str().unwrap_or_default()).to_string()
        }
        None => return Err(lacks()),
    };
    let mut list = String::with_capacity(before.len() + answer.len() + 128);
    list.push('[');
    list.push_str(&before);
    for turn in turns {
        if list.len() > 1 {
            list.push(',');
        }
        list.push_str(&turn.to_string());
    }
    list.push(']');
    wire.with_fields(&[(name, list.as_bytes())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{OutputSchema, Tool};

    fn wire(dialect: Dialect, body: &Value) -> LlmRequest {
        LlmRequest::from(Wire::new(dialect, body.to_string()).unwrap())
    }

    fn one_turn(dialect: Dialect) -> LlmRequest {
        match dialect {
            Dialect::Anthropic => wire(
                dialect,
                &json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "count"}], "own": 1}),
            ),
            Dialect::OpenAi => {
                wire(dialect, &json!({"model": "m", "messages": [{"role": "user", "content": "count"}], "own": 1}))
            }
            Dialect::Gemini => {
                wire(dialect, &json!({"contents": [{"role": "user", "parts": [{"text": "count"}]}], "own": 1}))
            }
            Dialect::Responses => wire(dialect, &json!({"model": "m", "input": "count", "own": 1})),
        }
    }

    #[test]
    fn each_dialect_has_the_answer_so_far_as_its_last_turn_and_all_else_as_it_came() {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses] {
            for (way, turns) in [(GoOn::Prefill, 2), (GoOn::Instruction, 3)] {
                let asked = one_turn(dialect).going_on("one \"two\"\n", way, 1).unwrap();
                let chat = asked.chat().unwrap();
                assert_eq!(chat.messages.len(), turns, "{dialect}");
                assert_eq!((chat.messages[0].role, chat.messages[0].text()), (Role::User, "count".to_owned()));
                assert_eq!(
                    (chat.messages[1].role, chat.messages[1].text()),
                    (Role::Assistant, "one \"two\"\n".to_owned())
                );
                assert!(asked.wire().unwrap().body().ends_with(br#""own":1}"#) || dialect != Dialect::Gemini);
                assert_eq!(asked.goes_on(), way == GoOn::Prefill);
            }
        }
    }

    #[test]
    fn the_longest_answer_is_shorter_by_what_is_there_and_the_key_is_another() {
        let request = one_turn(Dialect::Anthropic).with_idempotency_key("k");
        let asked = request.going_on(&"x".repeat(200), GoOn::Prefill, 2).unwrap();
        let left = asked.chat().unwrap().max_tokens.unwrap();
        assert!((1..100).contains(&left), "{left}");
        assert_eq!(asked.idempotency_key(), Some("k-on-2"));
        let all = one_turn(Dialect::Anthropic).going_on(&"x".repeat(9000), GoOn::Prefill, 1).unwrap();
        assert_eq!(all.chat().unwrap().max_tokens, Some(1));
    }

    #[test]
    fn a_request_with_a_form_or_an_answer_of_its_own_is_not_gone_on_with() {
        let chat = || Chat::new([Message::user("count")]);
        let why = |chat: Chat, way| LlmRequest::from(chat).begun_answer_stands(way);
        assert_eq!(why(chat(), GoOn::Instruction), None);
        let mut form = chat();
        form.output = Some(OutputSchema { name: "a".into(), schema: None, strict: false });
        assert_eq!(why(form, GoOn::Prefill), Some("it asks for a form"));
        let mut begun = chat();
        begun.messages.push(Message::assistant("1"));
        assert_eq!(why(begun, GoOn::Prefill), Some("it has begun the answer itself"));
        let tools = || chat().tool(Tool::new("t", json!({})));
        assert_eq!(why(tools(), GoOn::Prefill), None);
        assert_eq!(why(tools(), GoOn::Instruction), Some("it has tools"));
    }

    #[test]
    fn several_answers_are_not_gone_on_with() {
        let turns = json!([{"role": "user", "content": "count"}]);
        let contents = json!([{"role": "user", "parts": [{"text": "count"}]}]);
        for (dialect, body, stands) in [
            (Dialect::OpenAi, json!({"model": "m", "messages": turns, "n": 1}), true),
            (Dialect::OpenAi, json!({"model": "m", "messages": turns, "n": 2}), false),
            (Dialect::Gemini, json!({"contents": contents, "generationConfig": {"candidateCount": 1}}), true),
            (Dialect::Gemini, json!({"contents": contents, "generationConfig": {"candidateCount": 3}}), false),
        ] {
            assert_eq!(wire(dialect, &body).begun_answer_stands(GoOn::Prefill).is_none(), stands, "{body}");
        }
    }

    #[test]
    fn bytes_without_a_list_of_turns_are_refused() {
        let strange = wire(Dialect::OpenAi, &json!({"model": "m", "messages": "count"}));
        assert_eq!(strange.going_on("1", GoOn::Prefill, 1).unwrap_err().kind(), ErrorKind::InvalidRequest);
    }
}
