//! A provider, its callers, and one trouble whose cause the oracle knows.

use std::{
    ops::AddAssign,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use steadfast::{
    BoxLlmService, CircuitBreakerLayer, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse, TimeoutLayer,
    events::CircuitState, provider_fn,
};
use tokio::{
    runtime::Builder,
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tower::{ServiceBuilder, ServiceExt};

use super::former::Former;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The provider answers each request with an error.
    Errors,
    /// It answers none.
    Silence,
    /// One connection ends, and with it all calls under way.
    ConnectionEnds,
    /// All requests of 50 ms get an error.
    Moment,
    /// This machine's network is away for six seconds.
    NetworkAway,
    /// One caller's prompts end in errors.
    OneCaller,
}

impl Trouble {
    pub(super) const ALL: [Self; 6] =
        [Self::Errors, Self::Silence, Self::ConnectionEnds, Self::Moment, Self::NetworkAway, Self::OneCaller];

    pub(super) fn is_sickness(self) -> bool {
        matches!(self, Self::Errors | Self::Silence)
    }

    fn lasts(self, load: Load, rng: &mut Rng) -> Duration {
        match self {
            Self::ConnectionEnds => Duration::ZERO,
            Self::Moment => Duration::from_millis(50),
            Self::NetworkAway => Duration::from_secs(6),
            // Many requests, but no more than a test has time for. No length is a multiple of a rule's cooldown.
            Self::Errors | Self::Silence | Self::OneCaller => {
                Duration::from_secs_f64((400.0 / load.rate).clamp(60.0, 300.0) * (1.0 + rng.f64()))
            }
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Load {
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) callers: u64,
    pub(super) runs: u64,
    /// The longest time that a healthy answer takes, in milliseconds; the shortest is 500.
    pub(super) longest: u64,
}

#[derive(Clone, Copy)]
pub(super) enum Rule {
    Former,
    Causes,
}

/// The costs of a rule, in sum over its runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// The seconds for which requests were refused that the provider would have served.
    pub(super) shut_out: f64,
    /// The seconds from the beginning of a sickness to the moment when the circuit opens.
    pub(super) unnoticed: f64,
    /// The calls to the provider while it was sick.
    pub(super) dead: u64,
    /// The seconds from the end of a trouble to the last request that somebody else had to answer.
    pub(super) recovery: f64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.shut_out += other.shut_out;
        self.unnoticed += other.unnoticed;
        self.dead += other.dead;
        self.recovery += other.recovery;
    }
}

/// Sums the runs of a rule with one trouble at one load.
pub(super) fn measure(rule: Rule, load: Load, trouble: Trouble) -> Figures {
    let mut sum = Figures::default();
    for seed in 0..load.runs {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        sum += runtime.block_on(async { World::new(load, trouble, seed).run(rule, seed).await });
    }
    sum
}

/// The wait for an answer that no longer comes.
const LIMIT: Duration = Duration::from_secs(30);
/// The caller whose prompts fail.
const POISONED: u64 = 0;

type IsOpen = Arc<dyn Fn() -> bool + Send + Sync>;

struct World {
    load: Load,
    trouble: Trouble,
    begins: Instant,
    ends: Instant,
    /// Changes once the connection has ended.
    connection: watch::Sender<bool>,
    figures: Mutex<Figures>,
    noticed: Mutex<Option<Instant>>,
}

impl World {
    fn new(load: Load, trouble: Trouble, seed: u64) -> Arc<Self> {
        let lasts = trouble.lasts(load, &mut Rng::with_seed(seed));
        // Some requests before it, so that the key has worked.
        let begins = Instant::now() + Duration::from_secs_f64((20.0 / load.rate).clamp(10.0, 100.0));
        Arc::new(Self {
            load,
            trouble,
            begins,
            ends: begins + lasts,
            connection: watch::Sender::new(false),
            figures: Mutex::default(),
            noticed: Mutex::default(),
        })
    }

    async fn run(self: Arc<Self>, rule: Rule, seed: u64) -> Figures {
        let (stack, is_open) = self.stack(rule, seed);
        let mut rng = Rng::with_seed(seed);
        // As long as any rule may shut the provider out.
        let last = self.ends + Duration::from_secs(100);
        let mut requests = Vec::new();
        if self.trouble == Trouble::ConnectionEnds {
            let world = self.clone();
            requests.push(tokio::spawn(async move {
                sleep_until(world.begins).await;
                world.connection.send_replace(true);
            }));
        }
        let mut at = Instant::now();
        while at < last {
            at += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / self.load.rate);
            let (caller, number) = (rng.u64(..self.load.callers), requests.len());
            let (world, stack, is_open) = (self.clone(), stack.clone(), is_open.clone());
            requests.push(tokio::spawn(async move {
                sleep_until(at).await;
                world.ask(stack, caller, number).await;
                if Instant::now() >= world.begins && is_open() {
                    world.noticed.lock().unwrap().get_or_insert_with(Instant::now);
                }
            }));
        }
        for request in requests {
            request.await.expect("a request");
        }
        let mut figures = *self.figures.lock().unwrap();
        if self.trouble.is_sickness() {
            let noticed = self.noticed.lock().unwrap().unwrap_or(self.ends);
            figures.unnoticed = (noticed.min(self.ends) - self.begins).as_secs_f64();
        }
        figures
    }

    /// Returns the stack, and a look at its circuit.
    fn stack(self: &Arc<Self>, rule: Rule, seed: u64) -> (BoxLlmService, IsOpen) {
        let (world, rng) = (self.clone(), Arc::new(Mutex::new(Rng::with_seed(!seed))));
        let provider = provider_fn(move |request: LlmRequest| {
            let (world, rng) = (world.clone(), rng.clone());
            async move { world.answer(&request, &rng).await }
        });
        let provider = ServiceBuilder::new().layer(TimeoutLayer::new(LIMIT)).service(provider);
        let backup = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("backup")) });
        let fallback = FallbackLayer::new("primary").tier("backup", backup);
        match rule {
            Rule::Former => {
                let former = Former::new(BoxLlmService::new(provider));
                let watched = former.clone();
                let stack = ServiceBuilder::new()
                    .layer(fallback)
                    .service(provider_fn(move |request| former.clone().call(request)));
                (BoxLlmService::new(stack), Arc::new(move || watched.is_open()))
            }
            Rule::Causes => {
                let circuit = CircuitBreakerLayer::new("primary").seed(seed);
                let watched = circuit.handle();
                let stack = ServiceBuilder::new().layer(fallback).layer(circuit).service(provider);
                (BoxLlmService::new(stack), Arc::new(move || watched.state() != CircuitState::Closed))
            }
        }
    }

    /// Sends a request, and compares what became of it with the truth.
    async fn ask(&self, stack: BoxLlmService, caller: u64, number: usize) {
        let request = LlmRequest::prompt(format!("request {number}"))
            .with_session(format!("caller {caller}"))
            .with_stream(number.is_multiple_of(2));
        let begun = Instant::now();
        let is_served = !self.fails(caller, begun);
        let answer = stack.oneshot(request).await.expect("the backup is well");
        if begun >= self.ends && !answer.attempts().is_empty() {
            let mut figures = self.figures.lock().unwrap();
            figures.recovery = figures.recovery.max((begun - self.ends).as_secs_f64());
        }
        let is_refused = answer.attempts().first().and_then(|step| step.failure) == Some(ErrorKind::CircuitOpen);
        if is_refused && is_served {
            self.figures.lock().unwrap().shut_out += 1.0 / self.load.rate;
        }
    }

    /// The oracle: whether the provider would fail this caller at this time.
    fn fails(&self, caller: u64, at: Instant) -> bool {
        let is_hit = self.trouble != Trouble::OneCaller || caller == POISONED;
        is_hit && at >= self.begins && at < self.ends
    }

    async fn answer(&self, request: &LlmRequest, rng: &Mutex<Rng>) -> Result<LlmResponse, LlmError> {
        let caller = if request.session() == Some("caller 0") { POISONED } else { 1 };
        let begun = Instant::now();
        if self.fails(caller, begun) {
            if self.trouble.is_sickness() {
                self.figures.lock().unwrap().dead += 1;
            }
            match self.trouble {
                Trouble::Silence => sleep(Duration::MAX).await,
                Trouble::NetworkAway => {
                    return Err(LlmError::new(ErrorKind::Connect, "no route to host").with_local_network());
                }
                _ => sleep(Duration::from_millis(200)).await,
            }
            return Err(LlmError::new(ErrorKind::Server, "failed"));
        }
        let takes = Duration::from_millis(rng.lock().unwrap().u64(500..=self.load.longest));
        let mut connection = self.connection.subscribe();
        tokio::select! {
            () = sleep(takes) => Ok(LlmResponse::from_text("primary")),
            Ok(()) = connection.changed() => {
                Err(LlmError::new(ErrorKind::StreamBroken, "the connection ended").with_connection(1))
            }
        }
    }
}
