//! The balancer over scripted services, on paused time.

mod exchange;
mod hostile;

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt as _, discover::Change};

use super::*;
use crate::{
    BoxLlmService, CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer, ErrorKind, FallbackLayer, InvalidConfig,
    LlmError, LlmRequest, LlmResponse, RetryBudget,
    events::CircuitState,
    layers::testing::Strict,
    ledger::{Next, Stop},
    provider_fn,
    providers::{
        Canned, Simulated,
        simulated::{Fault, SimulatedHandle},
    },
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn hi() -> LlmRequest {
    LlmRequest::prompt("hello")
}

fn failure(kind: ErrorKind) -> LlmError {
    LlmError::new(kind, "scripted")
}

fn of<S: Clone>(deployments: impl IntoIterator<Item = Deployment<S>>) -> Balance<S> {
    of_with(BalanceLayer::new(), deployments)
}

fn of_with<S: Clone>(layer: BalanceLayer, deployments: impl IntoIterator<Item = Deployment<S>>) -> Balance<S> {
    layer.seed(7).layer(Deployments::new(deployments).unwrap())
}

fn boxed<S>(service: S) -> BoxLlmService
where
    S: crate::LlmService + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    BoxLlmService::new(service.map_err(Into::into))
}

/// Simulated providers, each behind a circuit that the balancer knows.
struct Cluster {
    llm: Balance<CircuitBreaker<Simulated>>,
    providers: Vec<SimulatedHandle>,
    circuits: Vec<CircuitBreakerHandle>,
}

impl Cluster {
    fn new(layer: BalanceLayer, names: &[&'static str]) -> Self {
        let (mut providers, mut circuits) = (Vec::new(), Vec::new());
        let deployments: Vec<_> = names.iter().map(|name| deployed(name, &mut providers, &mut circuits)).collect();
        Self { llm: of_with(layer, deployments), providers, circuits }
    }

    async fn ask(&self) -> Result<String, LlmError> {
        self.send(hi()).await
    }

    async fn send(&self, request: LlmRequest) -> Result<String, LlmError> {
        let answer = self.llm.clone().oneshot(request).await?;
        let name = answer.served_by().deployment.unwrap_or("none").to_owned();
        answer.text().await?;
        Ok(name)
    }

    fn calls(&self) -> Vec<u64> {
        self.providers.iter().map(|provider| provider.stats().calls).collect()
    }
}

fn deployed(
    name: &'static str,
    providers: &mut Vec<SimulatedHandle>,
    circuits: &mut Vec<CircuitBreakerHandle>,
) -> Deployment<CircuitBreaker<Simulated>> {
    let leaf = Simulated::new(name).latency(ms(100));
    let circuit = CircuitBreakerLayer::new(name).seed(1);
    providers.push(leaf.handle());
    circuits.push(circuit.handle());
    Deployment::new(name, circuit.layer(leaf)).circuit(circuit.handle())
}

#[tokio::test(start_paused = true)]
async fn bad_lists_and_settings_name_the_field() {
    let named = |name: &'static str| Deployment::new(name, Strict::new());
    let field = |error: InvalidConfig| error.field().to_owned();
    assert_eq!(field(Deployments::<Strict>::new([]).unwrap_err()), "deployments");
    assert!(Deployments::new([named("a"), named("a")]).unwrap_err().to_string().contains("\"a\""));
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e7] {
        assert_eq!(field(named("a").weight(weight).unwrap_err()), "deployments.a.weight");
    }
    assert_eq!(field(named("a").requests_per_minute(0).unwrap_err()), "deployments.a.requests_per_minute");
    assert_eq!(field(named("a").tokens_per_minute(0).unwrap_err()), "deployments.a.tokens_per_minute");
    assert_eq!(field(named("a").max_in_flight(0).unwrap_err()), "deployments.a.max_in_flight");
    assert_eq!(field(BalanceLayer::new().max_ejected(1.5).checked().unwrap_err()), "balance max_ejected");
}

#[tokio::test(start_paused = true)]
async fn requests_are_shared_by_weight() {
    let leaf = Strict::new;
    let llm = of([
        Deployment::new("a", leaf()),
        Deployment::new("b", leaf()).weight(3.0).unwrap(),
        Deployment::new("c", leaf()).weight(0.5).unwrap(),
    ]);
    for _ in 0..9000 {
        llm.clone().oneshot(hi()).await.unwrap();
    }
    let answered: Vec<_> = llm.handle().deployments().iter().map(|it| (it.answered, it.weight)).collect();
    for (answered, weight) in answered {
        let share = answered as f64 / (9000.0 * weight / 4.5);
        assert!((0.8..1.25).contains(&share), "{weight}: {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_goes_to_another_deployment_at_once() {
    let (bad, good) = (Strict::new().fails(100, failure(ErrorKind::Server)), Strict::new());
    let llm = of([Deployment::new("bad", bad.clone()), Deployment::new("good", good)]);
    let begun = Instant::now();
    let mut went = 0;
    for _ in 0..20 {
        let answer = llm.clone().oneshot(hi().with_max_attempts(2)).await.unwrap();
        assert_eq!(answer.served_by().deployment, Some("good"));
        for step in answer.attempts() {
            assert_eq!((step.deployment.as_deref(), step.failure), (Some("bad"), Some(ErrorKind::Server)));
            assert_eq!(step.next, Next::Rebalanced);
            went += 1;
        }
    }
    assert_eq!((begun.elapsed(), bad.calls()), (Duration::ZERO, went));
    assert!((1..=5).contains(&went), "failures at once attract nothing: {went}");
}

#[tokio::test(start_paused = true)]
async fn when_all_have_failed_one_error_lists_them() {
    let fails = |kind| boxed(Strict::new().fails(9, failure(kind)));
    let llm = of([
        Deployment::new("east", fails(ErrorKind::Server)),
        Deployment::new("west", fails(ErrorKind::RateLimited)),
        Deployment::new("north", fails(ErrorKind::Connect)),
    ]);
    llm.handle().drain("north");
    let error = llm.clone().oneshot(hi()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("2 of 3 deployments failed: "), "{text}");
    for part in ["east ", "west ", "not asked: north (is drained by hand)"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let last = error.attempts().last().unwrap();
    assert_eq!(last.next, Next::Stopped(Stop::LastDeployment));

    // A fallback goes on, and names the tier.
    let llm =
        of([Deployment::new("east", fails(ErrorKind::Server)), Deployment::new("west", fails(ErrorKind::Server))]);
    let answer =
        FallbackLayer::new("sonnet").tier("canned", Canned::text("later")).layer(llm).oneshot(hi()).await.unwrap();
    let steps: Vec<_> = answer.attempts().iter().map(ToString::to_string).collect();
    assert_eq!(answer.served_by().tier, Some("canned"));
    assert!(steps[0].starts_with("sonnet/") && steps[0].ends_with("went to another deployment"), "{steps:?}");
    assert!(steps[1].starts_with("sonnet/") && steps[1].ends_with("went to the next tier"), "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn the_attempts_and_the_budget_bound_the_calls() {
    let leaf = Strict::new().fails(1000, failure(ErrorKind::Server));
    let names = ["a", "b", "c", "d", "e"];
    let calls = |attempts: u16, layer: BalanceLayer| {
        let leaf = leaf.clone();
        async move {
            let before = leaf.calls();
            let llm = of_with(layer, names.map(|name| Deployment::new(name, leaf.clone())));
            let error = llm.oneshot(hi().with_max_attempts(attempts)).await.unwrap_err();
            (leaf.calls() - before, error.attempts().last().unwrap().next)
        }
    };
    assert_eq!(calls(3, BalanceLayer::new()).await, (3, Next::Stopped(Stop::Attempts)));
    assert_eq!(calls(9, BalanceLayer::new()).await, (5, Next::Stopped(Stop::LastDeployment)));
    let none = RetryBudget::with_limits(0.0, 0.0, 0).unwrap();
    assert_eq!(calls(9, BalanceLayer::new().budget(none)).await, (1, Next::Stopped(Stop::Budget)));
    let invalid = Strict::new().fails(9, failure(ErrorKind::InvalidRequest));
    let llm = of(names.map(|name| Deployment::new(name, invalid.clone())));
    assert_eq!(llm.oneshot(hi()).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
    assert_eq!(invalid.calls(), 1, "the caller's mistake is one everywhere");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_on_this_side_costs_no_attempt_and_is_believed_for_a_second() {
    let shut = CircuitBreakerLayer::new("shut");
    shut.handle().force_open();
    let (asked, leaf) = (Strict::new(), Strict::new());
    let llm =
        of([Deployment::new("shut", boxed(shut.layer(asked.clone()))), Deployment::new("good", boxed(leaf.clone()))]);
    let mut refused = 0;
    for _ in 0..50 {
        let answer = llm.clone().oneshot(hi().with_max_attempts(1)).await.unwrap();
        refused += answer.attempts().len();
    }
    assert_eq!((refused, asked.calls(), leaf.calls()), (1, 0, 50));
    shut.handle().release();
    sleep(ms(1001)).await;
    for _ in 0..50 {
        llm.clone().oneshot(hi()).await.unwrap();
    }
    assert!(asked.calls() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_fails_at_once_attracts_no_more_than_its_probes() {
    let cluster = Cluster::new(BalanceLayer::new(), &["a", "b", "c", "d"]);
    cluster.providers[2].fail(Fault::ServerError);
    // Half an hour at ten requests a second.
    for _ in 0..18_000 {
        assert_ne!(cluster.ask().await.unwrap(), "c");
    }
    let calls = cluster.calls();
    // What opens the circuit, and probes whose cooldown grows.
    assert!(calls[2] <= 120, "{calls:?}");
    assert_eq!(cluster.circuits[2].state(), CircuitState::Open);
    cluster.providers[2].heal();
    for _ in 0..6000 {
        cluster.ask().await.unwrap();
    }
    let back = cluster.calls()[2] - calls[2];
    assert!(back > 900, "it has come back: {back}");
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_back_gets_its_share_by_and_by() {
    let cluster = Cluster::new(BalanceLayer::new().slow_start(secs(60)), &["a", "b"]);
    cluster.circuits[1].force_open();
    cluster.ask().await.unwrap();
    cluster.circuits[1].release();
    let share = async |of: usize| {
        let before = cluster.calls()[1];
        for _ in 0..of {
            cluster.ask().await.unwrap();
        }
        (cluster.calls()[1] - before) as f64 / of as f64
    };
    let first = share(100).await;
    assert!((0.02..0.3).contains(&first), "{first}");
    assert_eq!(cluster.llm.handle().deployments()[1].availability, Availability::Returning);
    share(500).await;
    let last = share(400).await;
    assert!((0.4..0.6).contains(&last), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_429_closes_a_deployment_off_for_as_long_as_it_asked() {
    let cluster = Cluster::new(BalanceLayer::new(), &["a", "b"]);
    cluster.providers[0].fail(Fault::RateLimited { retry_after: Some(secs(30)) });
    for _ in 0..200 {
        assert_eq!(cluster.ask().await.unwrap(), "b");
    }
    assert_eq!(cluster.calls()[0], 1, "20 seconds later");
    cluster.providers[0].heal();
    sleep(secs(15)).await;
    for _ in 0..50 {
        cluster.ask().await.unwrap();
    }
    assert!(cluster.calls()[0] > 5);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_without_room_is_passed_over() {
    let answers = |remaining: &'static str| {
        boxed(provider_fn(move |_| async move {
            let headers = [
                ("x-ratelimit-limit-requests", "100"),
                ("x-ratelimit-remaining-requests", remaining),
                ("x-ratelimit-reset-requests", "1m40s"),
            ];
            let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            Ok::<_, LlmError>(LlmResponse::from_text("hello").with_headers(HeaderMap::from_iter(headers)))
        }))
    };
    let llm = of([Deployment::new("empty", answers("0")), Deployment::new("full", answers("100"))]);
    let by_name = |name: &str| {
        let all = llm.handle().deployments();
        all.into_iter().find(|it| &*it.name == name).unwrap()
    };
    for _ in 0..30 {
        llm.clone().oneshot(hi()).await.unwrap();
    }
    assert_eq!(by_name("empty").answered, 1);
    assert_eq!((by_name("empty").availability, by_name("empty").headroom), (Availability::NoHeadroom, 0.0));
    // If none has room, the roomiest is asked: an estimate is no refusal.
    llm.handle().drain("full");
    assert!(llm.clone().oneshot(hi()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn places_are_counted_from_the_call_to_the_end_of_the_body() {
    let leaf = Simulated::new("a").latency(secs(1)).pace(secs(1)).reply("one two three four");
    let llm = of([Deployment::new("a", leaf).max_in_flight(2).unwrap()]);
    let in_flight = || llm.handle().deployments()[0].in_flight;
    let mut one = llm.clone().oneshot(hi().with_stream(true)).await.unwrap();
    let two = tokio::spawn(llm.clone().oneshot(hi().with_stream(true)));
    sleep(ms(10)).await;
    assert_eq!((in_flight(), one.body().arrives_in_frames()), (2, true));
    let refused = llm.clone().oneshot(hi()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BulkheadFull);
    assert!(refused.to_string().contains("a has all its places taken"), "{refused}");
    two.abort();
    let _ = two.await;
    assert_eq!(in_flight(), 1, "dropped while it waited");
    // Half read, and dropped.
    assert!(poll_fn(|cx| one.body_mut().poll_frame(cx)).await.is_some());
    assert_eq!(in_flight(), 1);
    drop(one);
    assert_eq!(in_flight(), 0);
    llm.clone().oneshot(hi().with_stream(true)).await.unwrap().text().await.unwrap();
    assert_eq!(in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_poll_it_holds_nothing() {
    for polls in 0..12 {
        let leaf = Strict::new().pending(3).takes(ms(5)).fails(2, failure(ErrorKind::Server));
        let llm = of(["a", "b", "c"].map(|name| Deployment::new(name, leaf.clone())));
        let mut call = Box::pin(llm.clone().oneshot(hi()));
        let mut done = false;
        for _ in 0..polls {
            if done {
                break;
            }
            done = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
            advance(ms(1)).await;
        }
        drop(call);
        assert!(llm.handle().deployments().iter().all(|it| it.in_flight == 0), "{polls}");
        assert_eq!(leaf.running(), 0, "{polls}");
        llm.oneshot(hi()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_readiness_and_is_called_from_many_tasks() {
    let leaf = Strict::new().pending(2).takes(ms(20)).fails_readiness(1);
    let llm = of(["a", "b"].map(|name| Deployment::new(name, leaf.clone())));
    let calls = (0..64).map(|nth| {
        let mut llm = llm.clone();
        tokio::spawn(async move {
            llm.ready().await.unwrap();
            // Half of them are dropped after they were ready.
            if nth % 2 == 0 { None } else { Some(llm.call(hi()).await) }
        })
    });
    for answer in join_all(calls).await {
        answer.unwrap().transpose().unwrap();
    }
    assert!(llm.handle().deployments().iter().all(|it| it.in_flight == 0));
    assert_eq!(leaf.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_request_and_no_deployment_is_asked_after_it() {
    let slow = Strict::new().takes(secs(9));
    let llm = of(["a", "b"].map(|name| Deployment::new(name, slow.clone())));
    let begun = Instant::now();
    let error = llm.clone().oneshot(hi().with_timeout(secs(2))).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed(), slow.calls()), (ErrorKind::Timeout, secs(2), 1));
    assert_eq!(slow.running(), 0);
    assert_eq!(error.attempts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_stays_and_moves_once_when_it_must() {
    let cluster = Cluster::new(BalanceLayer::new(), &["a", "b", "c", "d"]);
    let ask = async |session: &str| cluster.send(hi().with_session(session.to_owned())).await.unwrap();
    let mut homes = Vec::new();
    for session in ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"] {
        let home = ask(session).await;
        for _ in 0..5 {
            assert_eq!(ask(session).await, home);
        }
        homes.push(home);
    }
    assert!(homes.iter().any(|home| *home != homes[0]), "{homes:?}");
    let (home, at) = (homes[0].clone(), ["a", "b", "c", "d"].iter().position(|name| *name == homes[0]).unwrap());
    cluster.providers[at].fail(Fault::ServerError);
    let moved = ask("s0").await;
    assert_ne!(moved, home, "a deployment that just failed is out of the question");
    cluster.providers[at].heal();
    for _ in 0..50 {
        assert_eq!(ask("s0").await, moved, "it stays where it went");
    }
    sleep(secs(601)).await;
    for session in 0..200 {
        ask(&format!("other {session}")).await;
    }
    assert_eq!(ask("s0").await, home, "never pinned for ever");
}

#[tokio::test(start_paused = true)]
async fn a_hot_key_leaves_a_home_that_costs_twice_as_much() {
    let cluster = Cluster::new(BalanceLayer::new(), &["a", "b", "c", "d"]);
    let calls = (0..200).map(|_| cluster.send(hi().with_session("hot")));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    let calls = cluster.calls();
    assert!(
        calls.iter().all(|calls| *calls < 120) && calls.iter().filter(|calls| **calls > 20).count() > 1,
        "{calls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn its_own_zone_comes_first_while_it_serves() {
    let names = [("a", "eu"), ("b", "us"), ("c", "eu"), ("d", "us")];
    let leaf = Simulated::new("m").latency(ms(100));
    let llm = of_with(
        BalanceLayer::new().zone("us"),
        names.map(|(name, zone)| Deployment::new(name, leaf.clone()).zone(zone)),
    );
    let ask = async || llm.clone().oneshot(hi()).await.unwrap().served_by().deployment.unwrap().to_owned();
    for _ in 0..100 {
        assert!(["b", "d"].contains(&&*ask().await));
    }
    let handle = llm.handle();
    assert!(handle.drain("b") && handle.drain("d") && !handle.drain("d") && !handle.drain("nope"));
    assert!(["a", "c"].contains(&&*ask().await));
    assert!(handle.undrain("b") && !handle.undrain("b"));
    assert_eq!(ask().await, "b");
    // Under load it goes elsewhere too.
    let busy = join_all((0..100).map(|_| llm.clone().oneshot(hi()))).await;
    let served: Vec<_> = busy.iter().map(|answer| answer.as_ref().unwrap().served_by().deployment.unwrap()).collect();
    assert!(served.contains(&"a"));
    assert!(served.iter().filter(|name| **name == "b").count() > 25);
}

#[tokio::test(start_paused = true)]
async fn at_most_the_settable_share_is_closed_off() {
    let cluster = Cluster::new(BalanceLayer::new().max_ejected(0.5), &["a", "b", "c", "d"]);
    for circuit in &cluster.circuits[..3] {
        circuit.force_open();
    }
    for _ in 0..200 {
        cluster.ask().await.unwrap();
    }
    let calls = cluster.calls();
    assert_eq!(calls[..3].iter().filter(|calls| **calls == 0).count(), 2, "{calls:?}");
    assert!(calls[3] > 50 && calls[..3].iter().any(|calls| *calls > 20), "{calls:?}");
    let all = Cluster::new(BalanceLayer::new(), &["a", "b"]);
    all.circuits.iter().for_each(|circuit| assert!(circuit.force_open()));
    let error = all.ask().await.unwrap_err();
    assert_eq!((error.kind(), all.calls()), (ErrorKind::CircuitOpen, vec![0, 0]));
    assert!(error.to_string().contains("a has an open circuit, b has an open circuit"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_last_resort_of_a_fallback_passes_circuits() {
    let cluster = Cluster::new(BalanceLayer::new(), &["a", "b"]);
    cluster.circuits.iter().for_each(|circuit| assert!(circuit.force_open()));
    let mut request = hi();
    request.context_mut().last_resort = true;
    assert!(cluster.send(request.clone()).await.is_ok());
    cluster.llm.handle().drain("a");
    cluster.llm.handle().drain("b");
    let error = cluster.send(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfService, "but no operator's order");
}

#[tokio::test(start_paused = true)]
async fn deployments_change_while_requests_run() {
    let leaf = |name: &str| Simulated::new(name).latency(ms(100)).pace(secs(1)).reply("one two three");
    let llm = of([Deployment::new("a", leaf("a")), Deployment::new("b", leaf("b"))]);
    let handle = llm.handle();
    for _ in 0..10 {
        llm.clone().oneshot(hi().with_stream(true)).await.unwrap().text().await.unwrap();
    }
    let under_way = llm.clone().oneshot(hi().with_stream(true)).await.unwrap();
    handle.set(Deployments::new([Deployment::new("c", leaf("c"))]).unwrap());
    assert_eq!(under_way.text().await.unwrap(), "one two three", "its deployment is gone, and it ends where it is");
    let answer = llm.clone().oneshot(hi()).await.unwrap();
    assert_eq!(answer.served_by().deployment, Some("c"));
    assert!(handle.remove("c").unwrap_err().to_string().contains("the last one"));
    assert!(!handle.remove("a").unwrap());
    handle.add(Deployment::new("d", leaf("d")));
    handle.add(Deployment::new("c", leaf("other")).weight(5.0).unwrap());
    let known: Vec<_> =
        handle.deployments().into_iter().map(|it| (it.name.to_string(), it.answered, it.weight)).collect();
    assert_eq!(known, [("c".to_owned(), 1, 5.0), ("d".to_owned(), 0, 1.0)], "what is known stays");
    assert!(handle.remove("d").unwrap());

    let changes = [
        Ok(Change::Insert("e", Deployment::new("e", leaf("e")))),
        Ok(Change::Remove("c")),
        Ok(Change::Remove("e")),
        Err("gone"),
    ];
    assert_eq!(handle.follow(futures_util::stream::iter(changes)).await, Err("gone"));
    let names: Vec<_> = handle.deployments().into_iter().map(|it| it.name.to_string()).collect();
    assert_eq!(names, ["e"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_follows_changes_and_ends_with_the_service() {
    let (sender, changes) = tokio::sync::mpsc::unbounded_channel::<Result<Change<String, _>, &str>>();
    let stream = |mut changes: tokio::sync::mpsc::UnboundedReceiver<_>| {
        futures_util::stream::poll_fn(move |cx| changes.poll_recv(cx))
    };
    let llm = of([Deployment::new("a", Strict::new())]).discover(stream(changes));
    let names = |handle: &BalanceHandle<_>| {
        handle.deployments().into_iter().map(|it| it.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    sender.send(Ok(Change::Insert("b".to_owned(), Deployment::new("b", Strict::new())))).unwrap();
    sender.send(Ok(Change::Remove("a".to_owned()))).unwrap();
    sleep(ms(1)).await;
    let handle = llm.handle();
    assert_eq!(names(&handle), "b");
    drop(llm);
    sender.send(Ok(Change::Insert("c".to_owned(), Deployment::new("c", Strict::new())))).unwrap();
    sleep(ms(1)).await;
    assert_eq!(names(&handle), "b c", "a handle keeps it");
    drop(handle);
    sleep(ms(1)).await;
    assert!(sender.is_closed(), "while it waits");

    let (sender, changes) = tokio::sync::mpsc::unbounded_channel();
    let llm = of([Deployment::new("a", Strict::new())]).discover(stream(changes));
    sender.send(Err("the registry is gone")).unwrap();
    sleep(ms(1)).await;
    assert!(sender.is_closed());
    llm.oneshot(hi()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_layer_with_other_settings_goes_on_with_what_is_known() {
    let leaf = Strict::new();
    let deployments = || Deployments::new(["a", "b"].map(|name| Deployment::new(name, leaf.clone()))).unwrap();
    let first = BalanceLayer::new().layer(deployments());
    first.handle().drain("a");
    for _ in 0..5 {
        first.clone().oneshot(hi()).await.unwrap();
    }
    let second = BalanceLayer::new().affinity(false).state(&first.handle()).layer(deployments());
    let known = second.handle().deployments();
    assert_eq!((known[0].availability, known[1].answered), (Availability::Drained, 5));
}

#[tokio::test(start_paused = true)]
async fn the_order_of_failures_and_answers_never_unbalances_the_places() {
    let made = Arc::new(AtomicUsize::new(0));
    let leaf = {
        let made = made.clone();
        provider_fn(move |_| {
            let nth = made.fetch_add(1, SeqCst);
            async move {
                sleep(ms(nth as u64 % 50)).await;
                match nth % 5 {
                    0 => Err(failure(ErrorKind::Server)),
                    1 => Err(failure(ErrorKind::RateLimited)),
                    _ => Ok(LlmResponse::from_text("hello")),
                }
            }
        })
    };
    let llm = of(["a", "b", "c"].map(|name| Deployment::new(name, leaf.clone())));
    let calls = (0..500).map(|nth: u64| {
        let llm = llm.clone();
        async move {
            sleep(ms(nth)).await;
            // One caller in three leaves early.
            let patience = if nth.is_multiple_of(3) { ms(nth % 20) } else { secs(60) };
            let _ = tokio::time::timeout(patience, llm.oneshot(hi())).await;
        }
    });
    join_all(calls).await;
    assert!(llm.handle().deployments().iter().all(|it| it.in_flight == 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever is drained or open: a request goes to a deployment that serves if there is one, and fails if not.
    #[test]
    fn a_request_is_served_whenever_one_can(out in proptest::collection::vec(any::<bool>(), 1..12), seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let list = out.iter().enumerate().map(|(at, _)| {
                let weight = 1.0 + (seed.rotate_left(at as u32) % 1000) as f64;
                Deployment::new(at.to_string(), Strict::new()).weight(weight).unwrap()
            });
            let llm = BalanceLayer::new().seed(seed).layer(Deployments::new(list).unwrap());
            for (at, out) in out.iter().enumerate() {
                if *out {
                    llm.handle().drain(&at.to_string());
                }
            }
            for session in 0..8 {
                let served = llm.clone().oneshot(hi().with_session(format!("{session}"))).await;
                match served {
                    Ok(answer) => {
                        let at: usize = answer.served_by().deployment.unwrap().parse().unwrap();
                        assert!(!out[at]);
                    }
                    Err(error) => assert!(error.kind() == ErrorKind::OutOfService && out.iter().all(|out| *out)),
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_balanced_call_allocates_nothing_more_than_the_deployment() {
    let leaf = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("hello").with_request_id("r")) });
    let mut llm = of(["a", "b", "c"].map(|name| Deployment::new(name, leaf)));
    let request = hi();
    let mut alone = leaf;
    let direct = allocation_counter::measure(|| {
        let answer = alone.call(request.clone()).now_or_never();
        assert!(answer.is_some_and(|answer| answer.is_ok()));
    });
    for _ in 0..3 {
        let balanced = allocation_counter::measure(|| {
            let answer = llm.call(request.clone()).now_or_never();
            assert!(answer.is_some_and(|answer| answer.is_ok()));
        });
        assert_eq!(balanced.count_total, direct.count_total);
    }
}
