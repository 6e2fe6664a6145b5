//! The meaning of a seed: the stack, its settings, and the length of each phase.

use std::time::Duration;

use steadfast::{
    Attempt, CommitPoint,
    layers::{
        fallback::{AllOpen, SessionPolicy, StreamBreak},
        retry::Jitter,
    },
};

use crate::simulation::{
    draw::Draw,
    faults::{self, Faults},
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Everything about a simulation but its traffic.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Made with `ServiceBuilder`, or from a configuration file.
    pub(crate) by_hand: bool,
    pub(crate) tiers: Vec<Tier>,
    pub(crate) last: Last,
    pub(crate) features: Vec<Feature>,
    /// The limit of time of a whole request.
    pub(crate) total: Duration,
    pub(crate) keep_back: Duration,
    pub(crate) min_useful: Duration,
    pub(crate) session: SessionPolicy,
    pub(crate) on_break: StreamBreak,
    pub(crate) all_open: AllOpen,
    /// The steps in which traffic returns: percent, and how long.
    pub(crate) ramp: Vec<(u8, Duration)>,
    pub(crate) commit: CommitPoint,
    /// Retries as a share of first tries, and how many may be saved up.
    pub(crate) budget_ratio: f64,
    pub(crate) budget_cap: u32,
    /// Requests a second, on average, before the faults end and after.
    pub(crate) rate: f64,
    pub(crate) rate_after: f64,
    /// The times of the last fault's end, and of the last request.
    pub(crate) healed: Duration,
    pub(crate) ends: Duration,
}

#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) name: &'static str,
    pub(crate) timeout: Duration,
    pub(crate) first_token: Option<Duration>,
    /// The longest silence of a stream: of bytes, of content, and of content while keep-alives come.
    pub(crate) idle: Duration,
    pub(crate) progress: Duration,
    pub(crate) ceiling: Duration,
    pub(crate) max_attempts: u16,
    pub(crate) max_delay: Duration,
    pub(crate) jitter: Jitter,
    pub(crate) retry_timeouts: bool,
    pub(crate) breaker: Breaker,
    /// By hand only: the circuit around the retries, and a limit of tower's around the leaf, which is not always ready.
    pub(crate) breaker_outside: bool,
    pub(crate) leaf_limit: Option<usize>,
    pub(crate) last_resort: bool,
    /// Of service, from 1 (full).
    pub(crate) level: u8,
    pub(crate) provider: Provider,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) consecutive: u32,
    /// The share of failures among so many last calls, or in so much time.
    pub(crate) failure_rate: Option<(f64, Over)>,
    /// Slow from when on, and the share.
    pub(crate) slow: Option<(Duration, f64, Over)>,
    pub(crate) cooldown: Duration,
    pub(crate) growth: f64,
    pub(crate) longest: Duration,
    pub(crate) probes: u32,
    pub(crate) successes: u32,
    pub(crate) latch: Duration,
    pub(crate) max_throttle: Duration,
    /// So many different invalid requests in a row are taken at their word.
    pub(crate) second_opinion_after: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    Calls(u32),
    Time(Duration),
}

/// The provider's usual behaviour, and its faults to come.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) latency: Duration,
    pub(crate) pace: Duration,
    pub(crate) tokens: u32,
    pub(crate) seed: u64,
    pub(crate) capacity: Option<Capacity>,
    pub(crate) faults: Faults,
}

/// So many requests at a time, each for its latency; others queue, and are turned away when the queue is too long.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    pub(crate) servers: usize,
    pub(crate) longest_queue: Duration,
    /// The phase in which everything takes that many times as long.
    pub(crate) slow: (Duration, Duration),
    pub(crate) times: u32,
}

/// The tier behind all others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Last {
    Nothing,
    Canned,
    Handoff,
}

#[derive(Debug)]
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) concurrency: usize,
    pub(crate) queue: usize,
    pub(crate) max_wait: Duration,
    /// The tiers that may serve it, in order; `None`: all.
    pub(crate) chain: Option<Vec<usize>>,
}

const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed, "plan");
        let by_hand = draw.chance(0.5);
        let count = draw.number(2, 4) as usize;
        let last = draw.pick(&[Last::Nothing, Last::Nothing, Last::Canned, Last::Handoff]);
        // A file cannot have tasks without a store of its own kind; its stack is given one in memory.
        let rate = draw.span(1000, 8000).as_secs_f64();
        let healed = draw.span(90_000, 240_000);
        let mut tiers: Vec<Tier> = NAMES[..count].iter().map(|name| tier(&mut draw, name, by_hand, rate)).collect();
        faults::plan(&mut draw, &mut tiers, healed);
        // From sources of their own, so that all else in a seed's plan is as it was before there were any.
        second_opinions(&mut Draw::new(seed, "second opinions"), &mut tiers);
        faults::mistakes(&mut Draw::new(seed, "mistakes"), &mut tiers, healed);
        let places = count + usize::from(last != Last::Nothing);
        let (session, on_break, all_open) = policies(&mut draw);
        let ramp = match draw.chance(0.15) {
            true => vec![(10, draw.span(2000, 10_000)), (50, draw.span(2000, 10_000))],
            false => Vec::new(),
        };
        let mut plan = Self {
            seed,
            by_hand,
            features: features(&mut draw, places),
            total: draw.pick(&[90 * SECOND, 60 * SECOND, 30 * SECOND, 15 * SECOND]),
            keep_back: draw.pick(&[10 * SECOND, 10 * SECOND, 2 * SECOND]),
            min_useful: draw.span(50, 1000),
            session,
            on_break,
            all_open,
            ramp,
            commit: draw.pick(&[
                CommitPoint::FirstToken,
                CommitPoint::FirstToken,
                CommitPoint::FirstText,
                CommitPoint::Complete,
            ]),
            budget_ratio: draw.pick(&[0.1, 0.1, 0.02, 0.3]),
            budget_cap: if by_hand { draw.pick(&[100, 20, 5]) } else { 100 },
            rate,
            rate_after: rate.min(2.5),
            healed,
            ends: healed,
            tiers,
            last,
        };
        plan.ends = healed + plan.settles_within() + 90 * SECOND;
        plan
    }

    /// Returns the time after the last fault in which everything is back as it was: the calls that it broke have been
    /// noticed, the longest interval between probes is over, and traffic has returned.
    pub(crate) fn settles_within(&self) -> Duration {
        let probes = self.tiers.iter().map(Tier::longest_interval).max().unwrap_or_default();
        let ramp: Duration = self.ramp.iter().map(|(_, lasts)| *lasts).sum();
        let broken = self.tiers.iter().map(Tier::longest_call).max().unwrap_or_default();
        broken + probes + ramp + 30 * SECOND
    }

    /// The name of a tier, the last one included.
    pub(crate) fn name(&self, tier: usize) -> &'static str {
        self.tiers.get(tier).map_or("last", |tier| tier.name)
    }

    /// Returns whether a step of a record was at this tier.
    pub(crate) fn is_at(&self, tier: usize, step: &Attempt) -> bool {
        step.tier.as_deref() == Some(self.name(tier))
    }

    /// All tiers, that behind the providers included.
    pub(crate) fn places(&self) -> usize {
        self.tiers.len() + usize::from(self.last != Last::Nothing)
    }

    /// The tiers that may serve a feature, in order.
    pub(crate) fn chain(&self, feature: Option<usize>) -> Vec<usize> {
        let own = feature.and_then(|feature| self.features[feature].chain.clone());
        own.unwrap_or_else(|| (0..self.places()).collect())
    }

    /// Returns the number of attempts of a request that sets none.
    pub(crate) fn attempts(&self) -> u16 {
        // In a file each tier says its own, the last one too; for each the usual three are kept back at least.
        let own: u16 = self.tiers.iter().map(|tier| tier.max_attempts.max(3)).sum();
        let file = own + if self.last == Last::Nothing { 0 } else { 3 };
        if self.by_hand { USUAL_ATTEMPTS } else { USUAL_ATTEMPTS.max(file) }
    }

    /// Returns a provider's reply, word by word.
    pub(crate) fn reply(&self, tier: usize) -> String {
        let name = self.name(tier);
        (0..self.tiers[tier].provider.tokens).map(|word| format!("{name}-{word} ")).collect()
    }
}

/// The number of attempts that a request may make by default.
pub(crate) const USUAL_ATTEMPTS: u16 = 9;

impl Tier {
    /// The longest that its circuit may stay open without a look at the provider.
    pub(crate) fn longest_interval(&self) -> Duration {
        let breaker = &self.breaker;
        let grown = if breaker.growth > 1.0 { breaker.longest.max(breaker.cooldown) } else { breaker.cooldown };
        grown.max(breaker.latch).max(breaker.max_throttle)
    }

    /// The longest that a call to it may take, readers apart.
    pub(crate) fn longest_call(&self) -> Duration {
        self.timeout + self.ceiling.max(self.progress)
    }

    /// Returns the duration of a whole answer of a healthy provider.
    pub(crate) fn healthy(&self) -> Duration {
        self.provider.latency + self.provider.pace * (self.provider.tokens + 1)
    }
}

fn tier(draw: &mut Draw, name: &'static str, by_hand: bool, rate: f64) -> Tier {
    let provider = Provider {
        latency: draw.span(20, 1500),
        pace: draw.span(1, 30),
        tokens: draw.number(1, 24) as u32,
        seed: draw.seed(),
        capacity: None,
        faults: Faults::default(),
    };
    let mut tier = Tier {
        name,
        timeout: draw.span(4000, 30_000),
        first_token: draw.chance(0.3).then(|| draw.span(3000, 10_000)),
        idle: draw.span(2000, 15_000),
        progress: draw.span(2000, 15_000),
        ceiling: draw.span(15_000, 30_000),
        max_attempts: draw.pick(&[1, 2, 3, 3, 4]),
        max_delay: draw.span(1000, 30_000),
        jitter: draw.pick(&[Jitter::Full, Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None]),
        retry_timeouts: draw.chance(0.2),
        breaker: breaker(draw),
        breaker_outside: by_hand && draw.chance(0.15),
        leaf_limit: (by_hand && draw.chance(0.15)).then(|| draw.number(2, 40) as usize),
        last_resort: draw.chance(0.1),
        level: draw.pick(&[1, 1, 1, 2, 3]),
        provider,
    };
    let busy = rate * tier.healthy().as_secs_f64();
    if let Some(limit) = &mut tier.leaf_limit {
        // One that an ordinary day fills would keep the stack from ever coming back.
        *limit = (*limit).max((busy * 2.0).ceil() as usize + 2);
    }
    if draw.chance(0.3) {
        // At most half used on an ordinary day; while it is slow, asked for twice what it can do.
        let busy = rate * tier.provider.latency.as_secs_f64();
        let servers = (busy * 2.0).ceil() + 2.0;
        let longest_queue = draw.span(2000, 8000);
        let times = (2.0 * servers / busy).ceil() as u32;
        let slow = Default::default();
        tier.provider.capacity = Some(Capacity { servers: servers as usize, longest_queue, slow, times });
    }
    tier
}

fn breaker(draw: &mut Draw) -> Breaker {
    let over = |draw: &mut Draw| match draw.chance(0.5) {
        true => Over::Calls(draw.number(10, 100) as u32),
        false => Over::Time(draw.span(5000, 60_000)),
    };
    let cooldown = draw.span(1000, 60_000);
    Breaker {
        consecutive: draw.pick(&[5, 5, 1, 3, 10, 0]),
        failure_rate: draw.chance(0.3).then(|| (draw.pick(&[0.25, 0.5, 0.8]), over(draw))),
        slow: draw.chance(0.2).then(|| (draw.span(3000, 6000), draw.pick(&[0.5, 0.8]), over(draw))),
        cooldown,
        growth: draw.pick(&[1.0, 1.0, 1.5, 2.0]),
        longest: cooldown + draw.span(1000, 30_000),
        probes: draw.pick(&[1, 1, 1, 2, 3]),
        successes: draw.pick(&[1, 1, 1, 2, 4]),
        latch: draw.span(2000, 60_000),
        max_throttle: draw.span(5000, 60_000),
        second_opinion_after: USUALLY_BELIEVED,
    }
}

fn second_opinions(draw: &mut Draw, tiers: &mut [Tier]) {
    for tier in tiers {
        tier.breaker.second_opinion_after = draw.pick(&[USUALLY_BELIEVED, USUALLY_BELIEVED, 0, 1, 5, NEVER_DOUBTED]);
    }
}

const USUALLY_BELIEVED: u32 = 2;
/// With so many, only a storm is not believed.
pub(crate) const NEVER_DOUBTED: u32 = 20;

fn policies(draw: &mut Draw) -> (SessionPolicy, StreamBreak, AllOpen) {
    let session = draw.pick(&[SessionPolicy::Free, SessionPolicy::Pin, SessionPolicy::Sticky]);
    let on_break = draw.pick(&[StreamBreak::Fail, StreamBreak::Restart, StreamBreak::Buffer]);
    let longest = draw.span(2000, 60_000);
    let all_open = draw.pick(&[AllOpen::Fail, AllOpen::Fail, AllOpen::Wait(longest), AllOpen::Queue(longest)]);
    (session, on_break, all_open)
}

fn features(draw: &mut Draw, places: usize) -> Vec<Feature> {
    let mut feature = |name, share: f64| {
        let (first, chained) = (draw.index(places.min(2)), draw.chance(share));
        Feature {
            name,
            concurrency: draw.span(20, 300).as_millis() as usize,
            queue: draw.pick(&[0, 0, 10, 100]),
            max_wait: draw.span(100, 20_000),
            chain: chained.then(|| (first..places).collect()),
        }
    };
    vec![feature("chat", 0.0), feature("summary", 0.3), feature("background", 0.8)]
}
