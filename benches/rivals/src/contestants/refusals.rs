//! The cost of a refusal: of a circuit that is open, of a bulkhead that is full.

use tower::{Layer, Service, ServiceBuilder};

use super::{BARE, Contestant, FULL, Group, OPEN, OURS};
use crate::{
    calls::{Expect, calls, hold},
    ours::{self, Llm},
    rivals::{resilience, seatbelt, tower as towers, wrapped},
    subject::{Fails, Hangs, Small, Subject},
};

/// More failures than any of the breakers needs to open.
const FAILURES: u64 = 200;

pub(super) fn add(list: &mut Vec<Contestant>) {
    let mut open = Group::<Small>::new(list, OPEN, "", Expect::Refusal);
    // No breaker: a yardstick, whom failures do no harm.
    open.add(BARE, Fails::<Small>::new);
    opened(&mut open, "recloser", || wrapped::recloser(Fails::<Small>::new()));
    opened(&mut open, "failsafe", || wrapped::failsafe(Fails::<Small>::new()));
    opened(&mut open, "tower-resilience", || resilience::breaker().layer(Fails::<Small>::new()));
    opened(&mut open, "seatbelt", || {
        seatbelt::breaker::<Small, _>(&seatbelt::context::<Small>(), Fails::<Small>::new())
    });
    liter_open(list);
    Group::<Llm>::new(list, OPEN, "", Expect::Refusal).add(OURS, || {
        let layer = ours::breaker();
        layer.handle().force_open();
        layer.layer(Fails::<Llm>::new())
    });
    Group::<Llm>::new(list, OPEN, "", Expect::Answer).add("steadfast, with the next tier's answer", || {
        let layer = ours::breaker();
        layer.handle().force_open();
        ours::fallback(layer.layer(Fails::<Llm>::new()))
    });

    // tower-resilience's bulkhead is not among them: its refusal waits for a timer (see `measure::wall`).
    let mut full = Group::<Small>::new(list, FULL, "", Expect::Refusal);
    full.add(BARE, Fails::<Small>::new);
    full.add("tower's limit and load-shed", || {
        occupied::<Small, _>(ServiceBuilder::new().load_shed().service(towers::limit(1, Hangs::<Small>::new())))
    });
    Group::<Llm>::new(list, FULL, "", Expect::Refusal)
        .add(OURS, || occupied::<Llm, _>(ours::bulkhead(1, Hangs::<Llm>::new())));
}

fn opened<K: Subject, S: Service<K::Request> + 'static>(
    rows: &mut Group<'_, K>,
    name: &str,
    make: impl Fn() -> S + 'static,
) {
    rows.made(name, move || {
        let mut calls = calls(make(), K::request(), Expect::Refusal);
        calls(FAILURES);
        calls
    });
}

#[cfg(feature = "liter-llm")]
fn liter_open(list: &mut Vec<Contestant>) {
    use crate::rivals::liter::{self, Liter};

    let mut open = Group::<Liter>::new(list, OPEN, "", Expect::Refusal);
    opened(&mut open, "liter-llm", || liter::breaker(Fails::<Liter>::new()));
}

#[cfg(not(feature = "liter-llm"))]
fn liter_open(_: &mut Vec<Contestant>) {}

/// The service with its one place taken for good.
pub(crate) fn occupied<K: Subject, S: Service<K::Request>>(mut service: S) -> S {
    std::mem::forget(hold(&mut service, K::request()));
    service
}
