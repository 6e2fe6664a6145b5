//! The events, the logs and the status of an incident, and the absence of private words in every log.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::scenario::{Behaviour, Calls, leaf, run};
use serde_json::Value;
use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, ErrorKind, Event, Events, FallbackLayer, LlmError, LlmRequest,
    ObserveLayer, RetryWithJitterLayer, TimeoutLayer, events::RequestOutcome,
};
use steadfast_subscribers::{Logs, ServingState, StatusBoard};
use tokio::time::Instant;
use tower::ServiceBuilder;
use tracing_subscriber::fmt::MakeWriter;

const MINUTE: Duration = Duration::from_secs(60);
const LATENCY: Duration = Duration::from_millis(300);

/// The log's lines, for as long as it lives.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// Takes all lines of this thread, of whatever level, as JSON.
    fn begin() -> (Self, tracing::Dispatch, tracing::subscriber::DefaultGuard) {
        let written = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(written.clone())
            .finish();
        // With one subscriber alone, tracing asks the thread that meets a line first, which may be another test's.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        (written, second, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines of these events, without those of requests.
fn of_kind<'a>(lines: &'a [Value], kinds: &[&str]) -> Vec<&'a Value> {
    lines.iter().filter(|line| kinds.contains(&line["event"].as_str().unwrap_or_default())).collect()
}

fn unavailable() -> LlmError {
    LlmError::new(ErrorKind::Server, "service unavailable").with_status(http::StatusCode::SERVICE_UNAVAILABLE)
}

/// The stack of the first screen, watched, around two leaves.
fn stack(
    start: Instant,
    events: &Events,
    primary: impl Fn(Duration, u64) -> Behaviour + Clone + Send + Sync + 'static,
) -> BoxLlmService {
    let tier = |name: &'static str, seed| {
        ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().seed(seed))
            .layer(CircuitBreakerLayer::new(name).events(events.clone()).seed(seed))
            .layer(TimeoutLayer::new(Duration::from_secs(30)))
    };
    let backup = tier("backup", 1).service(leaf(&Calls::new(start), |_, _| Behaviour::Answers(LATENCY)));
    let llm = ServiceBuilder::new()
        .layer(ObserveLayer::new(events.clone()))
        .layer(TimeoutLayer::new(Duration::from_secs(90)))
        .layer(BulkheadLayer::new().feature("chat", 2000))
        .layer(FallbackLayer::new("primary").events(events.clone()).tier("backup", backup))
        .layer(tier("primary", 2).into_inner())
        .service(leaf(&Calls::new(start), primary));
    BoxLlmService::new(llm)
}

/// 2026-06-15, 06:20 to 08:56 UTC: the primary answers every request with an error for 2 h 36 min.
#[tokio::test(start_paused = true)]
async fn incident_2026_06_15_is_one_switch_and_one_all_clear_with_the_right_times() {
    const PER_SECOND: u32 = 2;
    let (begins, ends) = (MINUTE * 2, MINUTE * (2 + 156));
    let lasts = ends + MINUTE * 4;
    let (written, _second, _here) = Written::begin();
    let (start, events) = (Instant::now(), Events::new());
    let board = StatusBoard::new("primary").tiers(["backup"]);
    let mut heard = events.subscribe();
    let counted = Arc::new(Mutex::new(Vec::new()));
    let _subscription = [events.follow((board.clone(), Logs::new())), events.follow(Switches(counted.clone()))];
    let llm = stack(start, &events, move |at, _| match (begins..ends).contains(&at) {
        true => Behaviour::Fails(Duration::from_millis(50), unavailable()),
        false => Behaviour::Answers(LATENCY),
    });

    // The page in the middle of it.
    let page = tokio::spawn({
        let board = board.clone();
        async move {
            tokio::time::sleep(MINUTE * 60).await;
            board.snapshot()
        }
    });
    let report = run(llm, start, PER_SECOND, lasts, false).await;
    assert_eq!(report.lost, 0);
    assert!(heard.try_recv().is_err_and(|error| error.to_string().contains("lagged")), "it was never read");

    let switches = counted.lock().unwrap().clone();
    let [Event::ModelSwitched { at: away, .. }, Event::ModelRecovered { after, at: back, .. }] = &switches[..] else {
        panic!("one switch and one all-clear: {switches:?}")
    };
    assert_eq!(*back - *away, *after);
    // Away with the first failure, back with the first probe that succeeds: within a cooldown of the end.
    let (away, back) = (*away - start, *back - start);
    assert!((begins..begins + MINUTE / 6).contains(&away) && (ends..ends + MINUTE + LATENCY).contains(&back));

    let middle = page.await.unwrap();
    assert_eq!((middle.state, middle.active_tier.as_str()), (ServingState::Fallback, "backup"));
    assert_eq!(middle.failovers_last_hour, 1);
    assert_eq!(middle.tiers[0].circuit, "open");
    assert!((middle.since_seconds - (MINUTE * 60 - away).as_secs_f64()).abs() < 0.01, "{middle:?}");
    assert!((middle.time_on_fallback.current_seconds - middle.since_seconds).abs() < 1e-6);
    let [primary, backup] = &middle.tiers[..] else { panic!("{middle:?}") };
    // Five minutes of probes there, and of everything else here.
    assert!(primary.failures == primary.calls && (4..=10).contains(&primary.calls), "{primary:?}");
    assert!(backup.failures == 0 && (540..=610).contains(&backup.calls), "{backup:?}");
    assert!((backup.latency.unwrap().p50_ms - 300.0).abs() < 40.0, "{backup:?}");

    let after_all = board.snapshot();
    let seconds = (back - away).as_secs_f64();
    println!(
        "incident-2026-06-15, observed: {} requests, {seconds:.1} s on the fallback (the outage lasted {} s)",
        report.requests,
        (ends - begins).as_secs()
    );
    assert_eq!((after_all.state, after_all.active_tier.as_str()), (ServingState::Primary, "primary"));
    assert_eq!(after_all.time_on_fallback.current_seconds, 0.0);
    assert!((after_all.time_on_fallback.total_seconds - seconds).abs() < 1e-6);
    assert!(after_all.last_recovery_seconds.is_some_and(|recovery| (recovery - seconds).abs() < 1e-6));
    assert!(seconds >= (ends - begins).as_secs_f64() - 10.0 && seconds <= (ends - begins).as_secs_f64() + 61.0);
    assert_eq!((after_all.failovers_last_hour, after_all.lost_events, after_all.tiers[0].circuit), (0, 0, "closed"));

    let lines = written.lines();
    let of_switches = of_kind(&lines, &["model_switched", "model_recovered"]);
    let fields = |line: &Value| {
        ["event", "from", "to", "reason", "level", "target"].map(|field| line[field].as_str().unwrap().to_owned())
    };
    let [switched, recovered] = &of_switches[..] else { panic!("{of_switches:?}") };
    // Nobody waits to ask the primary again while the backup is there: the first that failed went on at once.
    assert_eq!(fields(switched), ["model_switched", "primary", "backup", "server", "WARN", "steadfast"]);
    assert_eq!(fields(recovered), ["model_recovered", "backup", "primary", "recovered", "INFO", "steadfast"]);
    assert!(lines.iter().all(|line| line["timestamp"].as_str().is_some_and(|at| at.ends_with('Z'))));
    let requests = of_kind(&lines, &["request"]);
    assert_eq!(requests.len() as u64, report.requests);
    let rescued = |line: &&&Value| line["failures"].as_str().is_some_and(|tried| tried.starts_with("primary=server"));
    let rescued = requests.iter().find(rescued).expect("the first in the outage");
    println!("{rescued}");
    assert_eq!((rescued["outcome"].as_str(), rescued["tier"].as_str()), (Some("answered"), Some("backup")));
    assert!(rescued["attempts"].as_u64() >= Some(2) && rescued["latency_ms"].as_f64() > Some(350.0), "{rescued}");
    let by_tier = rescued["latency_by_tier"].as_str().unwrap();
    assert!(by_tier.starts_with("primary=") && by_tier.ends_with(" backup=300"), "{by_tier}");
    assert!(of_kind(&lines, &["all_tiers_failed", "events_lost"]).is_empty());
    let opened = of_kind(&lines, &["circuit_changed"]);
    assert!(opened.iter().all(|line| line["circuit"] == "primary"), "{opened:?}");
    let first = (&opened[0]["from"], &opened[0]["to"], &opened[0]["level"]);
    assert_eq!(first, (&"closed".into(), &"open".into(), &"WARN".into()));
    let cause = ["kind", "status", "error"].map(|field| opened[0][field].to_string());
    assert_eq!(cause, ["\"server\"", "503", "\"service unavailable\""]);
}

/// The switches and recoveries, of all that is heard.
struct Switches(Arc<Mutex<Vec<Event>>>);

impl steadfast::events::Subscriber for Switches {
    fn event(&mut self, event: &Event) {
        if let Event::ModelSwitched { .. } | Event::ModelRecovered { .. } = event {
            self.0.lock().unwrap().push(event.clone());
        }
    }
}

/// The log reports at once, and as an error, that nothing is left.
#[tokio::test(start_paused = true)]
async fn when_every_tier_is_down_the_board_says_so_and_the_log_is_an_error() {
    let (written, _second, _here) = Written::begin();
    let (start, events) = (Instant::now(), Events::new());
    let board = StatusBoard::new("primary");
    let _subscription = events.follow((board.clone(), Logs::new().requests(tracing::Level::DEBUG)));
    let mut heard = events.subscribe();
    let down = |_, _| Behaviour::Fails(LATENCY, LlmError::new(ErrorKind::Overloaded, "scripted"));
    let alone = ServiceBuilder::new()
        .layer(ObserveLayer::new(events.clone()))
        .layer(FallbackLayer::new("primary").events(events.clone()).tier("backup", leaf(&Calls::new(start), down)))
        .service(leaf(&Calls::new(start), down));
    let report = run(alone, start, 1, Duration::from_secs(20), false).await;
    tokio::task::yield_now().await;
    assert_eq!(report.lost, 20);
    let status = board.snapshot();
    assert_eq!(status.state, ServingState::Unavailable);
    assert!((status.since_seconds - 19.0).abs() < 0.1, "since the first: {status:?}");
    let told: Vec<Event> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
    let overloaded = RequestOutcome::Failed(ErrorKind::Overloaded);
    let failed = |event: &&Event| matches!(event, Event::RequestEnded(e) if e.outcome == overloaded);
    assert_eq!(told.iter().filter(failed).count(), 20);
    assert_eq!(told.iter().filter(|event| matches!(event, Event::AllTiersFailed { .. })).count(), 20);
    let lines = written.lines();
    let errors = of_kind(&lines, &["all_tiers_failed"]);
    assert_eq!(errors.len(), 2, "19 s of it: one line in ten");
    assert!(errors[0].get("unsaid").is_none() && errors[1]["unsaid"].as_u64() > Some(5), "{}", errors[1]);
    assert_eq!((&errors[0]["level"], &errors[0]["reason"]), (&"ERROR".into(), &"overloaded".into()));
    assert_eq!(errors[0]["feature"], "chat");
    let requests = of_kind(&lines, &["request"]);
    assert_eq!((&requests[0]["level"], &requests[0]["kind"]), (&"DEBUG".into(), &"overloaded".into()));
    assert!(requests[0].get("tier").is_none() && requests[0].get("cost_usd").is_none(), "{}", requests[0]);
}

/// Over sockets and in every corner: a provider that quotes the prompt and the key in its errors, one that answers.
#[tokio::test]
async fn no_log_at_any_level_says_a_word_of_a_prompt_an_answer_or_a_key() {
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use steadfast::{
        LlmResponse,
        providers::{Anthropic, OpenAi, Simulated, transport::HttpClient},
    };
    use steadfast_simulator::SimulatedServer;
    use tower::{BoxError, Service, ServiceExt};

    const PROMPT: &str = "MARKEDPROMPT";
    const ANSWER: &str = "MARKEDANSWER";
    const KEY: &str = "sk-MARKEDKEY";
    let (written, _second, _here) = Written::begin();
    tracing::trace!("the log is heard at every level");
    let events = Events::new();
    let _subscription = events.follow((Logs::new(), StatusBoard::new("quoting")));

    let quoting = tower::service_fn(|request: Request<Full<bytes::Bytes>>| async move {
        let key = request.headers()["x-api-key"].to_str().unwrap().to_owned();
        let prompt = request.into_body().collect().await.unwrap().to_bytes();
        let message = format!("key {key}: {}", String::from_utf8_lossy(&prompt));
        let body = serde_json::json!({"type": "error", "error": {"type": "api_error", "message": message}}).to_string();
        let status = if body.len().is_multiple_of(2) { 500 } else { 529 };
        Ok::<_, BoxError>(Response::builder().status(status).body(Full::new(bytes::Bytes::from(body))).unwrap())
    });
    let server = SimulatedServer::start(Simulated::new("p").reply(ANSWER)).await.unwrap();
    let answers = OpenAi::compatible("answers", &format!("{}/v1", server.base_url()))
        .unwrap()
        .key(KEY)
        .model("gpt-4o")
        .transport(HttpClient::new().no_proxy());
    let fallback = FallbackLayer::new("quoting").events(events.clone());
    let mut llm = ServiceBuilder::new()
        .layer(ObserveLayer::new(events.clone()))
        .layer(fallback.tier("answers", answers))
        .layer(CircuitBreakerLayer::new("quoting").consecutive_failures(2).events(events.clone()))
        .service(Anthropic::new(KEY).model("claude-sonnet-4-5").transport(quoting));
    for stream in [false, true] {
        let request = LlmRequest::prompt(PROMPT).with_feature("chat").with_session("session-7").with_stream(stream);
        let response: LlmResponse = llm.ready().await.unwrap().call(request).await.unwrap();
        let provider_said = response.attempts()[0].message.as_str();
        assert!(provider_said.contains(PROMPT), "the caller is told: {provider_said}");
        assert_eq!(response.text().await.unwrap(), ANSWER);
    }
    let mut alone = ServiceBuilder::new()
        .layer(ObserveLayer::new(events.clone()))
        .layer(FallbackLayer::new("quoting").events(events.clone()))
        .service(Anthropic::new(KEY).model("claude-sonnet-4-5").transport(quoting));
    let error = alone.ready().await.unwrap().call(LlmRequest::prompt(PROMPT)).await.unwrap_err();
    assert!(error.message().contains(PROMPT));
    server.stop().await;
    tokio::task::yield_now().await;

    let lines = written.lines();
    assert_eq!(of_kind(&lines, &["request"]).len(), 3, "{lines:?}");
    assert_eq!(of_kind(&lines, &["circuit_changed"]).len(), 1);
    assert_eq!(of_kind(&lines, &["all_tiers_failed"]).len(), 1);
    let served = of_kind(&lines, &["request"])[1];
    assert_eq!(served["provider"], "answers");
    assert_eq!((served["model"].as_str(), served["stream"].as_bool()), (Some("gpt-4o"), Some(true)));
    assert!(served["output_tokens"].as_u64() > Some(0) && served["cost_usd"].as_f64() > Some(0.0), "{served}");
    let all = written.text();
    assert!(all.contains("the log is heard at every level"));
    for marked in [PROMPT, ANSWER, "MARKEDKEY"] {
        assert!(!all.contains(marked), "{marked} in {all}");
    }
}

/// A stack that nobody follows says what an operator must know, and nothing of a single request.
#[tokio::test(start_paused = true)]
async fn a_stack_without_a_subscriber_reports_its_outage_in_the_log() {
    let (begins, ends) = (MINUTE, MINUTE * 20);
    let (written, _second, _here) = Written::begin();
    let llm = stack(Instant::now(), &Events::new(), move |at, _| match (begins..ends).contains(&at) {
        true => Behaviour::Fails(Duration::from_millis(50), unavailable()),
        false => Behaviour::Answers(LATENCY),
    });
    run(llm, Instant::now(), 2, MINUTE * 25, false).await;
    let lines = written.lines();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let fields = ["level", "event", "circuit", "first", "to", "status", "error"].map(|field| &line[field]);
            fields.iter().filter(|field| !field.is_null()).map(ToString::to_string).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            r#""WARN" "model_switched" "primary" "backup" 503 "service unavailable""#,
            r#""WARN" "circuit_changed" "primary" "open" 503 "service unavailable""#,
            r#""INFO" "circuit_changed" "primary" "closed""#,
            r#""INFO" "model_recovered" "primary""#,
        ]
    );
}

/// The backup would cover it for ever.
#[tokio::test(start_paused = true)]
async fn a_tier_that_has_never_worked_is_an_error_once() {
    for (kind, status, message) in
        [(ErrorKind::NotFound, 404, "page not found"), (ErrorKind::Auth, 401, "Incorrect API key provided: sk-1")]
    {
        let status = http::StatusCode::from_u16(status).unwrap();
        let wrong = LlmError::new(kind, message).with_status(status);
        let (written, _second, _here) = Written::begin();
        let followed = Events::new();
        for (events, with_log) in [(Events::new(), false), (followed.clone(), true)] {
            let _log = with_log.then(|| followed.follow(Logs::new().requests(None)));
            let fails = wrong.clone();
            let llm =
                stack(Instant::now(), &events, move |_, _| Behaviour::Fails(Duration::from_millis(5), fails.clone()));
            let report = run(llm, Instant::now(), 2, MINUTE * 5, false).await;
            assert_eq!(report.lost, 0, "the backup answers");
        }
        let lines = written.lines();
        let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
        assert_eq!(errors.len(), 2, "the library's own line, and that of Logs, which is one: {errors:?}");
        for line in errors {
            assert_eq!((&line["event"], &line["status"]), (&"setup_refused".into(), &status.as_u16().into()));
            assert!(!line.to_string().contains("sk-1") && line["advice"].is_string(), "{line}");
        }
    }
    // One that has worked is the circuit's matter.
    let (written, _second, _here) = Written::begin();
    let llm = stack(Instant::now(), &Events::new(), |at, _| match at < MINUTE {
        true => Behaviour::Answers(LATENCY),
        false => {
            let refused = LlmError::new(ErrorKind::Auth, "invalid x-api-key").with_code("authentication_error");
            Behaviour::Fails(LATENCY, refused.with_status(http::StatusCode::UNAUTHORIZED))
        }
    });
    run(llm, Instant::now(), 2, MINUTE * 5, false).await;
    let lines = written.lines();
    assert!(lines.iter().all(|line| line["level"] != "ERROR"), "{lines:?}");
    let opened = of_kind(&lines, &["circuit_changed"]);
    assert_eq!((&opened[0]["reason"], &opened[0]["status"]), (&"auth".into(), &401.into()));
}
