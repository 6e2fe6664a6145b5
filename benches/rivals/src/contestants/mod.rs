//! The calls, and their rivals: the rows of the tables of costs per call.

mod growth;
mod layers;
mod observed;
mod refusals;
mod stacks;

pub(crate) use self::refusals::occupied;

use std::marker::PhantomData;

use tower::Service;

use crate::{
    calls::{Calls, Expect, calls},
    subject::Subject,
};

/// One row of a table.
pub struct Contestant {
    /// The table, and the name in it: `"ready: bare"`.
    pub group: &'static str,
    pub name: String,
    make: Box<dyn Fn() -> Calls>,
}

impl Contestant {
    /// The table and the name, which is what the command line calls it.
    pub fn id(&self) -> String {
        format!("{}: {}", self.group, self.name)
    }

    /// Who, and with how many, in a table of costs that should not grow.
    pub fn sized(&self) -> Option<(&str, usize)> {
        GROWTH.contains(&self.group).then(|| growth::split(&self.name)).flatten()
    }

    /// A new one, ready to be called. Needs a tokio runtime's context.
    pub fn calls(&self) -> Calls {
        (self.make)()
    }
}

pub const READY: &str = "ready";
pub const PENDING: &str = "pending once";
pub const TIMEOUT: &str = "timeout";
pub const BULKHEAD: &str = "bulkhead";
pub const RETRY: &str = "retry";
pub const BREAKER: &str = "breaker";
pub const FALLBACK: &str = "fallback";
pub const HEDGE: &str = "hedge";
/// The five with all that watches them.
pub const OBSERVED: &str = "observed";
pub const OPEN: &str = "open circuit";
pub const FULL: &str = "full bulkhead";

pub const TIERS: &str = "tiers";
/// One of so many deployments is chosen.
pub const DEPLOYMENTS: &str = "deployments";
pub const FEATURES: &str = "features";
pub const KEYS: &str = "keys";
pub const COUNT_WINDOW: &str = "calls in a window of calls";
pub const TIME_WINDOW: &str = "calls in a window of time";
pub const IN_FLIGHT: &str = "calls in flight";
/// The tables of costs that should not grow, in the order in which they are shown.
pub const GROWTH: [&str; 7] = [TIERS, DEPLOYMENTS, FEATURES, KEYS, COUNT_WINDOW, TIME_WINDOW, IN_FLIGHT];

/// The row that the others in a table are measured against.
pub const BARE: &str = "bare";
pub const NOTHING: &str = "five layers that do nothing";
/// The mark of a rival that runs on our request and answer.
pub const ON_LLM: &str = ", on LlmRequest";
/// The name of ours in every table of layers.
pub const OURS: &str = "steadfast";
pub const OUR_FIVE: &str = "steadfast's five";
pub const OUR_THREE: &str = "steadfast's timeout, bulkhead, retry";

/// All contestants.
pub fn all() -> Vec<Contestant> {
    let mut list = Vec::new();
    stacks::add(&mut list);
    layers::add(&mut list);
    observed::add(&mut list);
    refusals::add(&mut list);
    growth::add(&mut list);
    list
}

/// Rows of one table, on one kind of request and answer.
struct Group<'a, K> {
    list: &'a mut Vec<Contestant>,
    group: &'static str,
    suffix: &'static str,
    expect: Expect,
    subject: PhantomData<K>,
}

impl<'a, K: Subject> Group<'a, K> {
    fn new(list: &'a mut Vec<Contestant>, group: &'static str, suffix: &'static str, expect: Expect) -> Self {
        Self { list, group, suffix, expect, subject: PhantomData }
    }

    /// A row, whose service is made when it is wanted.
    fn add<S: Service<K::Request> + 'static>(&mut self, name: impl AsRef<str>, make: impl Fn() -> S + 'static) {
        let expect = self.expect;
        self.made(name, move || calls(make(), K::request(), expect));
    }

    fn made(&mut self, name: impl AsRef<str>, make: impl Fn() -> Calls + 'static) {
        let name = format!("{}{}", name.as_ref(), self.suffix);
        self.list.push(Contestant { group: self.group, name, make: Box::new(make) });
    }
}
