//! The report over all requests' results.

use std::{collections::BTreeMap, time::Duration};

use super::{
    BaselineKind, BaselineOutcome, PIECES, ProviderStats, RunResult, level,
    outcome::{End, Outcome},
    piece, primary,
};
use crate::{
    report::{Baseline, Bucket, DeploymentReport, ScenarioReport, TierReport},
    scenario::file::Window,
    traffic::DrillRequest,
};
use steadfast_stack::{Session, Tier};

/// The time that a request may take: of a fault that begins meanwhile it is a victim too.
const PATIENCE: Duration = Duration::from_secs(120);
/// The share of a feature's requests on a good day from which on they are the primary's own.
const ITS_OWN: f64 = 0.5;

impl RunResult<'_> {
    pub(super) fn report(&self) -> ScenarioReport {
        let count = |is: fn(&End) -> bool| self.outcomes.iter().filter(|outcome| is(&outcome.end)).count() as u64;
        let times = sorted(self.outcomes.iter().filter_map(served_in));
        let file = self.scenario.file();
        ScenarioReport {
            name: self.scenario.name().to_owned(),
            about: self.scenario.about().to_owned(),
            source: self.scenario.source().to_owned(),
            lasts_s: seconds(self.scenario.lasts()),
            clock_s: file.clock.map(|clock| f64::from(clock.0)),
            requests: self.outcomes.len() as u64,
            answered: count(|end| matches!(end, End::Answered { degraded: false, .. })),
            degraded: count(|end| matches!(end, End::Answered { degraded: true, .. })),
            handed_off: count(|end| matches!(end, End::HandedOff { .. })),
            refused: count(|end| *end == End::Refused),
            lost: count(|end| matches!(end, End::Lost { .. })),
            lost_while_well: self.lost_while_well(),
            cut: count(|end| *end == End::Lost { cut: true }),
            amplification: self.amplification(),
            switches: self.timeline.switches(),
            recovery_s: self.recovery().map(seconds),
            p50_ms: percentile(&times, 50),
            p99_ms: percentile(&times, 99),
            cost: dollars(self.outcomes.iter().map(cost).sum()),
            tiers: self.tiers(),
            warm: self.warm(),
            timeline: self.timeline(),
            events: self.timeline.with_faults(&self.hits),
            baselines: self.baselines(),
            recorded: None,
        }
    }

    /// Returns the number of lost requests that a tier could have answered.
    fn lost_while_well(&self) -> u64 {
        let lost = self.asks.iter().zip(&self.outcomes).filter(|(_, outcome)| matches!(outcome.end, End::Lost { .. }));
        lost.filter(|(ask, _)| self.models_of(ask).any(|place| self.is_well(place, ask.at))).count() as u64
    }

    /// Returns the models that a request may use, by its feature.
    fn models_of(&self, ask: &DrillRequest) -> impl Iterator<Item = usize> {
        let feature = self.config.features.get(&*ask.feature).or(self.config.default_feature.as_ref());
        let (listed, worst) = feature.map_or((None, None), |own| (own.tiers.as_ref(), own.worst_level));
        let tiers = self.config.tiers.iter().enumerate();
        let may = tiers.filter(move |(_, tier)| {
            tier.provider.is_model()
                && listed.is_none_or(|listed| listed.contains(&tier.name))
                && worst.is_none_or(|worst| tier.service_level() <= worst)
        });
        may.map(|(place, _)| place)
    }

    /// Returns whether nothing is wrong with a tier from this moment on, as long as a request may take.
    fn is_well(&self, place: usize, at: Duration) -> bool {
        let is_wrong = |window: &Window| window.from.0 < at + PATIENCE && at < window.to.0;
        let wrong = || self.hits.iter().filter(|hit| is_wrong(hit.window));
        // Another deployment of the tier takes the place of one that is hit.
        let is_hit = |number: usize| wrong().any(|hit| hit.deployments.contains(&(place, number)));
        let deployments = self.config.tiers[place].deployments.as_ref().map_or(0, Vec::len);
        let all_hit = deployments > 0 && (0..deployments).all(is_hit);
        !all_hit && !wrong().any(|hit| hit.tiers.contains(&place))
    }

    /// Returns the worst amplification among the providers with faults.
    fn amplification(&self) -> f64 {
        let sick = |place: usize| self.hits.iter().any(|hit| hit.touches(place));
        let seen = self.seen.iter().enumerate().filter(|(place, _)| sick(*place)).filter_map(|(_, seen)| seen.as_ref());
        seen.map(|seen| ratio(seen.attempts, seen.requests)).fold(1.0, f64::max)
    }

    /// Returns the time from the end of the last fault at the primary to the first request from which on it serves all
    /// of its own traffic. Zero if no request went elsewhere.
    fn recovery(&self) -> Option<Duration> {
        let Some(primary) = primary(self.config) else { return Some(Duration::ZERO) };
        let at_primary = self.hits.iter().filter(|hit| hit.tiers.contains(&primary));
        let windows: Vec<_> = at_primary.map(|hit| hit.window).collect();
        let Some(end) = windows.iter().map(|window| window.to.0).max() else { return Some(Duration::ZERO) };
        let begin = windows.iter().map(|window| window.from.0).min().unwrap_or_default();
        let own = self.own(primary, begin);
        let after = self.asks.iter().zip(&self.outcomes).filter(|(ask, outcome)| {
            ask.at >= end && outcome.end != End::Refused && own.get(&*ask.feature).copied().unwrap_or(true)
        });
        let (mut any, mut since) = (false, None);
        let mut elsewhere = false;
        for (ask, outcome) in after {
            any = true;
            if is_of(outcome, primary) {
                since.get_or_insert(ask.at);
            } else {
                (elsewhere, since) = (true, None);
            }
        }
        match (any, elsewhere) {
            (false, _) => None,
            (true, false) => Some(Duration::ZERO),
            (true, true) => Some(since? - end),
        }
    }

    /// Returns for each feature whether the primary serves its requests while nothing is wrong.
    fn own(&self, primary: usize, until: Duration) -> BTreeMap<&str, bool> {
        // A switched session stays where it is, so it says nothing about recovery.
        let stays = matches!(self.config.fallback.session, Some(Session::Sticky | Session::Pin));
        let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (ask, outcome) in self.asks.iter().zip(&self.outcomes).take_while(|(ask, _)| ask.at < until) {
            let (own, all) = counts.entry(&ask.feature).or_default();
            *own += u64::from(is_of(outcome, primary) && !(stays && ask.session.is_some()));
            *all += 1;
        }
        counts.into_iter().map(|(feature, (own, all))| (feature, own as f64 >= ITS_OWN * all as f64)).collect()
    }

    /// Returns the share of the conversations' requests at the primary that met the deployment of the request before,
    /// whose cache has the conversation.
    fn warm(&self) -> Option<f64> {
        let primary = primary(self.config).filter(|place| self.config.tiers[*place].deployments.is_some())?;
        let mut last: BTreeMap<u32, &str> = BTreeMap::new();
        let (mut warm, mut all) = (0, 0);
        for (ask, outcome) in self.asks.iter().zip(&self.outcomes).filter(|(_, outcome)| is_of(outcome, primary)) {
            let Some((session, deployment)) = ask.session.zip(outcome.deployment.as_deref()) else { continue };
            if let Some(before) = last.insert(session, deployment) {
                all += 1;
                warm += u64::from(before == deployment);
            }
        }
        (all > 0).then(|| ratio(warm, all))
    }

    fn tiers(&self) -> Vec<TierReport> {
        let report = |(place, tier): (usize, &Tier)| {
            let of_it = self.outcomes.iter().filter(|outcome| is_of(outcome, place));
            let answered = of_it.clone().count() as u64;
            let (attempts, failures) =
                self.seen[place].as_ref().map_or((answered, 0), |seen| (seen.attempts, seen.failures));
            TierReport {
                name: tier.name.clone(),
                level: level(tier).to_owned(),
                attempts,
                failures,
                answered,
                cost: dollars(of_it.map(cost).sum()),
                deployments: self.seen[place].iter().flat_map(|seen| &seen.deployments).map(deployment).collect(),
            }
        };
        self.config.tiers.iter().enumerate().map(report).collect()
    }

    fn timeline(&self) -> Vec<Bucket> {
        let tiers = self.config.tiers.len();
        let piece = piece(self.scenario);
        let of = |at: Duration| place_of(at, piece);
        let empty = |number: u32| Bucket {
            from_s: seconds(piece * number),
            by_tier: vec![0; tiers],
            attempts: vec![0; tiers],
            circuits: self.circuits.get(number as usize).cloned().unwrap_or_default(),
            ..Bucket::default()
        };
        let mut buckets: Vec<Bucket> = (0..PIECES).map(empty).collect();
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); buckets.len()];
        for (ask, outcome) in self.asks.iter().zip(&self.outcomes) {
            let bucket = &mut buckets[of(ask.at)];
            bucket.requests += 1;
            bucket.cost += cost(outcome);
            match outcome.end {
                End::Answered { tier, .. } | End::HandedOff { tier } => bucket.by_tier[tier] += 1,
                End::Refused => bucket.refused += 1,
                End::Lost { .. } => bucket.lost += 1,
            }
            times[of(ask.at)].extend(served_in(outcome));
        }
        for (place, seen) in self.seen.iter().enumerate() {
            for at in seen.iter().flat_map(|seen| &seen.times) {
                buckets[of(*at)].attempts[place] += 1;
            }
        }
        for (bucket, times) in buckets.iter_mut().zip(times) {
            let times = sorted(times.into_iter());
            (bucket.p50_ms, bucket.p99_ms) = (percentile(&times, 50), percentile(&times, 99));
            bucket.cost = dollars(bucket.cost);
        }
        buckets
    }

    fn baselines(&self) -> Vec<Baseline> {
        let piece = piece(self.scenario);
        let baseline = |(way, tried, seen): &(BaselineKind, Vec<BaselineOutcome>, ProviderStats)| {
            let mut timeline: Vec<(f64, u64, u64)> =
                (0..PIECES).map(|number| (seconds(piece * number), 0, 0)).collect();
            for (ask, tried) in self.asks.iter().zip(tried) {
                let (_, answered, lost) = &mut timeline[place_of(ask.at, piece)];
                *(if tried.answered { answered } else { lost }) += 1;
            }
            let times = sorted(tried.iter().filter(|tried| tried.answered).filter_map(|tried| tried.first_token));
            let answered = tried.iter().filter(|tried| tried.answered).count() as u64;
            Baseline {
                name: way.name().to_owned(),
                answered,
                lost: tried.len() as u64 - answered,
                attempts: seen.attempts,
                amplification: ratio(seen.attempts, seen.requests),
                p50_ms: percentile(&times, 50),
                p99_ms: percentile(&times, 99),
                timeline,
            }
        };
        self.without.iter().map(baseline).collect()
    }
}

fn deployment((name, attempts, failures): &(String, u64, u64)) -> DeploymentReport {
    DeploymentReport { name: name.clone(), attempts: *attempts, failures: *failures }
}

/// Returns the index of a moment's part of the timeline; the last one for a moment after the end.
fn place_of(at: Duration, piece: Duration) -> usize {
    let place = usize::try_from(at.as_nanos() / piece.as_nanos().max(1)).unwrap_or(usize::MAX);
    place.min(PIECES as usize - 1)
}

/// Returns whether the tier at this index answered.
fn is_of(outcome: &Outcome, place: usize) -> bool {
    matches!(outcome.end, End::Answered { tier, .. } | End::HandedOff { tier } if tier == place)
}

/// Returns the time to the first token of an answered request.
fn served_in(outcome: &Outcome) -> Option<Duration> {
    outcome.first_token.filter(|_| matches!(outcome.end, End::Answered { .. } | End::HandedOff { .. }))
}

fn cost(outcome: &Outcome) -> f64 {
    match outcome.end {
        End::Answered { cost, .. } => cost,
        _ => 0.0,
    }
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times
}

/// Returns a percentile in milliseconds; 0 without any times.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).map_or(0.0, |time| rounded(time.as_secs_f64() * 1000.0, 10.0))
}

/// Converts to seconds, to the millisecond.
pub(super) fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64(), 1000.0)
}

/// Adds 0.0, because an empty float sum is -0.0.
fn dollars(sum: f64) -> f64 {
    rounded(sum, 1e6) + 0.0
}

/// Returns attempts per request; 1 without any requests.
fn ratio(attempts: u64, requests: u64) -> f64 {
    if requests == 0 { 1.0 } else { rounded(attempts as f64 / requests as f64, 10_000.0) }
}

fn rounded(number: f64, to: f64) -> f64 {
    (number * to).round() / to
}
