//! Hours of traffic in virtual time: a steady stream of requests against leaves that behave as an outage says.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use steadfast::{LlmBody, LlmError, LlmRequest, LlmResponse, provider_fn};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tower::{Service, ServiceExt};

/// A leaf's behaviour in one call.
pub(crate) enum Behaviour {
    /// Answers with this text after so long.
    Answers(Duration),
    /// Fails like this after so long.
    Fails(Duration, LlmError),
    /// Begins a stream after so long.
    Streams(Duration, LlmBody),
}

/// The calls that a leaf has seen, by seconds since the start.
#[derive(Clone)]
pub(crate) struct Calls {
    start: Instant,
    by_second: Arc<Mutex<Vec<u64>>>,
    total: Arc<AtomicU64>,
}

impl Calls {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, by_second: Arc::default(), total: Arc::default() }
    }

    fn count(&self) -> u64 {
        let second = self.start.elapsed().as_secs() as usize;
        let mut seconds = self.by_second.lock().unwrap();
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += 1;
        self.total.fetch_add(1, Relaxed)
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Returns the number of them from `from` to `to`, in seconds since the start.
    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        let seconds = self.by_second.lock().unwrap();
        let bound = |second: u64| (second as usize).min(seconds.len());
        seconds[bound(from)..bound(to)].iter().sum()
    }
}

/// A leaf that behaves as the function says, given the time since the start and the number of the call.
pub(crate) fn leaf<F>(
    calls: &Calls,
    behaviour: F,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static
where
    F: Fn(Duration, u64) -> Behaviour + Clone + Send + Sync + 'static,
{
    let calls = calls.clone();
    provider_fn(move |_request| {
        let number = calls.count();
        let behaviour = behaviour(calls.start.elapsed(), number);
        async move {
            match behaviour {
                Behaviour::Answers(after) => {
                    sleep(after).await;
                    Ok(LlmResponse::from_text("answer"))
                }
                Behaviour::Fails(after, error) => {
                    sleep(after).await;
                    Err(error)
                }
                Behaviour::Streams(after, body) => {
                    sleep(after).await;
                    Ok(LlmResponse::new(body))
                }
            }
        }
    })
}

/// The result of a stream of requests.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) requests: u64,
    pub(crate) lost: u64,
    /// The time when the last request was lost, since the start.
    pub(crate) last_lost: Option<Duration>,
    /// By tier: how many, and when the last was served.
    pub(crate) served: BTreeMap<String, u64>,
    /// By tier: the first time after each second at which it served.
    served_at: BTreeMap<String, Vec<Duration>>,
    pub(crate) slowest: Duration,
}

impl Report {
    /// The first time from `from` on at which the tier answered a request.
    pub(crate) fn first_served_by(&self, tier: &str, from: Duration) -> Option<Duration> {
        self.served_at.get(tier)?.iter().copied().filter(|at| *at >= from).min()
    }

    /// The last time at which the tier answered a request.
    pub(crate) fn last_served_by(&self, tier: &str) -> Option<Duration> {
        self.served_at.get(tier)?.iter().copied().max()
    }
}

/// Sends `per_second` requests a second for `lasts`, reads each answer whole, and waits for the last.
pub(crate) async fn run<S>(llm: S, start: Instant, per_second: u32, lasts: Duration, stream: bool) -> Report
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    let report = Arc::new(Mutex::new(Report::default()));
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    for number in 0..u64::from(per_second) * lasts.as_secs() {
        ticks.tick().await;
        let (llm, report) = (llm.clone(), report.clone());
        under_way.spawn(async move {
            let begun = Instant::now();
            let request = LlmRequest::prompt(format!("question {number}")).with_feature("chat").with_stream(stream);
            let answered = match llm.oneshot(request).await {
                Ok(response) => {
                    let tier = response.served_by().tier.unwrap_or("none").to_owned();
                    response.collect().await.map(|_| tier)
                }
                Err(error) => Err(error),
            };
            let (at, mut report) = (start.elapsed(), report.lock().unwrap());
            report.requests += 1;
            report.slowest = report.slowest.max(begun.elapsed());
            match answered {
                Ok(tier) => {
                    *report.served.entry(tier.clone()).or_default() += 1;
                    report.served_at.entry(tier).or_default().push(at);
                }
                Err(_) => {
                    report.lost += 1;
                    report.last_lost = Some(at);
                }
            }
        });
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
    Arc::into_inner(report).expect("every request has ended").into_inner().unwrap()
}
