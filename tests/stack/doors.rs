//! One model through several doors: the file's keys, the order of the tiers, and what each door is sent.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use steadfast::{Dialect, LlmRequest, Wire};
use steadfast_stack::{Config, Environment, Format, Loader, Reload, Stack, StackBuilder};
use tower::{ServiceExt, service_fn};

/// With spellings that no encoder would choose.
const MESSAGES: &str = r#"{"model":"claude-sonnet-4-5", "max_tokens" : 16,"messages":[{"role":"user","content":"h\u0069"}],  "temperature":1.0}"#;
const ANSWER: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[{"type":"text","text":"Hello."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#;
const OVERLOADED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;

/// A request to a provider or to a token server.
#[derive(Clone, Debug)]
struct Sent {
    url: String,
    headers: HeaderMap,
    body: String,
}

type Record = Arc<Mutex<Vec<Sent>>>;

/// Returns a builder whose servers answer with this status and body, by the beginning of the address; a token server
/// answers with a token. All others are overloaded.
fn builder(answers: &'static [(&'static str, u16, &'static str)], environment: Environment) -> (StackBuilder, Record) {
    let record = Record::default();
    let kept = record.clone();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
            let url = head.uri.to_string();
            let known = answers.iter().find(|(start, ..)| url.contains(start));
            let token = r#"{"access_token":"a-google-token","expires_in":3600,"token_type":"Bearer"}"#;
            let (status, answer) = match known {
                Some((_, status, answer)) => (*status, *answer),
                None if url.contains("oauth2") => (200, token),
                None => (529, OVERLOADED),
            };
            record.lock().unwrap().push(Sent { url, headers: head.headers, body });
            let head = Response::builder().status(status).header("content-type", "application/json");
            Ok::<_, Infallible>(head.body(Full::from(Bytes::from_static(answer.as_bytes()))).unwrap())
        }
    });
    (Stack::builder().environment(environment).transport(transport).seed(7), kept)
}

fn environment() -> Environment {
    [
        ("ANTHROPIC_API_KEY", "own-key"),
        ("AWS_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET", "aws-hidden"),
        ("AZURE_KEY", "azure-hidden"),
        ("USER_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/stack/authorized_user.json")),
    ]
    .into_iter()
    .collect()
}

fn config(text: &str) -> Config {
    Loader::new().environment(environment()).text(text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// The same model at its maker and at three clouds, with another model between them in the file.
const DOORS: &str = "
tiers:
  - { name: own, provider: anthropic, model: claude-sonnet-4-5 }
  - { name: other, provider: openai, model: gpt-4o, api_key: '${AZURE_KEY}' }
  - { name: aws, provider: anthropic, at: aws, region: eu-west-1, model: claude-sonnet-4-5,
      credential: { key_id: '${AWS_ID}', secret: '${AWS_SECRET}' } }
  - { name: google, provider: anthropic, at: vertex, project: proj-1, location: europe-west1,
      model: claude-sonnet-4-5@20250929, credential: { authorized_user: '${USER_FILE}' } }
  - { name: azure, provider: anthropic, at: azure, resource: res-1, model: claude-sonnet-4-5, api_key: '${AZURE_KEY}' }
  - { name: sorry, provider: canned, text: Sorry. }
fallback: same_model
retry: { max_attempts: 1 }
";

fn names(config: &Config) -> Vec<&str> {
    config.tiers.iter().map(|tier| tier.name.as_str()).collect()
}

#[test]
fn the_doors_of_one_model_come_before_any_other_model() {
    assert_eq!(names(&config(DOORS)), ["own", "aws", "google", "azure", "other", "sorry"]);
    let as_written = DOORS.replace("fallback: same_model", "fallback: { order: file }");
    assert_eq!(names(&config(&as_written)), ["own", "other", "aws", "google", "azure", "sorry"]);
    let text = "
tiers:
  - { name: a, provider: openai, model: gpt-4o }
  - { name: b, provider: gemini, model: gemini-2.5-pro }
  - { name: c, provider: openai, at: azure, resource: r, deployment: prod, model: gpt-4o-2024-08-06 }
  - { name: d, provider: simulated }
  - { name: e, provider: gemini, at: vertex, project: proj-1, model: gemini-2.5-pro }
  - { name: f, provider: simulated }
fallback: { order: same_model, session: sticky }
";
    assert_eq!(names(&config(text)), ["a", "c", "b", "e", "d", "f"]);
}

#[test]
fn ids_follow_the_door_and_the_region_and_prices_follow_the_model() {
    let shown = |tier: &str| {
        let text = format!("tiers: [{{ name: a, {tier} }}]\nbudgets: [{{ name: day, usd: 5, period: day }}]");
        let door = config(&text).doors(&environment()).remove(0);
        (door.door, door.id, door.model.unwrap_or_default())
    };
    let sonnet = "anthropic.claude-sonnet-4-5-20250929-v1:0";
    for (tier, door, id, model) in [
        (
            "provider: anthropic, at: aws, region: ap-northeast-1, model: claude-sonnet-4-5",
            "aws ap-northeast-1, runtime",
            &*format!("jp.{sonnet}"),
            "claude-sonnet-4-5",
        ),
        (
            "provider: anthropic, at: aws, region: us-east-1, model: claude-opus-4-7",
            "aws us-east-1, mantle",
            "anthropic.claude-opus-4-7",
            "claude-opus-4-7",
        ),
        (
            "provider: anthropic, at: aws, region: us-east-1, api: converse, model: claude-opus-4-7",
            "aws us-east-1, converse",
            "us.anthropic.claude-opus-4-7",
            "claude-opus-4-7",
        ),
        (
            "provider: anthropic, at: vertex, project: proj-1, model: claude-sonnet-4-5-20250929",
            "vertex proj-1, global",
            "claude-sonnet-4-5@20250929",
            "claude-sonnet-4-5",
        ),
        ("provider: openai, at: azure, resource: r, model: gpt-4o", "azure r", "gpt-4o", "gpt-4o"),
        (
            "provider: openai, at: aws, region: us-east-2, model: gpt-5.5",
            "aws us-east-2, responses",
            "openai.gpt-5.5",
            "gpt-5.5",
        ),
        (
            "provider: gemini, at: vertex, project: proj-1, model: gemini-2.5-pro",
            "vertex proj-1, global",
            "gemini-2.5-pro",
            "gemini-2.5-pro",
        ),
    ] {
        assert_eq!(shown(tier), (door.to_owned(), id.to_owned(), model.to_owned()), "{tier}");
    }
    let own = "
tiers: [{ name: a, provider: anthropic, at: vertex, project: proj-1, model: ours }]
same_model: { ours: { vertex: ours@1 } }
families: { ours: { like: claude-sonnet-4-5 } }
prices: { ours: { input: 1, output: 2 } }
budgets: [{ name: day, usd: 5, period: day }]
";
    let config = config(own);
    assert_eq!(config.doors(&environment())[0].id, "ours@1");
    assert!(config.explain_models().contains("ours"), "{}", config.explain_models());
}

/// Returns a body without the fields that a door sets.
fn without_own_fields(body: &str) -> Value {
    let mut value: Value = serde_json::from_str(body).unwrap();
    for field in ["model", "anthropic_version"] {
        value.as_object_mut().unwrap().remove(field);
    }
    value
}

#[tokio::test(start_paused = true)]
async fn every_door_gets_the_same_bytes_but_for_its_own_fields() {
    let (builder, record) = builder(&[("services.ai.azure.com", 200, ANSWER)], environment());
    let stack = builder.build(config(DOORS)).unwrap_or_else(|error| panic!("{error}"));
    let request: LlmRequest = Wire::new(Dialect::Anthropic, MESSAGES).unwrap().into();
    let answer = stack.service().oneshot(request).await.unwrap();
    assert_eq!(answer.served_by().tier, Some("azure"));
    let record = record.lock().unwrap().clone();
    let sent: Vec<&Sent> = record.iter().filter(|sent| !sent.url.contains("oauth2")).collect();
    let urls: Vec<&str> = sent.iter().map(|sent| sent.url.as_str()).collect();
    assert_eq!(
        urls,
        [
            "https://api.anthropic.com/v1/messages",
            "https://bedrock-runtime.eu-west-1.amazonaws.com/anthropic/v1/messages",
            "https://europe-west1-aiplatform.googleapis.com/v1/projects/proj-1/locations/europe-west1/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict",
            "https://res-1.services.ai.azure.com/anthropic/v1/messages",
        ]
    );
    let first = without_own_fields(&sent[0].body);
    for sent in &sent[1..] {
        assert_eq!(without_own_fields(&sent.body), first, "{}", sent.url);
        for piece in
            [r#""max_tokens" : 16"#, r#""messages":[{"role":"user","content":"h\u0069"}]"#, r#""temperature":1.0"#]
        {
            assert!(sent.body.contains(piece), "{}: {}", sent.url, sent.body);
        }
    }
    let header = |at: usize, name: &str| sent[at].headers.get(name).map_or("", |value| value.to_str().unwrap());
    assert!(header(1, "authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    assert_eq!(header(2, "authorization"), "Bearer a-google-token");
    assert!([header(3, "x-api-key"), header(3, "api-key")].contains(&"azure-hidden"));
    assert_eq!(header(0, "x-api-key"), "own-key");
    assert_eq!(
        serde_json::from_str::<Value>(&sent[1].body).unwrap()["model"],
        "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
    );
}

#[tokio::test(start_paused = true)]
async fn tiers_with_the_same_credential_ask_for_one_token_and_a_reload_keeps_it() {
    let text = "
tiers:
  - { name: a, provider: anthropic, at: vertex, project: proj-1, location: us-east5, model: claude-sonnet-4-5,
      credential: { authorized_user: '${USER_FILE}' } }
  - { name: b, provider: anthropic, at: vertex, project: proj-1, location: europe-west1, model: claude-sonnet-4-5,
      credential: { authorized_user: '${USER_FILE}' } }
retry: { max_attempts: 1 }
";
    let (builder, record) = builder(&[("europe-west1", 200, ANSWER)], environment());
    let stack = builder.build(config(text)).unwrap();
    let tokens = || record.lock().unwrap().iter().filter(|sent| sent.url.contains("oauth2")).count();
    let request = || LlmRequest::from(Wire::new(Dialect::Anthropic, MESSAGES).unwrap());
    let answer = stack.service().oneshot(request()).await.unwrap();
    assert_eq!((answer.served_by().tier, tokens()), (Some("b"), 1));
    let changed = config(&text.replace("us-east5", "us-central1"));
    let reload: Reload = stack.handle().reload(changed).unwrap();
    assert_eq!(reload.kept.iter().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
    stack.service().oneshot(request()).await.unwrap();
    assert_eq!(tokens(), 1);
}

/// The mistakes that only the environment and the machine's files show.
#[test]
fn a_stack_is_refused_for_what_is_known_to_be_missing_at_its_start() {
    let aws = "provider: anthropic, at: aws, model: claude-sonnet-4-5";
    let vertex = "provider: anthropic, at: vertex, project: proj-1, model: claude-sonnet-4-5";
    let azure = "provider: openai, at: azure, resource: r, model: gpt-4o";
    let no_json = concat!(env!("CARGO_MANIFEST_DIR"), "/stack/doors.rs");
    let no_key = concat!(env!("CARGO_MANIFEST_DIR"), "/stack/no_pem.json");
    for (tier, said) in [
        (
            format!("{aws}, credential: {{ key_id: '${{AWS_ID}}', secret: '${{AWS_SECRET}}' }}"),
            &["tiers.a.region", "AWS_REGION"][..],
        ),
        (
            format!("{aws}, region: us-east-1, credential: {{ key_id: '${{AWS_ID}}', secret: '${{NO_SECRET}}' }}"),
            &["tiers.a.credential.secret", "NO_SECRET", "is not set"],
        ),
        (format!("{aws}, region: us-east-1, credential: environment"), &["tiers.a.credential", "AWS_ACCESS_KEY_ID"]),
        (
            format!("{aws}, region: us-east-1, credential: {{ profile: nowhere }}"),
            &["tiers.a.credential.profile", "nowhere"],
        ),
        (
            format!("{vertex}, credential: {{ service_account: /no/such.json }}"),
            &["tiers.a.credential.service_account", "/no/such.json"],
        ),
        (
            format!("{vertex}, credential: {{ service_account: '{no_json}' }}"),
            &["tiers.a.credential.service_account", "doors.rs", "JSON"],
        ),
        (
            format!("{vertex}, credential: {{ service_account: '{no_key}' }}"),
            &["tiers.a.credential.service_account", "no_pem.json", "private_key"],
        ),
        (
            format!("{azure}, credential: {{ tenant: t-1, client_id: c, secret: '${{NO_SECRET}}' }}"),
            &["tiers.a.credential.secret", "NO_SECRET"],
        ),
        (format!("{azure}, credential: workload_identity"), &["tiers.a.credential", "AZURE_FEDERATED_TOKEN_FILE"]),
        (
            "provider: gemini, at: vertex, model: gemini-2.5-pro, credential: metadata".to_owned(),
            &["tiers.a.project", "GOOGLE_CLOUD_PROJECT"],
        ),
        (format!("{azure}, api_key: '${{NO_KEY}}'"), &["tiers.a.api_key", "NO_KEY"]),
    ] {
        let (builder, _) = builder(&[], environment());
        let error = builder.check(&config(&format!("tiers: [{{ name: a, {tier} }}]"))).unwrap_err().to_string();
        assert!(said.iter().all(|said| error.contains(said)), "{tier}: {error}");
        assert!(!error.contains("hidden"), "{error}");
    }
}

#[test]
fn no_secret_is_shown() {
    let config = config(DOORS);
    let shown = format!("{:?} {:?} {}", config, config.doors(&environment()), config.explain());
    assert!(!shown.contains("hidden") && !shown.contains("own-key"), "{shown}");
    let credentials: Vec<String> = config.doors(&environment()).into_iter().map(|door| door.credential).collect();
    assert_eq!(credentials[1], "key in AWS_ID, AWS_SECRET");
    assert_eq!(credentials[3], "key in AZURE_KEY");
}
