//! Pages for those who watch: bounded however often they look, true, and without a word of another key.

use std::{collections::VecDeque, fmt::Write as _, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use steadfast::providers::simulated::{Fault, Simulated, SimulatedHandle};
use steadfast_stack::{Environment, Format, Loader, Stack};
use tokio::time::sleep;
use tower::ServiceExt;

use super::harness::*;
use crate::{
    api::{
        Catalog, GatewayState, Keys, LogFormat,
        observe::{LogOptions, Observer, Options},
    },
    limits::Settings,
};

/// A gateway with all that it shows, and the handles of its first two tiers.
struct Watched {
    service: crate::Gateway,
    paths: Router,
    tiers: Vec<SimulatedHandle>,
    _observer: Observer,
    _stack: Stack,
}

impl Watched {
    /// Begins with so many tiers `t0`, `t1` .. of one chain, and more of the file.
    fn begin(tiers: usize, more: &str, keys: Option<Keys>) -> Self {
        let mut file = String::from("tiers:\n");
        for tier in 0..tiers {
            writeln!(file, "  - {{ name: t{tier}, provider: simulated, model: gpt-4o }}").unwrap();
        }
        let config = Loader::new().environment(Environment::default()).text(&format!("{file}{more}"), Format::Yaml);
        let mut builder = Stack::builder().seed(5);
        let mut handles = Vec::new();
        for tier in 0..tiers {
            let provider = Simulated::new(format!("t{tier}")).latency(Duration::from_millis(20));
            handles.push(provider.handle());
            builder = builder.leaf(format!("t{tier}"), provider);
        }
        let stack = builder.build(config.unwrap()).unwrap();
        let log = LogOptions { filter: "off", format: LogFormat::Text, file: None };
        let observer = Observer::begin(&stack.handle(), Options { log, otlp_endpoint: None }).unwrap();
        let state = GatewayState::new(stack.service(), Catalog::Stack(stack.handle()), keys, Settings::default());
        let gateway = Arc::new(state);
        let paths = observer.router(gateway.clone());
        Self { service: crate::Gateway::over(gateway), paths, tiers: handles, _observer: observer, _stack: stack }
    }

    async fn ask(&self, headers: &[(&str, &str)]) -> Answer {
        let mut body = hello(false);
        body["model"] = "gpt-4o".into();
        through(self.service.clone(), "POST", CHAT, &typed(CHAT, headers), body.to_string()).await
    }

    /// Looks at a path that needs no key.
    async fn look(&self, path: &str) -> String {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let body = self.paths.clone().oneshot(request).await.unwrap().into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_polled_a_thousand_times_a_second_says_who_serves() {
    let features = (0..1000).fold(String::from("features:\n"), |mut text, feature| {
        writeln!(text, "  f{feature}: {{ concurrency: 5 }}").unwrap();
        text
    });
    let watched = Watched::begin(300, &features, None);
    // The tier of the last answer and the number of answers, at each of the last 100 ms.
    let (mut asked, mut last, mut longest, mut lately) = (0, String::new(), 0, VecDeque::new());
    for millisecond in 0..300 {
        if millisecond == 100 {
            watched.tiers[0].fail(Fault::Unavailable);
        }
        if millisecond % 20 == 0 {
            let answer = watched.ask(&[]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            last = answer.header("x-steadfast-tier").unwrap().to_owned();
            asked += 1;
        }
        sleep(Duration::from_millis(1)).await;
        let status: Value = {
            let text = watched.look("/status").await;
            longest = longest.max(text.len());
            serde_json::from_str(&text).unwrap()
        };
        lately.push_front((last.clone(), asked));
        lately.truncate(100);
        let told = (status["activeTier"].as_str().unwrap(), status["requests"]["ended"].as_u64().unwrap());
        assert!(lately.iter().any(|(tier, asked)| told == (&**tier, *asked)), "{told:?} at {millisecond}: {lately:?}");
        let state = if told.0 == "t0" { "primary" } else { "fallback" };
        assert_eq!((&status["state"], &status["requests"]["failed"]), (&state.into(), &0.into()));
    }
    assert_eq!((asked, &*last), (15, "t1"));
    assert!(longest < 300 * 1024, "less than a kilobyte for each tier: {longest}");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_key_can_read_names_another() {
    const SECRETS: [&str; 4] = ["team-one", "sk-one", "session-of-one", "request-of-one"];
    let keys = [entry("team-one", "sk-one", ", requests_per_minute: 3"), entry("team-two", "sk-two", "")];
    let more =
        "features: { shared: { concurrency: 1 } }\nbudgets: [{ name: each, usd: 0.01, period: day, each_key: true }]\n";
    let watched = Watched::begin(2, more, Some(keys_of(&keys)));
    let one = [
        ("x-api-key", "sk-one"),
        ("x-steadfast-session", "session-of-one"),
        ("x-steadfast-feature", "shared"),
        ("x-client-request-id", "request-of-one"),
    ];
    let two = ("x-api-key", "sk-two");
    let at_the_same = [two, ("x-steadfast-feature", "shared")];
    let mut ids = Vec::new();
    let mut read = Vec::new();
    for round in 0..12 {
        // Served, from another tier, refused by limits, and failed.
        match round {
            2 => watched.tiers[0].fail(Fault::Unavailable),
            6 => watched.tiers[1].fail(Fault::ServerError),
            9 => watched.tiers.iter().for_each(SimulatedHandle::heal),
            _ => {}
        }
        let (first, second) = tokio::join!(watched.ask(&one), watched.ask(&at_the_same));
        ids.extend(first.header("x-steadfast-request-id").map(str::to_owned));
        read.push(format!("{second:?}"));
        sleep(Duration::from_secs(5)).await;
    }
    assert!(read.iter().any(|answer| answer.contains("status: 200")) && ids.len() == 12, "{read:?}");
    let paths =
        ["/requests", "/requests?key=team-one", "/v1/models", "/v1/nothing", "/v1beta/models"].map(str::to_owned);
    for path in paths.into_iter().chain(ids.iter().map(|id| format!("/requests/{id}"))) {
        let answer = through(watched.service.clone(), "GET", &path, &[two], String::new()).await;
        // The path itself says the name.
        read.push(format!("{answer:?}").replace(&path, "").replace(path.rsplit('/').next().unwrap(), ""));
    }
    for path in ["/status", "/overview", "/"] {
        read.push(watched.look(path).await);
    }
    for (text, secret) in read.iter().flat_map(|text| SECRETS.map(|secret| (text, secret))) {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    // Names are on the page of metrics, which `THREATS.md` leaves to operators; keys and callers' words are not.
    let metrics = watched.look("/metrics").await;
    for secret in &SECRETS[1..] {
        assert!(!metrics.contains(secret), "{secret}: {metrics}");
    }
}
