//! A parameter that a model refuses: the request is asked again without it, and nobody is blamed.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, Event, LlmError, LlmRequest, LlmResponse, Wire, events::CircuitState,
};
use steadfast_stack::{Config, Environment, Format, Stack};
use tower::{ServiceExt, service_fn};

/// Anthropic is down; OpenAI's model refuses some parameters, in the words of its API.
#[derive(Clone, Default)]
struct World {
    refuses: Arc<Mutex<Vec<&'static str>>>,
    /// The bodies that came to the second tier.
    sent: Arc<Mutex<Vec<Value>>>,
}

impl World {
    fn refusing(parameters: &[&'static str]) -> Self {
        Self { refuses: Arc::new(Mutex::new(parameters.to_vec())), ..Self::default() }
    }

    fn answer(&self, host: &str, body: &[u8]) -> (u16, Value) {
        if host == "api.anthropic.com" {
            return (503, json!({"type": "error", "error": {"type": "api_error", "message": "down"}}));
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        self.sent.lock().unwrap().push(body.clone());
        match self.refuses.lock().unwrap().iter().find(|name| body.get(name).is_some()) {
            Some(name) => {
                let message = format!("Unsupported parameter: '{name}' is not supported with this model.");
                let error = json!({"message": message, "type": "invalid_request_error", "param": name,
                    "code": "unsupported_parameter"});
                (400, json!({ "error": error }))
            }
            None => (
                200,
                json!({"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "hi"}}]}),
            ),
        }
    }

    fn stack(&self, more: &str) -> Stack {
        self.stack_at("https://api.openai.com/v1", more)
    }

    /// A stack whose second tier is at this address.
    fn stack_at(&self, address: &str, more: &str) -> Stack {
        let text = format!(
            "tiers:\n\
             - {{ name: primary, provider: anthropic, model: claude-sonnet-4-5, retry: {{ max_attempts: 1 }} }}\n\
             - {{ name: backup, provider: openai, model: a-model-of-tomorrow, base_url: '{address}' }}\n{more}"
        );
        let config = Config::from_str(&text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        let world = self.clone();
        let transport = service_fn(move |request: Request<Full<Bytes>>| {
            let world = world.clone();
            async move {
                let host = request.uri().host().unwrap().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let (status, answer) = world.answer(&host, &body);
                let response = Response::builder().status(status).header("content-type", "application/json");
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(answer.to_string()))).unwrap())
            }
        });
        let keys: Environment = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"].map(|name| (name, "k")).into_iter().collect();
        Stack::builder().environment(keys).transport(transport).seed(5).build(config).unwrap()
    }

    /// The second tier's requests, by whether they had this field.
    fn had(&self, field: &str) -> Vec<bool> {
        self.sent.lock().unwrap().iter().map(|body| body.get(field).is_some()).collect()
    }
}

/// A request to Claude with what not every model takes.
fn of_claude() -> LlmRequest {
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":50,"temperature":0.5,"top_p":0.9,"metadata":{"user_id":"u"},
        "messages":[{"role":"user","content":"hello"}]}"#;
    LlmRequest::from(Wire::new(Dialect::Anthropic, body).unwrap())
}

async fn ask(service: &BoxLlmService, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    service.clone().oneshot(request).await
}

#[tokio::test(start_paused = true)]
async fn a_failover_outlives_a_parameter_and_the_tier_remembers_it() {
    let world = World::refusing(&["temperature"]);
    let stack = world.stack("");
    let mut events = stack.handle().events().subscribe();
    let service = stack.service();
    let answer = ask(&service, of_claude()).await.unwrap();
    let notes = answer.notes().join("; ");
    assert!(notes.contains("refused_parameter: `temperature` was left out"), "{notes}");
    assert_eq!(answer.text().await.unwrap(), "hi");
    assert_eq!((world.had("temperature"), world.had("top_p")), (vec![true, false], vec![true, true]));
    // The next one is not asked for it at all, and says so too.
    let answer = ask(&service, of_claude()).await.unwrap();
    assert!(answer.notes().join("; ").contains("refused_parameter: `temperature` was left out"));
    assert_eq!(world.had("temperature"), [true, false, false]);
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::ParameterRefused { provider, model, parameter, .. } = event {
            told.push(format!("{provider} {model} {parameter}"));
        }
    }
    assert_eq!(told, ["openai a-model-of-tomorrow temperature"]);
}

#[tokio::test(start_paused = true)]
async fn each_refused_parameter_takes_an_attempt_and_there_are_no_more_than_allowed() {
    let world = World::refusing(&["temperature", "top_p"]);
    let answer = ask(&world.stack("").service(), of_claude()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "hi");
    assert_eq!(world.sent.lock().unwrap().len(), 3);

    let world = World::refusing(&["temperature", "top_p"]);
    let failed = ask(&world.stack("").service(), of_claude().with_max_attempts(3)).await.unwrap_err();
    assert_eq!(world.sent.lock().unwrap().len(), 2);
    assert!(failed.attempts().iter().any(|attempt| attempt.failure == Some(ErrorKind::InvalidRequest)));
}

#[tokio::test(start_paused = true)]
async fn refused_parameters_open_no_circuit_and_count_to_no_storm() {
    let world = World::refusing(&["temperature"]);
    let stack = world.stack("");
    let service = stack.service();
    for _ in 0..100 {
        ask(&service, of_claude()).await.unwrap();
    }
    assert_eq!(stack.handle().circuit("backup").unwrap().state(), CircuitState::Closed);
    assert_eq!(world.had("temperature").iter().filter(|had| **had).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_caller_chose_for_the_model_that_it_named_is_its_own_mistake() {
    let world = World::refusing(&["top_p"]);
    let service = world.stack("default_feature: { tiers: [backup] }").service();
    let own = |model: &str, more: &str| {
        let body = format!(r#"{{"model":"{model}",{more}"messages":[{{"role":"user","content":"hello"}}]}}"#);
        LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap())
    };
    let refused = ask(&service, own("a-model-of-tomorrow", r#""top_p":0.5,"#)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidRequest);
    assert_eq!(world.sent.lock().unwrap().len(), 1);
    // Another model was meant: this tier alone refuses it.
    let answer = ask(&service, own("gpt-4o", r#""top_p":0.5,"#)).await.unwrap();
    assert!(answer.notes().join("; ").contains("`top_p` was left out"));
    assert_eq!(world.had("top_p"), [true, true, false]);
    // The memory of the model changes nothing for a caller who names the parameter.
    ask(&service, own("a-model-of-tomorrow", r#""top_p":0.5,"#)).await.unwrap_err();
    ask(&service, own("a-model-of-tomorrow", "")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn words_of_the_callers_in_an_error_leave_nothing_out_for_others() {
    // Whatever a caller brings the provider to repeat at the begin of its message, the request fails without it too.
    let world = World::default();
    let stack = world.stack("");
    let service = stack.service();
    ask(&service, of_claude()).await.unwrap();
    world.refuses.lock().unwrap().push("messages");
    ask(&service, of_claude()).await.unwrap_err();
    world.refuses.lock().unwrap().clear();
    ask(&service, of_claude()).await.unwrap();
    assert!(world.had("temperature").iter().all(|had| *had) && world.had("messages").iter().all(|had| *had));
}

/// The two names of the longest answer: a server that knows one of them gets that one.
#[tokio::test(start_paused = true)]
async fn a_limit_goes_out_under_its_other_name_where_the_first_is_refused() {
    for (address, first, other) in [
        ("https://api.openai.com/v1", "max_completion_tokens", "max_tokens"),
        ("https://compatible.example/v1", "max_tokens", "max_completion_tokens"),
    ] {
        let world = World::refusing(&[first]);
        let service = world.stack_at(address, "").service();
        for _ in 0..2 {
            let answer = ask(&service, of_claude()).await.unwrap();
            let notes = answer.notes().join("; ");
            assert!(notes.contains(&format!("refused_parameter: `{first}` was sent under its other name")), "{notes}");
        }
        assert_eq!((world.had(first), world.had(other)), (vec![true, false, false], vec![false, true, true]));
        assert!(world.sent.lock().unwrap()[1..].iter().all(|body| body[other] == 50));
    }
    // A server that refuses both has said so twice.
    let world = World::refusing(&["max_tokens", "max_completion_tokens"]);
    let service = world.stack("").service();
    assert!(ask(&service, of_claude()).await.is_err());
    assert!(world.sent.lock().unwrap().len() <= 3, "{:?}", world.sent);
}
