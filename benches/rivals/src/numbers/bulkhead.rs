//! A full bulkhead under sixteen threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use steadfast::{BulkheadLayer, LlmError, LlmRequest, LlmResponse, provider_fn};
use tower::{Layer, ServiceExt};

use super::quantile;
use crate::measure::Effort;

/// The result.
#[derive(Clone, Copy, Debug)]
pub struct Refusals {
    pub refused: usize,
    pub p999: Duration,
    /// The most calls that were inside at once.
    pub peak: usize,
    pub limit: usize,
}

const THREADS: usize = 16;
const LIMIT: usize = 8;
const CALLS: usize = 20_000;

pub fn refusals(effort: Effort) -> Refusals {
    let calls = if effort == Effort::Quick { CALLS / 10 } else { CALLS };
    let inside = Arc::new(AtomicUsize::new(0));
    let peak = Arc::new(AtomicUsize::new(0));
    let (of_leaf, seen) = (inside.clone(), peak.clone());
    let leaf = provider_fn(move |_: LlmRequest| {
        let (inside, peak) = (of_leaf.clone(), seen.clone());
        async move {
            peak.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
            inside.fetch_sub(1, SeqCst);
            Ok::<_, LlmError>(LlmResponse::from_text("Hello."))
        }
    });
    let service = BulkheadLayer::new().feature("chat", LIMIT).layer(leaf);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_time().build();
    let mut took = runtime.expect("a runtime").block_on(async {
        // More callers than threads, and more than twice the places: most of them are refused.
        let callers = (0..2 * THREADS).map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                for _ in 0..calls {
                    let begun = Instant::now();
                    let answer = service.clone().oneshot(LlmRequest::prompt("Hello.").with_feature("chat")).await;
                    if answer.is_err() {
                        took.push(begun.elapsed());
                    }
                    tokio::task::yield_now().await;
                }
                took
            })
        });
        let mut all = Vec::new();
        for caller in callers.collect::<Vec<_>>() {
            all.extend(caller.await.expect("a caller ends without a panic"));
        }
        all
    });
    took.sort_unstable();
    Refusals { refused: took.len(), p999: quantile(&took, 0.999), peak: peak.load(SeqCst), limit: LIMIT }
}
