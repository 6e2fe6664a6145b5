//! The tier that serves each chain: the one account of it, from which the status, the metrics and the alerts are made.
//!
//! A chain is known by its id. The fallback's events say when another tier serves it. After relapses these
//! wait, so that nobody is called for each; the callers' outcomes do not. Three answers in a row that came past the
//! first tier show that another one serves, whatever was reported, and three in a row of the first one that it is back.

use std::sync::Arc;

use tokio::time::Instant;

use steadfast::{
    ErrorKind,
    events::{RequestEnded, RequestOutcome},
    ledger::{Attempt, Next},
};

/// The chains whose first tier does not serve, or may not.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    chains: Vec<Chain>,
}

/// A chain whose first tier has failed of late.
#[derive(Debug)]
struct Chain {
    id: Arc<str>,
    first: Arc<str>,
    /// The tier that answers in its place.
    to: Arc<str>,
    /// The time of the switch, or else of the first answer in a row that came past the first tier.
    since: Instant,
    /// True if another tier serves.
    is_away: bool,
    /// True if an event has said so: then another event says when it is over.
    is_told: bool,
    /// The answers in a row that came past the first tier, and those by it.
    past: u32,
    by_first: u32,
    /// The beginning of the first of the latter.
    back: Option<Instant>,
}

/// A change that the outcomes of callers' requests show.
#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    /// This tier serves the chain in place of its first one, from this moment.
    Away { chain: Arc<str>, to: Arc<str>, since: Instant },
    /// The chain's first tier serves again, after another one has since this moment: requests that began then show it.
    Home { chain: Arc<str>, since: Instant, began: Instant },
}

/// The answers in a row that show which tier serves.
const SHOWN: u32 = 3;
/// More chains than a file has, so that a stream of odd names takes no memory.
const MOST: usize = 1024;

impl Chains {
    /// Takes the report that another tier serves a chain.
    pub(crate) fn switched(&mut self, id: &Arc<str>, first: &Arc<str>, to: &Arc<str>, at: Instant) {
        let Some(chain) = self.chain(id, first, to, at) else { return };
        if !chain.is_away {
            chain.since = at;
        }
        (chain.is_away, chain.is_told, chain.past, chain.by_first, chain.back) = (true, true, 0, 0, None);
        chain.to = to.clone();
    }

    /// Takes the report that a chain's first tier serves again.
    pub(crate) fn recovered(&mut self, id: &str) {
        self.chains.retain(|chain| *chain.id != *id);
    }

    /// Forgets all chains but those that begin at these tiers.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.chains.retain(|chain| is_there(&chain.first) && is_there(&chain.to));
    }

    /// Records that events were lost. From now on the first answer of a first tier shows that it serves.
    pub(crate) fn lost(&mut self) {
        for chain in &mut self.chains {
            (chain.is_told, chain.by_first) = (false, SHOWN - 1);
        }
    }

    /// Takes the outcome of a request. Returns the change that it shows.
    #[inline]
    pub(crate) fn ended(&mut self, ended: &RequestEnded) -> Option<Change> {
        if self.chains.is_empty() && ended.failures.is_none() {
            return None;
        }
        self.compared(ended)
    }

    #[cold]
    fn compared(&mut self, ended: &RequestEnded) -> Option<Change> {
        let (first, by) = (first_asked(ended)?, ended.tier.as_ref()?);
        let id = ended.chain.as_ref().unwrap_or(first);
        let shows = ended.outcome == RequestOutcome::Answered && ended.cached.is_none();
        if !shows || !is_evidence(ended) {
            return None;
        }
        if first == by {
            return self.answered_by_first(id, ended);
        }
        // An answer of a tier in another chain shows that its own chain is served.
        let chain = self.chain(id, first, by, ended.at)?;
        (chain.by_first, chain.back) = (0, None);
        if chain.is_away && chain.to == *by {
            chain.past = 0;
            return None;
        }
        chain.past += 1;
        if chain.past < SHOWN {
            return None;
        }
        chain.past = 0;
        (chain.is_away, chain.to) = (true, by.clone());
        Some(Change::Away { chain: id.clone(), to: by.clone(), since: chain.since })
    }

    fn answered_by_first(&mut self, id: &Arc<str>, ended: &RequestEnded) -> Option<Change> {
        let place = self.chains.iter().position(|chain| chain.id == *id)?;
        let chain = &mut self.chains[place];
        // A request that began before proves nothing about the time after.
        let began = ended.at.checked_sub(ended.took).unwrap_or(ended.at);
        if chain.is_told || chain.is_away && began <= chain.since {
            return None;
        }
        (chain.past, chain.by_first) = (0, chain.by_first + 1);
        let began = *chain.back.get_or_insert(began);
        if chain.is_away && chain.by_first < SHOWN {
            return None;
        }
        let chain = self.chains.swap_remove(place);
        chain.is_away.then_some(Change::Home { chain: chain.id, since: chain.since, began })
    }

    fn chain(&mut self, id: &Arc<str>, first: &Arc<str>, to: &Arc<str>, at: Instant) -> Option<&mut Chain> {
        let known = self.chains.iter().position(|chain| chain.id == *id);
        let place = match known {
            Some(place) => place,
            None if self.chains.len() == MOST => return None,
            None => {
                let (id, first, to) = (id.clone(), first.clone(), to.clone());
                let chain = Chain {
                    id,
                    first,
                    to,
                    since: at,
                    is_away: false,
                    is_told: false,
                    past: 0,
                    by_first: 0,
                    back: None,
                };
                self.chains.push(chain);
                self.chains.len() - 1
            }
        };
        Some(&mut self.chains[place])
    }

    /// Returns the tier that serves a chain in place of its first one, and since when; `None` while the first one does.
    pub(crate) fn away(&self, id: &str) -> Option<(&Arc<str>, Instant)> {
        let chain = self.chains.iter().find(|chain| chain.is_away && *chain.id == *id)?;
        Some((&chain.to, chain.since))
    }

    /// Returns whether a tier serves in another one's place.
    pub(crate) fn stands_in(&self, tier: &str) -> bool {
        self.chains.iter().any(|chain| chain.is_away && *chain.to == *tier)
    }

    /// Returns whether requests have come past no first tier of late.
    pub(crate) fn is_quiet(&self) -> bool {
        self.chains.is_empty()
    }
}

/// Returns the id of the chain that a request took. `None` if no layer names tiers.
#[inline]
pub(crate) fn chain_of(ended: &RequestEnded) -> Option<&Arc<str>> {
    ended.chain.as_ref().or_else(|| first_asked(ended))
}

/// Returns the tier that a request's chain begins at: the first that it asked, or passed because that is out of
/// service. `None` if no layer names tiers.
#[inline]
pub(crate) fn first_asked(ended: &RequestEnded) -> Option<&Arc<str>> {
    match &ended.failures {
        None => ended.tier.as_ref(),
        Some(steps) => first_step(steps).or(ended.tier.as_ref()),
    }
}

#[cold]
fn first_step(steps: &[Attempt]) -> Option<&Arc<str>> {
    // A tier that cannot carry the request is none of its chain.
    let asked = |step: &&Attempt| step.next != Next::Skipped || step.failure == Some(ErrorKind::OutOfService);
    steps.iter().find(asked)?.tier.as_ref()
}

/// Returns whether the way to an answer shows which tier serves others too. A failure of the request's own does not,
/// nor does a hedge, whose tier is asked second.
fn is_evidence(ended: &RequestEnded) -> bool {
    let steps = ended.failures.as_deref().unwrap_or_default();
    steps.iter().all(|step| {
        !matches!(step.next, Next::Hedged | Next::Cancelled)
            && !step.failure.is_some_and(ErrorKind::is_callers_own)
            && !step.is_by_callers_deadline()
    })
}
