//! One layer at a time, around a service that answers at once.

use tower::Layer;
use tower_resilience::hedge::HedgeLayer;

use super::{BARE, BREAKER, BULKHEAD, Contestant, FALLBACK, Group, HEDGE, OURS, RETRY, TIMEOUT};
use crate::{
    calls::Expect,
    ours::{self, Llm},
    rivals::{LONG, PLACES, resilience, seatbelt, tower as towers, wrapped},
    subject::{Answers, Small},
};

type Inner = Answers<Small>;

pub(super) fn add(list: &mut Vec<Contestant>) {
    let mut rows = group(list, TIMEOUT);
    rows.add("tower", || towers::timeout::<Small, _>(Inner::new()));
    rows.add("tower-resilience", || resilience::timeout::<Small, _>(Inner::new()));
    rows.add("seatbelt", || seatbelt::timeout::<Small, _>(&seatbelt::context::<Small>(), Inner::new()));
    ours(list, TIMEOUT).add(OURS, || ours::timeout(Answers::<Llm>::new()));

    let mut rows = group(list, BULKHEAD);
    rows.add("tower's ConcurrencyLimit", || towers::limit(PLACES, Inner::new()));
    rows.add("tower-resilience", || resilience::bulkhead(PLACES, Inner::new()));
    liter(list, BULKHEAD);
    ours(list, BULKHEAD).add(OURS, || ours::bulkhead(PLACES, Answers::<Llm>::new()));

    let mut rows = group(list, RETRY);
    rows.add("tower", || towers::retry(Inner::new()));
    rows.add("tower-resilience", || resilience::retry::<Small, _>(Inner::new()));
    rows.add("seatbelt", || seatbelt::retry::<Small, _>(&seatbelt::context::<Small>(), Inner::new()));
    ours(list, RETRY).add(OURS, || ours::retry(Answers::<Llm>::new()));

    let mut rows = group(list, BREAKER);
    rows.add("recloser", || wrapped::recloser(Inner::new()));
    rows.add("failsafe", || wrapped::failsafe(Inner::new()));
    rows.add("tower-resilience", || resilience::breaker().layer(Inner::new()));
    rows.add("tower-resilience, window", || resilience::count_window(100).layer(Inner::new()));
    rows.add("seatbelt", || seatbelt::breaker::<Small, _>(&seatbelt::context::<Small>(), Inner::new()));
    liter(list, BREAKER);
    let mut rows = ours(list, BREAKER);
    rows.add(OURS, || ours::breaker().layer(Answers::<Llm>::new()));
    rows.add("steadfast, window", || ours::count_window(100).layer(Answers::<Llm>::new()));

    let mut rows = group(list, FALLBACK);
    rows.add("tower-resilience", || resilience::fallback::<Small, _>(Inner::new()));
    rows.add("seatbelt", || seatbelt::fallback::<Small, _>(&seatbelt::context::<Small>(), Inner::new()));
    liter(list, FALLBACK);
    ours(list, FALLBACK).add(OURS, || ours::fallback(Answers::<Llm>::new()));

    let mut rows = group(list, HEDGE);
    rows.add("tower", || towers::hedge::<Small, _>(Inner::new()));
    rows.add("tower-resilience", || HedgeLayer::builder().delay(LONG).build().layer(Inner::new()));
    rows.add("seatbelt", || seatbelt::hedging::<Small, _>(&seatbelt::context::<Small>(), LONG, Inner::new()));
    // liter-llm's makes its calls in tasks, so that there is nothing to poll by hand.
    ours(list, HEDGE).add(OURS, || ours::hedge(LONG, Answers::<Llm>::new()));
}

fn group<'a>(list: &'a mut Vec<Contestant>, name: &'static str) -> Group<'a, Small> {
    let mut rows = Group::<Small>::new(list, name, "", Expect::Answer);
    rows.add(BARE, Inner::new);
    rows
}

fn ours<'a>(list: &'a mut Vec<Contestant>, name: &'static str) -> Group<'a, Llm> {
    let mut rows = Group::<Llm>::new(list, name, "", Expect::Answer);
    rows.add("bare, on LlmRequest", Answers::<Llm>::new);
    rows
}

#[cfg(feature = "liter-llm")]
fn liter(list: &mut Vec<Contestant>, name: &'static str) {
    use crate::rivals::liter::{self, Liter};

    let inner = Answers::<Liter>::new;
    let mut rows = Group::<Liter>::new(list, name, "", Expect::Answer);
    rows.add("bare, on liter-llm's request", inner);
    match name {
        BULKHEAD => rows.add("liter-llm", move || liter::limit(PLACES, inner())),
        BREAKER => rows.add("liter-llm", move || liter::breaker(inner())),
        _ => rows.add("liter-llm", move || liter::fallback(inner())),
    }
}

#[cfg(not(feature = "liter-llm"))]
fn liter(_: &mut Vec<Contestant>, _: &'static str) {}
