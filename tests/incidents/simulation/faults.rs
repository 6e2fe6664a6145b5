//! The faults of the providers, and their times.

use std::time::Duration;

use steadfast::providers::simulated::{Fault, FaultMix, Outage, RateLimit};

use crate::simulation::{
    draw::Draw,
    plan::{SECOND, Tier},
};

/// The faults of one provider.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) outages: Vec<Outage>,
    /// In force until the faults end.
    pub(crate) rate_limit: Option<RateLimit>,
}

/// Gives each tier its faults, of which the last ends at `healed`.
pub(crate) fn plan(draw: &mut Draw, tiers: &mut [Tier], healed: Duration) {
    // Some are well for a while at first, so that their keys have worked; some never were.
    let begin = if draw.chance(0.8) { draw.span(3000, 20_000) } else { Duration::ZERO };
    let sound = draw.chance(0.3).then(|| draw.index(tiers.len()));
    for (place, tier) in tiers.iter_mut().enumerate() {
        if Some(place) == sound {
            continue;
        }
        for _ in 0..draw.number(0, 3) {
            let outages = episode(draw, tier, begin, healed);
            tier.provider.faults.outages.extend(outages);
        }
        if draw.chance(0.1) {
            let limit = RateLimit::requests_per_minute(draw.number(6, 240)).burst(draw.number(1, 20));
            tier.provider.faults.rate_limit = Some(limit);
        }
        let slow = window(draw, begin, healed);
        if let Some(capacity) = &mut tier.provider.capacity
            && draw.chance(0.8)
        {
            capacity.slow = slow;
        }
    }
    if draw.chance(0.35) {
        // One cause for several: they fail together.
        let (from, to) = window(draw, begin, healed);
        let faults = mix(draw, 1.0);
        for (place, tier) in tiers.iter_mut().enumerate() {
            if Some(place) != sound && draw.chance(0.8) {
                tier.provider.faults.outages.push(Outage::new(from, to, faults.clone()));
            }
        }
    }
    // Whatever else there is, something is down to the very end.
    let unsound = (0..tiers.len()).find(|place| Some(*place) != sound).unwrap_or_default();
    let from = healed.saturating_sub(draw.span(2000, 60_000));
    let share = draw.pick(&[1.0, 0.5]);
    let last = mix(draw, share);
    tiers[unsound].provider.faults.outages.push(Outage::new(from, healed, last));
}

/// In some simulations a provider calls right requests wrong for a while: all of them, or so few that it is no storm.
pub(crate) fn mistakes(draw: &mut Draw, tiers: &mut [Tier], healed: Duration) {
    if draw.chance(0.2) {
        let (from, to) = window(draw, Duration::ZERO, healed);
        let share = draw.pick(&[1.0, 1.0, 0.5, 0.1]);
        let tier = draw.index(tiers.len());
        let faults = FaultMix::new().with(share, Fault::BadRequest);
        tiers[tier].provider.faults.outages.push(Outage::new(from, to, faults));
    }
}

fn window(draw: &mut Draw, begin: Duration, healed: Duration) -> (Duration, Duration) {
    let from = draw.moment(begin, healed);
    (from, (from + draw.span(1000, 120_000)).min(healed))
}

fn episode(draw: &mut Draw, tier: &Tier, begin: Duration, healed: Duration) -> Vec<Outage> {
    let (from, to) = window(draw, begin, healed);
    match draw.number(0, 9) {
        // Everything fails alike.
        0..=2 => vec![Outage::new(from, to, one(draw))],
        // It grows.
        3 => vec![Outage::new(from, to, mix(draw, 1.0)).ramp_in((to - from) / 2)],
        // Well when it is not looked at, down when it is: in step with the probes.
        4 | 5 => {
            let period = draw.pick(&[tier.breaker.cooldown, tier.breaker.cooldown / 2, 3 * SECOND]);
            let fault = one(draw);
            let times = (healed.saturating_sub(from).as_millis() / period.as_millis().max(1)).min(40) as u32;
            (0..times)
                .step_by(2)
                .map(|n| from + period * n)
                .map(|at| Outage::new(at, at + period, fault.clone()))
                .collect()
        }
        // A grey failure, short or for the whole time.
        6 => vec![Outage::new(begin, healed, grey(draw))],
        _ => vec![Outage::new(from, to, grey(draw))],
    }
}

fn grey(draw: &mut Draw) -> FaultMix {
    let share = draw.pick(&[0.02, 0.1, 0.25, 0.5]);
    mix(draw, share)
}

/// Up to three faults, which come to this share of the calls.
fn mix(draw: &mut Draw, share: f64) -> FaultMix {
    let kinds = draw.number(1, 3);
    (0..kinds).fold(FaultMix::new(), |mix, _| mix.with(share / kinds as f64, one(draw)))
}

/// Any fault there is.
fn one(draw: &mut Draw) -> Fault {
    let tokens = draw.number(0, 12) as u32;
    match draw.number(0, 27) {
        0 => Fault::ServerError,
        1 => Fault::BadGateway,
        2 => Fault::Unavailable,
        3 | 4 => Fault::Overloaded,
        5 => Fault::RateLimited { retry_after: None },
        6 | 7 => Fault::RateLimited { retry_after: Some(draw.span(10, 120_000)) },
        8 => Fault::ComeBackLater,
        9 => Fault::InsufficientQuota,
        10 => Fault::Unauthorized,
        11 => Fault::BadRequest,
        12 => draw.pick(&[Fault::ContentFilter, Fault::ContextLength]),
        13 => Fault::Status(draw.number(300, 599) as u16),
        14 => Fault::Status(draw.pick(&[402, 403, 404, 408, 413, 451, 498, 499, 504, 520, 522, 530])),
        15 | 16 => Fault::Refused,
        17 | 18 => Fault::Hang,
        19 => Fault::Slow(draw.span(500, 60_000)),
        20 => Fault::Empty,
        21 => Fault::CutAfter(tokens),
        22 => Fault::TruncatedAfter(tokens),
        23 => Fault::NoEndMark,
        24 => Fault::MalformedAfter(tokens),
        25 => Fault::StallAfter(tokens),
        26 => Fault::KeepAlivesOnly { every: draw.span(100, 10_000) },
        _ => draw.pick(&[Fault::ErrorEventAfter(tokens), Fault::HtmlPage]),
    }
}
