//! Number 8: probes under way are never more than configured, whatever becomes of them, and no circuit stays open for
//! ever.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::stream;
use steadfast::{
    CircuitBreakerLayer, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, events::CircuitState,
    provider_fn,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};

use crate::numbers::scaled;

const THREADS: usize = 8;

/// The end of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answers,
    /// A stream, which its caller drops half read.
    Streams,
    Fails,
    /// With a failure that says nothing of the provider.
    Neutral,
    Panics,
    /// Its caller leaves before it is asked for the first time, or in the middle.
    Left,
}

const ENDS: [End; 6] = [End::Answers, End::Streams, End::Fails, End::Neutral, End::Panics, End::Left];

/// Counts the probes that are under way, and the most there were.
#[derive(Clone, Default)]
struct Probes {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

struct Probe(Arc<AtomicUsize>);

impl Probes {
    fn begin(&self) -> Probe {
        self.all.fetch_add(1, SeqCst);
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        Probe(self.now.clone())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A leaf whose calls are pending once, and then end as their request says.
fn leaf(
    probes: Probes,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
    provider_fn(move |request: LlmRequest| {
        let (end, probe) = (*request.extensions().get::<End>().unwrap(), probes.begin());
        async move {
            let probe = probe;
            tokio::task::yield_now().await;
            match end {
                End::Answers => Ok(LlmResponse::from_text("hello")),
                End::Streams => {
                    // Not counted further: a body gives its place back just before its frames are dropped.
                    drop(probe);
                    let frames = stream::unfold((), |()| async { Some((Ok(Frame::text("word")), ())) });
                    Ok(LlmResponse::new(LlmBody::from_frames(Box::pin(frames))))
                }
                End::Fails => Err(LlmError::new(ErrorKind::Server, "down")),
                End::Neutral => Err(LlmError::new(ErrorKind::NotFound, "no such model")),
                End::Panics => panic!("scripted"),
                End::Left => std::future::pending().await,
            }
        }
    })
}

fn ask(end: End) -> LlmRequest {
    LlmRequest::prompt("hello").with_extension(end)
}

/// Opens a circuit whose cooldown is over at once.
fn open<S>(service: &mut S)
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    let mut idle = Context::from_waker(Waker::noop());
    let mut call = std::pin::pin!(service.call(ask(End::Fails)));
    while call.as_mut().poll(&mut idle).is_pending() {}
}

/// Asks so often from many threads at once; gives how many were admitted.
fn stress(probes: u32, each: usize, ends: &[End]) -> usize {
    let seen = Probes::default();
    let layer = CircuitBreakerLayer::new("sick")
        .consecutive_failures(1)
        .cooldown(Duration::ZERO)
        .cooldown_jitter(0.0)
        .probes(probes)
        // It never closes, so that all that comes through is a probe.
        .probe_successes(u32::MAX)
        .probe_lease(Duration::from_secs(3600));
    let circuit = layer.handle();
    let mut service = layer.layer(leaf(seen.clone()));
    open(&mut service);
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (mut service, barrier) = (service.clone(), &barrier);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread as u64);
                let mut idle = Context::from_waker(Waker::noop());
                barrier.wait();
                for _ in 0..each {
                    let end = ends[random.usize(..ends.len())];
                    let mut call: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(service.call(ask(end)));
                    if end == End::Left && random.bool() {
                        // Never polled.
                        continue;
                    }
                    let polled = |call: &mut Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>,
                                  idle: &mut Context<'_>| {
                        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(idle)))
                    };
                    let Ok(Poll::Pending) = polled(&mut call, &mut idle) else { continue };
                    // It is a probe, and all others are refused meanwhile.
                    std::thread::yield_now();
                    if let Ok(Poll::Ready(Ok(mut response))) = polled(&mut call, &mut idle) {
                        let _ = response.body_mut().poll_frame(&mut idle);
                        drop(call);
                        std::thread::yield_now();
                        drop(response);
                    }
                }
            });
        }
    });
    let most = seen.most.load(SeqCst);
    println!(
        "number 8: {probes} probes: {} admissions from {THREADS} threads, {} let through, {most} at once",
        each * THREADS,
        seen.all.load(SeqCst)
    );
    assert!(most <= probes as usize, "{most} probes at once, {probes} are configured");
    assert_eq!((seen.now.load(SeqCst), circuit.in_flight()), (0, 0), "nothing is under way any more");
    // And no place was lost: as many probes as configured get through, and one more does not.
    let mut idle = Context::from_waker(Waker::noop());
    let mut held: Vec<_> = (0..=probes).map(|_| Box::pin(service.call(ask(End::Left)))).collect();
    let pending = held.iter_mut().map(|call| usize::from(call.as_mut().poll(&mut idle).is_pending())).sum::<usize>();
    assert_eq!(pending, probes as usize, "the circuit is stuck");
    seen.all.load(SeqCst)
}

#[test]
fn a_million_admissions_from_many_threads_get_no_more_than_the_probes() {
    let each = scaled(5_000, 500_000) / THREADS;
    // The panics are the test's own.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let admitted = [
        catch_unwind(|| stress(1, each, &ENDS)),
        // Several probes are out: a failure begins the next generation while the others are on their way.
        catch_unwind(|| stress(3, each, &[End::Answers, End::Streams, End::Neutral, End::Left])),
    ];
    std::panic::set_hook(before);
    for admitted in admitted {
        // The scheduler decides how many were admitted.
        let admitted = admitted.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(admitted > 0);
    }
}

/// Probes that neither end nor are dropped: after their lease another takes the place.
#[tokio::test(start_paused = true)]
async fn no_circuit_stays_open_for_ever_however_its_probes_end() {
    let mut random = fastrand::Rng::with_seed(8);
    let (circuits, mut stuck) = (scaled(500, 20_000), 0);
    for _ in 0..circuits {
        let lease = Duration::from_secs(random.u64(1..100));
        let layer = CircuitBreakerLayer::new("sick")
            .consecutive_failures(1)
            .cooldown(Duration::from_secs(1))
            .probes(random.u32(1..4))
            .probe_lease(lease);
        let (circuit, mut service) = (layer.handle(), layer.layer(leaf(Probes::default())));
        open(&mut service);
        sleep(Duration::from_secs(1)).await;
        let mut held = Vec::new();
        for _ in 0..random.usize(1..6) {
            let mut call = Box::pin(service.call(ask(End::Left)));
            if random.bool() {
                let mut idle = Context::from_waker(Waker::noop());
                let _ = call.as_mut().poll(&mut idle);
            }
            held.push(call);
        }
        // All that are held are leaked, as far as the circuit can tell.
        sleep(lease + Duration::from_millis(1)).await;
        let healed = Instant::now();
        let answered = service.ready().await.unwrap().call(ask(End::Answers)).await;
        stuck += usize::from(answered.is_err() || circuit.state() != CircuitState::Closed);
        assert_eq!(healed.elapsed(), Duration::ZERO);
    }
    println!("number 8: {circuits} circuits whose probes never end: {stuck} stuck after the lease");
    assert_eq!(stuck, 0);
}
