//! The two forms that users already have behave as their words say, on virtual time, through the real protocols.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use steadfast::{
    BoxLlmService, ErrorKind, LlmError, LlmRequest, LlmResponse,
    ledger::Next,
    providers::{
        servers::KnownServer,
        simulated::{Fault, Simulated, SimulatedHandle},
    },
};
use steadfast_simulator::InProcess;
use steadfast_stack::{Config, Environment, Format, Provider, Stack, StackBuilder};
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

const SETTINGS: &str = r#"{
  "permissions": { "allow": ["Bash(ls:*)"] },
  "model": {
    "primaryModel": "claude-sonnet-4-5",
    "provider": "anthropic",
    "fallbackModels": [
      { "model": "gpt-4o", "provider": "openai" },
      { "model": "gemini-2.5-pro", "provider": "google" },
      { "model": "gpt-4o-mini", "provider": "openai" }
    ],
    "failover": {
      "timeoutMs": 30000,
      "triggerOnStatusCodes": [429, 500, 502, 503],
      "retriesBeforeFailover": 2,
      "primaryRecoveryCheckIntervalMs": 60000
    }
  }
}"#;

const PROVIDERS: &str = "
providers:
  - { name: openai, model: gpt-4o, priority: 2 }
  - { name: anthropic, model: claude-sonnet-4-5, priority: 1 }
  - { name: google, model: gemini-2.5-pro, priority: 3 }
fallback:
  on_error: [429, 500, 502, 503, timeout]
  max_retries: 2
  backoff: exponential
";

const SONNET: &str = "claude-sonnet-4-5";
const GPT: &str = "gpt-4o";
const GEMINI: &str = "gemini-2.5-pro";
const MINI: &str = "gpt-4o-mini";

/// The world outside: each provider's own address, and at each the models that it serves.
struct World {
    models: HashMap<&'static str, Simulated>,
}

impl World {
    fn new() -> Self {
        let model = |name| (name, Simulated::new(name).models([name]).reply(format!("I am {name}.")).seed(3));
        Self { models: [SONNET, GPT, GEMINI, MINI].map(model).into_iter().collect() }
    }

    fn handle(&self, model: &str) -> SimulatedHandle {
        self.models[model].handle()
    }

    fn calls(&self, model: &str) -> u64 {
        self.handle(model).stats().calls
    }

    /// Stacks that reach it, with these keys in the environment.
    fn builder<'a>(&self, keys: impl IntoIterator<Item = &'a str>) -> StackBuilder {
        let models = self.models.clone();
        let transport = service_fn(move |request: http::Request<Full<Bytes>>| {
            let models = models.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = http_body_util::BodyExt::collect(body).await.expect("a whole body").to_bytes();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let host = parts.uri.host().expect("an absolute URL");
                let (key, served) = match host {
                    "api.anthropic.com" => ("x-api-key", vec![SONNET]),
                    "api.openai.com" => ("authorization", vec![MINI, GPT]),
                    "generativelanguage.googleapis.com" => ("x-goog-api-key", vec![GEMINI]),
                    other => panic!("nobody is at {other}"),
                };
                let sent = parts.headers.get(key).and_then(|key| key.to_str().ok()).unwrap_or_default();
                assert!(sent.ends_with(&format!("key-of-{host}")), "{host} was sent {sent:?}");
                let asked = |model: &&str| text.contains(&format!("\"{model}\"")) || parts.uri.path().contains(*model);
                let model = served.into_iter().find(asked).expect("one of its own models");
                InProcess::new(models[model].clone()).call(http::Request::from_parts(parts, Full::new(bytes))).await
            }
        });
        let host = |name: &str| match name {
            "ANTHROPIC_API_KEY" => "key-of-api.anthropic.com",
            "OPENAI_API_KEY" => "key-of-api.openai.com",
            _ => "key-of-generativelanguage.googleapis.com",
        };
        let environment: Environment = keys.into_iter().map(|name| (name, host(name))).collect();
        Stack::builder().environment(environment).transport(transport).seed(9)
    }

    fn stack(&self, text: &str, format: Format) -> Stack {
        let config = Config::from_str(text, format).unwrap_or_else(|error| panic!("{error}"));
        self.builder(KEYS).build(config).unwrap_or_else(|error| panic!("{error}"))
    }

    fn settings(&self) -> Stack {
        self.stack(SETTINGS, Format::Json)
    }

    fn providers(&self) -> Stack {
        self.stack(PROVIDERS, Format::Yaml)
    }
}

const KEYS: [&str; 3] = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"];

async fn ask(llm: &BoxLlmService) -> Result<LlmResponse, LlmError> {
    llm.clone().oneshot(LlmRequest::prompt("Who are you?")).await
}

/// Returns the answer, which names the model.
async fn answer(llm: &BoxLlmService) -> String {
    ask(llm).await.unwrap_or_else(|error| panic!("{error}")).text().await.expect("the whole answer")
}

fn i_am(model: &str) -> String {
    format!("I am {model}.")
}

fn status(status: u16) -> Fault {
    match status {
        429 => Fault::RateLimited { retry_after: None },
        500 => Fault::ServerError,
        503 => Fault::Unavailable,
        529 => Fault::Overloaded,
        other => Fault::Status(other),
    }
}

#[tokio::test(start_paused = true)]
async fn a_listed_status_goes_to_the_next_model_and_no_other_does() {
    for (form, listed) in [("settings", [429, 500, 502, 503, 529]), ("providers", [429, 500, 502, 503, 529])] {
        for code in [400, 401, 404, 408, 413, 422, 429, 500, 501, 502, 503, 504, 529] {
            let world = World::new();
            let llm = if form == "settings" { world.settings() } else { world.providers() }.service();
            world.handle(SONNET).fail(status(code));
            let result = ask(&llm).await;
            // A refused key is this provider's, a page is not the API's word, and one failure of a server stands for
            // all.
            match listed.contains(&code) || matches!(code, 401 | 404 | 413 | 501 | 504) {
                true => {
                    let answer = result.unwrap_or_else(|error| panic!("{form}, {code}: {error}"));
                    assert_eq!(answer.served_by().model, Some(GPT), "{form}, {code}");
                }
                // A provider's own time that is over is a failure of its server too.
                false if code == 408 => {
                    assert_eq!(result.unwrap().served_by().model, Some(GPT), "{form}, {code}");
                }
                // Another model is asked whether it sees the mistake too.
                false if matches!(code, 400 | 422) => {
                    assert_eq!(result.unwrap().served_by().model, Some(GPT), "{form}, {code}");
                }
                false => {
                    let error = result.map(drop).expect_err(&format!("what is not listed stops: {form}, {code}"));
                    assert_eq!(error.status().map(|status| status.as_u16()), Some(code), "{form}: {error}");
                    assert_eq!(world.calls(GPT), 0, "{form}, {code}");
                }
            }
        }
    }
}

/// The forms as their users copy them: with 429 and 503, and without 529.
const COPIED: [(&str, Format); 2] =
    [(include_str!("../forms/settings.json"), Format::Json), (include_str!("../forms/providers.yaml"), Format::Yaml)];

#[tokio::test(start_paused = true)]
async fn an_overload_is_one_whatever_its_status() {
    for (text, format) in COPIED {
        for told in [529, 503, 429] {
            let world = World::new();
            let llm = world.stack(text, format).service();
            world.handle(SONNET).fail(if told == 429 { Fault::ComeBackLater } else { status(told) });
            for _ in 0..4 {
                assert_eq!(answer(&llm).await, i_am(GPT), "{told}");
                sleep(SECOND / 10).await;
            }
            assert_eq!(world.calls(GPT), 4);
            assert!(world.calls(SONNET) <= 5, "the circuit opens: {} calls", world.calls(SONNET));
        }
        let explained = Config::from_str(text, format).unwrap().explain();
        let said =
            "statuses: 429 and 503 stand for every overload: with 529, and inside of a stream that began with 200";
        assert!(explained.lines().any(|line| line == said), "{explained}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_overload_inside_of_a_stream_that_began_with_200_goes_on_too() {
    for (text, format) in COPIED {
        let world = World::new();
        let llm = world.stack(text, format).service();
        world.handle(SONNET).fail(Fault::ErrorEventAfter(0));
        let asked = LlmRequest::prompt("Who are you?").with_stream(true);
        let response = llm.clone().oneshot(asked).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(response.served_by().model, Some(GPT));
        assert_eq!(response.text().await.unwrap(), i_am(GPT));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_two_models_call_wrong_is_wrong() {
    for (text, format) in COPIED {
        let world = World::new();
        let llm = world.stack(text, format).service();
        for model in [SONNET, GPT] {
            world.handle(model).fail(Fault::BadRequest);
        }
        for asked in 1..=9 {
            let error = ask(&llm).await.unwrap_err();
            assert_eq!((error.kind(), error.status().unwrap().as_u16()), (ErrorKind::InvalidRequest, 400));
            assert_eq!((world.calls(SONNET), world.calls(GPT), world.calls(GEMINI)), (asked, asked, 0));
        }
    }
}

/// No status of a list can name these: they show in what came before.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_after_it_has_worked_is_an_outage() {
    for (text, format) in COPIED {
        let world = World::new();
        let llm = world.stack(text, format).service();
        assert_eq!(answer(&llm).await, i_am(SONNET));
        world.handle(SONNET).fail(Fault::Unauthorized);
        assert_eq!(answer(&llm).await, i_am(GPT));
        world.handle(SONNET).heal();
        sleep(61 * SECOND).await;
        assert_eq!(answer(&llm).await, i_am(SONNET));
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_edge_tells_of_the_server_behind_it_goes_on() {
    for (text, format) in COPIED {
        for code in [520, 522, 524, 530] {
            let world = World::new();
            world.handle(SONNET).fail(status(code));
            assert_eq!(answer(&world.stack(text, format).service()).await, i_am(GPT), "{code}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_model_is_not_closed_to_all_by_one_requests_bad_luck() {
    let world = World::new();
    let text =
        include_str!("../forms/settings.json").replace("\"retriesBeforeFailover\": 2", "\"retriesBeforeFailover\": 0");
    let llm = world.stack(&text, Format::Json).service();
    world.handle(SONNET).fail(Fault::Overloaded);
    assert_eq!(answer(&llm).await, i_am(GPT));
    world.handle(GPT).fail_next(1, &Fault::ServerError);
    ask(&llm).await.unwrap_err();
    for _ in 0..10 {
        assert_eq!(answer(&llm).await, i_am(GPT), "it is up");
    }
    assert_eq!(world.calls(SONNET), 1, "the primary is left alone after its one failure");
}

#[tokio::test(start_paused = true)]
async fn when_all_were_down_the_last_model_answers_as_soon_as_it_is_up() {
    for (text, format) in COPIED {
        let world = World::new();
        let llm = world.stack(text, format).service();
        for model in [SONNET, GPT, GEMINI] {
            world.handle(model).fail(Fault::Unavailable);
        }
        for _ in 0..20 {
            ask(&llm).await.unwrap_err();
        }
        for model in [GPT, GEMINI] {
            world.handle(model).heal();
        }
        let last = if format == Format::Json { GPT } else { GEMINI };
        assert_eq!(answer(&llm).await, i_am(last));
    }
}

#[test]
fn the_forms_are_those_that_the_documentation_prints() {
    let documented: String = include_str!("../../crates/stack/src/import/mod.rs")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("//!")?.strip_prefix(' ').unwrap_or_default()))
        .fold(String::new(), |text, line| text + line + "\n");
    for (text, _) in COPIED {
        assert!(documented.contains(text), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_is_retried_so_often_before_the_next_is_asked() {
    for form in ["settings", "providers"] {
        let world = World::new();
        let llm = if form == "settings" { world.settings() } else { world.providers() }.service();
        world.handle(SONNET).fail(Fault::ServerError);
        let response = ask(&llm).await.unwrap();
        let waits: Vec<_> = response
            .attempts()
            .iter()
            .map(|attempt| match attempt.next {
                Next::Retried { .. } => "retried",
                Next::FailedOver => "failed over",
                _ => "?",
            })
            .collect();
        assert_eq!(waits, ["retried", "retried", "failed over"], "{form}");
        assert_eq!((world.calls(SONNET), world.calls(GPT)), (3, 1), "{form}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_succeeds_stays_with_the_model() {
    for form in ["settings", "providers"] {
        let world = World::new();
        let llm = if form == "settings" { world.settings() } else { world.providers() }.service();
        world.handle(SONNET).fail_next(2, &Fault::Unavailable);
        assert_eq!(answer(&llm).await, i_am(SONNET), "{form}");
        assert_eq!((world.calls(SONNET), world.calls(GPT)), (3, 0), "{form}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_after_so_many_milliseconds_and_counts_like_a_listed_status() {
    let world = World::new();
    let llm = world.settings().service();
    world.handle(SONNET).fail(Fault::Hang);
    let begun = Instant::now();
    assert_eq!(answer(&llm).await, i_am(GPT));
    let took = begun.elapsed();
    // Two silences weigh as five failures: the third attempt finds the circuit open.
    assert!(took >= 60 * SECOND && took < 110 * SECOND, "twice 30 s and the waits between: {took:?}");
    assert_eq!(world.calls(SONNET), 2);

    let quick =
        SETTINGS.replace("30000", "2500").replace("\"retriesBeforeFailover\": 2", "\"retriesBeforeFailover\": 0");
    let (world, begun) = (World::new(), Instant::now());
    let llm = world.stack(&quick, Format::Json).service();
    world.handle(SONNET).fail(Fault::Hang);
    assert_eq!(answer(&llm).await, i_am(GPT));
    assert_eq!((begun.elapsed(), world.calls(SONNET)), (Duration::from_millis(2500), 1));
}

#[tokio::test(start_paused = true)]
async fn the_primary_is_looked_at_once_in_each_interval_while_it_is_away() {
    let world = World::new();
    let llm = world.settings().service();
    world.handle(SONNET).fail(Fault::ServerError);
    assert_eq!(answer(&llm).await, i_am(GPT));
    let (away, first) = (Instant::now(), world.calls(SONNET));
    // Ten minutes, a request every second.
    for _ in 0..600 {
        sleep(SECOND).await;
        assert_eq!(answer(&llm).await, i_am(GPT));
    }
    let looks = world.calls(SONNET) - first;
    assert!((9..=11).contains(&looks), "{looks} looks in ten intervals");
    world.handle(SONNET).heal();
    let healed = Instant::now();
    while answer(&llm).await != i_am(SONNET) {
        sleep(SECOND).await;
    }
    assert!(healed.elapsed() <= 61 * SECOND, "back within one interval: {:?}", healed.elapsed());
    assert!(away.elapsed() > 600 * SECOND);

    // Another interval, in its own words.
    let (world, sooner) = (World::new(), SETTINGS.replace("60000", "5000"));
    let llm = world.stack(&sooner, Format::Json).service();
    world.handle(SONNET).fail_next(3, &Fault::ServerError);
    assert_eq!(answer(&llm).await, i_am(GPT));
    sleep(4900 * Duration::from_millis(1)).await;
    assert_eq!(answer(&llm).await, i_am(GPT));
    sleep(200 * Duration::from_millis(1)).await;
    assert_eq!(answer(&llm).await, i_am(SONNET));
}

#[tokio::test(start_paused = true)]
async fn every_fallback_has_its_turn_in_order_with_all_its_retries() {
    let world = World::new();
    let llm = world.settings().service();
    for model in [SONNET, GPT, GEMINI] {
        world.handle(model).fail(Fault::Unavailable);
    }
    assert_eq!(answer(&llm).await, i_am(MINI));
    assert_eq!([SONNET, GPT, GEMINI, MINI].map(|model| world.calls(model)), [3, 3, 3, 1]);

    let world = World::new();
    let llm = world.providers().service();
    for model in [SONNET, GPT] {
        world.handle(model).fail(Fault::Unavailable);
    }
    assert_eq!(answer(&llm).await, i_am(GEMINI));
    assert_eq!([SONNET, GPT, GEMINI].map(|model| world.calls(model)), [3, 3, 1], "by priority");
}

#[tokio::test(start_paused = true)]
async fn any_number_of_fallbacks_is_taken() {
    for fallbacks in [0, 1, 30] {
        let models: Vec<String> =
            (0..fallbacks).map(|number| format!(r#"{{ "model": "gpt-{number}", "provider": "openai" }}"#)).collect();
        let text = format!(
            r#"{{ "model": {{ "primaryModel": "{SONNET}", "provider": "anthropic", "fallbackModels": [{}],
                 "failover": {{ "triggerOnStatusCodes": [500], "retriesBeforeFailover": 0 }} }} }}"#,
            models.join(", ")
        );
        let config = Config::from_str(&text, Format::Json).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.tiers.len(), 1 + fallbacks);
        let down: Vec<Simulated> =
            (0..=fallbacks).map(|number| Simulated::new(format!("{number}")).fault_mix(Fault::ServerError)).collect();
        let calls: Vec<_> = down.iter().map(Simulated::handle).collect();
        let names: Vec<String> = config.tiers.iter().map(|tier| tier.name.clone()).collect();
        let mut builder = World::new().builder(KEYS);
        for (name, leaf) in names.into_iter().zip(down) {
            builder = builder.leaf(name, leaf);
        }
        let llm = builder.build(config).unwrap().service();
        let error = ask(&llm).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server);
        assert!(calls.iter().all(|calls| calls.stats().calls == 1), "each was asked once");
    }
}

#[test]
fn keys_come_from_the_usual_variables_and_each_that_is_missing_is_named() {
    for (text, format) in [(SETTINGS, Format::Json), (PROVIDERS, Format::Yaml)] {
        let config = || Config::from_str(text, format).unwrap();
        assert!(World::new().builder(KEYS).build(config()).is_ok());
        for missing in KEYS {
            let there = KEYS.into_iter().filter(|name| *name != missing);
            let error = World::new().builder(there).build(config()).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waits_grow_as_the_list_of_providers_says() {
    for (backoff, growing) in [("exponential", true), ("fixed", false)] {
        let world = World::new();
        let text =
            PROVIDERS.replace("backoff: exponential", &format!("backoff: {backoff}")) + "retry: { jitter: none }\n";
        let llm = world.stack(&text, Format::Yaml).service();
        world.handle(SONNET).fail(Fault::ServerError);
        let waits: Vec<Duration> = ask(&llm)
            .await
            .unwrap()
            .attempts()
            .iter()
            .filter_map(|attempt| match attempt.next {
                Next::Retried { after } => Some(after),
                _ => None,
            })
            .collect();
        let [first, second] = waits[..] else { panic!("{waits:?}") };
        assert_eq!(second > first, growing, "{backoff}: {waits:?}");
        assert_eq!(second, if growing { first * 2 } else { first }, "{backoff}");
    }
}

/// Returns the address of a first request, and the key that it brings along.
async fn goes_to(text: &str, format: Format, environment: &[(&str, &str)]) -> (String, String) {
    let seen = Arc::new(Mutex::new(None));
    let (keep, model) = (seen.clone(), Simulated::new("any"));
    let transport = service_fn(move |request: http::Request<Full<Bytes>>| {
        let header = |name: &str| request.headers().get(name).and_then(|key| key.to_str().ok()).map(str::to_owned);
        let key = ["x-api-key", "authorization", "x-goog-api-key"].into_iter().find_map(header).unwrap_or_default();
        *keep.lock().unwrap() = Some((request.uri().to_string(), key));
        InProcess::new(model.clone()).call(request)
    });
    let environment: Environment = environment.iter().copied().collect();
    let config = Config::from_str(text, format).unwrap_or_else(|error| panic!("{error}"));
    let stack = Stack::builder().environment(environment).transport(transport).build(config);
    // The other end's reply does not matter.
    let _ = ask(&stack.unwrap_or_else(|error| panic!("{error}")).service()).await;
    let (uri, key) = seen.lock().unwrap().take().expect("a request is sent");
    (uri, key)
}

#[tokio::test(start_paused = true)]
async fn a_server_of_the_environment_is_heeded_and_has_the_key_of_the_environment() {
    let settings = r#"{ "model": { "primaryModel": "MODEL", "provider": "PROVIDER" } }"#;
    for (provider, variable, url, path, name, key) in [
        ("anthropic", "ANTHROPIC_BASE_URL", "https://proxy.test/a", "/a/v1/messages", "ANTHROPIC_API_KEY", "k"),
        ("openai", "OPENAI_BASE_URL", "http://proxy.test/v1", "/v1/chat/completions", "OPENAI_API_KEY", "Bearer k"),
        ("google", "GEMINI_BASE_URL", "https://proxy.test", "/v1beta/models/m:generateContent", "GEMINI_API_KEY", "k"),
        (
            "google",
            "GOOGLE_GEMINI_BASE_URL",
            "https://proxy.test",
            "/v1beta/models/m:generateContent",
            "GEMINI_API_KEY",
            "k",
        ),
    ] {
        let text = settings.replace("MODEL", "m").replace("PROVIDER", provider);
        let (uri, sent) = goes_to(&text, Format::Json, &[(variable, url), (name, "k")]).await;
        assert!(uri.contains("//proxy.test/") && uri.ends_with(path), "{variable}: {uri}");
        assert_eq!(sent, key, "{variable}");
        let (_, sent) = goes_to(&text, Format::Json, &[(variable, url)]).await;
        assert_eq!(sent, "", "{variable}: a server of one's own may need none");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_named_for_a_server_stays_here() {
    let tier = |more: &str| format!("tiers: [{{ name: main, provider: openai, model: m{more} }}]");
    let environment = [("OPENAI_API_KEY", "k"), ("MINE", "m"), ("OPENAI_BASE_URL", "https://other.test/v1")];
    for (more, host, key) in [
        (", base_url: 'https://elsewhere.test/v1'", "//elsewhere.test/", ""),
        (", base_url: 'https://api.openai.com.elsewhere.test/v1'", "//api.openai.com.elsewhere.test/", ""),
        (", base_url: 'http://api.openai.com/v1'", "//api.openai.com/", ""),
        (", base_url: 'https://api.openai.com/v1'", "//api.openai.com/", "Bearer k"),
        (", base_url: 'https://elsewhere.test/v1', api_key: '${MINE}'", "//elsewhere.test/", "Bearer m"),
        ("", "//other.test/", "Bearer k"),
    ] {
        let (uri, sent) = goes_to(&tier(more), Format::Yaml, &environment).await;
        assert!(uri.contains(host), "{more}: {uri}");
        assert_eq!(sent, key, "{more}");
    }
}

/// A server of the library's table is a provider in both forms, by each of its names: an `openai` tier at its address,
/// with the variable that usually holds its key.
#[test]
fn a_server_of_the_table_is_a_provider() {
    let mut seen = 0;
    for server in KnownServer::all().iter().filter(|server| !server.is_vendors()) {
        let key = server.key_variables.first().map(|name| format!("${{{name}}}"));
        let spellings =
            server.names.iter().flat_map(|name| [(*name).to_owned(), name.replace('_', "-"), name.to_uppercase()]);
        for name in spellings {
            let list = format!("providers: [{{ name: {name}, model: m }}, {{ name: openai, model: gpt-4o }}]");
            let settings = format!(
                r#"{{"model": {{"primaryModel": "m", "provider": "{name}", "fallbackModels": [{{"model": "gpt-4o", "provider": "openai"}}]}}}}"#
            );
            for (text, format, tier) in [(list, Format::Yaml, &*name), (settings, Format::Json, "m")] {
                seen += 1;
                if !server.has_whole_address() {
                    let error = Config::from_str(&text, format).unwrap_err().to_string();
                    let address = server.base_url.replace("https://", "https://YOUR-OWN.");
                    assert!(error.contains(&format!("write `openai` here, and `base_url: {address}`")), "{error}");
                    continue;
                }
                let config = Config::from_str(&text, format).unwrap_or_else(|error| panic!("{text}: {error}"));
                let first = &config.tiers[0];
                assert_eq!((first.name.as_str(), first.provider), (tier, Provider::OpenAi), "{text}");
                assert_eq!(first.base_url.as_deref(), Some(server.base_url), "{text}");
                let named = first.api_key.as_ref().map(|key| format!("${{{}}}", key.name()));
                assert_eq!(named, key, "{text}");
                assert_eq!((&config.tiers[1].base_url, config.tiers[1].api_key.is_none()), (&None, true), "{text}");
            }
        }
    }
    assert!(seen > 150, "{seen}");
}

/// A key goes where its server is, and nowhere else.
#[test]
fn a_servers_usual_key_stays_away_from_another_address() {
    for (address, has_key) in [
        ("https://api.groq.com/openai/v1", true),
        ("https://eu.api.groq.com/openai/v1", true),
        ("https://proxy.example/v1", false),
        ("https://api.groq.com.proxy.example/v1", false),
        ("https://api.deepseek.com/v1", false),
        ("http://api.groq.com/openai/v1", false),
        ("https://proxy.example/?at=@api.groq.com", false),
        ("HTTPS://API.groq.com/openai/v1", true),
    ] {
        let text = format!("providers: [{{ name: groq, model: m, base_url: '{address}' }}]");
        let config = Config::from_str(&text, Format::Yaml).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(config.tiers[0].base_url.as_deref(), Some(address));
        assert_eq!(config.tiers[0].api_key.is_some(), has_key, "{address}");
    }
}

#[test]
fn a_files_own_address_and_key_win_over_the_tables() {
    let text = "providers: [{ name: groq, model: m, base_url: 'https://proxy.example/v1', api_key: '${OURS}' }]";
    let tier = Config::from_str(text, Format::Yaml).unwrap().tiers.remove(0);
    assert_eq!(tier.base_url.as_deref(), Some("https://proxy.example/v1"));
    assert_eq!(tier.api_key.unwrap().name(), "OURS");
    for text in
        ["providers: [{ name: grok-like, model: m }]", r#"{"model": {"primaryModel": "m", "provider": "grok-like"}}"#]
    {
        let error = Config::from_str(text, Format::Yaml).unwrap_err().to_string();
        assert!(error.contains("grok-like") && error.contains("base_url"), "{error}");
    }
}
