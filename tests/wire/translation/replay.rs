//! Every recorded conversation, from its own dialect to each other one and back.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use http::StatusCode;
use serde_json::{Value, json};
use steadfast::{
    Dialect, ErrorKind, Frame, LlmBody, LlmRequest, Wire,
    chat::{Message, Part},
    translate::encode_message,
};
use steadfast_simulator::check;
use tower::{Service, ServiceExt};

use crate::recordings::{Recordings, folders, recordings};

use super::{
    DIALECTS,
    answers::{answered, encoded},
    any, leaf, meaning, translate,
};

struct Conversation {
    /// What the provider answered, and whether as a stream.
    response: Option<(String, bool)>,
    id: String,
    dialect: Dialect,
    /// Whether the real provider answered it.
    answered: bool,
    body: Value,
}

fn recorded() -> Option<Vec<Conversation>> {
    let mut exchanges = recordings()?;
    // The first collection was made before the crate spoke Responses.
    for folder in folders().into_iter().skip(1) {
        let read = Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}"));
        exchanges.extend(read.exchanges.into_iter().filter(|exchange| exchange.dialect == Dialect::Responses));
    }
    let exchanges = exchanges.into_iter().filter_map(|exchange| {
        let body: Value = serde_json::from_slice(exchange.request.body.as_ref()?).ok()?;
        let answer = String::from_utf8_lossy(&exchange.body).into_owned();
        let is_answer = exchange.is_sse || serde_json::from_str::<Value>(&answer).is_ok_and(|json| json.is_object());
        body.is_object().then(|| Conversation {
            response: is_answer.then_some((answer, exchange.is_sse)),
            id: exchange.id,
            dialect: exchange.dialect,
            answered: exchange.status == StatusCode::OK,
            body,
        })
    });
    Some(exchanges.collect())
}

#[derive(Default)]
struct Line {
    conversations: usize,
    refused: usize,
    accepted: usize,
    equal: usize,
    whole: usize,
}

fn features(notes: &[String], to: &mut BTreeSet<String>) {
    to.extend(notes.iter().map(|note| note.split([':', ' ']).next().unwrap_or_default().to_owned()));
}

/// To the target and back, with what was reported on the way.
async fn there_and_back(from: Dialect, to: Dialect, body: &Value) -> Result<Outcome, steadfast::LlmError> {
    let mut lost = BTreeSet::new();
    let (there, notes) = translate(from, to, false, body).await?;
    features(&notes, &mut lost);
    let accepted = check(to, any(to), &there);
    let (back, notes) = translate(to, from, false, &there).await?;
    features(&notes, &mut lost);
    let back_accepted = check(from, any(from), &back);
    let chat =
        |dialect, body: &Value| LlmRequest::from(Wire::new(dialect, body.to_string()).expect("JSON")).chat().cloned();
    let (before, after) = (chat(from, body)?, chat(from, &back)?);
    let (mut before, mut after) = (before, after);
    if let Some(functions) = body.get("functions").and_then(Value::as_array) {
        // The older spelling of tools comes back in the newer one.
        let newer: Vec<Value> = functions.iter().map(|f| json!({"type": "function", "function": f})).collect();
        let wire = json!({"messages": [], "tools": newer});
        before.tools = chat(Dialect::OpenAi, &wire)?.tools;
        (before.tool_choice, after.tool_choice) = (None, None);
    }
    let (before, after) = (meaning::of(&before, &lost), meaning::of(&after, &lost));
    Ok(Outcome { lost, accepted, back_accepted, before, after, there })
}

struct Outcome {
    lost: BTreeSet<String>,
    accepted: Result<(), String>,
    back_accepted: Result<(), String>,
    before: Value,
    after: Value,
    there: Value,
}

/// Two turns of tool use in each dialect, with what goes wrong elsewhere: ids of the dialect's own form, parallel
/// calls, a failed call, schemas, a system prompt.
fn by_hand() -> Vec<Conversation> {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let anthropic = json!({
        "model": "m", "max_tokens": 4000, "system": "Be brief.", "stop_sequences": ["END"], "temperature": 0.5,
        "tools": [{"name": "weather", "description": "The weather", "input_schema": schema}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": false},
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Two cities.", "signature": "EqYGCqMG"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "toolu_01A", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "toolu_01B", "name": "weather", "input": {"city": "Rome"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_01A", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "toolu_01B", "content": "no such city", "is_error": true}]},
            {"role": "assistant", "content": "Rain."},
            {"role": "user", "content": [{"type": "text", "text": "And here?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}]}],
    });
    let call = |id: &str, city: &str| {
        let arguments = json!({ "city": city }).to_string();
        json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}})
    };
    let openai = json!({
        "model": "m", "max_completion_tokens": 4000, "stop": ["END"], "seed": 7,
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}],
        "tool_choice": "required",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": null, "tool_calls": [call("call_1", "Oslo"), call("call_2", "Rome")]},
            {"role": "tool", "tool_call_id": "call_2", "content": "sun"},
            {"role": "tool", "tool_call_id": "call_1", "content": "{\"sky\": \"rain\"}"},
            {"role": "assistant", "content": "Rain and sun."},
            {"role": "user", "content": "Thanks."}],
    });
    let gemini = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": schema}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
        "generationConfig": {"maxOutputTokens": 4000, "stopSequences": ["END"], "topK": 5, "seed": 7},
        "contents": [
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {"role": "model", "parts": [
                {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "EqYGCqMG"},
                {"functionCall": {"name": "weather", "args": {"city": "Rome"}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "weather", "response": {"output": "rain"}}},
                {"functionResponse": {"name": "weather", "response": {"error": "no such city"}}}]},
            {"role": "model", "parts": [{"text": "Rain."}]},
            {"role": "user", "parts": [{"text": "Thanks."}]}],
    });
    let responses = json!({
        "model": "m", "max_output_tokens": 4000, "instructions": "Be brief.", "tool_choice": "required",
        "tools": [
            {"type": "function", "name": "weather", "parameters": schema, "strict": false},
            {"type": "custom", "name": "patch", "description": "Patches.", "format": {"type": "text"}},
            {"type": "namespace", "name": "mcp__city", "description": "Cities.",
                "tools": [{"type": "function", "name": "find", "parameters": schema, "strict": false}]}],
        "input": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "Weather?"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Two cities."}],
                "encrypted_content": "gAAAA"},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "Looking.", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather",
                "arguments": "{\"city\":\"Oslo\"}"},
            {"type": "function_call", "id": "fc_2", "call_id": "call_2", "namespace": "mcp__city", "name": "find",
                "arguments": "{\"city\":\"Rome\"}"},
            {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_3", "name": "patch", "input": "*** Begin\n"},
            {"type": "function_call_output", "call_id": "call_2", "output": "sun"},
            {"type": "function_call_output", "call_id": "call_1", "output": "{\"sky\": \"rain\"}"},
            {"type": "custom_tool_call_output", "call_id": "call_3", "output": "Done."},
            {"role": "assistant", "content": "Rain and sun."},
            {"role": "user", "content": [{"type": "input_text", "text": "And here?"},
                {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "auto"}]}],
    });
    [
        (Dialect::Anthropic, anthropic),
        (Dialect::OpenAi, openai),
        (Dialect::Gemini, gemini),
        (Dialect::Responses, responses),
    ]
    .map(|(dialect, body)| Conversation {
        response: None,
        id: format!("{dialect} by hand"),
        dialect,
        answered: true,
        body,
    })
    .into()
}

#[tokio::test(start_paused = true)]
async fn a_conversation_with_tools_arrives_everywhere_and_comes_back() {
    for conversation in by_hand() {
        let (id, from, body) = (&conversation.id, conversation.dialect, &conversation.body);
        check(from, any(from), body).unwrap_or_else(|error| panic!("{id}: {error}"));
        for to in DIALECTS.into_iter().filter(|to| *to != from) {
            let outcome = there_and_back(from, to, body).await.unwrap_or_else(|error| panic!("{id} to {to}: {error}"));
            assert_eq!(outcome.accepted, Ok(()), "{id} to {to}: {}", outcome.there);
            assert_eq!(outcome.back_accepted, Ok(()), "{id} to {to} and back");
            assert_eq!(outcome.before, outcome.after, "{id} to {to} and back; reported: {:?}", outcome.lost);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_recorded_conversation_arrives_everywhere_and_comes_back() {
    let Some(conversations) = recorded() else { return };
    let mut table: BTreeMap<(String, String), Line> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    for Conversation { id, dialect: from, answered, body, .. } in &conversations {
        // What the real provider refused may be wrong in ways that no translation mends.
        if !answered {
            continue;
        }
        for to in DIALECTS.into_iter().filter(|to| to != from) {
            let line = table.entry((from.to_string(), to.to_string())).or_default();
            line.conversations += 1;
            match there_and_back(*from, to, body).await {
                Err(error) if error.kind() == ErrorKind::UnsupportedFeature => {
                    line.refused += 1;
                    *refusals.entry(format!("to {to}: {}", error.message())).or_default() += 1;
                }
                Err(error) => failures.push(format!("{id} to {to}: {error}")),
                Ok(outcome) => {
                    let accepted = outcome.accepted.and(outcome.back_accepted);
                    line.accepted += usize::from(accepted.is_ok());
                    if let Err(error) = accepted {
                        failures.push(format!("{id} to {to}: {error}"));
                    }
                    line.equal += usize::from(outcome.before == outcome.after);
                    line.whole += usize::from(outcome.lost.is_empty());
                    if outcome.before != outcome.after {
                        let lost = outcome.lost;
                        failures.push(format!("{id} to {to}: {}\nnot {}\n{lost:?}", outcome.after, outcome.before));
                    }
                }
            }
        }
    }
    for (refusal, times) in &refusals {
        println!("refused {times:3} × {refusal}");
    }
    println!("{:10} {:10} conversations  refused  accepted  equal  with nothing to report", "from", "to");
    let mut sum = Line::default();
    for ((from, to), line) in &table {
        let Line { conversations, refused, accepted, equal, whole } = line;
        println!("{from:10} {to:10} {conversations:13} {refused:8} {accepted:9} {equal:6} {whole:23}");
        sum.conversations += conversations;
        sum.refused += refused;
        sum.accepted += accepted;
        sum.equal += equal;
    }
    println!(
        "replayed: {} pairs, {} refused by rule, {} accepted both ways, {} equal",
        sum.conversations, sum.refused, sum.accepted, sum.equal
    );
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
    assert!(sum.conversations > 500, "the recordings are many more");
}

/// What a reader gets of an answer: what is said, what is called, what it took.
type Said = (String, Vec<(String, Value)>, Option<(u64, u64)>);

fn said(message: &Message) -> Said {
    let words = message.content.iter().map(|part| match part {
        Part::Text(text) | Part::Refusal(text) => text.as_str(),
        _ => "",
    });
    let calls = message.tool_calls().map(|call| {
        let arguments = match serde_json::from_str::<Value>(&call.arguments) {
            Ok(Value::Null) => json!({}),
            // Where an object must be, what is no JSON stands under this key.
            Ok(object) => object.get("invalid_arguments").cloned().unwrap_or(object),
            Err(_) => json!(call.arguments),
        };
        (call.name.clone(), arguments)
    });
    (words.collect(), calls.collect(), message.usage.map(|usage| (usage.input, usage.output)))
}

#[tokio::test(start_paused = true)]
async fn every_recorded_answer_reads_the_same_in_every_dialect() {
    let Some(conversations) = recorded() else { return };
    let (mut whole, mut streamed, mut failures) = (0, 0, Vec::new());
    for Conversation { id, dialect: from, response, .. } in &conversations {
        let Some((response, stream)) = response else { continue };
        let kind = if *stream { "text/event-stream" } else { "application/json" };
        let (mut own, _) = leaf(*from, false, (200, kind), response.clone());
        let request = LlmRequest::prompt("?").with_stream(*stream);
        // Errors and answers of nothing have tests of their own.
        let Ok(answer) = own.ready().await.expect("a leaf").call(request).await else { continue };
        let frames: Vec<Result<Frame, _>> = StreamExt::collect(answer.into_body()).await;
        let Ok(frames) = frames.into_iter().collect::<Result<Vec<Frame>, _>>() else { continue };
        let again = LlmBody::from_frames(futures_util::stream::iter(frames.clone().into_iter().map(Ok)));
        let message = LlmBody::collect(again).await.expect("it ended");
        let before = said(&message);
        if before.0.is_empty() && before.1.is_empty() {
            continue;
        }
        for to in DIALECTS.into_iter().filter(|to| to != from) {
            let body = encode_message(&message, to).body;
            let as_whole = answered(to, false, (200, "application/json"), body).await;
            let as_stream = answered(to, true, (200, "text/event-stream"), encoded(&frames, to)).await;
            for (form, answer, count) in [("whole", as_whole, &mut whole), ("streamed", as_stream, &mut streamed)] {
                match answer.map(|answer| said(&answer)) {
                    Ok((text, calls, usage))
                        if text == before.0 && calls == before.1 && (usage == before.2 || before.2.is_none()) =>
                    {
                        *count += 1;
                    }
                    other => failures.push(format!("{id} to {to}, {form}: {other:?}\nnot {before:?}")),
                }
            }
        }
    }
    println!("answers: {whole} whole and {streamed} streamed read the same in another dialect");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
    assert!(whole > 400, "the recordings are many more");
}
