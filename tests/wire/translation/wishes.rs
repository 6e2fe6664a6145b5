//! The wish for thoughts of a caller of Chat Completions, in each vendor's spelling, at each place where Claude and
//! Gemini are: it arrives as that protocol's own field, or a note names it.
//!
//! The spellings are those of the vendors' references of November 2026: OpenAI's `reasoning_effort`, OpenRouter's
//! "Reasoning tokens", LiteLLM's "`thinking`", Alibaba Cloud's "Deep thinking".

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    Dialect, LlmError, LlmRequest, Wire,
    providers::{
        Anthropic, Gemini, OpenAi,
        credentials::{Credentials, Token},
        http::AwsApi,
    },
};
use tower::{Service, ServiceExt, service_fn};

use super::{Leaf, hello};

/// The places of a model, each with its protocol's own fields.
const PLACES: [&str; 6] = ["messages", "mantle", "invoke", "converse", "vertex", "gemini"];

fn leaf(place: &str, model: &str, sent: &Arc<Mutex<Bytes>>) -> Leaf {
    let (record, dialect) = (sent.clone(), dialect(place));
    let is_converse = place == "converse";
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            *record.lock().unwrap() = request.into_body().collect().await.unwrap().to_bytes();
            let answer = match is_converse {
                true => {
                    r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn"}"#
                }
                false => hello(dialect),
            };
            let mut response = Response::new(Full::new(Bytes::from_static(answer.as_bytes())));
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            Ok::<_, Infallible>(response)
        }
    });
    let keys = || Credentials::token(Token::aws("AKIDEXAMPLE", "secret", None));
    let aws = |api| Anthropic::on_aws("us-east-1").unwrap().aws_api(api).unwrap().credentials(keys());
    match place {
        "messages" => Leaf::new(Anthropic::new("k").model(model).transport(transport)),
        "mantle" => Leaf::new(aws(AwsApi::Mantle).model(format!("anthropic.{model}")).transport(transport)),
        "invoke" => Leaf::new(aws(AwsApi::Invoke).model(format!("us.anthropic.{model}-v1:0")).transport(transport)),
        "converse" => Leaf::new(aws(AwsApi::Converse).model(format!("us.anthropic.{model}-v1:0")).transport(transport)),
        "vertex" => {
            let token = Credentials::token(Token::bearer("t"));
            Leaf::new(
                Anthropic::on_vertex("my-project", "global")
                    .unwrap()
                    .credentials(token)
                    .model(model)
                    .transport(transport),
            )
        }
        "gemini" => Leaf::new(Gemini::new("k").model(model).transport(transport)),
        _ => Leaf::new(OpenAi::new("k").responses().model(model).transport(transport)),
    }
}

fn dialect(place: &str) -> Dialect {
    match place {
        "gemini" => Dialect::Gemini,
        "responses" => Dialect::Responses,
        _ => Dialect::Anthropic,
    }
}

/// Returns what a place gets for these settings of a Chat caller, and the notes.
async fn asked(place: &str, model: &str, settings: &Value, stream: bool) -> Result<(Value, Vec<String>), LlmError> {
    let mut body = json!({"model": "any", "stream": stream, "max_tokens": 30_000,
        "messages": [{"role": "user", "content": "?"}]});
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let sent = Arc::new(Mutex::new(Bytes::new()));
    let request = LlmRequest::from(Wire::new(Dialect::OpenAi, body.to_string())?).with_stream(false);
    let response = leaf(place, model, &sent).ready().await?.call(request).await?;
    let sent = sent.lock().unwrap().clone();
    Ok((serde_json::from_slice(&sent).unwrap(), response.notes().iter().map(ToString::to_string).collect()))
}

/// Returns the fields about thoughts in what was sent: Converse hands them on under a name of its own.
fn thoughts(place: &str, sent: &Value) -> Value {
    match place {
        "gemini" => sent["generationConfig"]["thinkingConfig"].clone(),
        "converse" => {
            let effort = &sent["outputConfig"]["effort"];
            json!([sent["additionalModelRequestFields"]["thinking"], effort])
        }
        _ => json!([sent["thinking"], sent["output_config"]["effort"]]),
    }
}

/// A wish, and its spellings.
enum Wish {
    Budget(u32),
    Effort(&'static str),
    Off,
    On,
}

fn spellings(wish: &Wish) -> Vec<Value> {
    match wish {
        Wish::Budget(tokens) => vec![
            json!({"reasoning": {"max_tokens": tokens}}),
            json!({"reasoning": {"max_tokens": tokens, "enabled": true}}),
            json!({"thinking": {"type": "enabled", "budget_tokens": tokens}}),
            json!({"enable_thinking": true, "thinking_budget": tokens}),
        ],
        Wish::Effort(word) => vec![
            json!({"reasoning_effort": word}),
            json!({"reasoning": {"effort": word}}),
            json!({"reasoning": {"effort": word, "enabled": true}}),
            json!({"thinking": {"type": "enabled"}, "reasoning_effort": word}),
        ],
        Wish::Off => vec![
            json!({"reasoning_effort": "none"}),
            json!({"reasoning": {"effort": "none"}}),
            json!({"reasoning": {"enabled": false}}),
            json!({"reasoning": {"max_tokens": 0}}),
            json!({"thinking": {"type": "disabled"}}),
            json!({"enable_thinking": false}),
            json!({"thinking_budget": 0}),
        ],
        Wish::On => vec![
            json!({"reasoning": {"enabled": true}}),
            json!({"thinking": {"type": "adaptive"}}),
            json!({"thinking": {"type": "enabled"}}),
            json!({"enable_thinking": true}),
            json!({"thinking_budget": -1}),
        ],
    }
}

/// The fields of each protocol for a wish, by its vendor's reference.
fn wanted(place: &str, model: &str, wish: &Wish) -> Value {
    let gemini = |field: &str, value: Value| json!({field: value, "includeThoughts": true});
    match (place, model, wish) {
        ("gemini", "gemini-2.5-flash", Wish::Budget(tokens)) => gemini("thinkingBudget", json!(tokens)),
        ("gemini", "gemini-2.5-flash", Wish::Off) => json!({"thinkingBudget": 0}),
        ("gemini", "gemini-2.5-flash", Wish::On) => gemini("thinkingBudget", json!(-1)),
        ("gemini", _, Wish::Effort(word)) => gemini("thinkingLevel", json!(word.to_ascii_uppercase())),
        (_, "claude-opus-4-7", Wish::Effort(word)) => json!([{"type": "adaptive"}, word]),
        (_, "claude-opus-4-7", Wish::On) => json!([{"type": "adaptive"}, null]),
        (_, "claude-sonnet-4-5", Wish::Budget(tokens)) => json!([{"type": "enabled", "budget_tokens": tokens}, null]),
        (_, _, Wish::Off) => json!([{"type": "disabled"}, null]),
        _ => panic!("no row for {place} {model}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_spelling_arrives_as_the_protocols_own_field() {
    let (mut cells, mut wrong) = (0, Vec::new());
    for place in PLACES {
        let rows = match place {
            "gemini" => vec![
                ("gemini-2.5-flash", Wish::Budget(2048)),
                ("gemini-2.5-flash", Wish::Off),
                ("gemini-2.5-flash", Wish::On),
                ("gemini-3.1-pro", Wish::Effort("low")),
                ("gemini-3.1-pro", Wish::Effort("high")),
            ],
            _ => vec![
                ("claude-sonnet-4-5", Wish::Budget(2048)),
                ("claude-sonnet-4-5", Wish::Off),
                ("claude-opus-4-7", Wish::Effort("low")),
                ("claude-opus-4-7", Wish::Effort("high")),
                ("claude-opus-4-7", Wish::On),
            ],
        };
        for (model, wish) in rows {
            for settings in spellings(&wish) {
                for stream in [false, true] {
                    cells += 1;
                    let (sent, notes) = asked(place, model, &settings, stream).await.unwrap();
                    let (thoughts, wanted) = (thoughts(place, &sent), wanted(place, model, &wish));
                    let is_off = matches!(wish, Wish::Off) && thoughts == json!([null, null]);
                    if thoughts != wanted && !is_off || !notes.iter().all(|note| note.starts_with("max_output")) {
                        wrong.push(format!("{place} {model} {settings}: {thoughts}, not {wanted}; {notes:?}"));
                    }
                    // No other spelling goes along.
                    let text = sent.to_string();
                    let strange = ["\"reasoning\"", "reasoning_effort", "enable_thinking", "thinking_budget\""];
                    if strange.iter().any(|name| text.contains(name)) {
                        wrong.push(format!("{place} {settings}: {text}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cells}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cells > 250, "{cells}");
}

/// A model that counts otherwise gets the nearest that it has, and the caller a note.
#[tokio::test(start_paused = true)]
async fn a_wish_that_the_model_cannot_count_is_noted() {
    let wishes = [Wish::Budget(2048), Wish::Effort("high")];
    for place in PLACES {
        let models = if place == "gemini" {
            ["gemini-3.1-pro", "gemini-2.5-flash"]
        } else {
            ["claude-opus-4-7", "claude-sonnet-4-5"]
        };
        for (model, wish) in models.into_iter().zip(&wishes) {
            for settings in spellings(wish) {
                let (sent, notes) = asked(place, model, &settings, false).await.unwrap();
                assert!(thoughts(place, &sent).to_string().len() > "[null,null]".len(), "{place} {settings}: {sent}");
                assert!(notes.iter().any(|note| note.starts_with("thinking_")), "{place} {settings}: {notes:?}");
            }
        }
    }
}

/// OpenRouter's `exclude`, its older `include_reasoning`, Anthropic's `display`.
#[tokio::test(start_paused = true)]
async fn an_answer_without_thoughts_is_asked_for_where_the_protocol_can() {
    let spellings = |wish: Value| {
        let mut exclude = wish.clone();
        exclude["reasoning"]["exclude"] = true.into();
        let mut older = wish;
        older["include_reasoning"] = false.into();
        [exclude, older]
    };
    for place in PLACES {
        for settings in spellings(json!({"reasoning": {"effort": "high"}})) {
            let model = if place == "gemini" { "gemini-3.1-pro" } else { "claude-opus-4-7" };
            let (sent, notes) = asked(place, model, &settings, false).await.unwrap();
            let wanted = match place {
                "gemini" => json!({"thinkingLevel": "HIGH", "includeThoughts": false}),
                _ => json!([{"type": "adaptive", "display": "omitted"}, "high"]),
            };
            assert_eq!(thoughts(place, &sent), wanted, "{place} {settings}");
            assert!(!notes.iter().any(|note| note.contains("thoughts")), "{place} {settings}: {notes:?}");
        }
        // Earlier models have no such field.
        let settings = json!({"reasoning": {"max_tokens": 2048, "exclude": true}});
        if place != "gemini" {
            let (sent, notes) = asked(place, "claude-sonnet-4-5", &settings, false).await.unwrap();
            assert_eq!(thoughts(place, &sent), json!([{"type": "enabled", "budget_tokens": 2048}, null]), "{place}");
            assert!(notes.iter().any(|note| note.starts_with("hidden_thoughts: left out")), "{place}: {notes:?}");
        }
    }
}

/// Of two spellings that disagree one counts, and a note names the other.
#[tokio::test(start_paused = true)]
async fn a_second_wish_is_named() {
    for (settings, counts, named) in [
        (
            json!({"reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 2048}}),
            json!([{"type": "enabled", "budget_tokens": 2048}, null]),
            "reasoning_effort",
        ),
        (
            json!({"reasoning": {"effort": "high", "max_tokens": 2048}}),
            json!([{"type": "enabled", "budget_tokens": 2048}, null]),
            "reasoning.effort",
        ),
        (
            json!({"thinking": {"type": "disabled", "budget_tokens": 2048}}),
            json!([{"type": "disabled"}, null]),
            "thinking.budget_tokens",
        ),
    ] {
        let (sent, notes) = asked("messages", "claude-sonnet-4-5", &settings, false).await.unwrap();
        let got = thoughts("messages", &sent);
        assert!(got == counts || counts[0]["type"] == "disabled" && got == json!([null, null]), "{settings}: {got}");
        let is_named = notes.iter().any(|note| note.starts_with("other_field") && note.contains(named));
        assert!(is_named, "{settings}: {notes:?}");
    }
}

/// A router's own spelling stays as it is at a server of the dialect, though another model is asked.
#[tokio::test(start_paused = true)]
async fn a_server_of_the_dialect_gets_the_spelling_unchanged() {
    for settings in [
        json!({"reasoning": {"effort": "high", "exclude": true}}),
        json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        json!({"enable_thinking": true, "thinking_budget": 2048}),
    ] {
        let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "?"}]});
        body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let sent = Arc::new(Mutex::new(Bytes::new()));
        let record = sent.clone();
        let transport = service_fn(move |request: Request<Full<Bytes>>| {
            let record = record.clone();
            async move {
                *record.lock().unwrap() = request.into_body().collect().await.unwrap().to_bytes();
                let mut response = Response::new(Full::new(Bytes::from(hello(Dialect::OpenAi))));
                response.headers_mut().insert("content-type", "application/json".parse().unwrap());
                Ok::<_, Infallible>(response)
            }
        });
        let router = OpenAi::compatible("router", "https://router.internal/v1").unwrap().key("k");
        let mut leaf = Leaf::new(router.model("qwen3-max").transport(transport));
        let wire = Wire::new(Dialect::OpenAi, body.to_string()).unwrap();
        leaf.ready().await.unwrap().call(LlmRequest::from(wire)).await.unwrap();
        let got: Value = serde_json::from_slice(&sent.lock().unwrap()).unwrap();
        let mut expected = body;
        expected["model"] = "qwen3-max".into();
        assert_eq!(got, expected);
    }
}
