//! Equality of two questions.

use serde_json::json;
use steadfast::{
    CacheLayer, Chat, Dialect, LlmRequest, Wire,
    chat::{Message, OutputSchema, Tool},
    layers::{budget::BudgetKey, cache::Tenant},
};
use tower::Layer;

use crate::cache::provider::{Provider, text};

/// Returns whether the answer kept of the first serves the second.
async fn same_by(layer: CacheLayer, one: LlmRequest, two: LlmRequest) -> bool {
    let provider = Provider::new();
    let llm = layer.layer(provider.service());
    text(&llm, one).await;
    text(&llm, two).await;
    provider.calls() == 1
}

async fn same(one: LlmRequest, two: LlmRequest) -> bool {
    same_by(CacheLayer::new(), one, two).await
}

fn wire(body: &str) -> LlmRequest {
    LlmRequest::from(Wire::new(Dialect::OpenAi, body.to_owned()).unwrap())
}

fn ask() -> LlmRequest {
    LlmRequest::prompt("hello")
}

#[tokio::test]
async fn a_request_in_wire_form_is_known_by_its_meaning() {
    let asked = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}],"temperature":1}"#;
    for again in [
        r#"{ "temperature": 1.0, "messages": [ {"content": "hello", "role": "user"} ], "model": "gpt-4o" }"#,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"h\u0065llo"}],"temperature":1e0,"user":"u-17"}"#,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}],"temperature":1,"stream":false}"#,
    ] {
        assert!(same(wire(asked), wire(again)).await, "{again}");
    }
    for other in [
        r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}],"temperature":1}"#,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}],"temperature":1}"#,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}],"temperature":0.9}"#,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}],"temperature":1,"unheard_of":1}"#,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}],"temperature":1,"seed":7}"#,
    ] {
        assert!(!same(wire(asked), wire(other)).await, "{other}");
    }
    let two_ways = r#"{"messages":[{"role":"user","content":"a","content":"b"}]}"#;
    assert!(!same(wire(two_ways), wire(two_ways)).await, "it can be read in two ways, and passes by");
    assert!(!same(wire(asked), wire(asked).with_max_tokens(5)).await, "a layer's change counts");
    let small = CacheLayer::new().max_request(asked.len() - 1);
    assert!(!same_by(small, wire(asked), wire(asked)).await, "too large to be looked at");
}

#[tokio::test]
async fn every_part_of_the_conversation_changes_the_cache_key() {
    let chat = || Chat::new([Message::user("hello")]);
    let changes: [fn(&mut Chat); 12] = [
        |chat| chat.system = Some("Be brief.".into()),
        |chat| chat.messages.push(Message::assistant("hi")),
        |chat| chat.messages[0] = Message::user("hello?"),
        |chat| chat.tools.push(Tool::new("weather", json!({"type": "object"}))),
        |chat| chat.max_tokens = Some(5),
        |chat| chat.temperature = Some(0.0),
        |chat| chat.top_p = Some(0.5),
        |chat| chat.stop = vec!["x".into()],
        |chat| chat.model = Some("gpt-4o".into()),
        |chat| chat.parallel_tool_calls = Some(false),
        |chat| chat.thinking = Some(steadfast::chat::Thinking::Off),
        |chat| chat.output = Some(OutputSchema { name: "a".into(), schema: None, strict: true }),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut changed = chat();
        change(&mut changed);
        assert!(same(changed.clone().into(), changed.clone().into()).await, "change {number}");
        assert!(!same(chat().into(), changed.into()).await, "change {number}");
    }
}

#[tokio::test]
async fn parameters_of_serving_do_not_change_the_cache_key() {
    let plain = || ask().with_feature("chat");
    for other in [
        plain().with_session("s"),
        plain().with_idempotency_key("k"),
        plain().with_timeout(std::time::Duration::from_secs(5)),
        plain().explain(),
        plain().with_max_attempts(1),
        plain().with_stream(true),
        plain().no_fallback(),
    ] {
        assert!(same(plain(), other).await);
    }
}

#[tokio::test]
async fn no_answer_goes_to_another_tenant_or_feature() {
    let of = |name: &str| ask().with_extension(Tenant::new(name));
    assert!(same(of("ada"), of("ada")).await);
    assert!(!same(of("ada"), of("bob")).await);
    assert!(!same(of("ada"), ask()).await);
    let keyed = |name: &str| ask().with_extension(BudgetKey::new(name));
    assert!(!same(keyed("ada"), keyed("bob")).await, "the caller's key says whose it is");
    assert!(
        same(keyed("ada").with_extension(Tenant::new("acme")), keyed("bob").with_extension(Tenant::new("acme"))).await
    );
    assert!(!same(ask().with_feature("chat"), ask().with_feature("summary")).await);
    assert!(!same(ask(), ask().with_feature("")).await, "no feature is not one without a name");
}

#[tokio::test]
async fn the_parts_of_the_cache_key_can_be_configured() {
    let of = |name: &str| ask().with_extension(Tenant::new(name));
    assert!(same_by(CacheLayer::new().share_between_tenants(), of("ada"), of("bob")).await);
    assert!(same_by(CacheLayer::new().ignore_feature(), ask().with_feature("a"), ask().with_feature("b")).await);
    let model = |name: &str| LlmRequest::from(Chat::new([Message::user("hello")]).model(name));
    assert!(same_by(CacheLayer::new().ignore_model(), model("a"), model("b")).await);

    let by_last_word = || {
        CacheLayer::new().key_by(|request| {
            let text = request.chat().ok()?.messages.last()?.text();
            text.rsplit(' ').next().map(str::to_owned).filter(|word| word != "secret")
        })
    };
    let say = LlmRequest::prompt;
    assert!(same_by(by_last_word(), say("about cats"), say("more on cats")).await);
    assert!(!same_by(by_last_word(), say("about cats"), say("about dogs")).await);
    assert!(!same_by(by_last_word(), say("a secret"), say("a secret")).await, "it passes by");
    let (ada, bob) =
        (say("on cats").with_extension(Tenant::new("ada")), say("on cats").with_extension(Tenant::new("bob")));
    assert!(!same_by(by_last_word(), ada, bob).await, "never across tenants, whatever the function says");

    let hot = |temperature: f64| LlmRequest::from(Chat::new([Message::user("hello")]).temperature(temperature));
    let cold_only = || CacheLayer::new().temperature_at_most(0.2);
    assert!(same_by(cold_only(), hot(0.2), hot(0.2)).await);
    assert!(!same_by(cold_only(), hot(0.3), hot(0.3)).await);
    assert!(!same_by(cold_only(), ask(), ask()).await, "its provider's default is not known");
}
