//! Who runs, and against what.

use std::time::Duration;

use failsafe::{Config, backoff, failure_policy};
use recloser::{AsyncRecloser, Recloser};
use tower::{Layer, Service, ServiceBuilder};

use crate::{
    calls::{Calls, Expect, calls, hold},
    observed,
    ours::{self, Llm},
    rivals::{Failsafe, Reclosed},
    stacks::{self, PLACES},
    subject::{Answers, AnswersLater, Fails, Hangs, Small, Subject},
};

/// One row of a table.
pub struct Contestant {
    /// The table, and the name in it: `"ready: bare"`.
    pub group: &'static str,
    pub name: String,
    pub calls: Calls,
}

impl Contestant {
    pub fn id(&self) -> String {
        format!("{}: {}", self.group, self.name)
    }
}

pub const READY: &str = "ready";
pub const PENDING: &str = "pending once";
pub const BREAKER: &str = "breaker";
pub const OPEN: &str = "open circuit";
pub const FULL: &str = "full bulkhead";
/// The tables, in the order in which they are printed.
pub const GROUPS: [&str; 7] = [READY, PENDING, BREAKER, ALONE, OBSERVED, OPEN, FULL];
/// Each of our layers by itself, to see where the sum comes from.
pub const ALONE: &str = "one layer of ours";
/// The five with all that watches them.
pub const OBSERVED: &str = "observed";
/// What the others in a table are measured against.
pub const BARE: &str = "bare";
const NOTHING: &str = "five layers that do nothing";
const BARE_ON_LLM: &str = "bare, on LlmRequest";

/// What marks a rival that runs on our request and answer.
pub const ON_LLM: &str = ", on LlmRequest";
pub const OURS: &str = "steadfast's five";

const LONG: Duration = Duration::from_secs(3600);

/// All contestants, ready to be called. Needs a tokio runtime's context.
pub fn all() -> Vec<Contestant> {
    let mut list = Vec::new();
    stacked::<Small>(&mut list, "");
    stacked::<Llm>(&mut list, ON_LLM);
    ours_stacked(&mut list);
    breakers::<Small>(&mut list);
    ours_alone(&mut list);
    observed::add(&mut list);
    refusals::<Small>(&mut list);
    ours_refusing(&mut list);
    list
}

struct Group<'a, K> {
    list: &'a mut Vec<Contestant>,
    group: &'static str,
    suffix: &'static str,
    expect: Expect,
    subject: std::marker::PhantomData<K>,
}

impl<'a, K: Subject> Group<'a, K> {
    fn new(list: &'a mut Vec<Contestant>, group: &'static str, suffix: &'static str, expect: Expect) -> Self {
        Self { list, group, suffix, expect, subject: std::marker::PhantomData }
    }

    fn add<S: Service<K::Request> + 'static>(&mut self, name: &str, service: S) {
        self.list.push(Contestant {
            group: self.group,
            name: format!("{name}{}", self.suffix),
            calls: calls(service, K::request(), self.expect),
        });
    }
}

fn stacked<K: Subject>(list: &mut Vec<Contestant>, suffix: &'static str) {
    let mut ready = Group::<K>::new(list, READY, suffix, Expect::Answer);
    ready.add(BARE, Answers::<K>::new());
    ready.add(NOTHING, stacks::nothing_five::<K, _>(Answers::<K>::new()));
    ready.add("tower's three", stacks::tower_three::<K, _>(Answers::<K>::new()));
    ready.add("tower-resilience's five", stacks::resilience_five::<K, _>(Answers::<K>::new()));

    let mut pending = Group::<K>::new(list, PENDING, suffix, Expect::Answer);
    pending.add(BARE, AnswersLater::<K>::new());
    pending.add(NOTHING, stacks::nothing_five::<K, _>(AnswersLater::<K>::new()));
    pending.add("tower's three", stacks::tower_three::<K, _>(AnswersLater::<K>::new()));
    pending.add("tower-resilience's five", stacks::resilience_five::<K, _>(AnswersLater::<K>::new()));
}

fn ours_stacked(list: &mut Vec<Contestant>) {
    let mut ready = Group::<Llm>::new(list, READY, "", Expect::Answer);
    ready.add(OURS, ours::five(Answers::<Llm>::new()));
    ready.add("steadfast's timeout, bulkhead, retry", ours::three(Answers::<Llm>::new()));

    let mut pending = Group::<Llm>::new(list, PENDING, "", Expect::Answer);
    pending.add(OURS, ours::five(AnswersLater::<Llm>::new()));
    pending.add("steadfast's timeout, bulkhead, retry", ours::three(AnswersLater::<Llm>::new()));
}

fn ours_alone(list: &mut Vec<Contestant>) {
    let mut closed = Group::<Llm>::new(list, BREAKER, "", Expect::Answer);
    closed.add(BARE_ON_LLM, Answers::<Llm>::new());
    closed.add("steadfast", ours::breaker().layer(Answers::<Llm>::new()));

    let mut alone = Group::<Llm>::new(list, ALONE, "", Expect::Answer);
    alone.add(BARE_ON_LLM, Answers::<Llm>::new());
    alone.add("timeout", ours::timeout(Answers::<Llm>::new()));
    alone.add("bulkhead", ours::bulkhead(PLACES, Answers::<Llm>::new()));
    alone.add("fallback", ours::fallback(Answers::<Llm>::new()));
    alone.add("retry", ours::retry(Answers::<Llm>::new()));
    alone.add("breaker", ours::breaker().layer(Answers::<Llm>::new()));
}

fn ours_refusing(list: &mut Vec<Contestant>) {
    let mut open = Group::<Llm>::new(list, OPEN, "", Expect::Refusal);
    let layer = ours::breaker();
    layer.handle().force_open();
    open.add("steadfast, the refusal", layer.layer(Fails::<Llm>::new()));
    let mut skipped = Group::<Llm>::new(open.list, OPEN, "", Expect::Answer);
    let layer = ours::breaker();
    layer.handle().force_open();
    skipped.add("steadfast, fallback to the next tier", ours::fallback(layer.layer(Fails::<Llm>::new())));

    let mut full = Group::<Llm>::new(list, FULL, "", Expect::Refusal);
    full.add("steadfast", occupied::<Llm, _>(ours::bulkhead(1, Hangs::<Llm>::new())));
}

fn breakers<K: Subject>(list: &mut Vec<Contestant>) {
    let mut closed = Group::<K>::new(list, BREAKER, "", Expect::Answer);
    closed.add(BARE, Answers::<K>::new());
    closed.add("recloser", recloser(Answers::<K>::new()));
    closed.add("failsafe", failsafe_of(Answers::<K>::new()));
    closed.add("tower-resilience", stacks::breaker().layer(Answers::<K>::new()));
    closed.add("tower-resilience, window", stacks::windowed_breaker().layer(Answers::<K>::new()));
}

fn refusals<K: Subject>(list: &mut Vec<Contestant>) {
    let mut open = Group::<K>::new(list, OPEN, "", Expect::Refusal);
    open.add(BARE, Fails::<K>::new());
    open.add("recloser", recloser(Fails::<K>::new()));
    open.add("failsafe", failsafe_of(Fails::<K>::new()));
    open.add("tower-resilience", stacks::breaker().layer(Fails::<K>::new()));
    for contestant in open.list.iter_mut().filter(|c| c.group == OPEN) {
        // The bare service is no breaker, but the failures that open the others do it no harm.
        (contestant.calls)(200);
    }

    // tower-resilience's bulkhead is not among them: its refusal waits for a timer (see `wall`).
    let mut full = Group::<K>::new(list, FULL, "", Expect::Refusal);
    full.add(BARE, Fails::<K>::new());
    full.add(
        "tower's limit + load-shed",
        occupied::<K, _>(ServiceBuilder::new().load_shed().concurrency_limit(1).service(Hangs::<K>::new())),
    );
}

/// The service with its one place taken for good.
pub fn occupied<K: Subject, S: Service<K::Request>>(mut service: S) -> S {
    std::mem::forget(hold(&mut service, K::request()));
    service
}

pub fn recloser<S>(inner: S) -> Reclosed<S> {
    let breaker = Recloser::custom().open_wait(LONG).build();
    Reclosed { inner, breaker: AsyncRecloser::from(breaker) }
}

pub fn failsafe_of<S>(inner: S) -> Failsafe<S, impl failsafe::futures::CircuitBreaker + Clone + Send + Sync> {
    let policy = failure_policy::consecutive_failures(5, backoff::constant(LONG));
    Failsafe { inner, breaker: Config::new().failure_policy(policy).build() }
}
