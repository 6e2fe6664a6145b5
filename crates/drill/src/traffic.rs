//! The traffic of a drill, the same for the stack and for the baselines.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;

use crate::scenario::file::{Requests, ScenarioFile};
use steadfast::{LlmRequest, layers::budget::BudgetKey};

/// A future request. It travels along as an extension, so that providers can identify the call.
#[derive(Clone, Debug)]
pub(crate) struct DrillRequest {
    /// Its index among all requests.
    pub(crate) number: usize,
    /// Its arrival, from the beginning.
    pub(crate) at: Duration,
    pub(crate) feature: Arc<str>,
    /// The name of its caller's key.
    pub(crate) key: Option<Arc<str>>,
    pub(crate) session: Option<u32>,
    pub(crate) stream: bool,
    /// True if no provider accepts it.
    pub(crate) wrong: bool,
    /// The caller, from 0 to 1: some faults affect only some callers.
    pub(crate) caller: f64,
    /// True if its feature runs away.
    pub(crate) runaway: bool,
    /// The time after which its caller leaves.
    pub(crate) leaves_after: Option<Duration>,
    /// The time that its caller gives it.
    pub(crate) time: Option<Duration>,
    pub(crate) question: Question,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    Common(u32),
    /// The own one of the request with this number.
    Number(usize),
}

/// The number of common questions.
const COMMON: u32 = 20;
/// The text before the question: some hundred tokens, like a short conversation.
const BEFORE: &str = "You help the readers of a small shop's pages. Answer in one or two short sentences, in plain \
                      words, without a greeting, and say so where you do not know. Prices are in the list below; what \
                      is not in it, the shop does not have. Bread 4, rolls 1, cake 18, coffee 3, tea 2.5, milk 1.2, \
                      butter 2.9, honey 7, jam 5, eggs 4.";

impl DrillRequest {
    /// Builds the request.
    pub(crate) fn request(&self) -> LlmRequest {
        let question = match self.question {
            Question::Common(which) => format!("{BEFORE}\n\nCommon question {which}: is it fresh?"),
            Question::Number(number) => format!("{BEFORE}\n\nMy own question {number}: is it fresh?"),
        };
        let request = LlmRequest::prompt(question)
            .with_feature(self.feature.clone())
            .with_stream(self.stream)
            .with_max_tokens(64);
        let request = match self.session {
            Some(session) => request.with_session(format!("session-{session}")),
            None => request,
        };
        let request = match &self.key {
            Some(key) => request.with_extension(BudgetKey(key.clone())),
            None => request,
        };
        let request = match self.time {
            Some(time) => request.with_timeout(time),
            None => request,
        };
        request.with_extension(self.clone())
    }
}

/// Returns all requests of a scenario in order of arrival.
pub(crate) fn traffic(file: &ScenarioFile, seed: u64) -> Vec<DrillRequest> {
    let requests = &file.requests;
    let mut rng = Rng::with_seed(seed);
    let mut asks = Vec::new();
    arrivals(&mut rng, Duration::ZERO, file.lasts.0, requests.rate.0, |rng, at| {
        asks.push(ask(rng, requests, at, None))
    });
    for burst in &requests.bursts {
        let feature = burst.feature.as_deref();
        arrivals(&mut rng, burst.from.0, burst.to.0, burst.rate.0, |rng, at| {
            asks.push(ask(rng, requests, at, feature));
        });
    }
    // A stable sort: simultaneous requests keep the order of their drawing.
    asks.sort_by_key(|ask| ask.at);
    for (number, ask) in asks.iter_mut().enumerate() {
        ask.number = number;
        if let Question::Number(own) = &mut ask.question {
            *own = number;
        }
    }
    asks
}

/// Generates independent arrivals, with exponential times between them.
fn arrivals(rng: &mut Rng, from: Duration, to: Duration, rate: f64, mut each: impl FnMut(&mut Rng, Duration)) {
    if rate <= 0.0 {
        return;
    }
    let mut at = from;
    loop {
        // In (0, 1], because the logarithm of zero is infinite.
        let wait = -(1.0 - rng.f64()).ln() / rate;
        at = at.saturating_add(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX));
        if at >= to {
            return;
        }
        each(rng, at);
    }
}

fn ask(rng: &mut Rng, requests: &Requests, at: Duration, feature: Option<&str>) -> DrillRequest {
    // Draws every number, even unused ones, so that one setting does not change the randomness of the others.
    let (which, session, common) = (rng.f64(), rng.u32(0..requests.sessions.max(1)), rng.u32(0..COMMON));
    let mut is = |share: f64| rng.f64() < share;
    let (stream, wrong, asks_common) = (is(requests.streams.0), is(requests.wrong.0), is(requests.common.0));
    DrillRequest {
        number: 0,
        at,
        feature: feature.unwrap_or_else(|| pick_feature(requests, which)).into(),
        key: None,
        session: (requests.sessions > 0).then_some(session),
        stream,
        wrong,
        caller: rng.f64(),
        runaway: feature.is_some(),
        leaves_after: None,
        time: None,
        question: if asks_common { Question::Common(common) } else { Question::Number(0) },
    }
}

/// Returns the feature for a number from 0 to 1.
fn pick_feature(requests: &Requests, which: f64) -> &str {
    let all: f64 = requests.features.values().sum();
    let mut left = which * all;
    for (name, weight) in &requests.features {
        if left < *weight {
            return name;
        }
        left -= weight;
    }
    requests.features.keys().next_back().map_or("chat", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scenario;

    fn asks(requests: &str, seed: u64) -> Vec<DrillRequest> {
        let text = format!("name: x\nlasts: 1h\nrequests: {requests}\n");
        traffic(Scenario::from_yaml(&text).unwrap().file(), seed)
    }

    #[test]
    fn as_many_arrive_as_the_rate_says_in_the_order_of_time() {
        let all = asks("{ rate: 1/s, streams: 25%, wrong: 10%, features: { chat: 3, other: 1 } }", 1);
        assert!((3_400..3_800).contains(&all.len()), "{}", all.len());
        assert!(all.windows(2).all(|two| two[0].at <= two[1].at && two[0].number + 1 == two[1].number));
        let share = |is: fn(&DrillRequest) -> bool| all.iter().filter(|ask| is(ask)).count() as f64 / all.len() as f64;
        assert!((0.22..0.28).contains(&share(|ask| ask.stream)));
        assert!((0.08..0.12).contains(&share(|ask| ask.wrong)));
        assert!((0.22..0.28).contains(&share(|ask| &*ask.feature == "other")));
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        let said = |asks: Vec<DrillRequest>| asks.iter().map(|ask| format!("{ask:?}")).collect::<Vec<_>>();
        let requests = "{ rate: 10/min, sessions: 3, bursts: [{ from: 5m, to: 6m, rate: 1/s, feature: run }] }";
        assert_eq!(said(asks(requests, 7)), said(asks(requests, 7)));
        assert_ne!(said(asks(requests, 7)), said(asks(requests, 8)));
    }

    #[test]
    fn a_burst_adds_to_the_others_while_it_lasts() {
        let all = asks("{ rate: 1/min, bursts: [{ from: 10m, to: 11m, rate: 10/s, feature: run }] }", 1);
        let (burst, others): (Vec<_>, Vec<_>) = all.iter().partition(|ask| ask.runaway);
        assert!((520..680).contains(&burst.len()) && (35..90).contains(&others.len()));
        let within = |ask: &&DrillRequest| (600..660).contains(&ask.at.as_secs()) && &*ask.feature == "run";
        assert!(burst.iter().all(within));
        assert!(others.iter().all(|ask| &*ask.feature == "chat"));
    }
}
