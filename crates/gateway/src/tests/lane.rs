//! Paths that are no conversation.

use serde_json::{Value, json};

use super::harness::*;
use crate::{api::Keys, limits::Settings};

const EMBEDDINGS: &str = "/v1/embeddings";
const VECTOR: &str = r#"{"object":"list", "data":[{"object":"embedding","index":0,"embedding":[1.0e0,2,3]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
const SHORT: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,2]}]}"#;
const BUSY: &str = r#"{"error":{"message":"busy","type":"server_error"}}"#;

/// Two deployments of one vector space, and a tier of another.
const FILE: &str = "
tiers: [{ name: chat, provider: simulated }]
lane:
  tiers:
    - { name: first, provider: openai, model: small, space: small/3 }
    - { name: other, provider: openai, base_url: 'https://other.test/v1', api_key: '${OTHER_KEY}', model: large, space: large/2 }
    - { name: second, provider: openai, base_url: 'https://second.test/v1', api_key: '${OTHER_KEY}', model: small-eu, space: small/3 }
retry: { max_attempts: 1 }
prices: { small: { input: 1000, output: 0 }, small-eu: { input: 1000, output: 0 } }
";

async fn served(file: &str, answers: &[(u16, &'static str)], keys: Option<Keys>) -> (Server, Sent) {
    let (stack, sent) = scripted(file, answers);
    (Server::with_stack(&stack, keys, Settings::default()).await, sent)
}

fn addresses(sent: &Sent) -> Vec<String> {
    sent.lock().unwrap().iter().map(|(address, _)| address.clone()).collect()
}

fn asked(model: &str) -> Value {
    json!({"model": model, "input": ["hello"]})
}

#[tokio::test]
async fn an_embedding_passes_byte_for_byte() {
    let (server, sent) = served(FILE, &[(200, VECTOR)], None).await;
    let body = r#"{"input":"h\u00e9llo",  "model":"small", "unheard_of": 1e400}"#;
    let mut client = server.connect().await;
    client.send(&request("POST", "/embeddings", &[], body.as_bytes())).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &*answer.body), (200, VECTOR));
    assert_eq!(answer.header("x-steadfast-tier"), Some("first"));
    let sent = sent.lock().unwrap().clone();
    assert_eq!(sent, [("https://api.openai.com/v1/embeddings".to_owned(), body.into())]);
    let id = answer.header("x-steadfast-request-id").unwrap();
    let record = server.get(&format!("/requests/{id}"), &[]).await.json();
    assert_eq!((&record["call"], &record["outcome"]), (&json!("embeddings"), &json!("answered")));
    assert_eq!((&record["usage"]["input"], &record["asked_model"]), (&json!(8), &json!("small")));
}

#[tokio::test]
async fn azures_deployment_is_the_model_whatever_the_body_says() {
    for body in [r#"{"input":"hello"}"#, r#"{"model":"large","input":"hello"}"#] {
        let (server, sent) = served(FILE, &[(500, BUSY), (200, VECTOR)], None).await;
        let path = "/openai/deployments/small/embeddings?api-version=2024-10-21";
        let answer = server.post(path, &[], &serde_json::from_str(body).unwrap()).await;
        assert_eq!((answer.status, &*answer.body), (200, VECTOR), "{body}");
        assert_eq!(answer.header("x-steadfast-tier"), Some("second"));
        assert_eq!(addresses(&sent), ["https://api.openai.com/v1/embeddings", "https://second.test/v1/embeddings"]);
        let models = sent.lock().unwrap().iter().map(|(_, body)| body.clone()).collect::<Vec<_>>();
        let model = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["model"].clone();
        assert_eq!(models.iter().map(|body| model(body)).collect::<Vec<_>>(), ["small", "small-eu"], "{body}");
    }
}

#[tokio::test]
async fn a_failure_goes_on_within_the_vector_space_alone() {
    let (server, sent) = served(FILE, &[(500, BUSY), (200, VECTOR)], None).await;
    let answer = server.post(EMBEDDINGS, &[], &asked("small")).await;
    assert_eq!((answer.status, &*answer.body), (200, VECTOR));
    assert_eq!(answer.header("x-steadfast-tier"), Some("second"));
    assert_eq!(addresses(&sent), ["https://api.openai.com/v1/embeddings", "https://second.test/v1/embeddings"]);
    let second: Value = serde_json::from_slice(&sent.lock().unwrap()[1].1).unwrap();
    assert_eq!(second, json!({"model": "small-eu", "input": ["hello"]}));
}

#[tokio::test]
async fn who_asks_for_the_later_deployment_goes_on_to_the_earlier() {
    let (server, sent) = served(FILE, &[(500, BUSY), (200, VECTOR)], None).await;
    assert_eq!(server.post(EMBEDDINGS, &[], &asked("small-eu")).await.status, 200);
    assert_eq!(addresses(&sent), ["https://second.test/v1/embeddings", "https://api.openai.com/v1/embeddings"]);
}

#[tokio::test]
async fn where_the_whole_space_fails_the_refusal_names_what_was_passed_over() {
    let (server, sent) = served(FILE, &[(500, BUSY)], None).await;
    let answer = server.post(EMBEDDINGS, &[], &asked("small")).await;
    assert_eq!((answer.status, &*answer.body), (500, BUSY));
    assert_eq!(addresses(&sent).len(), 2);
    let id = answer.header("x-steadfast-request-id").unwrap();
    let record = server.get(&format!("/requests/{id}"), &[]).await.json();
    let steps = record["steps"].as_array().unwrap();
    let passed_over = steps.iter().find(|step| step["tier"] == "other").unwrap();
    assert_eq!(passed_over["next"], "not asked");
    let words = passed_over["message"].as_str().unwrap();
    assert!(words.contains("does not serve the vector space small/3"), "{words}");
}

#[tokio::test]
async fn vectors_of_another_length_are_no_answer() {
    let (server, sent) = served(FILE, &[(200, SHORT), (200, VECTOR)], None).await;
    let answer = server.post(EMBEDDINGS, &[], &asked("small")).await;
    assert_eq!((answer.status, answer.header("x-steadfast-tier")), (200, Some("second")), "{}", answer.body);
    assert_eq!(addresses(&sent).len(), 2);
    let (server, _) = served(FILE, &[(200, SHORT)], None).await;
    let answer = server.post(EMBEDDINGS, &[], &asked("small")).await;
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert!(answer.body.contains("a vector of 2 dimensions, and 3 are those of the vector space small/3"));
    let (server, _) = served(FILE, &[(200, SHORT)], None).await;
    let two = json!({"model": "small", "input": "hello", "dimensions": 2});
    assert_eq!(server.post(EMBEDDINGS, &[], &two).await.status, 200);
}

#[tokio::test]
async fn a_call_that_no_tier_serves_is_refused_with_the_reason() {
    let (server, sent) = served(FILE, &[(200, VECTOR)], None).await;
    let unknown = server.post(EMBEDDINGS, &[], &asked("text-embedding-9")).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("there are small, large, small-eu"), "{}", unknown.body);
    for body in [json!([]), json!({"model": 7})] {
        assert_eq!(server.post(EMBEDDINGS, &[], &body).await.status, 400, "{body}");
    }
    assert_eq!(addresses(&sent), [""; 0]);
    let spaceless = FILE.replace(", space: small/3", "");
    let (server, _) = served(&spaceless, &[(200, VECTOR)], None).await;
    let answer = server.post(EMBEDDINGS, &[], &asked("small")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("the tier `first` needs a `space`"), "{}", answer.body);
    let (server, _) = served("tiers: [{ name: chat, provider: simulated }]", &[(200, VECTOR)], None).await;
    let answer = server.post(EMBEDDINGS, &[], &asked("small")).await;
    assert_eq!((answer.status, answer.error_type()), (404, "invalid_request_error".to_owned()), "{}", answer.body);
}

#[tokio::test]
async fn the_limits_of_a_key_hold() {
    let keys = keys_of(&[entry("one", "sk-one", ", models: ['small*'], requests_per_minute: 2")]);
    let (server, sent) = served(FILE, &[(200, VECTOR)], Some(keys)).await;
    let key = ("authorization", "Bearer sk-one");
    assert_eq!(server.post(EMBEDDINGS, &[], &asked("small")).await.status, 401);
    assert_eq!(server.post(EMBEDDINGS, &[key], &asked("large")).await.status, 403);
    assert_eq!(server.post(EMBEDDINGS, &[key], &asked("small")).await.status, 200);
    assert_eq!(server.post(EMBEDDINGS, &[key], &asked("small")).await.status, 429);
    assert_eq!(addresses(&sent).len(), 1);
}

#[tokio::test]
async fn a_cap_counts_what_was_billed() {
    let file = format!("{FILE}budgets: [{{ name: day, usd: 0.012, period: day, tier: first }}]\n");
    let (stack, _) = scripted(&file, &[(200, VECTOR)]);
    let server = Server::with_stack(&stack, None, Settings::default()).await;
    // Eight tokens, at a thousand dollars for a million.
    assert_eq!(server.post(EMBEDDINGS, &[], &asked("small")).await.status, 200);
    let spent = stack.handle().spend();
    assert_eq!(spent.iter().map(|cap| cap.spent.dollars()).collect::<Vec<_>>(), [0.008]);
    let next = server.post(EMBEDDINGS, &[], &asked("small")).await;
    assert_eq!(next.header("x-steadfast-tier"), Some("second"));
}

#[tokio::test]
async fn coheres_and_googles_calls_have_their_own_addresses_and_errors() {
    let file = "
tiers: [{ name: chat, provider: simulated }]
lane:
  tiers:
    - { name: cohere, provider: openai, base_url: 'https://api.cohere.com/v1', api_key: '${OTHER_KEY}', model: embed-v4.0, space: embed-v4.0/3 }
    - { name: google, provider: gemini, model: gemini-embedding-001, space: gemini-embedding-001/3 }
";
    let cohere = r#"{"id":"x","embeddings":{"float":[[1,2,3]]},"meta":{"billed_units":{"input_tokens":3}}}"#;
    let (server, sent) = served(file, &[(200, cohere)], None).await;
    let body = json!({"model": "embed-v4.0", "texts": ["a"], "embedding_types": ["float"]});
    let answer = server.post("/v2/embed", &[], &body).await;
    assert_eq!((answer.status, &*answer.body), (200, cohere));
    assert_eq!(addresses(&sent), ["https://api.cohere.com/v2/embed"]);
    let refused = server.post("/v2/embed", &[], &json!({"model": "embed-v9", "texts": []})).await;
    assert_eq!(refused.status, 404);
    assert!(refused.json()["message"].as_str().unwrap().contains("embed-v4.0"), "{}", refused.body);

    let google = r#"{"embedding":{"values":[1,2,3]}}"#;
    let (server, sent) = served(file, &[(200, google)], None).await;
    let body = json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "a"}]}});
    let answer = server.post("/v1beta/models/gemini-embedding-001:embedContent", &[], &body).await;
    assert_eq!((answer.status, &*answer.body), (200, google));
    let sent = sent.lock().unwrap()[0].clone();
    let address = "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:embedContent";
    assert_eq!((&*sent.0, serde_json::from_slice::<Value>(&sent.1).unwrap()), (address, body));
    let refused = server.post("/v1beta/models/embed-v4.0:embedContent", &[], &json!({})).await;
    assert_eq!((refused.status, refused.json()["error"]["status"].clone()), (404, json!("NOT_FOUND")));
}
