//! The alerts of an outage, and what a webhook may do without anybody waiting for it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::outage::{BEFORE, LASTS, MINUTE, Stack, backup};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use steadfast::{ErrorKind, Event, providers::simulated::Fault};
use steadfast_subscribers::alerts::{
    Alert, AlertEngine, AlertSink, AlertState, Alerts, Rule, Rules, Severity, Webhook,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep},
};
use tower::{BoxError, Service, service_fn};

/// The messages that were sent.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Alert>>>);

impl Heard {
    fn sink(&self) -> impl FnMut(&Alert) + Send + 'static {
        let heard = self.0.clone();
        move |alert| heard.lock().unwrap().push(alert.clone())
    }

    fn lines(&self) -> Vec<String> {
        let line = |alert: &Alert| format!("{} {} {}", alert.rule, alert.key, alert.state);
        self.0.lock().unwrap().iter().map(line).collect()
    }
}

/// A webhook that keeps what it is sent.
type Messages = Arc<Mutex<Vec<Value>>>;

fn keeping(
    messages: &Messages,
) -> impl Service<Request<Full<Bytes>>, Response = Response<()>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let messages = messages.clone();
    service_fn(move |request: Request<Full<Bytes>>| {
        let messages = messages.clone();
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            messages.lock().unwrap().push(serde_json::from_slice(&body)?);
            Ok(Response::new(()))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_incident_of_2026_06_15_is_one_switch_one_all_clear_one_alert_and_its_resolution() {
    let stack = Stack::incident();
    let (heard, messages) = (Heard::default(), Messages::default());
    let webhook = Webhook::slack("https://hooks.example/T0").unwrap().transport(keeping(&messages)).start();
    let _subscription = Alerts::new(Rules::new()).to(heard.sink()).to(webhook.clone()).follow(&stack.events);
    let switches = Arc::new(Mutex::new(Vec::new()));
    let mut events = stack.events.subscribe();
    let kept = switches.clone();
    let listening = tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            if matches!(event, Event::ModelSwitched { .. } | Event::ModelRecovered { .. }) {
                kept.lock().unwrap().push(event);
            }
        }
    });
    let report = stack.run(BEFORE + LASTS + MINUTE * 4, false).await;
    sleep(MINUTE).await;
    listening.abort();
    assert_eq!(report.lost, 0);
    let switches = switches.lock().unwrap().clone();
    let [Event::ModelSwitched { at: switched, .. }, Event::ModelRecovered { after, .. }] = &switches[..] else {
        panic!("one switch and one all-clear: {switches:?}");
    };

    assert_eq!(heard.lines(), ["failover sonnet firing", "failover sonnet resolved"]);
    let heard = heard.0.lock().unwrap();
    // Why: what the first request that gpt answered had met.
    assert_eq!(heard[0].summary, "gpt serves in place of sonnet (server 500: internal server error)");
    assert_eq!(heard[0].severity, Severity::Warning);
    assert!(heard[0].at - *switched < Duration::from_millis(10), "at once");
    assert!(
        heard[1].summary.starts_with("sonnet serves again in place of gpt, after 2 h 36 min"),
        "{}",
        heard[1].summary
    );
    assert_eq!(heard[1].since, heard[0].at);
    assert!((LASTS..LASTS + MINUTE + Duration::from_secs(1)).contains(after), "{after:?}");

    let texts: Vec<Value> = messages.lock().unwrap().iter().map(|message| message["text"].clone()).collect();
    let said = ["Warning", "Resolved"].into_iter().zip(heard.iter());
    let said: Vec<_> = said.map(|(word, alert)| format!("*{word}:* {} [steadfast]", alert.summary)).collect();
    assert_eq!(texts, said);
    assert_eq!((webhook.sent(), webhook.failed(), webhook.dropped()), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn when_every_tier_fails_it_is_said_at_once_and_when_it_is_over() {
    // Both are down for ten minutes.
    let lasts = MINUTE * 10;
    let stack = Stack::with_outage(lasts, backup().outage(BEFORE, BEFORE + lasts, Fault::Overloaded));
    let heard = Heard::default();
    let _subscription = Alerts::new(Rules::new()).to(heard.sink()).follow(&stack.events);
    let report = stack.run(BEFORE + lasts + MINUTE * 90, false).await;
    assert!(report.lost > 0);
    let alerts = heard.0.lock().unwrap().clone();
    let of = |rule: Rule| alerts.iter().filter(move |alert| alert.rule == rule);
    for rule in [Rule::AllTiersFailed, Rule::FailureRate] {
        let states: Vec<AlertState> = of(rule).map(|alert| alert.state).collect();
        assert_eq!(states, [AlertState::Firing, AlertState::Resolved], "{rule}");
        assert_eq!(of(rule).next().unwrap().severity, Severity::Critical);
    }
    let first = of(Rule::AllTiersFailed).next().unwrap().at - stack.start;
    assert!(first < BEFORE + Duration::from_secs(20), "{first:?}");
    let over = of(Rule::AllTiersFailed).next_back().unwrap().at - stack.start;
    assert!((BEFORE + lasts + MINUTE * 4..BEFORE + lasts + MINUTE * 7).contains(&over), "{over:?}");
    assert!(of(Rule::Failovers).next().is_none(), "{alerts:?}");
}

#[tokio::test(start_paused = true)]
async fn webhooks_that_hang_or_fail_slow_no_answer() {
    let quiet = Stack::incident().run(BEFORE + MINUTE * 10, false).await;

    let stack = Stack::incident();
    let hangs = service_fn(|_: Request<Full<Bytes>>| std::future::pending::<Result<Response<()>, Infallible>>());
    let fails = service_fn(|_: Request<Full<Bytes>>| async {
        let response = Response::builder().status(500).body(()).expect("a status");
        Ok::<_, Infallible>(response)
    });
    let hook = || Webhook::slack("https://hooks.example/T0").unwrap().capacity(2);
    let (hangs, fails) = (hook().transport(hangs).start(), hook().transport(fails).start());
    let messages = Messages::default();
    let works = hook().transport(keeping(&messages)).start();
    // The same alert again every second, the loudest setting.
    let rules = Rules::new().repeat(Duration::from_secs(1)).unwrap();
    let alerts = Alerts::new(rules).to(hangs.clone()).to(fails.clone()).to(works.clone());
    let _subscription = alerts.follow(&stack.events);
    let loud = stack.run(BEFORE + MINUTE * 10, false).await;

    assert_eq!((loud.lost, loud.requests, &loud.served), (0, quiet.requests, &quiet.served));
    assert_eq!(loud.slowest, quiet.slowest, "to the nanosecond, in virtual time");
    assert!(works.sent() > 30 && works.failed() == 0, "{works:?}");
    assert!(hangs.sent() == 0 && hangs.dropped() > 0, "{hangs:?}");
    assert!(fails.sent() == 0 && fails.failed() > 0, "{fails:?}");
}

/// Over a real connection, with the crate's own client.
#[tokio::test]
async fn a_webhook_is_called_over_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/services/T0?key=k", listener.local_addr().unwrap());
    let mut webhook = Webhook::json(&url).unwrap().authorization("Bearer k2").unwrap().start();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"}") {
            stream.read_buf(&mut heard).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        String::from_utf8(heard).unwrap()
    });
    let mut engine = AlertEngine::new(Rules::new());
    let failed = Event::AllTiersFailed { feature: None, reason: ErrorKind::Timeout, at: Instant::now() };
    for seconds in [0, 10] {
        for alert in engine.on(&failed, Instant::now() + Duration::from_secs(seconds)) {
            webhook.alert(&alert);
        }
    }
    let request = serving.await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /services/T0?key=k HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer k2") && head.contains("content-type: application/json"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["rule"], &body["severity"]), (&"all_tiers_failed".into(), &"critical".into()));
    while webhook.sent() == 0 {
        tokio::task::yield_now().await;
    }
}
