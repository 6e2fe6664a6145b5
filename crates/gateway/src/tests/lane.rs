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
    assert_eq!(answer.status, 503);
    let told = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(told.starts_with("2 of 3 tiers failed: first 500 failed, second 500 failed; not asked: other ("), "{told}");
    assert!(told.contains("the first said: busy"), "{told}");
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
    let file = format!("{FILE}budgets: [{{ name: day, usd: 0.008, period: day, tier: first }}]\n");
    let (stack, _) = scripted(&file, &[(200, VECTOR)]);
    let server = Server::with_stack(&stack, None, Settings::default()).await;
    // Eight tokens, at a thousand dollars for a million.
    assert_eq!(server.post(EMBEDDINGS, &[], &asked("small")).await.status, 200);
    let spent = stack.handle().spend();
    assert_eq!(spent.iter().map(|cap| cap.spent.dollars()).collect::<Vec<_>>(), [0.008]);
    let next = server.post(EMBEDDINGS, &[], &asked("small")).await;
    assert_eq!(next.header("x-steadfast-tier"), Some("second"));
}

/// OpenAI's own prices on 2026-11-23: two cents for a million tokens, and fifteen dollars for a million characters.
#[tokio::test]
async fn known_models_have_their_prices_by_token_and_by_character() {
    let file = "
tiers: [{ name: chat, provider: simulated }]
lane:
  tiers:
    - { name: vectors, provider: openai, model: text-embedding-3-small, space: text-embedding-3-small/3 }
    - { name: voice, provider: openai, model: tts-1 }
budgets: [{ name: day, usd: 1, period: day }]
";
    let (stack, _) = scripted(file, &[(200, VECTOR), (200, "sound")]);
    let server = Server::with_stack(&stack, None, Settings::default()).await;
    let spent = || stack.handle().spend()[0].spent.dollars();
    assert_eq!(server.post(EMBEDDINGS, &[], &asked("text-embedding-3-small")).await.status, 200);
    assert!((spent() - 8.0 * 0.02 / 1e6).abs() < 1e-9, "{}", spent());
    let text = json!({"model": "tts-1", "voice": "alloy", "input": "ahoy ".repeat(100)});
    let before = spent();
    assert_eq!(server.post("/v1/audio/speech", &[], &text).await.status, 200);
    assert!((spent() - before - 500.0 * 15.0 / 1e6).abs() < 1e-6, "{}", spent());
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

/// Tiers of the kinds beside embeddings.
const OTHERS: &str = "
tiers: [{ name: chat, provider: simulated }]
lane:
  other: pass
  tiers:
    - { name: rank, provider: openai, base_url: 'https://rank.test/v1', api_key: '${OTHER_KEY}', model: rerank-v3.5 }
    - { name: ears, provider: openai, model: whisper-1, interchangeable: true }
    - { name: more-ears, provider: openai, base_url: 'https://ears.test/v1', api_key: '${OTHER_KEY}', model: whisper-large, interchangeable: true }
    - { name: voice, provider: openai, model: tts-1 }
    - { name: other-voice, provider: openai, model: tts-2 }
    - { name: judge, provider: openai, model: omni-moderation-latest }
retry: { max_attempts: 1 }
";

#[tokio::test]
async fn a_ranking_is_of_one_model() {
    const RANKED: &str =
        r#"{"results":[{"index":1,"relevance_score":0.9}],"meta":{"billed_units":{"search_units":2}}}"#;
    let (server, sent) = served(OTHERS, &[(200, RANKED)], None).await;
    let body = json!({"model": "rerank-v3.5", "query": "q", "documents": ["a", "b"]});
    let answer = server.post("/v2/rerank", &[], &body).await;
    assert_eq!((answer.status, &*answer.body), (200, RANKED));
    let id = answer.header("x-steadfast-request-id").unwrap();
    let record = server.get(&format!("/requests/{id}"), &[]).await.json();
    assert_eq!((&record["usage"]["input"], &record["call"]), (&json!(2), &json!("rerank")));
    assert_eq!(server.post("/rerank", &[], &body).await.status, 200);
    assert_eq!(addresses(&sent), ["https://rank.test/v2/rerank", "https://rank.test/v1/rerank"]);
}

#[tokio::test]
async fn another_voice_speaks_only_where_the_file_says_so() {
    let body = json!({"model": "tts-1", "input": "hällo", "voice": "alloy"});
    let (server, sent) = served(OTHERS, &[(500, BUSY)], None).await;
    assert_eq!(server.post("/v1/audio/speech", &[], &body).await.status, 500);
    assert_eq!(addresses(&sent).len(), 1);
    let both = OTHERS.replace("model: tts-1", "model: tts-1, interchangeable: true");
    let both = both.replace("model: tts-2", "model: tts-2, interchangeable: true");
    let (server, sent) = served(&both, &[(500, BUSY), (200, "{}")], None).await;
    let answer = server.post("/v1/audio/speech", &[], &body).await;
    assert_eq!((answer.status, answer.header("x-steadfast-tier")), (200, Some("other-voice")));
    assert!(String::from_utf8_lossy(&sent.lock().unwrap()[1].1).contains(r#""tts-2""#));
    let id = answer.header("x-steadfast-request-id").unwrap();
    let record = server.get(&format!("/requests/{id}"), &[]).await.json();
    assert_eq!(record["usage"]["input"], 5, "characters");
}

#[tokio::test]
async fn a_recording_is_written_down_by_another_model_where_the_file_allows_it() {
    const TEXT: &str = r#"{"text":"hello","usage":{"type":"duration","seconds":4}}"#;
    let (server, sent) = served(OTHERS, &[(500, BUSY), (200, TEXT)], None).await;
    let form = |end: &str| {
        let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\u{1}\r\n";
        format!("{head}--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b{end}")
    };
    let path = "/v1/audio/transcriptions";
    let types = [("content-type", "multipart/form-data; boundary=b")];
    let send = async |body: String| {
        let mut client = server.connect().await;
        client.send(&request("POST", path, &types, body.as_bytes())).await;
        client.answer().await
    };
    let answer = send(form("--\r\n")).await;
    assert_eq!((answer.status, &*answer.body, answer.header("x-steadfast-tier")), (200, TEXT, Some("more-ears")));
    let sent_now = sent.lock().unwrap().clone();
    assert_eq!(sent_now[0].1, form("--\r\n"));
    assert_eq!(sent_now[1].1, form("--\r\n").replace("whisper-1", "whisper-large"));
    let endless = send(form("")).await;
    assert_eq!(endless.status, 400, "{}", endless.body);
    assert!(endless.body.contains("the form is invalid: it has no end"), "{}", endless.body);
}

/// Azure's clients name the deployment in the path, and another model in the form, or the same.
#[tokio::test]
async fn azures_deployment_is_the_model_of_a_form_too() {
    let (server, sent) = served(OTHERS, &[(200, "{}")], None).await;
    let form = |model: &str| {
        let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n";
        format!("{head}--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n")
    };
    let path = "/openai/deployments/whisper-1/audio/transcriptions?api-version=2024-10-21";
    let types = [("content-type", "multipart/form-data; boundary=b")];
    let mut client = server.connect().await;
    client.send(&request("POST", path, &types, form("another").as_bytes())).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(sent.lock().unwrap()[0].1, form("whisper-1"));
}

#[tokio::test]
async fn a_judgement_without_a_model_gets_that_of_the_first_tier_for_it() {
    const JUDGED: &str = r#"{"id":"m","results":[{"flagged":false}]}"#;
    let (server, sent) = served(OTHERS, &[(200, JUDGED)], None).await;
    let answer = server.post("/v1/moderations", &[], &json!({"input": "hello"})).await;
    assert_eq!((answer.status, answer.header("x-steadfast-tier")), (200, Some("judge")), "{}", answer.body);
    assert_eq!(sent.lock().unwrap()[0].1, r#"{"input":"hello"}"#);
    assert_eq!(server.post("/v1/images/generations", &[], &json!({"prompt": "a cat"})).await.status, 404);
}

#[tokio::test]
async fn a_path_of_tomorrow_passes_once_where_the_file_says_so() {
    let (server, sent) = served(OTHERS, &[(500, BUSY)], None).await;
    assert_eq!(server.post("/v1/dreams", &[], &json!({"model": "tts-1"})).await.status, 500);
    assert_eq!(addresses(&sent), ["https://api.openai.com/v1/dreams"]);
    assert_eq!(server.post("/v1/../v1/dreams", &[], &json!({})).await.status, 404);
    let (server, sent) = served(&OTHERS.replace("other: pass", "other: refuse"), &[(200, "{}")], None).await;
    let answer = server.post("/v1/dreams", &[], &json!({})).await;
    assert_eq!((answer.status, addresses(&sent).len()), (404, 0));
    assert!(answer.body.contains("/v1/dreams") && answer.body.contains("POST /v1/embeddings"), "{}", answer.body);
}

#[tokio::test]
async fn a_streamed_answer_passes_as_it_comes() {
    const EVENTS: &str = "data: {\"choices\":[{\"text\":\"Hi\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n";
    for (content_type, body, status) in [
        ("text/event-stream", EVENTS, 200),
        ("audio/mpeg", "ID3-not-really", 200),
        ("text/event-stream", "data: {\"error\":{\"message\":\"busy\"}}\n\n", 500),
    ] {
        let (url, _seen) = raw_server(content_type, body).await;
        let file = format!(
            "tiers: [{{ name: chat, provider: simulated }}]
lane:
  tiers:
    - name: old
      provider: openai
      base_url: '{url}/v1'
      model: gpt-3.5-turbo-instruct
      serves: [completions, speech]
retry: {{ max_attempts: 1 }}"
        );
        let stack = steadfast_stack::Stack::builder()
            .build(steadfast_stack::Config::from_str(&file, steadfast_stack::Format::Yaml).unwrap())
            .unwrap();
        let server = Server::with_stack(&stack, None, Settings::default()).await;
        let asked = json!({"model": "gpt-3.5-turbo-instruct", "prompt": "x", "stream": true});
        let answer = server.post("/v1/completions", &[], &asked).await;
        assert_eq!(answer.status, status, "{content_type}: {}", answer.body);
        if status == 200 {
            assert_eq!((&*answer.body, answer.header("content-type")), (body, Some(content_type)));
        }
        assert!(status == 200 || answer.body == r#"{"error":{"message":"busy"}}"#, "{}", answer.body);
        let id = answer.header("x-steadfast-request-id").unwrap();
        let record = server.get(&format!("/requests/{id}"), &[]).await.json();
        let usage = if body == EVENTS { (json!(5), json!(7)) } else { (Value::Null, Value::Null) };
        assert_eq!((record["usage"]["input"].clone(), record["usage"]["output"].clone()), usage);
    }
}

/// The embeddings provider is down for a minute: first it answers 503, then it hangs.
#[tokio::test(start_paused = true)]
async fn while_the_embeddings_provider_is_down_no_call_is_lost_and_no_vector_is_of_another_space() {
    use std::{
        convert::Infallible,
        future::pending,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use steadfast::{Dialect, LlmRequest, OpaqueCall};
    use steadfast_stack::{CallKind, Config, Environment, Format, Stack};
    use tokio::time::{Instant, sleep};
    use tower::{ServiceExt, service_fn};

    let (begun, hosts) = (Instant::now(), Arc::new(Mutex::new(Vec::<String>::new())));
    let noted = hosts.clone();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let host = request.uri().host().unwrap().to_owned();
        noted.lock().unwrap().push(host.clone());
        async move {
            let status = match (host.as_str(), begun.elapsed().as_secs()) {
                ("api.openai.com", 10..40) => 503,
                ("api.openai.com", 40..70) => pending().await,
                _ => 200,
            };
            sleep(Duration::from_millis(50)).await;
            let body = if status == 200 { VECTOR } else { BUSY };
            let answer = Response::builder().status(status).header("content-type", "application/json");
            Ok::<_, Infallible>(answer.body(Full::from(body)).unwrap())
        }
    });
    let keys = ["OPENAI_API_KEY", "OTHER_KEY"].map(|name| (name, "a-key"));
    let stack = Stack::builder().environment(keys.into_iter().collect::<Environment>()).transport(transport).seed(7);
    let stack = stack.build(Config::from_str(FILE, Format::Yaml).unwrap()).unwrap();
    let config = stack.handle().config();
    let (mut calls, mut lost, mut by_second) = (0, 0, 0);
    while begun.elapsed() < Duration::from_secs(180) {
        let body = asked("small").to_string();
        let call = OpaqueCall::json(Dialect::OpenAi, EMBEDDINGS, body).unwrap();
        let pool = config.lane_pool(CallKind::Embeddings, Dialect::OpenAi, call.model()).unwrap();
        let call = call.with_pool(pool.name).vectors(pool.dimensions);
        let answered = stack.service().oneshot(LlmRequest::from(call)).await;
        calls += 1;
        match answered {
            Ok(answer) => by_second += usize::from(answer.served_by().tier == Some("second")),
            Err(_) => lost += 1,
        }
        sleep(Duration::from_millis(200)).await;
    }
    let of_another_space = hosts.lock().unwrap().iter().filter(|host| *host == "other.test").count();
    println!("{calls} calls: {lost} lost, {of_another_space} of another space, {by_second} by the second deployment");
    assert_eq!((lost, of_another_space), (0, 0));
    assert!(calls > 300 && by_second > 100 && by_second < calls, "{calls}, {by_second}");
    let last = hosts.lock().unwrap().last().cloned();
    assert_eq!(last.as_deref(), Some("api.openai.com"), "it is back");
}
