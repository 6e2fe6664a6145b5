//! Exceptions where the crate's reading stays as it is, against an SDK's: the rules of `exceptions.txt`, and what each
//! applies to.

use std::collections::HashSet;

use serde_json::Value;
use steadfast::Dialect;

use crate::{
    recorded::{
        events,
        oracle::{Difference, Reading},
    },
    recordings::Exchange,
};

/// The file that has the reason for each.
const REASONS: &str = include_str!("exceptions.txt");

type Applies = fn(&Exchange, &Reading, &Difference) -> bool;

const RULES: &[(&str, Applies)] = &[
    ("answers in a row", answers_in_a_row),
    ("an answer of an older API", an_answer_of_an_older_api),
    ("no end mark", no_end_mark),
    ("arguments in pieces", arguments_in_pieces),
    ("error under a 200", error_under_a_200),
    ("provider's own fallback", providers_own_fallback),
    ("an id in each event", an_id_in_each_event),
    ("deltas apart from the whole", deltas_apart_from_the_whole),
    ("a guardrail's word", a_guardrails_word),
    ("a type beside the text", a_type_beside_the_text),
    ("a tool that ran at Bedrock", a_tool_that_ran_at_bedrock),
];

/// The rule that excepts a difference.
pub(crate) fn rule(exchange: &Exchange, reading: &Reading, difference: &Difference) -> Option<&'static str> {
    RULES.iter().find(|(_, applies)| applies(exchange, reading, difference)).map(|(name, _)| *name)
}

fn answers_in_a_row(exchange: &Exchange, _: &Reading, _: &Difference) -> bool {
    let text = std::str::from_utf8(&exchange.body).unwrap_or_default();
    let starts = events::blocks(text).iter().filter(|block| block.name == "message_start").count();
    exchange.dialect == Dialect::Anthropic && exchange.is_sse && starts > 1
}

fn an_answer_of_an_older_api(exchange: &Exchange, _: &Reading, difference: &Difference) -> bool {
    let body: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
    let is_completion = body["completion"].is_string() && body.get("content").is_none();
    exchange.dialect == Dialect::Anthropic && is_completion && difference.what == "silence"
}

fn no_end_mark(exchange: &Exchange, _: &Reading, difference: &Difference) -> bool {
    exchange.is_sse && difference.what == "outcome" && difference.ours.starts_with("StreamBroken")
}

fn arguments_in_pieces(exchange: &Exchange, _: &Reading, difference: &Difference) -> bool {
    let has = |name: &str| memchr::memmem::find(&exchange.body, name.as_bytes()).is_some();
    exchange.dialect == Dialect::Gemini && difference.what == "tool_calls" && has("\"partialArgs\"")
}

fn error_under_a_200(exchange: &Exchange, reading: &Reading, difference: &Difference) -> bool {
    let body: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
    let reported = body["error"].is_object() || body["choices"][0]["error"].is_object();
    let reason = reading.finish_reason.as_deref();
    let failed = matches!(reason, Some("error" | "insufficient_system_resource"));
    exchange.status.is_success() && (reported || failed) && matches!(difference.what, "outcome" | "silence")
}

fn providers_own_fallback(exchange: &Exchange, _: &Reading, difference: &Difference) -> bool {
    let has = |name: &str| memchr::memmem::find(&exchange.body, name.as_bytes()).is_some();
    exchange.dialect == Dialect::Anthropic && difference.what == "model" && has("\"fallback\"")
}

/// The events of a stream of Responses.
fn of_responses(exchange: &Exchange) -> Vec<Value> {
    if exchange.dialect != Dialect::Responses || !exchange.is_sse {
        return Vec::new();
    }
    let blocks = events::blocks(std::str::from_utf8(&exchange.body).unwrap_or_default());
    blocks.into_iter().filter_map(|block| serde_json::from_str(&block.data?).ok()).collect()
}

fn an_id_in_each_event(exchange: &Exchange, _: &Reading, difference: &Difference) -> bool {
    let events = of_responses(exchange);
    let ids: HashSet<&str> = events.iter().filter_map(|event| event["response"]["id"].as_str()).collect();
    difference.what == "id" && ids.len() > 1
}

fn deltas_apart_from_the_whole(exchange: &Exchange, _: &Reading, difference: &Difference) -> bool {
    difference.what == "text" && has_deltas_apart(exchange)
}

fn a_guardrails_word(exchange: &Exchange, reading: &Reading, difference: &Difference) -> bool {
    let is_cut = matches!(reading.finish_reason.as_deref(), Some("guardrail_intervened" | "content_filtered"));
    exchange.kind == "bedrock" && difference.what == "finish" && is_cut && difference.ours == "Some(Refusal)"
}

fn a_type_beside_the_text(exchange: &Exchange, reading: &Reading, difference: &Difference) -> bool {
    let refused = reading.error_class.as_deref() == Some("botocore.ResponseParserError");
    exchange.kind == "bedrock" && difference.what == "outcome" && refused && difference.ours == "an answer"
}

fn a_tool_that_ran_at_bedrock(exchange: &Exchange, _: &Reading, difference: &Difference) -> bool {
    let has = |name: &str| memchr::memmem::find(&exchange.body, name.as_bytes()).is_some();
    exchange.kind == "bedrock" && difference.what == "tool_calls" && has("\"server_tool_use\"")
}

/// Returns true if the deltas of a stream's texts are not the texts that repeat them.
pub(crate) fn has_deltas_apart(exchange: &Exchange) -> bool {
    let events = of_responses(exchange);
    let of = |kind: &str, name: &str| -> String {
        events.iter().filter(|event| event["type"] == kind).filter_map(|event| event[name].as_str()).collect()
    };
    let deltas = of("response.output_text.delta", "delta");
    !deltas.is_empty() && deltas != of("response.output_text.done", "text")
}

#[test]
fn every_rule_has_its_reason_and_every_reason_its_rule() {
    let lines = REASONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let reasons: Vec<(&str, &str)> = lines
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("exceptions.txt: {line:?} has no reason")))
        .collect();
    for (name, _) in RULES {
        let found = reasons.iter().find(|(rule, _)| rule == name);
        assert!(found.is_some_and(|(_, reason)| reason.len() > 30), "exceptions.txt has no reason for {name:?}");
    }
    for (name, _) in &reasons {
        assert!(RULES.iter().any(|(rule, _)| rule == name), "exceptions.txt: there is no rule {name:?}");
    }
}
