//! The outages of a log, and its figures, for the report.

use std::{collections::BTreeMap, time::Duration};

use super::recording::{RecordedEnd, RecordedTier, Recording};
use crate::{
    report::{Baseline, RecordedReport, TierReport},
    scenario::{
        Scenario,
        file::{Clock, FaultSpec, OneOrMany, Providers, Rate, Requests, ScenarioFile, Window},
    },
};
use steadfast_internal::wall_clock::rfc3339;
use steadfast_stack::{Share, Span};

/// The length of a piece of time in which failures are counted, at least.
const PIECE: Duration = Duration::from_secs(10);
/// The most pieces of a log.
const PIECES: u32 = 1000;
/// The time without a failure after which an outage is over.
const QUIET: Duration = Duration::from_secs(60);
/// The share of failures in a piece of time that is an outage.
const OUTAGE: f64 = 0.1;

/// Returns the scenario that the log shows: its duration, and the outages of each tier.
pub(super) fn scenario(recording: &Recording, name: &str, origin: Duration) -> Scenario {
    let last = recording.requests.last().map_or(Duration::ZERO, |request| request.at);
    let lasts = last + PIECE;
    let count = recording.requests.len();
    let firsts = sorted(recording.requests.iter().filter_map(|request| request.first_token));
    let usual = Providers::default();
    let providers = match (at(&firsts, 50), at(&firsts, 99)) {
        (Some(p50), Some(p99)) => Providers { p50: Span(p50), p99: Span(p99), ..usual },
        _ => usual,
    };
    let streams = recording.requests.iter().filter(|request| request.stream).count();
    let requests = Requests {
        rate: Rate(count as f64 / lasts.as_secs_f64()),
        streams: Share(streams as f64 / count.max(1) as f64),
        ..Requests::default()
    };
    let clock = Clock(u32::try_from(origin.as_secs() % 86_400).unwrap_or_default());
    Scenario::of_file(ScenarioFile {
        name: "log".to_owned(),
        about: format!(
            "{count} requests from {} to {}, as they were recorded.",
            rfc3339(origin),
            rfc3339(origin + last)
        ),
        source: name.to_owned(),
        lasts: Span(lasts),
        clock: Some(clock),
        requests,
        providers,
        deployments: None,
        faults: recording.tiers.iter().flat_map(|tier| outages(tier, lasts)).collect(),
        expect: Vec::new(),
    })
}

/// Returns a tier's outages: stretches of time in which more than a few of its calls failed, with the share and the
/// most frequent faults.
fn outages(tier: &RecordedTier, lasts: Duration) -> Vec<Window> {
    let piece = PIECE.max(lasts / PIECES);
    let number = |at: Duration| u32::try_from(at.as_nanos() / piece.as_nanos()).unwrap_or(u32::MAX);
    let mut pieces: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for call in &tier.calls {
        let (all, failed) = pieces.entry(number(call.at)).or_default();
        *all += 1;
        *failed += u64::from(call.fails());
    }
    let failing = pieces.into_iter().filter(|(_, (all, failed))| *failed as f64 > OUTAGE * *all as f64);
    let mut stretches: Vec<(Duration, Duration, u64, u64)> = Vec::new();
    for (number, (all, failed)) in failing {
        let (from, to) = (piece * number, (piece * (number + 1)).min(lasts));
        match stretches.last_mut() {
            Some((_, end, calls, failures)) if from <= *end + QUIET => {
                (*end, *calls, *failures) = (to, *calls + all, *failures + failed);
            }
            _ => stretches.push((from, to, all, failed)),
        }
    }
    let window = |(from, to, all, failed): (Duration, Duration, u64, u64)| {
        let mut kinds: Vec<(u64, FaultSpec)> = Vec::new();
        let begin = tier.calls.partition_point(|call| call.at < from);
        let calls = tier.calls[begin..].iter().take_while(|call| call.at < to);
        for fault in calls.filter_map(|call| call.fault.clone()) {
            // Each of these names another wait.
            let fault = if let FaultSpec::RateLimitedFor(_) = fault { FaultSpec::RateLimited } else { fault };
            match kinds.iter_mut().find(|(_, known)| *known == fault) {
                Some((count, _)) => *count += 1,
                None => kinds.push((1, fault)),
            }
        }
        kinds.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        Window {
            from: Span(from),
            to: Span(to),
            every: None,
            wave: None,
            at: OneOrMany(vec![tier.name.to_string()]),
            fault: OneOrMany(kinds.into_iter().take(3).map(|(_, fault)| fault).collect()),
            share: Share(failed as f64 / all.max(1) as f64),
            ramp: None,
            features: Vec::new(),
            callers: Share(1.0),
        }
    };
    stretches.into_iter().map(window).collect()
}

/// Returns the figures of the log, and the same as a baseline with its timeline in pieces of this length.
pub(crate) fn recorded_report(
    recording: &Recording,
    notes: Vec<String>,
    (piece, pieces): (Duration, u32),
) -> (RecordedReport, Baseline) {
    let count = |end: RecordedEnd| recording.requests.iter().filter(|request| request.end == end).count() as u64;
    let served = recording.requests.iter().filter(|request| is_served(request.end));
    let firsts = sorted(served.filter_map(|request| request.first_token));
    let ms = |percent| at(&firsts, percent).map_or(0.0, |time| (time.as_secs_f64() * 10_000.0).round() / 10.0);
    let attempts = recording.tiers.iter().map(|tier| tier.attempts).sum();
    let requests = recording.requests.len() as u64;
    let tiers = recording.tiers.iter().map(|tier| TierReport {
        name: tier.name.to_string(),
        attempts: tier.attempts,
        failures: tier.failures,
        answered: tier.answered,
        ..TierReport::default()
    });
    let recorded = RecordedReport {
        requests,
        answered: count(RecordedEnd::Answered),
        degraded: count(RecordedEnd::Degraded),
        handed_off: count(RecordedEnd::HandedOff),
        refused: count(RecordedEnd::Refused),
        lost: count(RecordedEnd::Lost),
        attempts,
        p50_ms: ms(50),
        p99_ms: ms(99),
        tiers: tiers.collect(),
        notes,
    };
    let mut timeline: Vec<(f64, u64, u64)> = (0..pieces).map(|number| ((piece * number).as_secs_f64(), 0, 0)).collect();
    for request in &recording.requests {
        let place = request.at.as_nanos() / piece.as_nanos().max(1);
        let place = usize::try_from(place).unwrap_or(usize::MAX).min(timeline.len().saturating_sub(1));
        if let Some((_, answered, lost)) = timeline.get_mut(place) {
            *answered += u64::from(is_served(request.end));
            *lost += u64::from(request.end == RecordedEnd::Lost);
        }
    }
    let baseline = Baseline {
        name: "recorded".to_owned(),
        answered: recorded.answered + recorded.degraded + recorded.handed_off,
        lost: recorded.lost,
        attempts,
        amplification: (attempts as f64 / requests.max(1) as f64 * 10_000.0).round() / 10_000.0,
        p50_ms: recorded.p50_ms,
        p99_ms: recorded.p99_ms,
        timeline,
    };
    (recorded, baseline)
}

fn is_served(end: RecordedEnd) -> bool {
    matches!(end, RecordedEnd::Answered | RecordedEnd::Degraded | RecordedEnd::HandedOff)
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times
}

/// Returns a percentile.
fn at(sorted: &[Duration], percent: usize) -> Option<Duration> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}
