//! The fate of parameters at each family of models. The expectations are those of the vendors' documentation, which
//! `families.json` in `steadfast-core` names: the parameters that each model refuses with a 400, and its spelling of
//! the rest.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use steadfast::{
    Dialect::{self, Anthropic as A, Gemini as G, OpenAi as O},
    FallbackLayer, LlmRequest, Wire,
    layers::fallback::Tier,
    providers::{Anthropic, OpenAi, Simulated},
};
use steadfast_simulator::InProcess;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

use super::translate_for;

const TOOL: &str = "get_weather";

/// A Claude request with all that the README's pair is asked for: thinking, sampling, tools.
fn claude() -> Value {
    json!({
        "model": "claude-sonnet-4-5", "max_tokens": 32000, "temperature": 1, "top_p": 0.95,
        "thinking": {"type": "enabled", "budget_tokens": 10000},
        "tools": [{"name": TOOL, "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}],
        "tool_choice": {"type": "auto"},
        "messages": [{"role": "user", "content": "Weather?"}],
    })
}

fn gpt(more: Value) -> Value {
    let mut body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Weather?"}]});
    for (name, value) in more.as_object().expect("fields") {
        body[name] = value.clone();
    }
    body
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": TOOL, "parameters": {"type": "object", "properties": {}}}}])
}

async fn sent(from: Dialect, to: Dialect, model: &str, body: &Value) -> (Value, Vec<String>) {
    translate_for(from, to, model, false, body).await.unwrap_or_else(|error| panic!("{model}: {error}"))
}

fn is_noted(notes: &[String], feature: &str) -> bool {
    notes.iter().any(|note| note.starts_with(feature))
}

#[tokio::test(start_paused = true)]
async fn the_readmes_pair_survives_thinking_effort_sampling_and_tools() {
    let mut asked = claude();
    let (body, notes) = sent(A, O, "gpt-4o", &asked).await;
    assert!(body.get("reasoning_effort").is_none(), "gpt-4o refuses it: {body}");
    assert!(body["max_completion_tokens"].as_u64().unwrap() <= 16_384);
    assert_eq!((&body["tool_choice"], &body["top_p"]), (&json!("auto"), &json!(0.95)));
    assert!(is_noted(&notes, "model_reasoning: ") && is_noted(&notes, "max_output (16384 tokens): "), "{notes:?}");
    for thinking in [json!({"type": "disabled"}), json!({"type": "adaptive"})] {
        asked["thinking"] = thinking;
        asked["output_config"] = json!({"effort": "xhigh"});
        let (body, _) = sent(A, O, "gpt-4o", &asked).await;
        assert!(body.get("reasoning_effort").is_none(), "{body}");
    }
}

/// Whatever a Claude is asked for, in all combinations, while it is down: the simulated gpt-4o refuses what the real
/// one does.
#[tokio::test(start_paused = true)]
async fn an_outage_loses_no_request_of_the_readmes_pair() {
    let down = service_fn(|_: Request<Full<Bytes>>| async {
        let mut response = Response::new(Full::new(Bytes::from(r#"{"type":"error","error":{"type":"api_error"}}"#)));
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        Ok::<_, Infallible>(response)
    });
    let simulator = InProcess::new(Simulated::new("gpt-4o"));
    let spare = OpenAi::new("k").model("gpt-4o").transport(simulator);
    let primary = Anthropic::new("k").model("claude-sonnet-4-5").transport(down);
    let chain = FallbackLayer::new("claude").push(Tier::new("gpt-4o", spare)).layer(primary);
    let thoughts = [
        Value::Null,
        json!({"type": "disabled"}),
        json!({"type": "enabled", "budget_tokens": 1024}),
        json!({"type": "enabled", "budget_tokens": 31_000}),
        json!({"type": "adaptive"}),
    ];
    let efforts = [Value::Null, json!({"effort": "low"}), json!({"effort": "max"})];
    let sampled = [
        json!({}),
        json!({"temperature": 0.3}),
        json!({"temperature": 1, "top_p": 0.9, "top_k": 40, "stop_sequences": ["END"]}),
    ];
    let choices = [
        Value::Null,
        json!({"type": "auto", "disable_parallel_tool_use": true}),
        json!({"type": "any"}),
        json!({"type": "none"}),
    ];
    let (mut asked, mut lost) = (0, Vec::new());
    for thinking in &thoughts {
        for effort in &efforts {
            for sampling in &sampled {
                for choice in &choices {
                    let mut body = claude();
                    for name in ["temperature", "top_p", "thinking", "tool_choice"] {
                        body.as_object_mut().unwrap().remove(name);
                    }
                    let settings = [("thinking", thinking), ("output_config", effort), ("tool_choice", choice)];
                    for (name, value) in settings.into_iter().filter(|(_, value)| !value.is_null()) {
                        body[name] = value.clone();
                    }
                    body.as_object_mut().unwrap().extend(sampling.as_object().unwrap().clone());
                    asked += 1;
                    let request = LlmRequest::from(Wire::new(A, body.to_string()).unwrap());
                    match chain.clone().oneshot(request).await {
                        Ok(answer) if answer.served_by().model == Some("gpt-4o") => {}
                        other => lost.push(format!("{body}: {other:?}")),
                    }
                }
            }
        }
    }
    assert!(lost.is_empty(), "{} of {asked} lost: {}", lost.len(), lost[0]);
    assert_eq!(asked, 180);
}

#[tokio::test(start_paused = true)]
async fn a_caller_without_a_limit_gets_the_models_largest_output() {
    for (model, most) in [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-haiku-20241022", 8192),
        ("claude-opus-4-1", 32_000),
        ("claude-sonnet-4-5", 64_000),
        ("claude-opus-5-5", 128_000),
        ("a-model-of-ours", 4096),
    ] {
        let (body, notes) = sent(O, A, model, &gpt(json!({}))).await;
        assert_eq!(body["max_tokens"], most, "{model}");
        assert!(is_noted(&notes, &format!("max_output ({most} tokens): ")), "{notes:?}");
    }
    let (body, _) = sent(O, A, "claude-3-5-haiku", &gpt(json!({"max_completion_tokens": 100_000}))).await;
    assert_eq!(body["max_tokens"], 8192, "a limit above the model's own is refused there");
    let (body, notes) = sent(O, A, "claude-sonnet-4-5", &gpt(json!({"max_completion_tokens": 1000}))).await;
    assert_eq!((&body["max_tokens"], is_noted(&notes, "max_output")), (&json!(1000), false));
}

#[tokio::test(start_paused = true)]
async fn reasoning_is_said_as_each_model_has_it() {
    let none = Value::Null;
    let effort = |effort: &str| json!({"reasoning_effort": effort});
    // The request's effort, the model, its thinking, its effort.
    let cases = [
        ("high", "claude-3-5-haiku", none.clone(), none.clone()),
        ("low", "claude-sonnet-4-5", json!({"type": "enabled", "budget_tokens": 1024}), none.clone()),
        ("high", "claude-sonnet-4-5", json!({"type": "enabled", "budget_tokens": 24_576}), none.clone()),
        ("none", "claude-sonnet-4-5", json!({"type": "disabled"}), none.clone()),
        ("xhigh", "claude-opus-4-6", json!({"type": "adaptive"}), json!("high")),
        ("minimal", "claude-opus-4-7", json!({"type": "adaptive"}), json!("low")),
        ("xhigh", "claude-opus-4-7", json!({"type": "adaptive"}), json!("xhigh")),
        ("none", "claude-opus-4-7", none.clone(), none.clone()),
        ("none", "claude-opus-5", json!({"type": "disabled"}), none.clone()),
        ("none", "claude-opus-5-5", json!({"type": "adaptive"}), json!("low")),
        ("max", "claude-opus-5-5", json!({"type": "adaptive"}), json!("max")),
        ("none", "claude-sonnet-5-5", json!({"type": "between_tools"}), none.clone()),
        ("low", "a-model-of-ours", none.clone(), none.clone()),
    ];
    for (asked, model, thinking, own) in cases {
        let (body, _) = sent(O, A, model, &gpt(effort(asked))).await;
        assert_eq!((&body["thinking"], &body["output_config"]["effort"]), (&thinking, &own), "{asked} at {model}");
    }
    let budget = |tokens: u32| {
        let mut body = claude();
        body["thinking"]["budget_tokens"] = tokens.into();
        body.as_object_mut().unwrap().remove("tools");
        body.as_object_mut().unwrap().remove("tool_choice");
        body
    };
    for (tokens, model, expected) in [
        (1024, "o3", json!("low")),
        (10_000, "o3", json!("high")),
        (31_999, "gpt-5", json!("high")),
        (31_999, "gpt-5.2", json!("xhigh")),
        (2000, "gpt-5", json!("medium")),
        (2000, "gpt-4.1", none.clone()),
        (2000, "a-model-of-ours", none.clone()),
    ] {
        let (body, _) = sent(A, O, model, &budget(tokens)).await;
        assert_eq!(body["reasoning_effort"], expected, "{tokens} at {model}");
    }
    for (tokens, model, expected) in [
        (31_999, "gemini-2.5-flash", json!({"thinkingBudget": 24_576, "includeThoughts": true})),
        (31_999, "gemini-2.5-pro", json!({"thinkingBudget": 31_999, "includeThoughts": true})),
        (2000, "gemini-2.0-flash", none.clone()),
        (2000, "gemini-3-pro-preview", json!({"thinkingLevel": "LOW", "includeThoughts": true})),
        (2000, "gemini-3-flash-preview", json!({"thinkingLevel": "MEDIUM", "includeThoughts": true})),
    ] {
        let (body, _) = sent(A, G, model, &budget(tokens)).await;
        assert_eq!(body["generationConfig"]["thinkingConfig"], expected, "{tokens} at {model}");
    }
    for (model, expected) in [
        ("gemini-2.5-flash", json!({"thinkingBudget": 0})),
        ("gemini-2.5-pro", json!({"thinkingBudget": 128, "includeThoughts": true})),
        ("gemini-2.0-flash", none.clone()),
        ("gemini-3.1-pro-preview", json!({"thinkingLevel": "LOW", "includeThoughts": true})),
    ] {
        let (body, _) = sent(O, G, model, &gpt(effort("none"))).await;
        assert_eq!(body["generationConfig"]["thinkingConfig"], expected, "off at {model}");
    }
    let off = {
        let mut body = budget(2000);
        body["thinking"] = json!({"type": "disabled"});
        body
    };
    for (model, expected) in
        [("gpt-4o", none.clone()), ("o3", json!("low")), ("gpt-5", json!("minimal")), ("gpt-5.1", json!("none"))]
    {
        let (body, _) = sent(A, O, model, &off).await;
        assert_eq!(body["reasoning_effort"], expected, "off at {model}");
    }
}

/// More asked for is never less given, whatever the model.
#[tokio::test(start_paused = true)]
async fn the_ladder_rises_at_every_model() {
    let rank = |effort: &Value| {
        let ladder = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
        effort
            .as_str()
            .map_or(0, |effort| ladder.iter().position(|rung| effort.eq_ignore_ascii_case(rung)).expect("a rung"))
    };
    let rungs = ["minimal", "low", "medium", "high", "xhigh", "max"];
    for model in ["claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-5-5", "claude-sonnet-5"] {
        let mut before = 0;
        for rung in rungs {
            let (body, _) = sent(O, A, model, &gpt(json!({"reasoning_effort": rung}))).await;
            let budget = body["thinking"]["budget_tokens"].as_u64().unwrap_or(0) as usize;
            let now = budget.max(rank(&body["output_config"]["effort"]));
            assert!(now >= before && now > 0, "{rung} at {model}: {body}");
            before = now;
        }
    }
    for model in ["gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-pro-preview", "gemini-3-flash-preview"] {
        let mut before = 0;
        for rung in rungs {
            let (body, _) = sent(O, G, model, &gpt(json!({"reasoning_effort": rung}))).await;
            let config = &body["generationConfig"]["thinkingConfig"];
            let now = (config["thinkingBudget"].as_u64().unwrap_or(0) as usize).max(rank(&config["thinkingLevel"]));
            assert!(now >= before && now > 0, "{rung} at {model}: {body}");
            before = now;
        }
    }
    for model in ["o3", "gpt-5", "gpt-5.2", "gpt-6-sol"] {
        let mut before = 0;
        for tokens in [1024, 2000, 9000, 20_000, 25_000, 31_000] {
            let mut asked = claude();
            asked["thinking"]["budget_tokens"] = tokens.into();
            let fields = asked.as_object_mut().unwrap();
            fields.retain(|name, _| !name.starts_with("tool"));
            let (body, _) = sent(A, O, model, &asked).await;
            let now = rank(&body["reasoning_effort"]);
            assert!(now >= before && now > 0, "{tokens} at {model}: {body}");
            before = now;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn settings_that_a_model_refuses_are_left_out_and_told() {
    let sampled = gpt(json!({"temperature": 0.5, "top_p": 0.9, "stop": ["x"]}));
    for (model, temperature, top_p) in [
        ("claude-3-5-haiku", json!(0.5), json!(0.9)),
        ("claude-opus-4-1", json!(0.5), Value::Null),
        ("claude-sonnet-4-5", json!(0.5), Value::Null),
        ("claude-opus-4-7", Value::Null, Value::Null),
        ("claude-opus-5-5", Value::Null, Value::Null),
        ("claude-next", Value::Null, Value::Null),
    ] {
        let (body, notes) = sent(O, A, model, &sampled).await;
        assert_eq!((&body["temperature"], &body["top_p"]), (&temperature, &top_p), "{model}");
        assert_eq!(is_noted(&notes, "sampling: "), top_p.is_null(), "{model}: {notes:?}");
        assert_eq!(body["stop_sequences"], json!(["x"]), "{model}");
    }
    let claude = json!({
        "model": "claude-sonnet-4-5", "max_tokens": 500, "temperature": 0.5, "stop_sequences": ["x"],
        "tools": [{"name": TOOL, "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "messages": [{"role": "user", "content": "Weather?"}],
    });
    for (model, temperature, stop, parallel) in [
        ("gpt-4o", json!(0.5), json!(["x"]), json!(false)),
        ("gpt-4.1", json!(0.5), json!(["x"]), json!(false)),
        ("gpt-5", Value::Null, Value::Null, json!(false)),
        ("gpt-5-mini", Value::Null, Value::Null, json!(false)),
        ("o3", Value::Null, Value::Null, Value::Null),
        ("gpt-5.1", json!(0.5), Value::Null, json!(false)),
        ("grok-4.6", json!(0.5), Value::Null, json!(false)),
        ("a-model-of-ours", json!(0.5), json!(["x"]), json!(false)),
    ] {
        let (body, notes) = sent(A, O, model, &claude).await;
        let said = (&body["temperature"], &body["stop"], &body["parallel_tool_calls"]);
        assert_eq!(said, (&temperature, &stop, &parallel), "{model}");
        assert_eq!(is_noted(&notes, "model_setting (stop): "), stop.is_null(), "{model}: {notes:?}");
    }
    let penalties = gpt(json!({"presence_penalty": 0.5, "frequency_penalty": 0.5}));
    for (model, takes) in [("gemini-2.0-flash", true), ("gemini-2.5-flash", false), ("gemini-3.1-pro-preview", false)] {
        let (body, notes) = sent(O, G, model, &penalties).await;
        assert_eq!(body["generationConfig"].get("presencePenalty").is_some(), takes, "{model}");
        assert_eq!(is_noted(&notes, "model_setting (presencePenalty): "), !takes, "{model}: {notes:?}");
    }
}

/// Of gpt-5.1 and later, sampling goes with no reasoning alone.
#[tokio::test(start_paused = true)]
async fn sampling_goes_where_the_model_does_not_reason() {
    let asked = |thinking: Value| {
        let mut body = claude();
        body["thinking"] = thinking;
        body["temperature"] = 0.5.into();
        body.as_object_mut().unwrap().retain(|name, _| !name.starts_with("tool"));
        body
    };
    let thinks = asked(json!({"type": "enabled", "budget_tokens": 2000}));
    let (body, _) = sent(A, O, "gpt-5.2", &thinks).await;
    assert_eq!((&body["reasoning_effort"], body.get("temperature")), (&json!("medium"), None));
    let (body, _) = sent(A, O, "gpt-5.2", &asked(json!({"type": "disabled"}))).await;
    assert_eq!((&body["reasoning_effort"], &body["temperature"]), (&json!("none"), &json!(0.5)));
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_forced_only_where_the_model_takes_it() {
    let forced = |more: Value| {
        let mut body = gpt(more);
        body["tools"] = tools();
        body["tool_choice"] = json!({"type": "function", "function": {"name": TOOL}});
        body
    };
    let (body, notes) = sent(O, A, "claude-opus-5-5", &forced(json!({"reasoning_effort": "high"}))).await;
    assert_eq!((&body["tool_choice"]["type"], &body["thinking"]["type"]), (&json!("auto"), &json!("adaptive")));
    assert!(body["system"].as_str().unwrap().contains(TOOL) && is_noted(&notes, "forced_tool: "), "{body} {notes:?}");
    let (body, notes) = sent(O, A, "claude-opus-4-6", &forced(json!({"reasoning_effort": "high"}))).await;
    assert_eq!((&body["tool_choice"]["type"], body.get("thinking")), (&json!("tool"), None));
    assert!(is_noted(&notes, "thinking: "), "{notes:?}");
    let (body, _) = sent(O, A, "claude-opus-5", &forced(json!({}))).await;
    assert_eq!((&body["tool_choice"]["type"], &body["thinking"]["type"]), (&json!("tool"), &json!("disabled")));
    let (body, _) = sent(O, G, "gemini-2.5-flash", &forced(json!({}))).await;
    assert_eq!(body["toolConfig"]["functionCallingConfig"]["mode"], "ANY");
}

/// Chat Completions refuses tools beside reasoning from gpt-5.4 on; where a model reasons by default it must be
/// switched off.
#[tokio::test(start_paused = true)]
async fn tools_go_without_reasoning_where_they_must() {
    for (model, effort) in [
        ("gpt-5", json!("high")),
        ("gpt-5.2", json!("high")),
        ("gpt-5.4", Value::Null),
        ("gpt-5.6-terra", json!("none")),
        ("gpt-6-sol", json!("none")),
    ] {
        let (body, notes) = sent(A, O, model, &claude()).await;
        assert_eq!(body["reasoning_effort"], effort, "{model}");
        assert_eq!(is_noted(&notes, "thinking: "), effort != json!("high"), "{model}: {notes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn json_that_a_model_cannot_be_held_to_is_asked_for_in_words() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}});
    let asked = gpt(json!({"tools": tools(), "response_format": format}));
    let (body, notes) = sent(O, G, "gemini-2.5-flash", &asked).await;
    let config = &body["generationConfig"];
    assert!(config.get("responseMimeType").is_none() && config.get("responseJsonSchema").is_none(), "{body}");
    let told = body["systemInstruction"]["parts"][0]["text"].as_str().unwrap();
    assert!(told.contains("JSON Schema") && told.contains("\"n\"") && is_noted(&notes, "json_in_words: "), "{told}");
    for model in ["gemini-3-pro-preview", "gemini-3.1-pro-preview"] {
        let (body, _) = sent(O, G, model, &asked).await;
        assert_eq!(body["generationConfig"]["responseMimeType"], "application/json", "{model}");
    }
    let (body, _) = sent(O, A, "claude-3-5-haiku", &gpt(json!({"response_format": format}))).await;
    assert!(body.get("output_config").is_none() && body["system"].as_str().unwrap().contains("JSON Schema"), "{body}");
    let (body, _) = sent(O, A, "claude-sonnet-4-5", &gpt(json!({"response_format": format}))).await;
    assert_eq!(body["output_config"]["format"]["type"], "json_schema");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_begun_has_no_white_space_at_its_end_and_is_closed_where_the_model_wants_it() {
    let begun = gpt(json!({"messages": [
        {"role": "user", "content": "JSON?"}, {"role": "assistant", "content": "{\"n\": \n"}]}));
    let (body, notes) = sent(O, A, "claude-sonnet-4-5", &begun).await;
    assert_eq!(body["messages"][1]["content"][0]["text"], "{\"n\":");
    assert!(is_noted(&notes, "prefill: "), "{notes:?}");
    let (body, _) = sent(O, A, "claude-opus-5-5", &begun).await;
    assert_eq!(
        (&body["messages"][2]["role"], &body["messages"][2]["content"][0]["text"]),
        (&json!("user"), &json!("(go on)"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_picture_has_the_name_of_its_type_and_goes_only_where_it_is_taken() {
    let picture = |kind: &str| {
        let url = format!("data:{kind};base64,QUJD");
        gpt(json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}))
    };
    let (body, _) = sent(O, A, "claude-sonnet-4-5", &picture("image/jpg")).await;
    assert_eq!(body["messages"][0]["content"][0]["source"]["media_type"], "image/jpeg");
    let (body, _) = sent(O, G, "gemini-2.5-flash", &picture("image/jpg")).await;
    assert_eq!(body["contents"][0]["parts"][0]["inlineData"]["mimeType"], "image/jpeg");
    for (from, to, model, kind) in [(O, G, "gemini-2.5-flash", "image/gif"), (O, A, "claude-sonnet-4-5", "image/heic")]
    {
        let error = translate_for(from, to, model, false, &picture(kind)).await.unwrap_err();
        assert!(error.message().starts_with("media_type: "), "{model}: {error}");
    }
}

/// A request that a caller wrote for one model, at another of the same provider.
#[tokio::test(start_paused = true)]
async fn another_model_of_the_same_provider_gets_what_it_takes() {
    let mut asked = claude();
    asked["model"] = "claude-opus-4-6".into();
    asked["temperature"] = Value::Null;
    asked["top_p"] = Value::Null;
    asked["thinking"] = json!({"type": "adaptive", "display": "summarized"});
    asked["output_config"] = json!({"effort": "max"});
    let (body, _) = sent(A, A, "claude-3-5-haiku", &asked).await;
    assert!(body.get("thinking").is_none() && body.get("output_config").is_none(), "{body}");
    assert_eq!(body["max_tokens"], 8192);
    let (body, notes) = sent(A, A, "claude-sonnet-4-5", &asked).await;
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 16_000, "display": "summarized"}));
    assert!(body.get("output_config").is_none() && is_noted(&notes, "thinking_effort: "), "{body} {notes:?}");
    let (body, _) = sent(A, A, "claude-opus-5-5", &asked).await;
    assert_eq!((&body["thinking"], &body["output_config"]["effort"]), (&asked["thinking"], &json!("max")));

    let mut forced = claude();
    forced["thinking"] = json!({"type": "disabled"});
    forced["temperature"] = 0.5.into();
    forced["top_k"] = 5.into();
    forced["tool_choice"] = json!({"type": "any"});
    let (body, notes) = sent(A, A, "claude-opus-5-5", &forced).await;
    for refused in ["temperature", "top_p", "top_k"] {
        assert!(body.get(refused).is_none(), "{refused}: {body}");
    }
    assert_eq!((&body["tool_choice"]["type"], &body["thinking"]["type"]), (&json!("auto"), &json!("adaptive")));
    assert!(is_noted(&notes, "forced_tool: ") && is_noted(&notes, "sampling: "), "{notes:?}");

    let gpt_4o = json!({
        "model": "gpt-4o", "max_tokens": 500, "temperature": 0.2, "stop": ["x"], "logprobs": true, "seed": 7,
        "presence_penalty": 0.5, "messages": [{"role": "user", "content": "?"}],
    });
    let (body, _) = sent(O, O, "gpt-5", &gpt_4o).await;
    let expected = json!({
        "model": "gpt-5", "max_completion_tokens": 500, "seed": 7, "messages": [{"role": "user", "content": "?"}],
    });
    assert_eq!(body, expected);
    let thinks = gpt(json!({"reasoning_effort": "minimal", "max_completion_tokens": 100_000}));
    let (body, _) = sent(O, O, "gpt-4o", &thinks).await;
    assert_eq!((body.get("reasoning_effort"), &body["max_completion_tokens"]), (None, &json!(16_384)));
    let (body, _) = sent(O, O, "o3", &thinks).await;
    assert_eq!(body["reasoning_effort"], "low");
}

/// Thoughts that a model keeps to itself, and a tool turn that began without one.
#[tokio::test(start_paused = true)]
async fn thoughts_that_another_model_cannot_read_stay_behind() {
    let asked = json!({
        "model": "claude-opus-5-5", "max_tokens": 32000, "thinking": {"type": "adaptive"},
        "tools": [{"name": TOOL, "input_schema": {"type": "object", "properties": {}}}],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "", "signature": "AAAA"},
                {"type": "tool_use", "id": "toolu_1", "name": TOOL, "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]}],
    });
    let (body, notes) = sent(A, A, "claude-sonnet-4-5", &asked).await;
    assert_eq!(body["messages"][1]["content"].as_array().unwrap().len(), 1, "{body}");
    assert_eq!(body["thinking"], json!({"type": "disabled"}), "a thought is expected before the call otherwise");
    assert!(is_noted(&notes, "reasoning: "), "{notes:?}");
    let (body, _) = sent(A, A, "claude-opus-5-5", &asked).await;
    assert_eq!(body, asked, "its own go back to it");
}

/// Google refuses a signature of another model, and from the third generation on a call without one.
#[tokio::test(start_paused = true)]
async fn calls_of_another_gemini_are_signed_as_this_one_wants_it() {
    let asked = json!({"contents": [
        {"role": "user", "parts": [{"text": "Weather?"}]},
        {"role": "model", "parts": [
            {"functionCall": {"name": TOOL, "args": {}}, "thoughtSignature": "AAAA"},
            {"functionCall": {"name": TOOL, "args": {}}}]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": TOOL, "response": {}}}, {"functionResponse": {"name": TOOL, "response": {}}}]}],
        "generationConfig": {"thinkingConfig": {"thinkingLevel": "MINIMAL"}}});
    for (named, model, first) in [
        ("gemini-3-flash-preview", "gemini-3.1-pro-preview", json!("skip_thought_signature_validator")),
        ("gemini-3-flash-preview", "gemini-2.5-flash", Value::Null),
        ("gemini-3-flash-preview", "gemini-3-flash-preview", json!("AAAA")),
        ("smart", "gemini-3.1-pro-preview", json!("AAAA")),
    ] {
        let wire = Wire::new(G, asked.to_string()).unwrap().path(named, false);
        let (mut leaf, sent) = super::leaf_of(G, model, false, (200, "application/json"), super::hello(G));
        leaf.ready().await.unwrap().call(LlmRequest::from(wire)).await.unwrap();
        let body: Value = serde_json::from_slice(&sent.lock().unwrap().clone()).unwrap();
        let parts = &body["contents"][1]["parts"];
        assert_eq!(
            (&parts[0]["thoughtSignature"], parts[1].get("thoughtSignature")),
            (&first, None),
            "{named} to {model}"
        );
        let level = &body["generationConfig"]["thinkingConfig"];
        let expected = match model {
            "gemini-3.1-pro-preview" => json!({"thinkingLevel": "LOW"}),
            "gemini-2.5-flash" => json!({"thinkingBudget": 512}),
            _ => json!({"thinkingLevel": "MINIMAL"}),
        };
        assert_eq!(level, &expected, "{named} to {model}");
    }
}
