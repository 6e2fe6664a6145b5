//! Callers with tokens of an identity provider, at the real binary.

use serde_json::{Value, json};
use steadfast_simulator::SimulatedIssuer;

use super::{HELLO, SOON};
use crate::common::{
    Folder, key,
    serve::{Serve, Served},
    steadfast, within,
};

fn config(issuer: &str, more: &str) -> String {
    format!(
        "gateway: {{ oidc: {{ issuer: '{issuer}', audience: llm{more} }} }}\n\
         tiers: [{{ name: only, provider: simulated, model: m, simulated: {{ reply: word, latency: 1ms }} }}]\n"
    )
}

/// Returns the status and the error's message of an answer to this token.
fn asked(served: &Served, token: &str) -> (u16, String) {
    let body = HELLO.replace("\"stream\":true", "\"stream\":false");
    let answer = served.ask("POST /v1/messages", &format!("authorization: Bearer {token}\r\n"), &body);
    (answer.status, answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_admits_whom_its_identity_provider_has_signed() {
    let issuer = SimulatedIssuer::start().await.unwrap();
    let more = ", claims: { team: team, limits: groups }, limits: { staff: { requests_per_minute: 2 }, boss: { admin: true } }";
    let (ci, entry) = key("ci");
    let served = Serve::with(&config(issuer.url(), more)).keys(&entry).start();
    let token = |claims: Value| issuer.token(&claims);
    let ann = json!({"aud": "llm", "sub": "ann", "team": "search", "groups": ["staff"]});
    let first = token(ann.clone());
    assert_eq!(asked(&served, &first).0, 200);
    let own = served.ask("GET /v1/key", &format!("authorization: Bearer {first}\r\n"), "").json()["key"].clone();
    assert_eq!(
        (&own["name"], &own["team"], &own["requestsLeft"], &own["secrets"]),
        (&json!("oidc:ann"), &json!("search"), &json!(1), &json!([])),
        "{own}"
    );
    // Another token of the same caller has no rate of its own, and keys stand beside.
    assert_eq!(asked(&served, &token(ann)).0, 200);
    let (status, message) = asked(&served, &first);
    assert!(status == 429 && message.contains("requests per minute"), "{message}");
    assert_eq!(asked(&served, &ci).0, 200);

    let boss = token(json!({"aud": ["llm"], "sub": "eve", "groups": "boss"}));
    let keys = served.ask("GET /admin/keys", &format!("authorization: Bearer {boss}\r\n"), "").json();
    let names: Vec<_> = keys["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ci", "oidc:ann", "oidc:eve"]);

    let forger = SimulatedIssuer::start().await.unwrap();
    for (token, status, words) in [
        (token(json!({"aud": "other", "sub": "ann", "groups": "staff"})), 401, "for another audience"),
        (token(json!({"aud": "llm", "sub": "ann", "groups": "staff", "exp": 1})), 401, "has expired"),
        (forger.token(&json!({"iss": issuer.url(), "aud": "llm", "sub": "ann"})), 401, "signature is wrong"),
        (token(json!({"aud": "llm", "sub": "bob", "groups": "guests"})), 403, "no limits"),
        (token(json!({"aud": "llm", "groups": "staff"})), 401, "lacks"),
    ] {
        let told = asked(&served, &token);
        assert!(told.0 == status && told.1.contains(words), "{words}: {told:?}");
    }
    within(SOON, "the refusals are not told", || {
        let metrics = served.ask("GET /metrics", "", "").body;
        metrics.contains("steadfast_refusals_total{reason=\"token\",scope=\"key\"} 3")
    });
    let ran = served.stop();
    assert!(
        ran.err.contains("reason=\"token\"") && ran.err.contains("the token is for another audience"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains(&first) && !ran.err.contains("eyJ"), "no token is in the log: {}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_waits_for_its_identity_provider_and_serves_keys_meanwhile() {
    let issuer = SimulatedIssuer::start().await.unwrap();
    let token = issuer.token(&json!({"aud": "llm", "sub": "ann"}));
    let url = issuer.url().to_owned();
    drop(issuer);
    let alone = Serve::with(&config(&url, "")).start();
    let (status, message) = asked(&alone, &token);
    assert!(status == 503 && message.contains("cannot read its keys"), "{message}");
    let ready = alone.ask("GET /readyz", "", "");
    assert!(ready.status == 503 && ready.body.contains("identity provider"), "{}", ready.body);
    let (ci, entry) = key("ci");
    let beside = Serve::with(&config(&url, "")).keys(&entry).start();
    assert_eq!((asked(&beside, &ci).0, asked(&beside, &token).0), (200, 503));
    let ready = beside.ask("GET /readyz", "", "");
    assert!(ready.status == 200 && ready.body.contains("identity provider's keys cannot be read"), "{}", ready.body);
    let said = beside.stop().err;
    assert!(said.contains("the identity provider's keys cannot be read"), "{said}");
}

#[test]
fn a_wrong_part_for_tokens_is_found_by_a_check() {
    let folder = Folder::new("oidc-check");
    let issuer = "https://login.example.com";
    for (more, problem) in [
        ("", None),
        (
            ", limits: { default: { budget: { usd: 5, period: day, at_cap: { step_down: 4 } } } }",
            Some("no tier has level 4"),
        ),
        (", limits: { default: { model: [m] } }", Some("limits.default: unknown field `model`")),
        (", algorithms: [none]", Some("not among the algorithms of public keys")),
        (", clams: {}", Some("unknown key `clams`")),
    ] {
        let file = folder.file("steadfast.yaml", &config(issuer, more));
        let ran = steadfast(["check", file.to_str().unwrap()], &[]);
        match problem {
            None => assert_eq!(ran.code, Some(0), "{ran:?}"),
            Some(problem) => assert!(ran.code != Some(0) && (ran.out + &ran.err).contains(problem), "{more}"),
        }
    }
}
