//! The cost of a call with more of everything around it. If it grows, a busy day is a slow day.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, FallbackLayer, LlmRequest, LlmResponse, layers::circuit_breaker::Window,
};
use tower::{Layer, Service};

use super::{COUNT_WINDOW, Contestant, DEPLOYMENTS, FEATURES, Group, IN_FLIGHT, KEYS, OURS, TIERS, TIME_WINDOW};
use crate::{
    calls::{Calls, Expect, calls, hold},
    ours::{self, Llm},
    rivals::{LONG, PLACES, resilience, seatbelt, tower as towers, wrapped},
    subject::{Answers, HoldsFirst, Small, SmallRequest, Subject},
};

pub(super) fn add(list: &mut Vec<Contestant>) {
    for size in [1, 4, 16, 64] {
        liter_tiers(list, size);
        rows::<Llm>(list, TIERS).add(row(OURS, size), move || tiers(size));
    }
    // Nearly every deployment has answered before: a choice compares what is known of two.
    for size in [1, 2, 10, 100, 1_000] {
        let mut rows = rows::<Llm>(list, DEPLOYMENTS);
        let answered = 10 * size;
        rows.add(row("the deployment alone", size), Answers::<Llm>::new);
        rows.made(row("tower's p2c by peak EWMA", size), move || {
            full_of_ours(towers::balance::<Llm, _>(size, Answers::<Llm>::new()), answered)
        });
        rows.made(row(OURS, size), move || full_of_ours(ours::balance(size, Answers::<Llm>::new()), answered));
        rows.made(row("steadfast, by session", size), move || {
            let mut service = ours::balance(size, Answers::<Llm>::new());
            (0..answered).for_each(|_| once(&mut service, Llm::request()));
            calls(service, Llm::request().with_session("talk"), Expect::Answer)
        });
    }
    for size in [1, 100, 10_000] {
        rows::<Llm>(list, FEATURES).add(row(OURS, size), move || features(size));
    }
    for size in [1, 100, 10_000] {
        rows::<Small>(list, KEYS).made(row("seatbelt", size), move || seatbelt_keys(size));
        rows::<Llm>(list, KEYS).made(row(OURS, size), move || keys(size));
    }
    for size in [100, 10_000, 100_000] {
        let mut rivals = rows::<Small>(list, COUNT_WINDOW);
        rivals.made(row("recloser", size), move || full_of(wrapped::recloser_window(size, Inner::new()), size));
        rivals.made(row("tower-resilience", size), move || {
            full_of(resilience::count_window(size).layer(Inner::new()), size)
        });
        rows::<Llm>(list, COUNT_WINDOW).made(row(OURS, size), move || {
            full_of_ours(ours::count_window(size as u32).layer(Answers::<Llm>::new()), size)
        });
    }
    // Of each the first call comes after so many within the last minutes.
    for size in [100, 1_000, 10_000] {
        let mut rivals = rows::<Small>(list, TIME_WINDOW);
        rivals
            .made(row("tower-resilience", size), move || full_of(resilience::time_window().layer(Inner::new()), size));
        rivals.made(row("seatbelt", size), move || {
            full_of(seatbelt::breaker::<Small, _>(&seatbelt::context::<Small>(), Inner::new()), size)
        });
        rows::<Llm>(list, TIME_WINDOW).made(row(OURS, size), move || full_of_ours(time_window(), size));
    }
    for size in [0, 100, 10_000] {
        let mut rivals = rows::<Small>(list, IN_FLIGHT);
        rivals.add(row("tower's ConcurrencyLimit", size), move || {
            busy::<Small, _>(towers::limit(size + PLACES, HoldsFirst::<Small>::new(size)), size)
        });
        rivals.add(row("tower-resilience's bulkhead", size), move || {
            busy::<Small, _>(resilience::bulkhead(size + PLACES, HoldsFirst::<Small>::new(size)), size)
        });
        rows::<Llm>(list, IN_FLIGHT).add(row("steadfast's five", size), move || {
            let inner = HoldsFirst::<Llm>::new(size);
            busy::<Llm, _>(ours::five_with_places(size + PLACES, inner), size)
        });
    }
}

type Inner = Answers<Small>;

fn rows<'a, K: Subject>(list: &'a mut Vec<Contestant>, group: &'static str) -> Group<'a, K> {
    Group::new(list, group, "", Expect::Answer)
}

/// A name that [`split`] takes apart.
fn row(name: &str, size: usize) -> String {
    format!("{name}, {size}")
}

/// Who, and with how many.
pub(super) fn split(name: &str) -> Option<(&str, usize)> {
    let (name, size) = name.rsplit_once(", ")?;
    Some((name, size.parse().ok()?))
}

fn tiers(size: usize) -> steadfast::Fallback<Answers<Llm>> {
    let layer = FallbackLayer::new("primary");
    (1..size).fold(layer, |layer, n| layer.tier(format!("tier {n}"), Answers::<Llm>::new())).layer(Answers::new())
}

fn features(size: usize) -> steadfast::Bulkhead<Answers<Llm>> {
    let layer = BulkheadLayer::new().feature("chat", PLACES);
    (1..size).fold(layer, |layer, n| layer.feature(format!("feature {n}"), PLACES)).layer(Answers::new())
}

/// Each key has been called once; then the one of the request is called.
fn keys(size: usize) -> Calls {
    let layer = CircuitBreakerLayer::new("keyed")
        .keyed(|request| request.feature().unwrap_or("none").to_owned().into(), size + 1);
    let mut service = layer.layer(Answers::<Llm>::new());
    for n in 1..size {
        once(&mut service, LlmRequest::prompt("Hello.").with_feature(format!("key {n}")));
    }
    calls(service, Llm::request(), Expect::Answer)
}

fn seatbelt_keys(size: usize) -> Calls {
    let context = seatbelt::context::<Small>();
    let key = |request: &SmallRequest| request.0.to_string().into();
    let mut service = seatbelt::keyed_breaker::<Small, _>(&context, key, Inner::new());
    for n in 1..size {
        once(&mut service, SmallRequest(format!("key {n}").into()));
    }
    calls(service, Small::request(), Expect::Answer)
}

fn time_window() -> steadfast::CircuitBreaker<Answers<Llm>> {
    CircuitBreakerLayer::new("primary")
        .failure_rate(0.5, Window::last(Duration::from_secs(300)))
        .cooldown(LONG)
        .layer(Answers::new())
}

fn full_of<S: Service<SmallRequest, Response = u64> + 'static>(service: S, size: usize) -> Calls {
    let mut calls = calls(service, Small::request(), Expect::Answer);
    calls(size as u64);
    calls
}

fn full_of_ours<S: Service<LlmRequest, Response = LlmResponse> + 'static>(service: S, size: usize) -> Calls {
    let mut calls = calls(service, Llm::request(), Expect::Answer);
    calls(size as u64);
    calls
}

fn once<S: Service<R>, R>(service: &mut S, request: R) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let Poll::Ready(Ok(_)) = pin!(service.call(request)).poll(&mut cx) else { panic!("no answer at once") };
}

/// The service with so many calls that never end.
fn busy<K: Subject, S: Service<K::Request>>(mut service: S, size: usize) -> S {
    for _ in 0..size {
        std::mem::forget(hold(&mut service, K::request()));
    }
    service
}

#[cfg(feature = "liter-llm")]
fn liter_tiers(list: &mut Vec<Contestant>, size: usize) {
    use crate::rivals::liter::{self, Liter};

    rows::<Liter>(list, TIERS).add(row("liter-llm", size), move || liter::chain(size, Answers::<Liter>::new()));
}

#[cfg(not(feature = "liter-llm"))]
fn liter_tiers(_: &mut Vec<Contestant>, _: usize) {}
