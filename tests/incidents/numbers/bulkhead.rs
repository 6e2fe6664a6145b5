//! Number 9: a bulkhead under sixteen threads never lets in more than its limit, and says no at once.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use steadfast::{BulkheadLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, provider_fn};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::numbers::scaled;

const THREADS: usize = 16;
const LIMIT: usize = 8;

#[test]
fn sixteen_threads_never_exceed_the_limit_and_are_refused_at_once() {
    let each = scaled(3_000, 1_000_000);
    let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let leaf = {
        let (running, peak) = (running.clone(), peak.clone());
        provider_fn(move |_| {
            peak.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            let running = running.clone();
            let mut polls = 0;
            poll_fn(move |_| {
                polls += 1;
                if polls < 3 {
                    return Poll::Pending;
                }
                running.fetch_sub(1, SeqCst);
                Poll::Ready(Ok::<_, LlmError>(LlmResponse::from_text("hello")))
            })
        })
    };
    let bulkhead = BulkheadLayer::new().feature("chat", LIMIT);
    let (places, barrier) = (bulkhead.handle(), Barrier::new(THREADS));
    let llm = bulkhead.layer(leaf);
    let mut refused_in: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (mut llm, barrier) = (llm.clone(), &barrier);
                scope.spawn(move || {
                    let mut refused_in = Vec::new();
                    let mut idle = Context::from_waker(Waker::noop());
                    let request = LlmRequest::prompt("hello").with_feature("chat");
                    barrier.wait();
                    for _ in 0..each {
                        let request = request.clone();
                        let asked = Instant::now();
                        let mut call = pin!(llm.call(request));
                        loop {
                            match call.as_mut().poll(&mut idle) {
                                Poll::Ready(Err(error)) => {
                                    refused_in.push(asked.elapsed());
                                    assert_eq!(error.kind(), ErrorKind::BulkheadFull);
                                    break;
                                }
                                Poll::Ready(Ok(_)) => break,
                                // Others come while it is held.
                                Poll::Pending => std::thread::yield_now(),
                            }
                        }
                    }
                    refused_in
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    refused_in.sort();
    let at = |share: f64| refused_in[((refused_in.len() - 1) as f64 * share) as usize];
    println!(
        "number 9: {THREADS} threads, {} calls, limit {LIMIT}, peak {}; {} refused, in {:?} at the median, {:?} at p99.9, \
         {:?} at most",
        THREADS * each,
        peak.load(SeqCst),
        refused_in.len(),
        at(0.5),
        at(0.999),
        at(1.0)
    );
    assert_eq!(peak.load(SeqCst), LIMIT, "never above, and once there");
    assert_eq!((places.in_flight("chat"), places.queued("chat"), running.load(SeqCst)), (0, 0, 0));
}
