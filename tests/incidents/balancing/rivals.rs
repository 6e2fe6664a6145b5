//! Other balancers, written from their descriptions: round robin, least in flight, LiteLLM's four strategies as its
//! documentation describes them ("simple-shuffle", "least-busy", "latency-based-routing", "usage-based-routing"), and
//! tower's power of two choices with a peak EWMA of the whole answer. Each fails over as a client's retry does: twice.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use steadfast::{LlmError, LlmRequest, LlmResponse};
use tokio::time::Instant;
use tower::{Service, ServiceExt as _};

use super::world::{ANSWER, Server, Turn};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Strategy {
    RoundRobin,
    LeastInFlight,
    Shuffle,
    LeastBusy,
    Latency,
    Usage,
    PeakEwma,
}

impl Strategy {
    pub(super) const ALL: [Self; 7] = [
        Self::RoundRobin,
        Self::LeastInFlight,
        Self::Shuffle,
        Self::LeastBusy,
        Self::Latency,
        Self::Usage,
        Self::PeakEwma,
    ];
}

#[derive(Clone)]
pub(super) struct Rival {
    strategy: Strategy,
    servers: Vec<Server>,
    state: Arc<Mutex<State>>,
}

struct State {
    random: fastrand::Rng,
    next: usize,
    known: Vec<Known>,
}

#[derive(Clone, Default)]
struct Known {
    in_flight: usize,
    /// The times of the last ten whole answers.
    last: Vec<f64>,
    peak: f64,
    peak_at: Option<Instant>,
    /// The tokens of this minute.
    minute: u64,
    tokens: u64,
}

impl Rival {
    pub(super) fn new(strategy: Strategy, servers: &[Server], seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(7 + seed);
        let state = State { random, next: 0, known: vec![Known::default(); servers.len()] };
        Self { strategy, servers: servers.to_vec(), state: Arc::new(Mutex::new(state)) }
    }

    fn pick(&self, without: Option<usize>, begun: Instant) -> usize {
        let mut state = self.state.lock().unwrap();
        let State { random, next, known } = &mut *state;
        let all: Vec<usize> = (0..known.len()).filter(|at| Some(*at) != without).collect();
        let now = Instant::now();
        let minute = (now - begun).as_secs() / 60;
        match self.strategy {
            Strategy::RoundRobin => {
                *next += 1;
                all[*next % all.len()]
            }
            Strategy::Shuffle => all[random.usize(..all.len())],
            Strategy::LeastInFlight => {
                let least = all.iter().map(|at| known[*at].in_flight).min().unwrap();
                let idle: Vec<_> = all.into_iter().filter(|at| known[*at].in_flight == least).collect();
                idle[random.usize(..idle.len())]
            }
            // The first of those that are equal.
            Strategy::LeastBusy => all.into_iter().min_by_key(|at| known[*at].in_flight).unwrap(),
            Strategy::Latency => {
                let mean = |at: &usize| known[*at].last.iter().sum::<f64>() / known[*at].last.len().max(1) as f64;
                all.into_iter().min_by(|one, other| mean(one).total_cmp(&mean(other))).unwrap()
            }
            Strategy::Usage => {
                let used = |at: &usize| if known[*at].minute == minute { known[*at].tokens } else { 0 };
                all.into_iter().min_by_key(used).unwrap()
            }
            Strategy::PeakEwma => {
                let cost = |at: usize| {
                    let idle = known[at].peak_at.map_or(0.0, |at| (now - at).as_secs_f64());
                    known[at].peak * (-idle / 10.0).exp() * (known[at].in_flight + 1) as f64
                };
                let (one, other) = (all[random.usize(..all.len())], all[random.usize(..all.len())]);
                if cost(other) < cost(one) { other } else { one }
            }
        }
    }
}

/// A call in the counts, until it is dropped.
struct Counted {
    state: Arc<Mutex<State>>,
    at: usize,
    begun: Instant,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let took = self.begun.elapsed().as_secs_f64();
        let known = &mut self.state.lock().unwrap().known[self.at];
        known.in_flight -= 1;
        known.last.push(took);
        if known.last.len() > 10 {
            known.last.remove(0);
        }
        let idle = known.peak_at.map_or(0.0, |at| at.elapsed().as_secs_f64());
        let weight = (-idle / 10.0).exp();
        known.peak = took.max(known.peak * weight + took * (1.0 - weight));
        known.peak_at = Some(Instant::now());
    }
}

impl Service<LlmRequest> for Rival {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let rival = self.clone();
        Box::pin(async move {
            let (begun, mut without) = (Instant::now(), None);
            loop {
                let at = rival.pick(without, begun);
                let tokens = request.extensions().get::<Turn>().map_or(0, |turn| turn.prompt + ANSWER);
                {
                    let known = &mut rival.state.lock().unwrap().known[at];
                    known.in_flight += 1;
                    let minute = begun.elapsed().as_secs() / 60;
                    known.tokens = if known.minute == minute { known.tokens + tokens } else { tokens };
                    known.minute = minute;
                }
                let counted = Counted { state: rival.state.clone(), at, begun: Instant::now() };
                match rival.servers[at].clone().oneshot(request.clone()).await {
                    Ok(mut answer) => {
                        answer.hold(move |_| drop(counted));
                        return Ok(answer);
                    }
                    Err(error) if without.is_some() => return Err(error),
                    Err(_) => without = Some(at),
                }
            }
        })
    }
}
