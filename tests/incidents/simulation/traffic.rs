//! The requests of the callers: their content, times and patience.

use std::time::Duration;

use steadfast::LlmRequest;

use crate::simulation::{
    draw::Draw,
    plan::{Plan, SECOND, USUAL_ATTEMPTS},
};

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) id: usize,
    /// In time since the start.
    pub(crate) at: Duration,
    pub(crate) feature: Option<usize>,
    pub(crate) session: Option<u64>,
    pub(crate) stream: bool,
    pub(crate) deadline: Option<Duration>,
    pub(crate) attempts: Option<u16>,
    pub(crate) explain: bool,
    pub(crate) first_tier_only: bool,
    pub(crate) manner: Manner,
}

/// A caller's behaviour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// Reads to the end.
    Patient,
    /// Leaves after so long, wherever the request is then.
    LeavesAfter(Duration),
    /// Is polled so many times, body included, and then dropped.
    LeavesAtPoll(u32),
    /// Calls, and drops the future unpolled.
    NeverPolls,
    /// Asks whether the stack is ready, and leaves.
    OnlyReady,
    /// Reads so many frames, and leaves.
    LeavesAfterFrames(u32),
    /// Waits so long before each frame.
    ReadsSlowly(Duration),
    /// Takes the response, keeps it so long, and drops it unread.
    Holds(Duration),
}

/// By this a provider knows whose call it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub(crate) usize);

impl Ask {
    pub(crate) fn request(&self, plan: &Plan) -> LlmRequest {
        let mut request =
            LlmRequest::prompt(format!("question {}", self.id)).with_stream(self.stream).with_extension(Id(self.id));
        if let Some(feature) = self.feature {
            request = request.with_feature(plan.features[feature].name);
        }
        if let Some(session) = self.session {
            request = request.with_session(format!("session-{session}"));
        }
        if let Some(deadline) = self.deadline {
            request = request.with_timeout(deadline);
        }
        if let Some(attempts) = self.attempts {
            request = request.with_max_attempts(attempts);
        }
        if self.explain {
            request = request.explain();
        }
        if self.first_tier_only {
            request = request.no_fallback();
        }
        request
    }

    /// Returns the latest time for its response.
    pub(crate) fn limit(&self, plan: &Plan) -> Duration {
        self.deadline.map_or(plan.total, |own| own.min(plan.total))
    }

    /// Returns the number of attempts that it may take.
    pub(crate) fn most_attempts(&self, plan: &Plan) -> usize {
        // Saying the usual number is saying nothing, where the file allows more.
        let own = self.attempts.filter(|own| *own != USUAL_ATTEMPTS || plan.by_hand).unwrap_or_else(|| plan.attempts());
        usize::from(own.max(1))
    }
}

/// All requests of a simulation, in the order of their times.
pub(crate) fn plan(plan: &Plan) -> Vec<Ask> {
    let mut draw = Draw::new(plan.seed, "traffic");
    let mut times = arrivals(&mut draw, Duration::ZERO, plan.healed, plan.rate);
    for _ in 0..draw.number(0, 3) {
        // A hundred times as much, for a moment.
        let from = draw.moment(Duration::ZERO, plan.healed);
        let to = (from + draw.span(50, 500)).min(plan.healed);
        times.extend(arrivals(&mut draw, from, to, plan.rate * 100.0).into_iter().take(300));
    }
    times.sort();
    let mut asks: Vec<Ask> = times.into_iter().map(|at| faulty(&mut draw, at)).collect();
    asks.extend(
        arrivals(&mut draw, plan.healed, plan.ends, plan.rate_after).into_iter().map(|at| after(&mut draw, at)),
    );
    asks.iter_mut().enumerate().for_each(|(id, ask)| ask.id = id);
    asks
}

fn arrivals(draw: &mut Draw, from: Duration, to: Duration, rate: f64) -> Vec<Duration> {
    let shape = draw.pick(&[0.3, 1.0, 4.0]);
    let mut times = Vec::new();
    let mut at = from;
    loop {
        at += Duration::from_micros((draw.gamma(shape, 1.0 / rate) * 1e6) as u64);
        if at >= to {
            return times;
        }
        times.push(at);
    }
}

fn usual(draw: &mut Draw, at: Duration) -> Ask {
    let feature = draw.pick(&[None, Some(0), Some(0), Some(1), Some(2)]);
    Ask {
        id: 0,
        at,
        feature,
        session: draw.chance(0.3).then(|| draw.number(0, 40)),
        stream: draw.chance(0.6),
        deadline: None,
        attempts: None,
        explain: draw.chance(0.1),
        first_tier_only: false,
        manner: Manner::Patient,
    }
}

/// A request of the time in which things go wrong.
fn faulty(draw: &mut Draw, at: Duration) -> Ask {
    let manner = match draw.number(0, 19) {
        0 => Manner::LeavesAfter(draw.span(1, 30_000)),
        1 | 2 => Manner::LeavesAtPoll(draw.number(1, 12) as u32),
        3 => draw.pick(&[Manner::NeverPolls, Manner::OnlyReady]),
        4 => Manner::LeavesAfterFrames(draw.number(0, 8) as u32),
        5 => Manner::ReadsSlowly(draw.span(10, 2000)),
        6 if draw.chance(0.5) => Manner::Holds(draw.span(10, 20_000)),
        _ => Manner::Patient,
    };
    Ask {
        deadline: draw.chance(0.3).then(|| draw.span(50, 60_000)),
        attempts: draw.chance(0.2).then(|| draw.number(0, 9) as u16),
        first_tier_only: draw.chance(0.05),
        manner,
        ..usual(draw, at)
    }
}

/// A request of the time after: patient, and with time enough.
fn after(draw: &mut Draw, at: Duration) -> Ask {
    Ask { deadline: draw.chance(0.3).then(|| draw.span(15_000, 90_000).max(15 * SECOND)), ..usual(draw, at) }
}
