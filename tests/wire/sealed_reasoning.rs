//! Sealed reasoning goes to the account that sealed it, and to no other.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, Chat, Dialect, LlmRequest, Wire,
    chat::{Message, Opaque, Part, Reasoning, Role},
    events::CircuitState,
    providers::{Anthropic, Gemini, OpenAi},
    translate::SealMemory,
};
use steadfast_stack::{Config, Environment, Format, Stack};
use tower::{Service, ServiceExt, service_fn};

/// Accounts by host: each refuses the seals of the others, in the words of its API.
#[derive(Clone, Default)]
struct World {
    down: Arc<Mutex<Vec<&'static str>>>,
    /// The requests, with the host of each and its answer's status.
    sent: Arc<Mutex<Vec<(String, Value, u16)>>>,
    /// True if a seal holds everywhere.
    is_lax: bool,
}

const QUESTION: &str = "?";

impl World {
    fn transport(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let world = self.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let world = world.clone();
            async move {
                let (host, path) = (request.uri().host().unwrap().to_owned(), request.uri().path().to_owned());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let (status, form, answer) = world.answer(&host, &path, &body);
                world.sent.lock().unwrap().push((host, serde_json::from_slice(&body).unwrap(), status));
                let response = Response::builder().status(status).header("content-type", form);
                Ok(response.body(Full::new(Bytes::from(answer))).unwrap())
            }
        })
    }

    fn answer(&self, host: &str, path: &str, body: &[u8]) -> (u16, &'static str, String) {
        const JSON: &str = "application/json";
        if self.down.lock().unwrap().contains(&host) {
            let error = json!({"error": {"message": "down", "type": "server_error", "code": "server_error"}});
            return (503, JSON, error.to_string());
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        if !self.is_lax && tokens(&body).iter().any(|token| !token.starts_with(host)) {
            return (400, JSON, refusal(path).to_string());
        }
        let token = self.token(host);
        let answer = if path.ends_with("/responses") {
            responses(&token)
        } else if path.ends_with("/messages") {
            json!({"type": "message", "role": "assistant", "id": "msg_1", "model": "claude", "stop_reason": "end_turn",
                "content": turn(Dialect::Anthropic, &token)["content"]})
        } else {
            json!({"candidates": [{"content": turn(Dialect::Gemini, &token), "finishReason": "STOP"}]})
        };
        match body["stream"].as_bool() {
            Some(true) => (200, "text/event-stream", events(&answer)),
            _ => (200, JSON, answer.to_string()),
        }
    }

    /// The seal in the next answer of an account.
    fn token(&self, host: &str) -> String {
        format!("{host}/{}", self.sent.lock().unwrap().len())
    }

    /// Takes the requests of the last turn: the host, the seals and the status of each.
    fn take(&self) -> Vec<(String, Vec<String>, u16)> {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        sent.into_iter().map(|(host, body, status)| (host, tokens(&body), status)).collect()
    }

    fn stack(&self, provider: &str, more: [&str; 2]) -> BoxLlmService {
        self.running(provider, more).service()
    }

    fn running(&self, provider: &str, more: [&str; 2]) -> Stack {
        let [first, second] = more;
        let text = format!(
            "tiers:\n - {{ name: first, provider: {provider}, retry: {{ max_attempts: 1 }}, {first} }}\n \
             - {{ name: second, provider: {provider}, retry: {{ max_attempts: 1 }}, {second} }}\n"
        );
        let config = Config::from_str(&text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        let names = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OTHER"];
        let keys: Environment = names.map(|name| (name, name)).into_iter().collect();
        Stack::builder().environment(keys).transport(self.transport()).seed(5).build(config).unwrap()
    }
}

/// The refusal of a seal, in the words of each API.
fn refusal(path: &str) -> Value {
    let kind = "invalid_request_error";
    if path.ends_with("/responses") {
        let message = "The encrypted content gAAA...DQ== could not be verified.";
        json!({"error": {"message": message, "type": kind, "param": null, "code": "invalid_encrypted_content"}})
    } else if path.ends_with("/messages") {
        let message = "messages.1.content.0: Invalid `signature` in `thinking` block";
        json!({"type": "error", "error": {"type": kind, "message": message}})
    } else {
        json!({"error": {"code": 400, "message": "Corrupted thought signature.", "status": "INVALID_ARGUMENT"}})
    }
}

/// Returns the seals in a request, the history's order.
fn tokens(body: &Value) -> Vec<String> {
    const NAMES: [&str; 3] = ["encrypted_content", "signature", "thoughtSignature"];
    match body {
        Value::Object(fields) => {
            let own = NAMES.iter().filter_map(|name| Some(fields.get(*name)?.as_str()?.to_owned()));
            own.filter(|token| token != "skip_thought_signature_validator")
                .chain(fields.values().flat_map(tokens))
                .collect()
        }
        Value::Array(items) => items.iter().flat_map(tokens).collect(),
        _ => Vec::new(),
    }
}

fn responses(token: &str) -> Value {
    json!({"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": token},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "hi", "annotations": []}]},
    ]})
}

/// A stream of the Responses protocol with this last response.
fn events(last: &Value) -> String {
    let output = last["output"].as_array().unwrap();
    let begun = json!({"id": "resp_1", "object": "response", "status": "in_progress", "output": []});
    let events = [
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1", "summary": []}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": output[0]}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": output[1]}),
        json!({"type": "response.completed", "response": last}),
    ];
    let line = |(number, event): (usize, &Value)| {
        let mut event = event.clone();
        event["sequence_number"] = number.into();
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())
    };
    events.iter().enumerate().map(line).collect()
}

/// Returns the model's turn in a caller's history.
fn turn(dialect: Dialect, token: &str) -> Value {
    match dialect {
        Dialect::Gemini => json!({"role": "model", "parts": [
            {"text": "hm", "thought": true, "thoughtSignature": token},
            {"functionCall": {"name": "look", "args": {}}, "thoughtSignature": token},
        ]}),
        _ => json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": token},
            {"type": "text", "text": "hi"},
        ]}),
    }
}

/// A conversation over Responses, as its caller keeps it.
#[derive(Default)]
struct Conversation(Vec<Value>);

impl Conversation {
    /// Asks once more; returns the notes of the answer.
    async fn ask(&mut self, world: &World, service: &BoxLlmService, stream: bool) -> String {
        self.0.push(json!({"role": "user", "content": QUESTION}));
        let body = json!({"model": "gpt-5", "stream": stream, "input": self.0});
        let request = LlmRequest::from(Wire::new(Dialect::Responses, body.to_string()).unwrap());
        let answer = service.clone().oneshot(request).await.unwrap();
        let notes = answer.notes().join("; ");
        assert_eq!(answer.text().await.unwrap(), "hi");
        let (host, ..) = world.sent.lock().unwrap().last().unwrap().clone();
        let token = format!("{host}/{}", world.sent.lock().unwrap().len() - 1);
        self.0.extend(responses(&token)["output"].as_array().unwrap().iter().cloned());
        notes
    }
}

const TWO_HOSTS: [&str; 2] = [
    "api: responses, model: gpt-5, base_url: 'https://one.example/v1'",
    "api: responses, model: gpt-5, base_url: 'https://two.example/v1'",
];

fn sent(host: &str, tokens: &[&str], status: u16) -> (String, Vec<String>, u16) {
    (host.to_owned(), tokens.iter().map(|token| (*token).to_owned()).collect(), status)
}

#[tokio::test(start_paused = true)]
async fn a_thought_goes_to_its_own_account_alone() {
    for stream in [false, true] {
        let world = World::default();
        let service = world.stack("openai", TWO_HOSTS);
        let mut talk = Conversation::default();
        assert_eq!(talk.ask(&world, &service, stream).await, "");
        assert_eq!(world.take(), [sent("one.example", &[], 200)]);

        world.down.lock().unwrap().push("one.example");
        let notes = talk.ask(&world, &service, stream).await;
        assert!(notes.contains("reasoning: left out"), "{notes}");
        let (of_one, of_two) = ("one.example/0", "two.example/1");
        assert_eq!(world.take(), [sent("one.example", &[of_one], 503), sent("two.example", &[], 200)]);

        talk.ask(&world, &service, stream).await;
        assert_eq!(world.take(), [sent("one.example", &[of_one], 503), sent("two.example", &[of_two], 200)]);

        world.down.lock().unwrap().clear();
        talk.ask(&world, &service, stream).await;
        assert_eq!(world.take(), [sent("one.example", &[of_one], 200)], "streamed: {stream}");
    }
}

/// The refusal of the account that did not seal it is no failure, and is remembered where there are several accounts.
#[tokio::test(start_paused = true)]
async fn a_thought_of_unknown_origin_is_refused_once() {
    let world = World::default();
    let stack = world.running("openai", TWO_HOSTS);
    let service = stack.service();
    let mut talk = Conversation(responses("two.example/unknown")["output"].as_array().unwrap().clone());
    let notes = talk.ask(&world, &service, false).await;
    assert!(notes.contains("reasoning: left out"), "{notes}");
    let unknown = "two.example/unknown";
    assert_eq!(world.take(), [sent("one.example", &[unknown], 400), sent("one.example", &[], 200)]);
    for number in 0..20 {
        talk.ask(&world, &service, number % 2 == 0).await;
    }
    assert!(world.take().iter().all(|(host, _, status)| (&**host, *status) == ("one.example", 200)));
    // Its own account gets it.
    world.down.lock().unwrap().push("one.example");
    talk.ask(&world, &service, false).await;
    assert_eq!(world.take()[1], sent("two.example", &[unknown], 200));
    assert_eq!(stack.handle().circuit("first").unwrap().state(), CircuitState::Closed);
}

/// A leaf alone sends the request again without them, and without the thinking that requires them.
#[tokio::test]
async fn refused_signatures_are_left_out_once() {
    let question = json!({"role": "user", "content": QUESTION});
    let mut called = turn(Dialect::Anthropic, "elsewhere");
    called["content"][1] = json!({"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}});
    let result =
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}]});
    let thinking = json!({"type": "enabled", "budget_tokens": 1024});
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 2000, "thinking": thinking,
        "messages": [question, called, result]});
    let world = World::default();
    let leaf = Anthropic::new("k").base_url("https://one.example").unwrap().transport(world.transport());
    let request = LlmRequest::from(Wire::new(Dialect::Anthropic, body.to_string()).unwrap());
    let answer = leaf.oneshot(request).await.unwrap();
    assert!(answer.notes().join("; ").contains("`messages.thinking` was left out"), "{:?}", answer.notes());
    let mut sent_again = world.sent.lock().unwrap()[1].1.clone();
    sent_again.as_object_mut().unwrap().remove("stream");
    let mut expected = body;
    expected["messages"][1]["content"].as_array_mut().unwrap().remove(0);
    expected["thinking"] = json!({"type": "disabled"});
    assert_eq!(sent_again, expected);

    let world = World::default();
    let leaf =
        Gemini::new("k").base_url("https://one.example").unwrap().model("gemini-3-pro").transport(world.transport());
    let result = json!({"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {}}}]});
    let contents = json!([{"role": "user", "parts": [{"text": QUESTION}]}, turn(Dialect::Gemini, "elsewhere"), result]);
    let request = Wire::new(Dialect::Gemini, json!({ "contents": contents }).to_string()).unwrap();
    leaf.oneshot(LlmRequest::from(request)).await.unwrap();
    let sent_again = world.sent.lock().unwrap()[1].1.clone();
    let stands_in = json!([{"functionCall": {"name": "look", "args": {}},
        "thoughtSignature": "skip_thought_signature_validator"}]);
    assert_eq!(sent_again["contents"][1]["parts"], stands_in);
}

#[tokio::test(start_paused = true)]
async fn one_account_leaves_the_judgement_to_its_provider() {
    let world = World::default();
    let service = world.stack("openai", [TWO_HOSTS[0]; 2]);
    let history = responses("two.example/unknown")["output"].as_array().unwrap().clone();
    for _ in 0..3 {
        let notes = Conversation(history.clone()).ask(&world, &service, true).await;
        assert!(notes.contains("`input.reasoning` was left out"), "{notes}");
        assert_eq!(world.take().iter().map(|(_, _, status)| *status).collect::<Vec<_>>(), [400, 200]);
    }
}

#[tokio::test(start_paused = true)]
async fn another_key_is_another_account_and_another_model_is_not() {
    let world = World { is_lax: true, ..World::default() };
    let keys = ["api: responses, model: gpt-5", "api: responses, model: gpt-5, api_key: '${OTHER}'"];
    let service = world.stack("openai", keys);
    let mut talk = Conversation::default();
    talk.ask(&world, &service, false).await;
    world.down.lock().unwrap().push("api.openai.com");
    world.take();
    let body = json!({"model": "gpt-5", "input": [talk.0[1], {"role": "user", "content": QUESTION}]}).to_string();
    let ask = |service: &BoxLlmService| {
        service.clone().oneshot(LlmRequest::from(Wire::new(Dialect::Responses, body.clone()).unwrap()))
    };
    ask(&service).await.unwrap_err();
    let both =
        |second: &[&str]| [sent("api.openai.com", &["api.openai.com/0"], 503), sent("api.openai.com", second, 503)];
    assert_eq!(world.take(), both(&[]));

    world.down.lock().unwrap().clear();
    let models = ["api: responses, model: gpt-5", "api: responses, model: gpt-5.2"];
    let service = world.stack("openai", models);
    talk = Conversation::default();
    talk.ask(&world, &service, false).await;
    world.down.lock().unwrap().push("api.openai.com");
    world.take();
    ask(&service).await.unwrap_err();
    assert_eq!(world.take(), both(&["api.openai.com/0"]));
}

#[tokio::test(start_paused = true)]
async fn a_family_of_claude_reads_its_signatures_in_every_account() {
    for (model, is_read) in [("anthropic.claude-sonnet-4-5-20250929-v1:0", true), ("claude-opus-4-8", false)] {
        let world = World { is_lax: true, ..World::default() };
        let first = "model: claude-sonnet-4-5, base_url: 'https://one.example'";
        let second = format!("model: '{model}', base_url: 'https://two.example'");
        let service = world.stack("anthropic", [first, &second]);
        let ask = |history: Value| {
            // No known model: only the seal is to decide.
            let body = json!({"model": "of-the-caller", "max_tokens": 50, "messages": history}).to_string();
            service.clone().oneshot(LlmRequest::from(Wire::new(Dialect::Anthropic, body).unwrap()))
        };
        let question = json!({"role": "user", "content": QUESTION});
        ask(json!([question])).await.unwrap();
        world.down.lock().unwrap().push("one.example");
        world.take();
        ask(json!([question, turn(Dialect::Anthropic, "one.example/0"), question])).await.unwrap();
        let (host, seals, status) = world.take().remove(1);
        let expected: &[&str] = if is_read { &["one.example/0"] } else { &[] };
        assert_eq!((host, seals, status), sent("two.example", expected, 200), "{model}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thought_signature_of_gemini_goes_to_its_own_account_alone() {
    let world = World::default();
    let hosts = ["one", "two"].map(|host| format!("model: gemini-3-pro-preview, base_url: 'https://{host}.example'"));
    let service = world.stack("gemini", [&hosts[0], &hosts[1]]);
    let ask = |contents: Value| {
        let body = json!({ "contents": contents }).to_string();
        service.clone().oneshot(LlmRequest::from(Wire::new(Dialect::Gemini, body).unwrap()))
    };
    let question = json!({"role": "user", "parts": [{"text": QUESTION}]});
    ask(json!([question])).await.unwrap();
    world.down.lock().unwrap().push("one.example");
    world.take();
    let result = json!({"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {}}}]});
    let answer = ask(json!([question, turn(Dialect::Gemini, "one.example/0"), result])).await.unwrap();
    let notes = answer.notes().join("; ");
    assert!(notes.contains("reasoning: ") && notes.contains("call_signature: "), "{notes}");
    let bodies: Vec<Value> = world.sent.lock().unwrap().iter().map(|(_, body, _)| body.clone()).collect();
    let parts = &bodies[1]["contents"][1]["parts"];
    let stands_in = json!([{"functionCall": {"name": "look", "args": {}},
        "thoughtSignature": "skip_thought_signature_validator"}]);
    assert_eq!(*parts, stands_in);
    assert_eq!(bodies[0]["contents"][1], turn(Dialect::Gemini, "one.example/0"), "its own account gets its bytes");
}

/// A typed conversation whose thought the provider of this dialect sealed.
fn typed(dialect: Dialect, token: &str) -> LlmRequest {
    let opaque = Opaque { dialect, token: token.to_owned(), redacted: dialect == Dialect::Responses };
    let thought = Part::Reasoning(Reasoning { text: "hm".into(), opaque: Some(opaque) });
    let answer = Message::new(Role::Assistant, vec![thought, Part::Text("hi".into())]);
    LlmRequest::from(Chat::new([Message::user(QUESTION), answer, Message::user(QUESTION)]))
}

#[tokio::test]
async fn leaves_that_share_a_memory_need_no_stack() {
    for dialect in [Dialect::Anthropic, Dialect::Gemini, Dialect::Responses] {
        let (world, seals) = (World::default(), SealMemory::new());
        let leaf = |host: &str, model: [&str; 3]| {
            let (url, transport) = (format!("https://{host}.example/v1"), world.transport());
            let [claude, gemini, gpt] = model;
            match dialect {
                Dialect::Anthropic => BoxLlmService::new(
                    Anthropic::new("k").base_url(&url).unwrap().model(claude).transport(transport).seals(&seals),
                ),
                Dialect::Gemini => BoxLlmService::new(
                    Gemini::new("k").base_url(&url).unwrap().model(gemini).transport(transport).seals(&seals),
                ),
                _ => BoxLlmService::new(
                    OpenAi::new("k").base_url(&url).unwrap().model(gpt).transport(transport).seals(&seals).responses(),
                ),
            }
        };
        let one = leaf("one", ["claude-sonnet-4-5", "gemini-2.5-flash", "gpt-5"]);
        let two = leaf("two", ["claude-opus-4-8", "gemini-2.5-flash", "gpt-5"]);
        one.clone().oneshot(LlmRequest::prompt(QUESTION)).await.unwrap();
        world.take();
        let joined = if dialect == Dialect::Responses { "rs_1:one.example/0" } else { "one.example/0" };
        let answer = two.oneshot(typed(dialect, joined)).await.unwrap();
        assert!(answer.notes().iter().any(|note| note.starts_with("reasoning: ")), "{dialect} {:?}", answer.notes());
        one.oneshot(typed(dialect, joined)).await.unwrap();
        assert_eq!(world.take(), [sent("two.example", &[], 200), sent("one.example", &["one.example/0"], 200)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_another_dialect_sends_a_thought_to_its_own_account_alone() {
    let world = World::default();
    let service = world.stack("openai", TWO_HOSTS);
    Conversation::default().ask(&world, &service, false).await;
    world.down.lock().unwrap().push("one.example");
    world.take();
    let detail =
        json!({"type": "reasoning.encrypted", "data": "rs_1:one.example/0", "format": "steadfast.responses.v1"});
    let question = json!({"role": "user", "content": QUESTION});
    let answer = json!({"role": "assistant", "content": "hi", "reasoning_details": [detail]});
    let body = json!({"model": "gpt-5", "messages": [question, answer, question]}).to_string();
    service.oneshot(LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap())).await.unwrap();
    let both = [sent("one.example", &["one.example/0"], 503), sent("two.example", &[], 200)];
    assert_eq!(world.take(), both);
}
