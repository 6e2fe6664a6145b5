use http_body_util::Full;
use std::sync::Mutex;

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    super::{AlertState, Origin, Rule, Severity},
    *,
};

const SECOND: Duration = Duration::from_secs(1);
const SECRET: &str = "https://hooks.slack.example/services/T0/B0/SECRET";

/// The requests that a webhook received, with their times.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Sent>>>);

type Sent = (Duration, Request<Bytes>);

impl Received {
    /// A transport that answers the n-th request with the n-th entry; `None` never answers.
    fn answering(
        &self,
        answer: impl Fn(usize) -> Option<Response<()>> + Clone + Send + Sync + 'static,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<()>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let (received, begun) = (self.clone(), Instant::now());
        tower::service_fn(move |request: Request<Full<Bytes>>| {
            let (received, answer) = (received.clone(), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let number = {
                    let mut all = received.0.lock().unwrap();
                    all.push((begun.elapsed(), Request::from_parts(head, body)));
                    all.len()
                };
                match answer(number) {
                    Some(response) => Ok(response),
                    None => std::future::pending().await,
                }
            }
        })
    }

    fn times(&self) -> Vec<f64> {
        self.0.lock().unwrap().iter().map(|(at, _)| at.as_secs_f64()).collect()
    }

    fn json(&self, number: usize) -> Value {
        serde_json::from_slice(self.0.lock().unwrap()[number].1.body()).unwrap()
    }
}

fn status(status: u16) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn alert(summary: &str) -> Alert {
    let now = Instant::now();
    Alert {
        rule: Rule::Failover,
        key: "sonnet".into(),
        severity: Severity::Warning,
        state: AlertState::Firing,
        summary: summary.to_owned(),
        fields: vec![("from", "sonnet".to_owned())],
        since: now,
        at: now,
        repeated: false,
        origin: Origin::new("staging", "pod-1"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_url_is_refused_and_not_repeated() {
    for wrong in
        ["", "hooks.slack.example/x", "ftp://x/SECRET", "https://", "http:///SECRET", "https://user:SECRET@x/", "a b"]
    {
        for made in [Webhook::slack(wrong), Webhook::json(wrong)] {
            let error = made.unwrap_err().to_string();
            assert!(error.starts_with("webhook: ") && !error.contains("SECRET"), "{wrong}: {error}");
        }
    }
    assert!(Webhook::json("http://127.0.0.1:9/x").unwrap().authorization("Bearer \n\u{7f}x").is_err());
}

#[tokio::test(start_paused = true)]
async fn neither_url_nor_key_is_in_debug() {
    let webhook = Webhook::slack(SECRET).unwrap().authorization("Bearer SECRET").unwrap();
    let said = format!("{webhook:?}");
    assert!(said.contains("hooks.slack.example") && !said.contains("SECRET"), "{said}");
    assert!(!format!("{:?}", webhook.start()).contains("SECRET"));
}

#[tokio::test(start_paused = true)]
async fn slack_gets_its_markup_and_json_its_object() {
    let received = Received::default();
    let transport = received.answering(|_| Some(status(200)));
    let mut slack = Webhook::slack(SECRET).unwrap().transport(transport.clone()).start();
    slack.alert(&alert("gpt <!channel> & co serve"));
    slack.alert(&Alert { state: AlertState::Resolved, ..alert("over") });
    sleep(SECOND).await;
    let message = received.json(0);
    assert_eq!(message["text"], "*Warning:* gpt &lt;!channel&gt; &amp; co serve [staging]");
    assert_eq!(
        (&message["attachments"][0]["color"], &received.json(1)["attachments"][0]["color"]),
        (&"warning".into(), &"good".into())
    );
    assert_eq!(received.json(1)["text"], "*Resolved:* over [staging]");

    let mut json =
        Webhook::json("https://x.example/in").unwrap().authorization("Bearer k").unwrap().transport(transport).start();
    json.alert(&alert("gpt serves"));
    sleep(SECOND).await;
    let message = received.json(2);
    assert_eq!((message["rule"].as_str(), message["state"].as_str()), (Some("failover"), Some("firing")));
    assert_eq!((message["key"].as_str(), message["fields"]["from"].as_str()), (Some("sonnet"), Some("sonnet")));
    assert_eq!(
        (message["id"].as_str(), message["instance"].as_str()),
        (Some("steadfast/staging/failover/sonnet"), Some("pod-1"))
    );
    assert!(httpdate_like(message["since"].as_str().unwrap()), "{message}");
    let request = &received.0.lock().unwrap()[2].1;
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/in"));
    assert_eq!(request.headers()["authorization"], "Bearer k");
    assert_eq!(request.headers()["content-type"], "application/json");
    assert_eq!((slack.sent(), json.sent()), (2, 1));
}

fn httpdate_like(text: &str) -> bool {
    text.len() == "2026-06-15T06:20:00Z".len() && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_with_growing_waits_and_then_given_up() {
    let received = Received::default();
    let transport = received.answering(|_| Some(status(500)));
    let mut hook = Webhook::slack(SECRET).unwrap().transport(transport).seed(7).start();
    hook.alert(&alert("a"));
    sleep(SECOND * 600).await;
    let times = received.times();
    assert_eq!((times.len(), hook.failed(), hook.sent()), (5, 1, 0));
    for (n, pair) in times.windows(2).enumerate() {
        let (wait, backoff) = (pair[1] - pair[0], f64::from(1 << n));
        assert!((backoff / 2.0..=backoff + 0.01).contains(&wait), "{wait} after attempt {}", n + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_within_reason_and_refusals_are_final() {
    let put_off = |seconds: &'static str| {
        let mut response = status(429);
        response.headers_mut().insert("retry-after", HeaderValue::from_static(seconds));
        response
    };
    let received = Received::default();
    let transport = received.answering(move |n| {
        Some(match n {
            1 => put_off("30"),
            2 => put_off("86400"),
            3 => status(200),
            _ => status(404),
        })
    });
    let mut hook = Webhook::slack(SECRET).unwrap().transport(transport).seed(7).start();
    hook.alert(&alert("a"));
    hook.alert(&alert("b"));
    sleep(SECOND * 900).await;
    let times = received.times();
    assert_eq!(times.len(), 4);
    assert!((30.0..31.0).contains(&(times[1] - times[0])), "{times:?}");
    assert!((300.0..303.0).contains(&(times[2] - times[1])), "a day is too long: {times:?}");
    assert_eq!((hook.sent(), hook.failed()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_hangs_is_given_up_and_the_next_alert_goes_out() {
    let received = Received::default();
    let transport = received.answering(|n| (n > 2).then(|| status(204)));
    let mut hook = Webhook::slack(SECRET).unwrap().transport(transport).max_attempts(2).start();
    hook.alert(&alert("hangs"));
    hook.alert(&alert("goes"));
    sleep(SECOND * 30).await;
    let times = received.times();
    assert!((10.5..11.1).contains(&times[1]), "10 s and the backoff: {times:?}");
    assert_eq!((hook.failed(), hook.sent()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_the_oldest_and_counts() {
    let received = Received::default();
    let transport = received.answering(|_| Some(status(200)));
    let mut hook = Webhook::json(SECRET).unwrap().transport(transport).capacity(3).start();
    (0..10).for_each(|n| hook.alert(&alert(&n.to_string())));
    sleep(SECOND).await;
    let sent: Vec<Value> = (0..3).map(|n| received.json(n)["summary"].clone()).collect();
    assert_eq!(sent, ["7", "8", "9"]);
    assert_eq!((hook.dropped(), hook.sent()), (7, 3));
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_its_last_handle() {
    let received = Received::default();
    let transport = received.answering(|_| None);
    let hook = Webhook::json(SECRET).unwrap().transport(transport).start();
    let queue = Arc::downgrade(&hook.queue);
    hook.clone().alert(&alert("a"));
    sleep(SECOND).await;
    drop(hook);
    sleep(SECOND).await;
    assert!(queue.upgrade().is_none(), "in the middle of an attempt, too");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_sent_the_severities_that_it_wants_and_the_end_of_what_it_was_sent() {
    let received = Received::default();
    let transport = received.answering(|_| Some(status(200)));
    let make = || Webhook::json("https://x.example/in").unwrap().transport(transport.clone());
    let critical = |alert: Alert| Alert { severity: Severity::Critical, ..alert };
    let over = |alert: Alert| Alert { state: AlertState::Resolved, ..alert };
    let told = async |mut webhook: WebhookHandle| {
        // One alert becomes critical, one does not, and one is critical from the beginning.
        webhook.alert(&alert("first"));
        webhook.alert(&critical(alert("first, worse")));
        webhook.alert(&Alert { key: "gpt".into(), ..alert("second") });
        webhook.alert(&critical(Alert { rule: Rule::KeyRefused, ..alert("third") }));
        for (rule, key, bad) in
            [(Rule::Failover, "sonnet", true), (Rule::Failover, "gpt", false), (Rule::KeyRefused, "sonnet", true)]
        {
            let ended = over(Alert { rule, key: key.into(), ..alert(&format!("{rule} {key} is over")) });
            webhook.alert(&if bad { critical(ended) } else { ended });
        }
        sleep(SECOND).await;
        let mut all = received.0.lock().unwrap();
        let summary = |(_, sent): Sent| {
            let message: Value = serde_json::from_slice(sent.body()).unwrap();
            message["summary"].as_str().unwrap().to_owned()
        };
        all.drain(..).map(summary).collect::<Vec<_>>()
    };
    let all = told(make().start()).await;
    assert_eq!(all.len(), 7, "{all:?}");
    let paged = told(make().severities([Severity::Critical]).start()).await;
    let expected = ["first, worse", "third", "failover sonnet is over", "key_refused sonnet is over"];
    assert_eq!(paged, expected);
    let warned = told(make().severities([Severity::Warning]).start()).await;
    assert_eq!(warned, ["first", "second", "failover sonnet is over", "failover gpt is over"]);
    let opened = told(make().severities([Severity::Critical]).resolved(false).start()).await;
    assert_eq!(opened, ["first, worse", "third"]);
}

#[tokio::test(start_paused = true)]
async fn a_template_is_the_body_and_stays_out_of_debug() {
    let received = Received::default();
    let template = Template::new(serde_json::json!({ "routing_key": "SECRET", "text": "{{title}}" })).unwrap();
    let webhook = Webhook::template("https://x.example/in", template).unwrap();
    assert!(!format!("{webhook:?}").contains("SECRET"));
    let mut webhook = webhook.transport(received.answering(|_| Some(status(202)))).start();
    webhook.alert(&alert("gpt \"serves\""));
    sleep(SECOND).await;
    let expected = serde_json::json!({ "routing_key": "SECRET", "text": "Warning: gpt \"serves\"" });
    assert_eq!(received.json(0), expected);
}
