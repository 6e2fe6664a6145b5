//! Turns that end without a word, and answers of which a filter left nothing: the provider sent both as an answer.

use serde_json::{Value, json};

use super::{house::*, wire::*, *};

const GOOGLE: &str = "generativelanguage.googleapis.com";

/// Each protocol as the only one, by host, and as the first of two.
const PROVIDERS: [(&str, &str); 4] = [
    (ANTHROPIC, "provider: anthropic, model: claude-sonnet-4-6"),
    (OPENAI, "provider: openai, model: gpt-4o"),
    (OPENAI, "provider: openai, api: responses, model: gpt-5.4"),
    (GOOGLE, "provider: gemini, model: gemini-2.5-pro"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// No word and no token.
    Silent,
    /// No word, and three tokens.
    Ended,
    Filtered,
}

impl Turn {
    const ALL: [Self; 3] = [Self::Silent, Self::Ended, Self::Filtered];

    /// The answer of a provider whose tier has these settings.
    fn reply(self, tier: &str, stream: bool) -> Reply {
        let tokens = if self == Self::Ended { 3 } else { 0 };
        let is_filtered = self == Self::Filtered;
        let json = match tier {
            _ if tier.contains(": anthropic") => {
                let reason = if is_filtered { "refusal" } else { "end_turn" };
                let usage = json!({"input_tokens": 9, "output_tokens": tokens});
                if stream {
                    let start = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
                        "role": "assistant", "model": "c", "content": [], "stop_reason": null,
                        "usage": {"input_tokens": 9, "output_tokens": 1}}});
                    let delta = json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage});
                    return Reply::stream([event(&start), event(&delta), event(&json!({"type": "message_stop"}))]);
                }
                json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "c", "content": [],
                    "stop_reason": reason, "stop_sequence": null, "usage": usage})
            }
            _ if tier.contains("api: responses") => {
                let status = if is_filtered { "incomplete" } else { "completed" };
                let details = if is_filtered { json!({"reason": "content_filter"}) } else { Value::Null };
                let response = json!({"id": "resp_1", "object": "response", "model": "g", "status": status,
                    "incomplete_details": details, "output": [],
                    "usage": {"input_tokens": 9, "output_tokens": tokens, "total_tokens": 9 + tokens}});
                if stream {
                    let mut begun = response.clone();
                    (begun["status"], begun["usage"]) = (json!("in_progress"), Value::Null);
                    let kind = format!("response.{status}");
                    let created = json!({"type": "response.created", "sequence_number": 0, "response": begun});
                    let ended = json!({"type": kind, "sequence_number": 1, "response": response});
                    return Reply::stream([event(&created), event(&ended)]);
                }
                response
            }
            _ if tier.contains(": openai") => {
                let reason = if is_filtered { "content_filter" } else { "stop" };
                let usage = json!({"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens});
                if stream {
                    let last = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                        "model": "gpt-4o", "choices": [], "usage": usage});
                    return Reply::stream([
                        role(),
                        chunk(&json!({}), Some(reason)),
                        format!("data: {last}\n\n"),
                        DONE.into(),
                    ]);
                }
                json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices":
                    [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": reason}],
                    "usage": usage})
            }
            _ => {
                let answer = if is_filtered {
                    json!({"promptFeedback": {"blockReason": "SAFETY"},
                        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}})
                } else {
                    json!({"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}], "usageMetadata":
                        {"promptTokenCount": 9, "candidatesTokenCount": tokens, "totalTokenCount": 9 + tokens}})
                };
                if stream {
                    return Reply::stream([format!("data: {answer}\n\n")]);
                }
                answer
            }
        };
        Reply::json(200, json.to_string())
    }

    /// The calls at a lone provider: what failed in silence is worth a second one.
    fn calls(self) -> usize {
        if self == Self::Silent { 2 } else { 1 }
    }
}

/// Returns the tier whose protocol is spoken for a caller of this path: OpenAI is asked in its caller's.
fn asked_by(path: &str, tier: &'static str) -> &'static str {
    if path == RESPONSES && tier == PROVIDERS[1].1 { PROVIDERS[2].1 } else { tier }
}

/// Asserts an answer without a word that ends as its protocol's answers end.
fn assert_silent(answer: &Answered, stream: bool, what: &str) {
    assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{what}: {}", answer.body);
    let errors = ["\"error\":{", "\"type\":\"error\"", "event: error"];
    assert!(!errors.iter().any(|error| answer.body.contains(error)), "{what}: {}", answer.body);
    let kind = answer.header("content-type").expect("a type");
    assert_eq!(kind.starts_with("text/event-stream"), stream, "{what}");
    if stream {
        let ends = ["message_stop", "response.completed", "response.incomplete", "finishReason", "promptFeedback"];
        let ended = answer.body.contains("[DONE]") || ends.iter().any(|end| answer.body.contains(end));
        assert!(ended, "{what}: {}", answer.body);
    }
}

// router-for-me/CLIProxyAPI#4886 and four others: a turn without a word was bought twice, a 502, and closed the
// provider for all. Google's mocks: a blocked prompt was a 400 in place of the `promptFeedback` that its users read.
#[tokio::test(start_paused = true)]
async fn a_turn_without_a_word_is_a_200_for_every_caller_of_a_lone_provider() {
    for (host, tier) in PROVIDERS {
        for turn in Turn::ALL {
            for path in PATHS {
                for stream in [false, true] {
                    let what = format!("{tier} {turn:?} for {path}, stream {stream}");
                    let provider = Scripted::new([turn.reply(asked_by(path, tier), stream)]);
                    let plan = Plan::of(&format!("tiers: [{{ name: only, {tier} }}]")).scripted(host, &provider);
                    let house = plan.build();
                    let answer = house.post(path, &[], &hello(stream)).await;
                    assert_silent(&answer, stream, &what);
                    assert_eq!(provider.seen().len(), turn.calls(), "{what}");
                    let health = &serde_json::to_value(house.stack.status()).expect("JSON")["tiers"][0]["circuit"];
                    assert_eq!(health, "closed", "{what}");
                }
            }
        }
    }
}

/// A second tier speaks where the first failed in silence, and says nothing where the first one meant it.
#[tokio::test(start_paused = true)]
async fn another_tier_is_asked_after_a_silent_failure_and_after_no_turn_that_was_meant() {
    let other = |host| {
        if host == ANTHROPIC {
            (OPENAI, "provider: openai, model: gpt-4o")
        } else {
            (ANTHROPIC, "provider: anthropic, model: claude-sonnet-4-6")
        }
    };
    for (host, tier) in PROVIDERS {
        let (backup, settings) = other(host);
        let file = format!("tiers: [{{ name: first, {tier} }}, {{ name: second, {settings} }}]");
        for turn in Turn::ALL {
            for path in PATHS {
                for stream in [false, true] {
                    let what = format!("{tier} {turn:?} for {path}, stream {stream}");
                    let provider = Scripted::new([turn.reply(asked_by(path, tier), stream)]);
                    let house = Plan::of(&file).scripted(host, &provider).build();
                    let answer = house.post(path, &[], &hello(stream)).await;
                    match turn {
                        Turn::Silent => answer.assert_clean(&what),
                        // Another model could answer: it is refused as before. Anthropic calls a filter a refusal.
                        Turn::Filtered if host != ANTHROPIC => {
                            assert_eq!(answer.status, 400, "{what}: {}", answer.body)
                        }
                        Turn::Ended | Turn::Filtered => assert_silent(&answer, stream, &what),
                    }
                    assert_eq!(house.calls(backup), u64::from(turn == Turn::Silent), "{what}");
                }
            }
        }
    }
}

/// A blocked prompt reaches a caller of Google's in Google's own words.
#[tokio::test(start_paused = true)]
async fn a_caller_of_the_same_protocol_reads_the_providers_own_bytes() {
    for stream in [false, true] {
        let tier = PROVIDERS[3].1;
        let provider = Scripted::new([Turn::Filtered.reply(tier, stream)]);
        let house = Plan::of(&format!("tiers: [{{ name: only, {tier} }}]")).scripted(GOOGLE, &provider).build();
        let answer = house.post(GEMINI, &[], &hello(stream)).await;
        let json = if stream { answer.events().remove(0) } else { answer.json() };
        assert_eq!(json["promptFeedback"]["blockReason"], "SAFETY", "{}", answer.body);
    }
}
