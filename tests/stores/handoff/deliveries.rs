//! Reports of tasks arrive, or their failure is reported.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use steadfast::{ErrorKind, Events, LlmRequest};
use steadfast_handoff::{
    CallbackUrl, Callbacks, Deliveries, DeliveriesHandle, DeliveryState, Desk, Handoff, MemoryTasks, Notify, TaskId,
    WebhookSecret,
};
use steadfast_subscribers::alerts::{Alert, AlertState, Alerts, Rules};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service, ServiceExt};

use crate::handoff::{SECRET, task_of};

const SLACK: &str = "https://hooks.slack.example/services/T0/B0/hush";

/// The bodies that were posted, and their times.
#[derive(Clone, Default)]
struct Posted(Arc<Mutex<Posts>>);

type Posts = Vec<(Duration, Request<Bytes>)>;

impl Posted {
    /// A transport that answers the n-th request with this status; `None` is silence.
    fn answering(
        &self,
        answer: impl Fn(usize) -> Option<u16> + Clone + Send + Sync + 'static,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<()>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let (posted, begun) = (self.clone(), Instant::now());
        tower::service_fn(move |request: Request<Full<Bytes>>| {
            let (posted, answer) = (posted.clone(), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let number = {
                    let mut all = posted.0.lock().unwrap();
                    all.push((begun.elapsed(), Request::from_parts(head, body)));
                    all.len()
                };
                let Some(status) = answer(number) else { return std::future::pending().await };
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Ok(response)
            }
        })
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn at(&self, number: usize) -> (Duration, Request<Bytes>) {
        self.0.lock().unwrap()[number].clone()
    }

    fn json(&self, number: usize) -> Value {
        serde_json::from_slice(self.at(number).1.body()).unwrap()
    }

    fn text(&self, number: usize) -> String {
        self.json(number)["text"].as_str().unwrap().to_owned()
    }
}

fn callbacks() -> Callbacks {
    Callbacks::new(WebhookSecret::new(SECRET).unwrap())
}

async fn hand_over(desk: &Desk, request: LlmRequest) -> TaskId {
    task_of(&Handoff::new(desk).allow_volatile().oneshot(request).await.unwrap())
}

fn sends<S>(desk: &Desk, transport: S) -> DeliveriesHandle
where
    S: Service<Request<Full<Bytes>>, Response = Response<()>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    Deliveries::new(desk).transport(transport).seed(1).start()
}

#[tokio::test(start_paused = true)]
async fn people_are_told_with_the_beginning_of_what_was_asked_or_without() {
    for preview in [true, false] {
        let posted = Posted::default();
        let notify = Notify::slack(SLACK).unwrap().preview(preview).link("https://desk.example/{task_id}");
        let desk = Desk::new(MemoryTasks::new()).notify(notify);
        let _sending = sends(&desk, posted.answering(|_| Some(200)));
        let text = format!("Tell <!channel> & @everyone {}", "word ".repeat(100));
        let id = hand_over(&desk, LlmRequest::prompt(text).with_feature("chat")).await;
        sleep(Duration::from_millis(10)).await;
        assert_eq!(posted.len(), 1);
        let said = posted.text(0);
        let link = format!("<https://desk.example/{id}|Answer it>");
        assert!(said.contains("`chat`") && said.contains(&id.to_string()) && said.contains(&link), "{said}");
        let quoted = said.lines().find_map(|line| line.strip_prefix('>'));
        assert_eq!(quoted.is_some(), preview, "{said}");
        assert!(!said.contains("<!channel>") && !said.contains("@everyone"), "{said}");
        if let Some(quoted) = quoted {
            let shown = quoted.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").chars().count();
            assert!((150..=200).contains(&shown), "{shown}: {quoted}");
        } else {
            assert!(!said.contains("word"), "{said}");
        }
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(posted.len(), 1, "once");
        assert!(!format!("{desk:?}").contains("hush"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_did_not_arrive_is_sent_again_after_growing_pauses() {
    let posted = Posted::default();
    let desk = Desk::new(MemoryTasks::new()).notify(Notify::slack(SLACK).unwrap());
    let _sending = sends(&desk, posted.answering(|n| [None, Some(503), Some(404), Some(200)][n - 1]));
    let id = hand_over(&desk, LlmRequest::prompt("hello")).await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(posted.len(), 4);
    let at: Vec<f64> = (0..4).map(|n| posted.at(n).0.as_secs_f64()).collect();
    // The first attempt took its ten seconds, and what is due is looked for every second.
    for (number, wait) in [(1, 10.5..=12.1), (2, 1.0..=3.1), (3, 2.0..=5.1)] {
        assert!(wait.contains(&(at[number] - at[number - 1])), "{at:?}");
    }
    let [told] = &desk.show(id).await.unwrap().deliveries[..] else { panic!() };
    assert_eq!((told.state, told.attempts), (DeliveryState::Done, 4));
    assert!((0..4).all(|n| posted.at(n).1.body() == posted.at(0).1.body()));
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_the_process_ended_is_sent_by_the_next() {
    let tasks = MemoryTasks::new();
    let desk = || Desk::new(tasks.clone()).notify(Notify::slack(SLACK).unwrap());
    let before = Posted::default();
    let sending = sends(&desk(), before.answering(|_| None));
    hand_over(&desk(), LlmRequest::prompt("hello")).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(before.len(), 1);
    drop(sending);
    let after = Posted::default();
    let _sending = sends(&desk(), after.answering(|_| Some(200)));
    sleep(Duration::from_secs(60)).await;
    assert_eq!((before.len(), after.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_asked_is_called_back_signed_and_under_the_same_id_each_time() {
    let posted = Posted::default();
    let callbacks = callbacks().url("https://app.example/answered").unwrap();
    let desk = Desk::new(MemoryTasks::new()).callbacks(callbacks);
    let _sending = sends(&desk, posted.answering(|n| Some(if n < 3 { 500 } else { 204 })));
    let id = hand_over(&desk, LlmRequest::prompt("May I?").with_feature("chat").with_session("s-1")).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(posted.len(), 0, "nobody has answered");
    desk.answer(id, "ana", "You may.").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(posted.len(), 3);
    let secret = WebhookSecret::new(SECRET).unwrap();
    for number in 0..3 {
        let (_, request) = posted.at(number);
        assert_eq!(request.uri(), "https://app.example/answered");
        assert_eq!(request.headers()["webhook-id"], posted.at(0).1.headers()["webhook-id"]);
        secret.verify(request.headers(), request.body()).unwrap();
        assert_eq!(request.body(), posted.at(0).1.body());
    }
    let said = posted.json(0);
    assert_eq!(said["type"], "handoff.answered");
    let data = &said["data"];
    assert_eq!((data["task_id"].as_str(), data["output"].as_str()), (Some(&*id.to_string()), Some("You may.")));
    assert_eq!((data["model"].as_str(), data["tier"].as_str()), (Some("person"), Some("handoff")));
    assert_eq!((data["answered_by"]["name"].as_str(), data["session"].as_str()), (Some("ana"), Some("s-1")));
}

#[tokio::test(start_paused = true)]
async fn a_request_brings_its_own_address_where_that_is_allowed() {
    let posted = Posted::default();
    let desk = Desk::new(MemoryTasks::new()).callbacks(callbacks().host("app.example").unwrap());
    let _sending = sends(&desk, posted.answering(|_| Some(200)));
    let ask = |url: &str| LlmRequest::prompt("May I?").with_extension(CallbackUrl::new(url));
    let id = hand_over(&desk, ask("https://app.example/hooks/7")).await;
    desk.answer(id, "ana", "You may.").await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(posted.at(0).1.uri(), "https://app.example/hooks/7");
    let people = Handoff::new(&desk).allow_volatile();
    let refused = people.clone().oneshot(ask("http://169.254.169.254/latest")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidRequest);
    assert!(refused.to_string().contains("https://"), "{refused}");
    let refused = people.oneshot(ask("https://other.example/")).await.unwrap_err();
    assert!(refused.to_string().contains("other.example is not allowed"), "{refused}");
    let nobody = Handoff::new(&Desk::new(MemoryTasks::new())).allow_volatile();
    assert!(nobody.oneshot(ask("https://app.example/")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_given_up_at_once_and_everything_else_after_its_attempts() {
    for (status, attempts) in [(410, 1), (500, 4)] {
        let posted = Posted::default();
        let desk = Desk::new(MemoryTasks::new()).notify(Notify::slack(SLACK).unwrap());
        let transport = posted.answering(move |_| Some(status));
        let _sending = Deliveries::new(&desk).transport(transport).max_attempts(4).start();
        let id = hand_over(&desk, LlmRequest::prompt("hello")).await;
        sleep(Duration::from_secs(3600)).await;
        let [told] = &desk.show(id).await.unwrap().deliveries[..] else { panic!() };
        assert_eq!((told.state, posted.len()), (DeliveryState::Dead, attempts));
        assert!(told.problem.as_ref().unwrap().contains(&status.to_string()), "{told:?}");
        assert_eq!(desk.stats().await.unwrap().deliveries_dead, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_what_is_answered_already() {
    let posted = Posted::default();
    let desk = Desk::new(MemoryTasks::new()).notify(Notify::slack(SLACK).unwrap());
    let id = hand_over(&desk, LlmRequest::prompt("hello")).await;
    desk.answer(id, "ana", "hello").await.unwrap();
    let _sending = sends(&desk, posted.answering(|_| Some(200)));
    sleep(Duration::from_secs(10)).await;
    assert_eq!((posted.len(), desk.stats().await.unwrap().deliveries_pending), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_holds_up_no_other() {
    let posted = Posted::default();
    let desk = Desk::new(MemoryTasks::new()).notify(Notify::slack(SLACK).unwrap());
    let _sending = sends(&desk, posted.answering(|n| (n > 5).then_some(200)));
    for n in 0..40 {
        hand_over(&desk, LlmRequest::prompt(n.to_string())).await;
    }
    sleep(Duration::from_secs(9)).await;
    assert_eq!(desk.stats().await.unwrap().deliveries_pending, 5);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(desk.stats().await.unwrap().deliveries_pending, 0);
}

#[tokio::test(start_paused = true)]
async fn old_tasks_are_removed_when_their_time_is_over() {
    let desk = Desk::new(MemoryTasks::new()).keep(Duration::from_secs(3600));
    let id = hand_over(&desk, LlmRequest::prompt("hello")).await;
    let _sending = sends(&desk, Posted::default().answering(|_| Some(200)));
    desk.answer(id, "ana", "hello").await.unwrap();
    sleep(Duration::from_secs(3500)).await;
    desk.show(id).await.unwrap();
    sleep(Duration::from_secs(1000)).await;
    assert!(desk.show(id).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_a_limit_of_time_is_made_all_the_same() {
    let posted = Posted::default();
    let desk = Desk::new(MemoryTasks::new()).notify(Notify::slack(SLACK).unwrap());
    let transport = posted.answering(|_| Some(200));
    let _sending = Deliveries::new(&desk).transport(transport).timeout(Duration::MAX).start();
    hand_over(&desk, LlmRequest::prompt("May I?")).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(posted.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn how_many_wait_is_told_when_it_changes_and_an_alert_fires_until_none_does() {
    let events = Events::new();
    let desk = Desk::new(MemoryTasks::new()).events(&events);
    let said = Arc::new(Mutex::new(Vec::new()));
    let sink = said.clone();
    let tell = move |alert: &Alert| sink.lock().unwrap().push((alert.state, alert.summary.clone()));
    let _subscription = Alerts::new(Rules::none().handoff_waiting(true)).to(tell).follow(&events);
    let _sending = sends(&desk, Posted::default().answering(|_| Some(200)));
    sleep(Duration::from_secs(60)).await;
    assert!(said.lock().unwrap().is_empty());
    let first = hand_over(&desk, LlmRequest::prompt("one")).await;
    let second = hand_over(&desk, LlmRequest::prompt("two")).await;
    sleep(Duration::from_secs(60)).await;
    desk.claim(first, "ana").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    desk.answer(second, "ana", "two").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let expected = [
        (AlertState::Firing, "2 requests wait for a person".to_owned()),
        (AlertState::Resolved, "no request waits for a person any more".to_owned()),
    ];
    assert_eq!(*said.lock().unwrap(), expected);
}
