//! The parts of Gemini's protocol that the others lack: the model and the form of the answer in the path, the key in
//! the query, streams as arrays, Google's errors.

use std::time::Duration;

use serde_json::{Value, json};
use steadfast::{BoxLlmService, providers::Gemini, providers::simulated::Fault};
use tracing::instrument::WithSubscriber;

use super::{harness::*, logs::Log};
use crate::limits::Settings;

const GENERATE: &str = "/v1beta/models/gemini-2.5-pro:generateContent";
const STREAM: &str = "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse";
const ARRAY: &str = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";

fn prompt() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
}

async fn raw_gemini(content_type: &str, body: &'static str) -> (Server, tokio::task::JoinHandle<String>) {
    let (url, seen) = raw_server(content_type, body).await;
    let leaf = Gemini::new("sk-of-the-gateway").base_url(&url).unwrap().model("gemini-2.5-flash");
    (Server::start(BoxLlmService::new(leaf), Settings::default()).await, seen)
}

#[tokio::test]
async fn geminis_own_provider_sees_the_callers_bytes_under_its_own_model_and_not_its_key() {
    const ANSWER: &str = "{\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"Hi\"}],\n\"role\": \"model\"}, \"finishReason\": \"STOP\", \"unheard_of\": 1e400 }]}";
    let body = r#"{ "unheard_of":1.50, "contents":[{"parts":[{"text":"h\u00e9llo"}]}],  "safetySettings":[]}"#;
    for path in [GENERATE, "/v1/models/gemini-2.5-pro:generateContent?key=sk-of-the-caller"] {
        let (server, seen) = raw_gemini("application/json", ANSWER).await;
        let headers = [
            ("x-goog-api-key", "sk-of-the-caller"),
            ("authorization", "Bearer sk-of-the-caller"),
            ("x-goog-api-client", "google-genai-sdk/1.2.3"),
            ("x-goog-user-project", "project-of-the-caller"),
        ];
        let mut client = server.connect().await;
        client.send(&request("POST", path, &headers, body.as_bytes())).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
        let seen = seen.await.unwrap();
        let (head, sent) = seen.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /v1beta/models/gemini-2.5-flash:generateContent HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("x-goog-api-key: sk-of-the-gateway") && !head.contains("caller"), "{head}");
        assert!(head.contains("x-goog-api-client: google-genai-sdk/1.2.3\r\n"), "{head}");
        assert_eq!(sent, body);
    }
}

#[tokio::test]
async fn a_stream_of_geminis_own_passes_byte_for_byte_and_its_events_are_the_elements_of_an_array() {
    const EVENTS: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"Hi\"}],\"role\": \"model\"}}], \"x\": 1.0}\r\n\r\n\
        data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \" you\"}],\"role\": \"model\"},\"finishReason\": \"STOP\"}]}\r\n\r\n";
    let (server, _seen) = raw_gemini("text/event-stream", EVENTS).await;
    assert_eq!(server.post(STREAM, &[], &prompt()).await.body, EVENTS);
    let (server, seen) = raw_gemini("text/event-stream", EVENTS).await;
    let answer = server.post(ARRAY, &[], &prompt()).await;
    assert_eq!(answer.header("content-type"), Some("application/json; charset=UTF-8"));
    let elements: Vec<&str> = EVENTS.split("\r\n\r\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(answer.body, format!("[{}]", elements.join(",\r\n")));
    assert!(seen.await.unwrap().starts_with("POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse "));
}

/// The texts of an array's elements, and the error of its last.
fn elements(answer: &Answer) -> (String, Option<Value>) {
    let elements = answer.json();
    let elements = elements.as_array().unwrap_or_else(|| panic!("no array: {}", answer.body));
    let text = |element: &Value| element["candidates"][0]["content"]["parts"][0]["text"].as_str().map(str::to_owned);
    (elements.iter().filter_map(text).collect(), elements.last().and_then(|last| last.get("error")).cloned())
}

#[tokio::test]
async fn an_array_comes_from_every_provider_and_ends_as_one_after_a_failure_too() {
    for path in PATHS {
        let providers = Providers::start().await;
        let (service, provider) = providers.of(path);
        let server = Server::start(service, Settings::default()).await;
        let answer = server.post(ARRAY, &[], &prompt()).await;
        assert_eq!(elements(&answer), ("Hello from afar".to_owned(), None), "{path}");
        assert_eq!(answer.body.matches("finishReason").count(), 1, "{path}: {}", answer.body);
        for fault in [Fault::CutAfter(2), Fault::TruncatedAfter(2), Fault::ErrorEventAfter(2)] {
            provider.fail(fault.clone());
            let answer = server.post(ARRAY, &[], &prompt()).await;
            let (text, error) = elements(&answer);
            let error = error.unwrap_or_else(|| panic!("{fault} {path}: {}", answer.body));
            assert_eq!((text.as_str(), error["code"].as_u64() >= Some(500)), ("Hello from ", true), "{fault} {path}");
        }
        provider.fail(Fault::ServerError);
        let answer = server.post(ARRAY, &[], &prompt()).await;
        assert_eq!(answer.status, 500);
        assert_eq!(elements(&answer).1.unwrap()["status"], "INTERNAL", "{path}");
    }
}

#[tokio::test]
async fn a_stream_has_blank_lines_as_signs_of_life_and_so_has_an_array() {
    let providers = Providers::start().await;
    providers.gemini.handle().latency(Duration::from_millis(500));
    let soon = Duration::from_millis(40);
    let settings = Settings { first_sign: soon, keep_alive: soon, ..Settings::default() };
    let server = Server::start(providers.google(), settings).await;
    // Google's SDKs fail at a comment.
    let answer = server.post(STREAM, &[], &prompt()).await;
    assert!(answer.body.starts_with("\r\n\r\n\r\n\r\n"), "{}", answer.body);
    assert_eq!((answer.text().as_str(), answer.is_whole()), ("Hello from afar", true));
    let answer = server.post(ARRAY, &[], &prompt()).await;
    assert!(answer.body.starts_with("\r\n\r\n"), "{}", answer.body);
    assert_eq!(elements(&answer), ("Hello from afar".to_owned(), None));
    providers.gemini.handle().fail(Fault::Overloaded);
    let answer = server.post(ARRAY, &[], &prompt()).await;
    assert_eq!((answer.status, elements(&answer).1.unwrap()["code"].as_u64()), (200, Some(503)));
}

#[tokio::test]
async fn models_are_listed_in_googles_shape_and_tokens_are_counted() {
    let providers = Providers::start().await;
    let server = Server::start(providers.claude(), Settings::default()).await;
    for (path, headers) in [("/v1beta/models?pageSize=50", &[][..]), ("/v1/models", &[("x-goog-api-key", "k")][..])] {
        let list = server.get(path, headers).await.json();
        assert_eq!(list["models"][1]["name"], "models/gpt-4o", "{list}");
        assert!(
            list["models"][1]["supportedGenerationMethods"].as_array().unwrap().contains(&json!("generateContent"))
        );
    }
    let one = server.get("/v1beta/models/gpt-4o", &[]).await.json();
    assert_eq!((&one["name"], &one["displayName"]), (&json!("models/gpt-4o"), &json!("gpt-4o")));
    let none = server.get("/v1beta/models/%zz", &[]).await;
    assert_eq!((none.status, &none.json()["error"]["status"]), (404, &json!("NOT_FOUND")));

    let count = "/v1beta/models/gpt-4o:countTokens";
    let whole = json!({"generateContentRequest": {"model": "models/gpt-4o", "contents": prompt()["contents"]}});
    for body in [prompt(), whole] {
        let counted = server.post(count, &[], &body).await;
        assert_eq!((counted.status, counted.json()["totalTokens"].as_u64()), (200, Some(1)), "{counted:?}");
        assert_eq!(
            counted.header("x-steadfast-notes"),
            Some("count_tokens: an estimate by length; a provider often counts more")
        );
    }
    let wrong = server.post(count, &[], &json!({"contents": 7})).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    assert_eq!(providers.anthropic.handle().stats().calls, 0);
}

#[tokio::test]
async fn a_key_is_taken_from_a_header_or_the_query_and_the_query_is_not_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let run = async {
        let providers = Providers::start().await;
        let keys = keys_of(&[entry("one", "sk-secret", ", requests_per_minute: 13")]);
        let server = Server::with_keys(providers.claude(), Some(keys), Settings::default()).await;
        let in_query = |path: &str, key: &str| format!("{path}{}key={key}", if path.contains('?') { '&' } else { '?' });
        for path in [GENERATE, STREAM, ARRAY, "/v1beta/models/gpt-4o:countTokens"] {
            assert_eq!(server.post(&in_query(path, "sk-secret"), &[], &prompt()).await.status, 200, "{path}");
            assert_eq!(server.post(path, &[("x-goog-api-key", "sk-secret")], &prompt()).await.status, 200, "{path}");
            for wrong in [path, &in_query(path, "sk-wrong-secret")] {
                let denied = server.post(wrong, &[], &prompt()).await;
                let error = match denied.json() {
                    Value::Array(elements) => elements[0]["error"].clone(),
                    error => error["error"].clone(),
                };
                assert_eq!((denied.status, &error["status"]), (401, &json!("UNAUTHENTICATED")), "{path}");
                assert_eq!(error["details"][0]["reason"], "API_KEY_INVALID");
            }
        }
        assert_eq!(server.get("/v1beta/models?key=sk-secret", &[]).await.status, 200);
        assert_eq!(server.get("/v1beta/models/gpt-4o?key=sk-secret", &[]).await.status, 200);
        assert_eq!(server.post("/v1beta/models/m:embedContent?key=sk-secret", &[], &prompt()).await.status, 404);
        // The other protocols have no key there.
        assert_eq!(server.post("/v1/messages?key=sk-secret", &[], &hello(false)).await.status, 401);
        // The failure's line has no query either.
        providers.anthropic.handle().fail(Fault::ServerError);
        assert_eq!(server.post(&in_query(GENERATE, "sk-secret"), &[], &prompt()).await.status, 500);
        server.post(GENERATE, &[("authorization", "Bearer sk-secret")], &prompt()).await;
        server.post(GENERATE, &[("authorization", "Bearer sk-secret")], &prompt()).await;
        let over = server.post(&in_query(GENERATE, "sk-secret"), &[], &prompt()).await;
        let details = &over.json()["error"]["details"][0];
        assert_eq!((over.status, &details["@type"]), (429, &json!("type.googleapis.com/google.rpc.RetryInfo")));
        let (header, delay) = (over.header("retry-after").unwrap(), details["retryDelay"].as_str().unwrap());
        let delay: f64 = delay.strip_suffix('s').unwrap().parse().unwrap();
        assert_eq!(header.parse::<f64>().unwrap(), delay.ceil());
        let listed = server.get("/requests", &[("x-goog-api-key", "sk-secret")]).await;
        assert!(!listed.body.contains("secret"), "{listed:?}");
        for record in server.gateway.records.newest(100, |_| true) {
            assert!(!record.json(true).to_string().contains("secret"));
        }
    };
    // The server's own tasks are spawned within, so the subscriber must be the thread's.
    let _here = log_to(subscriber);
    run.with_current_subscriber().await;
    let log = log.said();
    assert!(log.contains("request failed") && log.contains("unknown_path"), "{log}");
    assert!(!log.contains("secret") && !log.contains("?key=") && !log.contains("&key="), "{log}");
}

#[tokio::test]
async fn mistakes_are_refused_in_googles_words() {
    let providers = Providers::start().await;
    let server = Server::start(providers.gpt(), Settings::default()).await;
    let cases = [
        (json!({}), "contents must be a list"),
        (json!({"contents": 7}), "contents must be a list"),
        (json!({"contents": [7]}), "contents must be a list of objects"),
        (json!({"contents": [{"parts": 7}]}), "contents.parts must be a list"),
        (json!({"contents": [{"role": "user", "parts": [{"text": 7}]}]}), "contents.parts.text must be a text"),
        (json!({"messages": [{"role": "user", "content": "hello"}]}), "contents must be a list"),
        (json!("hello"), "not a request of the gemini dialect"),
    ];
    for (body, word) in cases {
        for path in [GENERATE, STREAM] {
            let refused = server.post(path, &[], &body).await;
            let error = &refused.json()["error"];
            assert_eq!((refused.status, &error["code"]), (400, &json!(400)), "{body}: {refused:?}");
            assert_eq!(error["status"], "INVALID_ARGUMENT", "{body}: {refused:?}");
            assert!(error["message"].as_str().unwrap().contains(word), "{body}: {refused:?}");
        }
    }
    assert_eq!(providers.openai.handle().stats().calls, 0);
    let unknown = server.post("/v1beta/models/m:embedContent", &[], &prompt()).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
    assert!(unknown.json()["error"]["paths"].as_array().unwrap().len() > 10);
    let method = server.get("/v1beta/models", &[]).await;
    assert_eq!(method.status, 200);
    let wrong = server.post("/v1beta/models", &[], &prompt()).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["code"]), (405, &json!(405)));
}

const NAMED: &str = "
models: { gemini-2.5-pro: { tiers: [gpt] } }
tiers:
  - { name: gpt, provider: openai, model: gpt-4o }
";

#[tokio::test]
async fn a_model_that_no_caller_may_name_is_not_found() {
    let answer = r#"{"id":"c","object":"chat.completion","model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#;
    let (stack, sent) = scripted(NAMED, &[(200, answer)]);
    let server = Server::with_stack(&stack, None, Settings::default()).await;
    let served = server.post(GENERATE, &[], &prompt()).await;
    assert_eq!((served.status, served.text().as_str()), (200, "Hi"), "{served:?}");
    assert_eq!(served.header("x-steadfast-model"), Some("gpt-4o"));
    for path in ["/v1beta/models/nobody:generateContent", "/v1beta/models/nobody:countTokens"] {
        let refused = server.post(path, &[], &prompt()).await;
        assert_eq!((refused.status, &refused.json()["error"]["status"]), (404, &json!("NOT_FOUND")), "{path}");
    }
    assert_eq!(sent.lock().unwrap().len(), 1);
}

const GEMINI_3: &str = "/v1beta/models/gemini-3-pro-preview:generateContent";

/// Two accounts of one provider.
const ACCOUNTS: &str = "
tiers:
  - { name: one, provider: gemini, model: gemini-3-pro-preview, retry: { max_attempts: 1 } }
  - { name: two, provider: gemini, model: gemini-3-pro-preview, base_url: 'https://two.example', retry: { max_attempts: 1 } }
features: { one: { tiers: [one] }, two: { tiers: [two] } }
";

#[tokio::test]
async fn a_thoughts_signature_goes_to_the_account_that_made_it_alone() {
    const SIGNED: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm.","thought":true},{"text":"Hi","thoughtSignature":"U0VBTEVE"}]},"finishReason":"STOP"}]}"#;
    let (stack, sent) = scripted(ACCOUNTS, &[(200, SIGNED)]);
    let server = Server::with_stack(&stack, None, Settings::default()).await;
    let first = server.post(GEMINI_3, &[("x-steadfast-feature", "one")], &prompt()).await;
    assert_eq!(first.body, SIGNED);
    let mut turns = prompt();
    let contents = turns["contents"].as_array_mut().unwrap();
    contents.push(first.json()["candidates"][0]["content"].clone());
    contents.push(json!({"role": "user", "parts": [{"text": "and you?"}]}));
    for (account, keeps) in [("one", true), ("two", false)] {
        let next = server.post(GEMINI_3, &[("x-steadfast-feature", account)], &turns).await;
        assert_eq!(next.status, 200, "{next:?}");
        let body = sent.lock().unwrap().last().unwrap().1.clone();
        let body = std::str::from_utf8(&body).unwrap();
        assert_eq!(body.contains("U0VBTEVE"), keeps, "{account}: {body}");
        assert!(body.contains("Hi") && body.contains("and you?"), "{account}: {body}");
        assert_eq!(
            next.header("x-steadfast-notes").is_some_and(|notes| notes.contains("call_signature")),
            !keeps,
            "{next:?}"
        );
    }
}
