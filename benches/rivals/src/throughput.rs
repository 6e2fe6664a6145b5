//! Calls per second of one shared service under two threads and 64 tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_resilience::bulkhead::BulkheadLayer;

use crate::{
    contestants::{BARE, failsafe_of, recloser},
    ours::{self, Llm},
    stacks::{self, PLACES},
    subject::{Answers, Small, Subject},
};

const THREADS: usize = 2;
const TASKS: usize = 64;
const ROUNDS: usize = 9;
const SLICE: Duration = Duration::from_millis(150);
/// A task lets the others run this often; else the first two would have the threads to themselves.
const CALLS_A_TURN: u64 = 32;

type Run = Box<dyn Fn(&Runtime) -> Rate>;

/// Calls per second, by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// By the one on the wall.
    pub wall: f64,
    /// By the CPU time of the threads: what the wall would show if the machine did nothing else.
    pub cpu: f64,
}

pub struct Shared {
    pub group: &'static str,
    pub name: String,
    run: Run,
}

/// Ours, in both tables.
pub const OURS: &str = "steadfast";
pub const BREAKER: &str = "breaker, 2 threads, 64 tasks";
pub const BULKHEAD: &str = "bulkhead, 2 threads, 64 tasks";
pub const GROUPS: [&str; 2] = [BREAKER, BULKHEAD];

pub fn all() -> Vec<Shared> {
    let mut list = Vec::new();
    rivals::<Small>(&mut list);
    let inner = Answers::<Llm>::new();
    add::<Llm, _>(&mut list, BREAKER, "bare, on LlmRequest", inner.clone());
    add::<Llm, _>(&mut list, BREAKER, "recloser, on LlmRequest", recloser(inner.clone()));
    add::<Llm, _>(&mut list, BREAKER, OURS, ours::breaker().layer(inner.clone()));
    add::<Llm, _>(&mut list, BULKHEAD, "bare, on LlmRequest", inner.clone());
    add::<Llm, _>(
        &mut list,
        BULKHEAD,
        "tower's ConcurrencyLimit, on LlmRequest",
        ServiceBuilder::new().concurrency_limit(PLACES).service(inner.clone()),
    );
    add::<Llm, _>(&mut list, BULKHEAD, OURS, ours::bulkhead(PLACES, inner));
    list
}

fn rivals<K: Subject>(list: &mut Vec<Shared>) {
    let inner = Answers::<K>::new();
    add::<K, _>(list, BREAKER, BARE, inner.clone());
    add::<K, _>(list, BREAKER, "recloser", recloser(inner.clone()));
    add::<K, _>(list, BREAKER, "failsafe", failsafe_of(inner.clone()));
    add::<K, _>(list, BREAKER, "tower-resilience", stacks::breaker().layer(inner.clone()));

    add::<K, _>(list, BULKHEAD, BARE, inner.clone());
    add::<K, _>(
        list,
        BULKHEAD,
        "tower's ConcurrencyLimit",
        ServiceBuilder::new().concurrency_limit(PLACES).service(inner.clone()),
    );
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(PLACES).build().expect("a valid bulkhead");
    add::<K, _>(list, BULKHEAD, "tower-resilience", bulkhead.layer(inner));
}

fn add<K, S>(list: &mut Vec<Shared>, group: &'static str, name: &str, service: S)
where
    K: Subject,
    S: Service<K::Request, Future: Send, Response: Send, Error: Send> + Clone + Send + 'static,
{
    let service = std::sync::Mutex::new(service);
    let run = Box::new(move |runtime: &Runtime| {
        let service = service.lock().expect("no panic while it is cloned").clone();
        calls_per_second::<K, S>(runtime, service)
    });
    list.push(Shared { group, name: name.to_owned(), run });
}

fn calls_per_second<K, S>(runtime: &Runtime, service: S) -> Rate
where
    K: Subject,
    S: Service<K::Request, Future: Send, Response: Send, Error: Send> + Clone + Send + 'static,
{
    let stop = Arc::new(AtomicBool::new(false));
    let total = Arc::new(AtomicU64::new(0));
    let (start, cpu) = (Instant::now(), ProcessTime::now());
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (mut service, stop, total) = (service.clone(), stop.clone(), total.clone());
            runtime.spawn(async move {
                // A request of its own: the tasks share the service, not a reference count.
                let request = K::request();
                let mut made = 0;
                while !stop.load(Relaxed) {
                    for _ in 0..CALLS_A_TURN {
                        let Ok(ready) = service.ready().await else { panic!("the service failed") };
                        assert!(ready.call(request.clone()).await.is_ok());
                    }
                    made += CALLS_A_TURN;
                    tokio::task::yield_now().await;
                }
                total.fetch_add(made, Relaxed);
            })
        })
        .collect();
    std::thread::sleep(SLICE);
    stop.store(true, Relaxed);
    runtime.block_on(async {
        for task in tasks {
            task.await.expect("a task ends without a panic");
        }
    });
    let calls = total.load(Relaxed) as f64;
    Rate { wall: calls / start.elapsed().as_secs_f64(), cpu: calls / (cpu.elapsed().as_secs_f64() / THREADS as f64) }
}

/// One contestant's rate in each round.
pub fn measure(contestants: &[Shared]) -> Vec<Vec<Rate>> {
    let runtime =
        Builder::new_multi_thread().worker_threads(THREADS).enable_time().build().expect("a runtime of two threads");
    let mut rounds = vec![Vec::with_capacity(ROUNDS); contestants.len()];
    for _ in 0..ROUNDS {
        for (contestant, figures) in contestants.iter().zip(&mut rounds) {
            figures.push((contestant.run)(&runtime));
        }
    }
    rounds
}
