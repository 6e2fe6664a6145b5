//! Callers with tokens of an identity provider: who they are, what they may, and beside which keys.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use steadfast::{prices::Usd, providers::http::RequestBody};
use steadfast_oidc::{Issuer, TokenError, TokenVerifier};
use steadfast_simulator::SimulatedIssuer;
use steadfast_stack::{Format, Stack};
use tower::service_fn;

use super::*;

const STACK: &str = "
tiers: [{ name: main, provider: simulated, model: m }]
prices: { m: { input: 0, output: 1000 } }
features: { chat: {}, search: {} }
";

/// Reads the issuer's keys without its socket, in virtual time too.
fn verifier(issuer: &SimulatedIssuer) -> TokenVerifier {
    verifier_of(issuer, &Arc::new(Mutex::new(issuer.public_key())))
}

/// Reads this key for the issuer's.
fn verifier_of(issuer: &SimulatedIssuer, key: &Arc<Mutex<Value>>) -> TokenVerifier {
    let key = key.clone();
    let client = service_fn(move |_: Request<RequestBody>| {
        let keys = json!({ "keys": [*lock(&key)] }).to_string();
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(keys))))
    });
    let of = Issuer::new(issuer.url(), ["llm"]).unwrap().keys_at("https://login.example.com/keys").unwrap();
    TokenVerifier::new(of.client(client))
}

/// Keys of a gateway whose `oidc` has these further fields.
struct World {
    keys: Keys,
    issuer: SimulatedIssuer,
    /// It keeps the caps.
    stack: Stack,
}

impl World {
    async fn new(more: &str, file: Option<&Temporary>) -> Self {
        let issuer = SimulatedIssuer::start().await.unwrap();
        let url = issuer.url();
        let text = format!("{STACK}gateway: {{ oidc: {{ issuer: '{url}', audience: llm{more} }} }}\n");
        let config = Config::from_str(&text, Format::Yaml).unwrap();
        let oidc = config.gateway.oidc.clone().unwrap();
        let stack = Stack::from_config(config.clone()).unwrap();
        let keys = file.map_or_else(Keys::none, |file| Keys::load_beside_others(&file.0).ok().unwrap());
        let mut keys = keys.with_tokens(&oidc, &config).ok().unwrap();
        keys.tokens.as_mut().unwrap().verifier = Arc::new(verifier(&issuer));
        let keys = keys.with_budgets_in(stack.handle()).ok().unwrap();
        keys.begin().await.unwrap();
        Self { keys, issuer, stack }
    }

    fn show(&self, secret: &str) -> Result<Arc<Key>, Denial> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {secret}")).unwrap());
        self.keys.authenticate(&headers, None)
    }

    /// A token of these claims, for this gateway.
    fn token(&self, claims: &Value) -> String {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().entry("aud").or_insert("llm".into());
        self.issuer.token(&claims)
    }

    fn call(&self, claims: &Value) -> Result<Arc<Key>, Denial> {
        self.show(&self.token(claims))
    }
}

/// Returns the rights and limits of a key, in one line.
fn rights(key: &Key) -> String {
    let entry = &key.record.entry;
    let list = |names: &Option<Vec<Box<str>>>| names.as_ref().map_or_else(|| "any".to_owned(), |names| names.join("+"));
    let (features, models) = (list(&entry.features), list(&entry.models));
    let (rate, budget) = (entry.requests_per_minute.map_or(0, NonZeroU32::get), entry.budget.is_some());
    format!("{} of {}: {features}, {models}, {rate}, {budget}", key.name, key.team.as_deref().unwrap_or("no team"))
}

#[tokio::test]
async fn the_claims_of_a_token_say_who_calls_and_what_it_may() {
    let limits = "limits: { default: { requests_per_minute: 6, team: all }, \
        dear: { budget: { usd: 5, period: day }, features: [chat], models: [m] } }";
    let named = "claims: { name: email, team: org.team, features: uses, limits: groups }";
    let cases = [
        ("", json!({"sub": "ann"}), Ok("oidc:ann of no team: any, any, 0, false")),
        ("", json!({"sub": " "}), Err(Denial::Token(TokenError::Claim))),
        ("", json!({"sub": 7}), Err(Denial::Token(TokenError::Claim))),
        ("", json!({"email": "ann@example.com"}), Err(Denial::Token(TokenError::Claim))),
        ("", json!({"sub": "x".repeat(300)}), Err(Denial::Token(TokenError::Claim))),
        (limits, json!({"sub": "ann", "groups": ["dear"]}), Ok("oidc:ann of all: any, any, 6, false")),
        (
            &format!("{limits}, {named}"),
            json!({"sub": "1", "email": "ann@example.com", "org": {"team": ["ads", "all"]}, "uses": "chat search"}),
            Ok("oidc:ann@example.com of ads: chat search, any, 6, false"),
        ),
        (
            &format!("{limits}, {named}"),
            json!({"email": "ann", "groups": ["unheard-of", "dear", "default"], "uses": ["search", "chat"]}),
            Ok("oidc:ann of no team: chat, m, 0, true"),
        ),
        (
            &format!("{limits}, {named}"),
            json!({"email": "ann", "groups": "dear", "https://a.example/uses": "chat"}),
            Ok("oidc:ann of no team: , m, 0, true"),
        ),
        ("limits: { dear: {} }, claims: { limits: groups }", json!({"sub": "ann"}), Err(Denial::NoLimits)),
        (
            "limits: { dear: { admin: true } }, claims: { limits: 'https://a.example/role' }",
            json!({"sub": "ann", "https://a.example/role": "dear"}),
            Ok("oidc:ann of no team: any, any, 0, false"),
        ),
    ];
    for (more, claims, expected) in cases {
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        let world = World::new(&more, None).await;
        let told = world.call(&claims).map(|key| rights(&key));
        assert_eq!(told.as_deref(), expected.as_ref().map(|text| *text), "{more}: {claims}");
        // A feature or a model that is not allowed is refused as for a key.
        if expected.is_ok_and(|text| text.contains(": , ")) {
            let key = world.call(&claims).unwrap();
            assert!(key.feature(Some("chat".into())).is_err() && key.feature(None).is_ok());
        }
    }
}

#[tokio::test]
async fn a_token_that_does_not_count_is_refused_for_its_reason() {
    let world = World::new("", None).await;
    let now = wall_clock::since_1970().as_secs();
    for (claims, expected) in [
        (json!({"sub": "ann", "aud": "other"}), TokenError::Audience),
        (json!({"sub": "ann", "iss": "https://evil.example"}), TokenError::Issuer),
        (json!({"sub": "ann", "exp": now - 3600}), TokenError::Expired),
        (json!({"sub": "ann", "nbf": now + 3600}), TokenError::NotYetValid),
    ] {
        assert_eq!(world.call(&claims).map(drop), Err(Denial::Token(expected)), "{claims}");
    }
    let forger = SimulatedIssuer::start().await.unwrap();
    let forged = forger.token(&json!({"sub": "ann", "iss": world.issuer.url(), "aud": "llm"}));
    assert_eq!(world.show(&forged).map(drop), Err(Denial::Token(TokenError::Signature)));
    // A secret without a token's form is a key that nobody has.
    for secret in ["sk-guess", "eyJ", "eyJhbGciOiJub25lIn0", "a.b.c"] {
        assert_eq!(world.show(secret).map(drop), Err(Denial::UnknownKey(KeyHash::of(secret))), "{secret}");
    }
    assert!(world.keys.callers().is_empty(), "nobody was made known");
    // Until the provider's keys are read a token may be anybody's.
    let mut world = world;
    world.keys.tokens.as_mut().unwrap().verifier = Arc::new(verifier(&world.issuer));
    assert_eq!(world.call(&json!({"sub": "ann"})).map(drop), Err(Denial::KeysAway));
    assert_eq!(world.keys.missing(), Some("the identity provider's keys cannot be read"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_has_one_rate_for_all_its_tokens() {
    let more = ", limits: { default: { requests_per_minute: 2 } }";
    let world = World::new(more, None).await;
    let (ann, bob) = (|device: u64| json!({"sub": "ann", "device": device}), json!({"sub": "bob"}));
    let take = |claims: &Value| world.call(claims).unwrap().admit(Instant::now()).is_ok();
    assert_eq!([take(&ann(1)), take(&ann(2)), take(&ann(3)), take(&bob)], [true, true, false, true]);
    let report = world.keys.report();
    let names: Vec<_> = report["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["oidc:ann", "oidc:bob"]);
    assert!(report.to_string().contains("\"secrets\":[]"), "no token is in the report: {report}");
}

/// A budget of limits is each of their callers' own, and over a reload of the keys too.
#[tokio::test]
async fn each_caller_of_limits_has_their_budget_and_no_other_counts() {
    let file = Temporary::new("callers-caps", &format!("keys:\n{}...\n", entry("ci", "sk-ci", "")));
    let more = ", claims: { limits: groups }, limits: { default: { budget: { usd: 1, period: day } }, \
        few: { budget: { usd: 2, period: day } } }";
    let world = World::new(more, Some(&file)).await;
    let service = Mutex::new(world.stack.service());
    let spend = || {
        let spend = world.stack.handle().spend();
        let mut spent: Vec<_> = spend
            .iter()
            .map(|cap| (cap.cap.to_string(), cap.key.clone().unwrap_or_default(), cap.spent > Usd::ZERO))
            .collect();
        spent.sort();
        spent
    };
    let of = |cap: &str, key: &str, spent: bool| (cap.to_owned(), Arc::from(key), spent);
    for claims in [json!({"sub": "ann", "n": 1}), json!({"sub": "ann", "n": 2}), json!({"sub": "bob", "groups": "few"})]
    {
        call(Some(world.call(&claims).unwrap()), &service, LlmRequest::prompt("hello")).await.unwrap();
    }
    call(Some(world.show("sk-ci").unwrap()), &service, LlmRequest::prompt("hello")).await.unwrap();
    let expected = [of("limits default", "oidc:ann", true), of("limits few", "oidc:bob", true)];
    assert_eq!(spend(), expected);
    let before = world.stack.handle().spend();
    std::fs::write(&file.0, format!("keys:\n{}...\n", entry("cd", "sk-cd", ", budget: { usd: 3, period: day }")))
        .unwrap();
    world.keys.reload();
    let after = world.stack.handle().spend();
    assert!(before.iter().all(|cap| after.contains(cap)), "{before:?}; {after:?}");
    // A caller that has other limits goes on under theirs.
    let later = json!({"sub": "ann", "groups": "few", "iat": wall_clock::since_1970().as_secs() + 5});
    let caps = world.keys.allowance(&world.call(&later).unwrap(), None).caps;
    assert!(caps.is_empty(), "it has sent no request under them: {caps:?}");
    call(Some(world.call(&later).unwrap()), &service, LlmRequest::prompt("hello")).await.unwrap();
    let caps = world.keys.allowance(&world.call(&later).unwrap(), None).caps;
    assert_eq!(caps.iter().map(|cap| &*cap.cap).collect::<Vec<_>>(), ["limits few"]);
}

#[tokio::test]
async fn the_token_that_was_issued_last_says_what_its_caller_may() {
    let more = ", limits: { default: {}, few: { requests_per_minute: 1 } }, claims: { limits: groups }";
    let world = World::new(more, None).await;
    let now = wall_clock::since_1970().as_secs();
    let of = |groups: &str, ago: u64| json!({"sub": "ann", "groups": groups, "iat": now - ago});
    let rate = |claims: &Value| world.call(claims).unwrap().record.entry.requests_per_minute.map_or(0, NonZeroU32::get);
    let (old, later) = (of("none", 600), of("few", 60));
    assert_eq!([rate(&old), rate(&later), rate(&old), rate(&later)], [0, 1, 1, 1], "the old one brings nothing back");
    assert_eq!(rate(&of("none", 0)), 0);
}

/// Limits of two names may be the same today; a caller's spending counts under those that its token names.
#[tokio::test]
async fn a_caller_goes_on_to_limits_that_differ_by_name_alone() {
    let budget = "{ budget: { usd: 5, period: day } }";
    let more = format!(", limits: {{ default: {budget}, few: {budget} }}, claims: {{ limits: groups }}");
    let world = World::new(&more, None).await;
    let service = Mutex::new(world.stack.service());
    let now = wall_clock::since_1970().as_secs();
    for (groups, ago, cap) in [("none", 60, "limits default"), ("few", 0, "limits few"), ("none", 30, "limits few")] {
        let claims = json!({"sub": "ann", "groups": groups, "iat": now - ago});
        call(Some(world.call(&claims).unwrap()), &service, LlmRequest::prompt("hello")).await.unwrap();
        let caps = world.keys.allowance(&world.call(&claims).unwrap(), None).caps;
        assert_eq!(caps.iter().map(|cap| &*cap.cap).collect::<Vec<_>>(), [cap], "{claims}");
    }
}

/// A stolen key signs tokens for ever: they end with the key, though they were seen before.
#[tokio::test(start_paused = true)]
async fn a_token_ends_with_the_key_that_signed_it() {
    let mut world = World::new("", None).await;
    let key = Arc::new(Mutex::new(world.issuer.public_key()));
    let verifier = Arc::new(verifier_of(&world.issuer, &key));
    verifier.read_keys().await.unwrap();
    world.keys.tokens.as_mut().unwrap().verifier = verifier.clone();
    let year = wall_clock::since_1970().as_secs() + 365 * 24 * 60 * 60;
    let token = world.token(&json!({"sub": "eve", "exp": year}));
    for _ in 0..2 {
        assert!(world.show(&token).is_ok());
        tokio::time::advance(Duration::from_secs(600)).await;
        verifier.read_keys().await.unwrap();
    }
    lock(&key)["kid"] = "another".into();
    verifier.read_keys().await.unwrap();
    assert_eq!(world.show(&token).map(drop), Err(Denial::KeysAway));
    tokio::time::advance(Duration::from_secs(10)).await;
    verifier.read_keys().await.unwrap();
    assert_eq!(world.show(&token).map(drop), Err(Denial::Token(TokenError::UnknownKey)));
}

/// Callers with keys wait for their own store alone.
#[tokio::test(start_paused = true)]
async fn a_start_does_not_wait_for_a_provider_that_is_silent() {
    let mut world = World::new("", None).await;
    let silent =
        service_fn(|_: Request<RequestBody>| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let issuer = Issuer::new(world.issuer.url(), ["llm"]).unwrap().client(silent);
    world.keys.tokens.as_mut().unwrap().verifier = Arc::new(TokenVerifier::new(issuer));
    let begun = Instant::now();
    world.keys.begin().await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(world.call(&json!({"sub": "ann"})).map(drop), Err(Denial::KeysAway));
}

#[tokio::test]
async fn keys_stand_beside_tokens_and_a_key_of_the_callers_name_decides() {
    let text = format!(
        "keys:\n{}{}{}",
        entry("ci", "sk-ci", ""),
        entry("'oidc:bob'", "sk-of-bob", ", requests_per_minute: 1"),
        entry("'oidc:eve'", "sk-of-eve", ", paused: true"),
    );
    let file = Temporary::new("beside-tokens", &text);
    let world = World::new(", limits: { default: { requests_per_minute: 9 } }", Some(&file)).await;
    let rate = |key: &Key| key.record.entry.requests_per_minute.map(NonZeroU32::get);
    assert_eq!(world.show("sk-ci").map(|key| rate(&key)), Ok(None));
    assert_eq!(world.call(&json!({"sub": "ann"})).map(|key| rate(&key)), Ok(Some(9)));
    assert_eq!(world.call(&json!({"sub": "bob"})).map(|key| rate(&key)), Ok(Some(1)));
    let eve = world.token(&json!({"sub": "eve"}));
    assert_eq!(world.show(&eve).map(drop), Err(Denial::Paused("oidc:eve".into())));
    // A reload of the file may pause a caller, and let it in again.
    let ann = world.token(&json!({"sub": "ann"}));
    std::fs::write(&file.0, format!("{text}{}...\n", entry("'oidc:ann'", "sk-of-ann", ", paused: true"))).unwrap();
    world.keys.reload();
    assert_eq!(world.show(&ann).map(drop), Err(Denial::Paused("oidc:ann".into())));
    std::fs::write(&file.0, format!("{text}...\n")).unwrap();
    world.keys.reload();
    assert_eq!(world.show(&ann).map(|key| rate(&key)), Ok(Some(9)));
}

#[test]
fn a_mistake_in_the_limits_is_told_at_the_start() {
    for (more, problem) in [
        ("limits: { default: { requests_per_minutes: 6 } }", "limits.default: unknown field `requests_per_minutes`"),
        ("limits: { default: { name: ann } }", "`name` is for a key"),
        ("limits: { default: { hash: 'sha256:00' } }", "`hash` is for a key"),
        ("limits: { default: { features: [] } }", "an empty list of features"),
        ("limits: { default: { features: [unheard-of] } }", "unheard-of"),
        ("limits: { default: { budget: { usd: -1, period: day } } }", "0 or more, not -1"),
        ("limits: { default: { requests_per_minute: 0 } }", "limits.default"),
        ("algorithms: [HS256]", "not among the algorithms of public keys"),
        ("jwks: keys.json", "is not a URL"),
    ] {
        let issuer = "https://login.example.com";
        let text = format!("{STACK}gateway: {{ oidc: {{ issuer: '{issuer}', audience: llm, {more} }} }}\n");
        let config = Config::from_str(&text, Format::Yaml).unwrap();
        let told = Keys::check_tokens(&config).err().unwrap().to_string();
        assert!(told.contains("gateway.oidc") && told.contains(problem), "{more}: {told}");
    }
}
