//! The provider's answers: it accepts requests as real ones do, and repeats callers' words where they do.

use std::sync::LazyLock;

use serde_json::json;

/// Of a request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Whole {
        status: u16,
        content_type: &'static str,
        body: String,
    },
    /// Of two pieces.
    Stream {
        first: String,
        last: String,
        /// Between the two, until all are let go on.
        stands_still: bool,
    },
}

impl Answer {
    fn json(status: u16, body: impl Into<String>) -> Self {
        Self::Whole { status, content_type: "application/json", body: body.into() }
    }
}

/// The provider's own failure, in Anthropic's words.
pub(super) static ERROR: LazyLock<[Answer; 2]> = LazyLock::new(|| {
    [(500, "api_error", "Internal server error"), (529, "overloaded_error", "Overloaded")].map(
        |(status, kind, message)| {
            Answer::json(status, json!({"type": "error", "error": {"type": kind, "message": message}}).to_string())
        },
    )
});

/// The page of a firewall.
const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Attention Required!</title></head>\n\
                    <body><h1>Sorry, you have been blocked</h1></body></html>\n";

/// Words that a firewall between us and the model does not let through.
pub(crate) const BLOCKED: &str = "cat ../../../../etc/passwd";

/// Words that the model answers at length: with [`LONG`] words, after which it stands still.
pub(crate) const AT_LENGTH: &str = "at length";
pub(crate) const LONG: usize = 80_000;

/// Words to which the model has nothing to say, and says that.
pub(crate) const UNSPEAKABLE: &str = "the unspeakable";

/// Words that stand for a picture that no model can read.
pub(crate) const UNREADABLE: &str = "an unreadable picture";

/// The answer to a request with this head and body.
pub(super) fn answer(head: &str, body: &str) -> Answer {
    let says = |what: &str| body.contains(what);
    let messages = head.contains("/v1/messages");
    if let Some(message) = refusal(head, body) {
        let error = json!({"type": "invalid_request_error", "message": message, "param": null, "code": null});
        return Answer::json(400, json!({"type": "error", "error": error}).to_string());
    }
    if says(BLOCKED) {
        return Answer::Whole { status: 403, content_type: "text/html; charset=UTF-8", body: PAGE.to_owned() };
    }
    let end = match () {
        () if says(r#""stop_sequences":["first"]"#) => Some(("stop_sequence", "stop")),
        () if says(r#""stop":["first"]"#) => Some(("stop_sequence", "stop")),
        () if says(r#""max_tokens":1,"#) || says(r#""max_completion_tokens":1,"#) => Some(("max_tokens", "length")),
        () if says(UNSPEAKABLE) => Some(("refusal", "content_filter")),
        () => None,
    };
    let [first, last, whole] = match (messages, end) {
        (true, None) => [MESSAGES_STREAM[0], MESSAGES_STREAM[1], MESSAGES_WHOLE].map(str::to_owned),
        (false, None) => [CHAT_STREAM[0], CHAT_STREAM[1], CHAT_WHOLE].map(str::to_owned),
        (true, Some((end, _))) => {
            [EMPTY_MESSAGES[0], EMPTY_MESSAGES[1], EMPTY_MESSAGE].map(|text| text.replace("END", end))
        }
        (false, Some((_, end))) => {
            [EMPTY_CHAT[0], EMPTY_CHAT[1], EMPTY_COMPLETION].map(|text| text.replace("END", end))
        }
    };
    match says(r#""stream":true"#) {
        false => Answer::json(200, whole),
        true if says(AT_LENGTH) => {
            // Some hundred words in each event, as behind a proxy that collects.
            let words =
                |text: &str| text.replace("first", "first word of many").replacen("word", &"word ".repeat(100), 1);
            let at = first.rfind(if messages { "event: content_block_delta" } else { "data: " }).unwrap();
            let long = words(&first[at..]).repeat(LONG / 100);
            Answer::Stream { first: first[..at].to_owned() + &long, last, stands_still: true }
        }
        true => Answer::Stream { first, last, stands_still: says("hold") },
    }
}

/// Why a request is wrong, in words that repeat the caller's.
fn refusal(head: &str, body: &str) -> Option<String> {
    if !body.contains(r#""messages":["#) {
        return Some(body.to_owned());
    }
    let beta = head.lines().find_map(|line| line.strip_prefix("anthropic-beta: "));
    if let Some(beta) = beta.filter(|beta| !beta.contains("-20")) {
        return Some(format!("Unexpected value(s) `{beta}` for the `anthropic-beta` header."));
    }
    let value = |name: &str| Some(body.split_once(&format!("\"{name}\":"))?.1.split([',', '}']).next()?.trim());
    let tier = value("service_tier").map(|tier| tier.trim_matches('"'));
    if let Some(tier) = tier.filter(|tier| !["auto", "default", "standard_only", "flex"].contains(tier)) {
        return Some(format!("Invalid value: '{tier}'. Supported values are: 'auto', 'default' and 'flex'."));
    }
    body.contains(UNREADABLE).then(|| "Could not process image".to_owned())
}

/// Without a word; `END` is why it ended.
const EMPTY_MESSAGES: [&str; 2] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"END\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];
const EMPTY_CHAT: [&str; 2] = [
    "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"END\"}]}\n\ndata: [DONE]\n\n",
];
const EMPTY_MESSAGE: &str = "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":\"END\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}";
const EMPTY_COMPLETION: &str = "{\"id\":\"c-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":\"END\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"total_tokens\":10}}";

const MESSAGES_STREAM: [&str; 2] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"first\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" and last\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];
const CHAT_STREAM: [&str; 2] = [
    "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"first\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" and last\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
];
const MESSAGES_WHOLE: &str = "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[{\"type\":\"text\",\"text\":\"first and last\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":3}}";
const CHAT_WHOLE: &str = "{\"id\":\"c-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"first and last\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}";
