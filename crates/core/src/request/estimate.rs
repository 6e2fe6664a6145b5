//! The tokens that a request may cost, before a provider counts them.

use std::time::Duration;

use super::{CallerPart, Content, LlmRequest};
use crate::{
    estimate::{self, CHARS_PER_TOKEN},
    models::FamilyTable,
};

/// The answer to expect if the request does not bound it. Common answers are shorter, and the actual tokens correct
/// it.
const ANSWER: u64 = 1024;

/// The longest answer that is reserved for a model that the table of families does not know: no family of the table has
/// a longer one.
#[doc(hidden)]
pub const LONGEST_ANSWER: u64 = 128_000;

/// Returns the tokens of the longest answer that a model gives.
#[doc(hidden)]
pub fn longest_answer(model: Option<&str>) -> u64 {
    let known = model.and_then(|model| FamilyTable::builtin_ref().family(model).max_output());
    known.map_or(LONGEST_ANSWER, u64::from)
}

/// The tokens that a provider writes in a second while nobody sees them. Fast providers write about as many.
const UNSEEN_PACE: f64 = 250.0;

/// Returns the tokens that a provider may have written of a whole answer that nobody saw, in this time. A stream would
/// have shown its own.
#[doc(hidden)]
pub fn unseen_answer(time: Duration, most: u64) -> u64 {
    // The cast saturates.
    ((time.as_secs_f64() * UNSEEN_PACE).ceil() as u64).min(most)
}

impl LlmRequest {
    /// Returns the tokens of the prompt, and of the prompt with the longest answer that the request allows.
    #[doc(hidden)]
    pub fn estimated_tokens(&self) -> (u32, u32) {
        let (prompt, answer) = self.estimated_parts();
        let small = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        (small(prompt), small(prompt.saturating_add(answer.unwrap_or(ANSWER))))
    }

    /// Returns both separately; for the answer only the request's own limit. A limit beyond the model's longest answer
    /// is that: no provider gives more.
    pub(crate) fn estimated_parts(&self) -> (u64, Option<u64>) {
        self.estimated_parts_within(longest_answer(self.model()))
    }

    /// Returns the same for a service whose longest answer has so many tokens.
    #[doc(hidden)]
    pub fn estimated_parts_within(&self, longest: u64) -> (u64, Option<u64>) {
        if let Some(call) = self.opaque() {
            return (call.estimated_units(), Some(call.estimated_answer().min(longest)));
        }
        match self.chat() {
            Ok(chat) => (estimate::prompt(chat), chat.max_tokens.map(|limit| u64::from(limit).min(longest))),
            // The bytes cannot be decoded here: only their length is known.
            Err(_) => (u64::from(self.glanced_prompt()), None),
        }
    }

    /// Returns the tokens of the prompt and of a common answer, or a shorter one where the request allows no more. It
    /// decodes nothing.
    #[doc(hidden)]
    pub fn glanced_tokens(&self) -> u32 {
        let answer = self.glanced_limit().map_or(ANSWER, |limit| limit.min(ANSWER));
        self.glanced_prompt().saturating_add(answer as u32)
    }

    /// Returns the tokens of the longest answer that the request allows, or of a common one. It decodes nothing.
    #[doc(hidden)]
    pub fn glanced_answer(&self) -> u64 {
        self.glanced_limit().map_or(ANSWER, |limit| limit.min(longest_answer(self.model())))
    }

    /// Returns the tokens of the longest answer that the request allows, 0 if it names none; `None` where no count of
    /// tokens tells how long a provider works: for thought, pictures and sound. It decodes nothing.
    #[doc(hidden)]
    pub fn glanced_work(&self) -> Option<u64> {
        let tokens = match self.opaque() {
            Some(call) if call.is_media() => return None,
            Some(call) => call.estimated_answer(),
            None if self.asks_to_reason() => return None,
            None => self.glanced_limit().unwrap_or(0),
        };
        Some(tokens.min(longest_answer(self.model())))
    }

    fn glanced_limit(&self) -> Option<u64> {
        const LIMITS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        match self.wire() {
            Some(wire) => LIMITS.iter().filter_map(|name| str::from_utf8(wire.field(name)?).ok()?.parse().ok()).min(),
            None => self.chat().ok().and_then(|chat| chat.max_tokens).map(u64::from),
        }
    }

    /// Returns the tokens of the prompt without decoding it, for reports only. All bytes count, except that pictures
    /// count as such.
    #[doc(hidden)]
    pub fn glanced_prompt(&self) -> u32 {
        self.caller.glanced_prompt()
    }
}

impl CallerPart {
    /// As [`LlmRequest::glanced_prompt`].
    pub fn glanced_prompt(&self) -> u32 {
        let prompt = match &self.content {
            Content::Chat(chat) => estimate::prompt(chat),
            Content::Wire(wire) => (estimate::characters(wire.body()) / CHARS_PER_TOKEN) as u64,
            Content::Opaque(call) => call.estimated_units(),
        };
        u32::try_from(prompt).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Dialect, Wire,
        chat::{Chat, Message, Tool},
    };

    #[test]
    fn the_prompt_and_the_longest_answer_count() {
        let chat = Chat::new([Message::user("x".repeat(400))]).system("y".repeat(40));
        assert_eq!(LlmRequest::from(chat.clone().max_tokens(50)).estimated_tokens(), (110, 160));
        assert_eq!(LlmRequest::from(chat).estimated_tokens(), (110, 110 + ANSWER as u32));
    }

    #[test]
    fn tools_are_of_the_prompt() {
        let parameters = serde_json::json!({"type": "object", "description": "z".repeat(400)});
        let tool = Tool::new("name", parameters.clone()).description("w".repeat(40));
        let chat = Chat::new([Message::user("x".repeat(400))]).tool(tool);
        let bytes = 400 + "name".len() + 40 + parameters.to_string().len();
        assert_eq!(LlmRequest::from(chat).estimated_tokens().0, (bytes / 4) as u32);
    }

    #[test]
    fn no_more_is_reserved_than_the_model_can_give() {
        for (model, longest) in [
            (Some("claude-sonnet-4-5"), 64_000),
            (Some("anthropic/claude-sonnet-4-5-20250929"), 64_000),
            (Some("gpt-4o"), 16_384),
            (Some("gpt-4.1-mini"), 32_768),
            (Some("gemini-2.5-pro"), 65_535),
            (Some("somebodys-own"), LONGEST_ANSWER),
            (None, LONGEST_ANSWER),
        ] {
            for max_tokens in [1, 1024, 4096, 133_333_280, u32::MAX] {
                let chat = Chat { model: model.map(Into::into), ..Chat::default() }.max_tokens(max_tokens);
                let expected = u64::from(max_tokens).min(longest);
                assert_eq!(LlmRequest::from(chat).estimated_parts().1, Some(expected), "{model:?}, {max_tokens}");
            }
        }
        let table = FamilyTable::builtin();
        for family in table.families() {
            assert!(family.max_output().is_none_or(|most| u64::from(most) <= LONGEST_ANSWER), "{}", family.name());
        }
    }

    #[test]
    fn at_a_glance_text_counts_by_its_length_and_a_picture_as_one() {
        let asked = |content: &str| {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
            u64::from(LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap()).glanced_prompt())
        };
        let text = asked(&format!("{:?}", "some words ".repeat(10_000)));
        assert!((27_500..27_600).contains(&text), "{text}");
        for length in [5_000, 12_345, 2_000_000] {
            let picture = format!(
                r#"[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}]"#,
                "iVBORw0K".repeat(length / 8)
            );
            let tokens = asked(&picture);
            assert!((1_600..1_700).contains(&tokens), "{length}: {tokens}");
        }
        let chat = Chat::new([Message::user("x".repeat(400))]);
        assert_eq!(LlmRequest::from(chat).glanced_prompt(), 100);
    }

    #[test]
    fn the_items_of_a_responses_request_count() {
        let tokens =
            |body: &str| LlmRequest::from(Wire::new(Dialect::Responses, body.to_owned()).unwrap()).estimated_parts();
        let words = "some words ".repeat(40);
        let asked = format!(
            r#"{{"instructions":"{words}","max_output_tokens":50,"input":[{{"role":"user","content":"{words}"}},
            {{"type":"function_call","call_id":"c","name":"f","arguments":"{words}"}},
            {{"type":"function_call_output","call_id":"c","output":"{words}"}}]}}"#
        );
        assert_eq!(tokens(&asked), (440, Some(50)));
        let shell = format!(r#"{{"input":[{{"type":"local_shell_call_output","id":"s","output":"{words}"}}]}}"#);
        assert!((110..130).contains(&tokens(&shell).0), "{:?}", tokens(&shell));
        let screen = format!(
            r#"{{"input":[{{"type":"computer_call_output","call_id":"c","output":{{"image_url":"data:image/png;base64,{}"}}}}]}}"#,
            "iVBORw0K".repeat(10_000)
        );
        assert!((1600..1700).contains(&tokens(&screen).0), "{:?}", tokens(&screen));
        let compaction = LlmRequest::from(Wire::compaction(screen).unwrap());
        assert!((1600..1700).contains(&compaction.estimated_parts().0), "{:?}", compaction.estimated_parts());
    }

    #[test]
    fn bytes_that_do_not_decode_count_by_their_length() {
        let body = format!(r#"{{"messages":{:?}}}"#, "z".repeat(4000));
        let wire = Wire::new(Dialect::OpenAi, body).unwrap();
        assert!(LlmRequest::from(wire).estimated_tokens().1 >= 1000 + ANSWER as u32);
    }
}
