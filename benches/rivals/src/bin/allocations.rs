//! Heap allocations per call of each contestant, and what one call takes while it waits for its answer, a line each.

use std::{
    mem::size_of_val,
    pin::pin,
    task::{Context, Waker},
};

use allocation_counter::measure;
use steadfast_rivals::{
    contestants,
    ours::{self, Llm},
    rivals::{resilience, seatbelt, tower as towers},
    subject::{Hangs, Small, Subject},
};
use tower::Service;

const CALLS: u64 = 1000;
/// In a table of costs that should not grow.
const SIZED_CALLS: u64 = 100;

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let _context = runtime.enter();
    for contestant in contestants::all() {
        let n = if contestant.sized().is_some() { SIZED_CALLS } else { CALLS };
        let mut calls = contestant.calls();
        // An allocation that is made once (a thread's local state, a first segment) is not a call's cost.
        calls(n);
        let allocated = measure(|| calls(n));
        println!("call\t{}\t{}", contestant.id(), allocated.count_total as f64 / n as f64);
    }
    idle::<Small, _>("bare", Hangs::<Small>::new());
    idle::<Small, _>("tower's three", towers::three::<Small, _>(Hangs::<Small>::new()));
    idle::<Small, _>("tower-resilience's five", resilience::five::<Small, _>(Hangs::<Small>::new()));
    idle::<Small, _>("seatbelt's four", seatbelt::four::<Small, _>(Hangs::<Small>::new()));
    idle::<Llm, _>("bare, on LlmRequest", Hangs::<Llm>::new());
    idle::<Llm, _>("steadfast's five", ours::five(Hangs::<Llm>::new()));
    Ok(())
}

/// The most that it holds at any time until it waits. The request itself is the caller's, and made before.
fn idle<K: Subject, S: Service<K::Request>>(name: &str, mut service: S) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut one = |request| {
        let mut size = 0;
        let heap = measure(|| {
            assert!(service.poll_ready(&mut cx).is_ready());
            let call = service.call(request);
            size = size_of_val(&call);
            let mut call = pin!(call);
            assert!(call.as_mut().poll(&mut cx).is_pending());
        });
        (size, heap.bytes_max)
    };
    // The first one fills what is filled once.
    one(K::request());
    let (size, heap) = one(K::request());
    println!("idle\t{name}\t{size}\t{heap}");
}
