//! The choice of a deployment for a request.

use std::cell::Cell;

use tokio::time::Instant;

use super::{
    affinity,
    cost::Quote,
    members::{Lots, Member, Members},
    moved::Place,
    shared::Common,
    state::{OutReason, Standing},
    time::Time,
};
use crate::{LlmRequest, body::admission::Permit};

/// The draws before the balancer looks at every deployment: by then few serve, or their weights are far apart.
const DRAWS: usize = 8;
/// The ratio of costs from which a request leaves its warm deployment, or its zone.
const LEAVE: f32 = 2.0;
/// The homes of a key that are tried in turn: by then few serve, and the best one that does is its home.
const HOMES: u64 = 8;
/// The attempts at a place that another request may take first.
const RACES: usize = 3;

/// A request that needs a deployment.
pub(super) struct Search<'a, S> {
    pub(super) members: &'a Members<S>,
    pub(super) common: &'a Common,
    pub(super) request: &'a LlmRequest,
    /// The deployments that it was sent to before.
    pub(super) tried: &'a [usize],
    pub(super) now: Time,
    /// The estimate of its tokens, once a limit needs it.
    tokens: Cell<Option<u32>>,
    stream: bool,
}

/// A deployment with a place at it.
pub(super) struct Choice {
    pub(super) at: usize,
    pub(super) permit: Permit,
    /// True if its circuit is to admit the request although it is open.
    pub(super) last_resort: bool,
}

/// A deployment that may be chosen.
#[derive(Clone, Copy)]
enum Drawn {
    Serving(usize),
    /// Its circuit waits for a request: one that came to it by chance goes there, whatever it costs.
    Probe(usize),
}

impl<'a, S> Search<'a, S> {
    pub(super) fn new(
        members: &'a Members<S>,
        common: &'a Common,
        request: &'a LlmRequest,
        tried: &'a [usize],
        now: Instant,
    ) -> Self {
        let (now, tokens) = (Time::new(now, common.begun), Cell::new(None));
        Self { members, common, request, tried, now, tokens, stream: request.is_stream() }
    }

    /// Returns the deployment for the request, with a place at it; `None` if none may be asked.
    #[inline]
    pub(super) fn choose(&self) -> Option<Choice> {
        for _ in 0..RACES {
            let at = match self.drawn() {
                None => break,
                Some(Drawn::Probe(at)) => at,
                Some(Drawn::Serving(best)) => self.warm(best),
            };
            if let Some(choice) = self.take(at, false) {
                return Some(choice);
            }
        }
        self.least_bad()
    }

    /// Returns the reason why each deployment that was not asked was passed over.
    pub(super) fn passed_over(&self) -> impl Iterator<Item = (&'a Member<S>, OutReason)> {
        let untried = (0..self.members.list.len()).filter(|at| !self.tried.contains(at));
        untried.map(|at| match self.standing(at) {
            Standing::Out(reason) => (self.member(at), reason),
            // It serves again since.
            _ => (self.member(at), OutReason::ClosedOff),
        })
    }

    fn member(&self, at: usize) -> &'a Member<S> {
        &self.members.list[at]
    }

    fn tokens(&self) -> u32 {
        self.tokens.get().unwrap_or_else(|| {
            let tokens = self.request.glanced_tokens();
            self.tokens.set(Some(tokens));
            tokens
        })
    }

    #[inline]
    fn standing(&self, at: usize) -> Standing {
        let Member { state, facts, .. } = self.member(at);
        match state.standing(facts, || self.tokens(), self.now) {
            Standing::Out(OutReason::CircuitOpen) if self.is_over_ejected(at) => Standing::Serves,
            standing => standing,
        }
    }

    /// Returns true if so many other circuits opened before this one that it may not be closed off too.
    fn is_over_ejected(&self, at: usize) -> bool {
        let share = self.common.settings.max_ejected;
        if share >= 1.0 {
            return false;
        }
        let opened = |at: usize| self.member(at).state.out_since().map(|since| (since, at));
        let earlier =
            (0..self.members.list.len()).filter(|other| opened(*other).is_some_and(|it| Some(it) < opened(at)));
        earlier.count() as f64 >= (share * self.members.list.len() as f64).floor()
    }

    fn serves(&self, at: usize) -> bool {
        !self.tried.contains(&at) && self.standing(at) == Standing::Serves
    }

    #[inline]
    fn quote(&self, at: usize) -> Quote {
        let Member { state, share, .. } = self.member(at);
        state.quote(*share, self.stream, self.common.settings.slow_start, self.now)
    }

    /// Returns the cheaper of two; the first one if they cost the same.
    #[inline]
    fn cheaper(&self, first: usize, second: usize) -> usize {
        if self.quote(first).exceeds(self.quote(second)) { second } else { first }
    }

    /// Returns the cheaper of two that are drawn at random, of the balancer's own zone while that has capacity.
    #[inline]
    fn drawn(&self) -> Option<Drawn> {
        if let Some(local) = &self.members.local
            && let Some(drawn) = self.cheaper_of_two(local)
        {
            return Some(self.in_zone(drawn));
        }
        self.cheaper_of_two(&self.members.all)
    }

    fn in_zone(&self, drawn: Drawn) -> Drawn {
        let elsewhere = self.members.all.draw(self.common.random()).filter(|at| !self.member(*at).is_local);
        match (drawn, elsewhere) {
            (Drawn::Serving(here), Some(there))
                if self.serves(there) && self.quote(here).exceeds_lastingly(LEAVE, self.quote(there)) =>
            {
                Drawn::Serving(there)
            }
            _ => drawn,
        }
    }

    #[inline]
    fn cheaper_of_two(&self, lots: &Lots) -> Option<Drawn> {
        let mut first = None;
        for _ in 0..DRAWS {
            let at = lots.draw(self.common.random())?;
            if first == Some(at) || self.tried.contains(&at) {
                continue;
            }
            match (self.standing(at), first) {
                (Standing::AwaitsProbe, _) => return Some(Drawn::Probe(at)),
                (Standing::Serves, Some(first)) => return Some(Drawn::Serving(self.cheaper(first, at))),
                (Standing::Serves, None) if self.is_admitted_back(at) => first = Some(at),
                _ => {}
            }
        }
        self.cheapest(lots, first)
    }

    /// Returns true if a deployment that comes back may be drawn now: in its first time, by the share that it has.
    #[inline]
    fn is_admitted_back(&self, at: usize) -> bool {
        let share = self.member(at).state.returned_share(self.common.settings.slow_start, self.now);
        share >= 1.0 || self.common.random() as f32 <= share * u64::MAX as f32
    }

    /// Returns the cheapest of all, or one that waits for a probe.
    #[cold]
    fn cheapest(&self, lots: &Lots, first: Option<usize>) -> Option<Drawn> {
        let serving = lots.places().filter(|at| Some(*at) != first && self.serves(*at));
        let cheapest = first.into_iter().chain(serving).reduce(|one, other| self.cheaper(one, other));
        let awaits = |at: &usize| !self.tried.contains(at) && self.standing(*at) == Standing::AwaitsProbe;
        cheapest.map(Drawn::Serving).or_else(|| lots.places().find(awaits).map(Drawn::Probe))
    }

    /// Returns the deployment that has the request's prefix in its cache, or else the best one.
    #[inline]
    fn warm(&self, best: usize) -> usize {
        if !self.common.settings.affinity || self.members.list.len() < 2 {
            return best;
        }
        match affinity::key(self.request) {
            Some(key) => self.home(key, best),
            None => best,
        }
    }

    fn home(&self, key: u64, best: usize) -> usize {
        let moved = &self.common.moved;
        let tables = || [self.members.local_homes.as_ref(), Some(&self.members.homes)].into_iter().flatten();
        let natural = tables().find_map(|homes| homes.of(key, 0));
        let moved_to = moved.get(key, self.now.moment).and_then(|place| self.members.position(place));
        let mut at = moved_to.filter(|at| self.serves(*at)).unwrap_or_else(|| {
            let mut homes = tables().flat_map(|homes| (0..HOMES).map_while(|nth| homes.of(key, nth)));
            homes.find(|at| self.serves(*at)).unwrap_or(best)
        });
        if at != best && self.quote(at).exceeds_lastingly(LEAVE, self.quote(best)) {
            at = best;
        }
        if moved_to.is_some() || natural != Some(at) {
            moved.put(
                key,
                Place { id: self.member(at).state.id, at: u16::try_from(at).unwrap_or(u16::MAX) },
                self.now.moment,
            );
        }
        at
    }

    /// Takes a place at a deployment.
    #[inline]
    fn take(&self, at: usize, without_room: bool) -> Option<Choice> {
        let Member { state, facts, .. } = self.member(at);
        let tokens = if state.headroom.is_known() { self.tokens() } else { 0 };
        let permit = state.admit(self.stream, tokens, without_room, self.now)?;
        let last_resort = self.common.settings.max_ejected < 1.0
            && state.standing(facts, || 0, self.now) == Standing::Out(OutReason::CircuitOpen);
        Some(Choice { at, permit, last_resort })
    }

    /// Takes a place where no deployment serves. Estimates of headroom are no reason to refuse a request; for the last
    /// resort of a fallback nothing is, but an operator's order.
    #[cold]
    fn least_bad(&self) -> Option<Choice> {
        let untried = || (0..self.members.list.len()).filter(|at| !self.tried.contains(at));
        let without_room = untried().filter(|at| self.standing(*at) == Standing::Out(OutReason::NoHeadroom));
        let left = |at: &usize| self.member(*at).state.headroom.share_left(self.now.moment);
        let roomiest = without_room.max_by(|one, other| left(one).total_cmp(&left(other)));
        let is_last_resort = self.request.context().last_resort;
        let any = || {
            let open = untried().filter(|at| is_last_resort && !self.member(*at).state.headroom.is_drained());
            open.reduce(|one, other| self.cheaper(one, other))
        };
        self.take(roomiest.or_else(any)?, true)
    }
}
