//! Calls per second of one shared service under one and two threads and 64 tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt};

use super::{Effort, spread};
use crate::{
    contestants::{BARE, ON_LLM, OURS},
    ours::{self, Llm},
    rivals::{PLACES, resilience, seatbelt, tower as towers, wrapped},
    subject::{Answers, Small, Subject},
};

pub const THREADS: [usize; 2] = [1, 2];
pub const TASKS: usize = 64;
const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(100);
/// A task lets the others run this often; else the first ones would have the threads to themselves.
const CALLS_A_TURN: u64 = 32;

type Run = Box<dyn Fn(&Runtime, usize) -> Rate>;

/// Calls per second, by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// By the one on the wall.
    pub wall: f64,
    /// By the CPU time of the threads: what the wall would show if the machine did nothing else.
    pub cpu: f64,
}

/// A service that all tasks share.
pub struct Shared {
    pub group: &'static str,
    pub name: String,
    run: Run,
}

pub const BREAKER: &str = "breaker";
pub const BULKHEAD: &str = "bulkhead";
pub const STACK: &str = "stack";
pub const GROUPS: [&str; 3] = [BREAKER, BULKHEAD, STACK];

/// Needs the context of a tokio runtime.
pub fn all() -> Vec<Shared> {
    let mut list = Vec::new();
    rivals::<Small>(&mut list, "");
    liter(&mut list);
    rivals::<Llm>(&mut list, ON_LLM);
    let inner = Answers::<Llm>::new();
    add::<Llm, _>(&mut list, BREAKER, OURS, ours::breaker().layer(inner.clone()));
    add::<Llm, _>(&mut list, BULKHEAD, OURS, ours::bulkhead(PLACES, inner.clone()));
    add::<Llm, _>(&mut list, STACK, OURS, ours::five(inner));
    list
}

fn rivals<K: Subject>(list: &mut Vec<Shared>, suffix: &str) {
    let inner = Answers::<K>::new();
    for group in GROUPS {
        add::<K, _>(list, group, &format!("{BARE}{suffix}"), inner.clone());
    }
    add::<K, _>(list, BREAKER, &format!("recloser{suffix}"), wrapped::recloser(inner.clone()));
    add::<K, _>(list, BREAKER, &format!("failsafe{suffix}"), wrapped::failsafe(inner.clone()));
    add::<K, _>(list, BREAKER, &format!("tower-resilience{suffix}"), resilience::breaker().layer(inner.clone()));
    let context = seatbelt::context::<K>();
    add::<K, _>(list, BREAKER, &format!("seatbelt{suffix}"), seatbelt::breaker::<K, _>(&context, inner.clone()));

    add::<K, _>(list, BULKHEAD, &format!("tower's ConcurrencyLimit{suffix}"), towers::limit(PLACES, inner.clone()));
    add::<K, _>(list, BULKHEAD, &format!("tower-resilience{suffix}"), resilience::bulkhead(PLACES, inner.clone()));

    add::<K, _>(list, STACK, &format!("tower's three{suffix}"), towers::three::<K, _>(inner.clone()));
    add::<K, _>(list, STACK, &format!("tower-resilience's five{suffix}"), resilience::five::<K, _>(inner.clone()));
    add::<K, _>(list, STACK, &format!("seatbelt's four{suffix}"), seatbelt::four::<K, _>(inner));
}

#[cfg(feature = "liter-llm")]
fn liter(list: &mut Vec<Shared>) {
    use crate::rivals::liter::{self, Liter};

    let inner = Answers::<Liter>::new();
    add::<Liter, _>(list, BREAKER, "liter-llm", liter::breaker(inner.clone()));
    add::<Liter, _>(list, BULKHEAD, "liter-llm", liter::limit(PLACES, inner.clone()));
    add::<Liter, _>(list, STACK, "liter-llm's three", liter::three(inner));
}

#[cfg(not(feature = "liter-llm"))]
fn liter(_: &mut Vec<Shared>) {}

fn add<K, S>(list: &mut Vec<Shared>, group: &'static str, name: &str, service: S)
where
    K: Subject,
    S: Service<K::Request, Future: Send, Response: Send, Error: Send> + Clone + Send + 'static,
{
    let service = std::sync::Mutex::new(service);
    let run = Box::new(move |runtime: &Runtime, threads: usize| {
        let service = service.lock().expect("no panic while it is cloned").clone();
        calls_per_second::<K, S>(runtime, service, threads)
    });
    list.push(Shared { group, name: name.to_owned(), run });
}

fn calls_per_second<K, S>(runtime: &Runtime, service: S, threads: usize) -> Rate
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
    Rate { wall: calls / start.elapsed().as_secs_f64(), cpu: calls / (cpu.elapsed().as_secs_f64() / threads as f64) }
}

/// One contestant's results, with one thread and with two.
#[derive(Debug)]
pub struct Row {
    pub group: &'static str,
    pub name: String,
    /// Calls per second by CPU time, in the order of [`THREADS`]: the middle of the rounds.
    pub by_cpu: [f64; 2],
    /// And by the wall.
    pub by_wall: [f64; 2],
}

pub fn measure(effort: Effort) -> Vec<Row> {
    let contestants = {
        // Clocks that need timers are driven by it; what is measured runs on runtimes of its own.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
        let _context = runtime.enter();
        let contestants = all();
        std::mem::forget(runtime);
        contestants
    };
    let mut rounds: Vec<[Vec<Rate>; 2]> = contestants.iter().map(|_| Default::default()).collect();
    for (at, threads) in THREADS.into_iter().enumerate() {
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_time().build().expect("a runtime");
        for _ in 0..effort.rounds(ROUNDS) {
            for (contestant, figures) in contestants.iter().zip(&mut rounds) {
                figures[at].push((contestant.run)(&runtime, threads));
            }
        }
    }
    let middle = |rates: &[Rate], of: fn(&Rate) -> f64| spread(&rates.iter().map(of).collect::<Vec<_>>()).median;
    let rows = contestants.into_iter().zip(rounds).map(|(contestant, rounds)| Row {
        group: contestant.group,
        name: contestant.name,
        by_cpu: [0, 1].map(|at| middle(&rounds[at], |rate| rate.cpu)),
        by_wall: [0, 1].map(|at| middle(&rounds[at], |rate| rate.wall)),
    });
    rows.collect()
}
