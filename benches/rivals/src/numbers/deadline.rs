//! By how much a caller's deadline is overrun, wherever the call hangs.

use std::time::{Duration, Instant};

use steadfast::{BulkheadLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, layers::bulkhead::Limits, provider_fn};
use tower::{Layer, Service as _, ServiceExt, util::BoxCloneService};

use super::quantile;
use crate::{
    measure::Effort,
    ours::{self, Llm},
    subject::{Hangs, Subject},
};

/// Of all calls that hung in one place.
#[derive(Clone, Debug)]
pub struct Overrun {
    pub at: &'static str,
    pub calls: usize,
    pub p999: Duration,
    pub most: Duration,
}

const DEADLINE: Duration = Duration::from_millis(50);
const CALLS: usize = 25_000;
/// At once: enough that the runtime has work, not so many that the machine is what is measured.
const AT_ONCE: usize = 500;

type Boxed = BoxCloneService<LlmRequest, LlmResponse, LlmError>;

pub fn overruns(effort: Effort) -> Vec<Overrun> {
    let calls = if effort == Effort::Quick { CALLS / 25 } else { CALLS };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let hangs = || Hangs::<Llm>::new();
        let stream = provider_fn(|_: LlmRequest| async {
            // A first token that never comes.
            std::future::pending::<Result<LlmResponse, LlmError>>().await
        });
        let fails = provider_fn(|_: LlmRequest| async {
            Err::<LlmResponse, _>(LlmError::new(ErrorKind::Overloaded, "too much load"))
        });
        let limits = Limits::new(1).queue(AT_ONCE).max_wait(Duration::from_secs(60));
        let queue = BulkheadLayer::new().feature("chat", limits).layer(hangs());
        let mut first = Box::pin(queue.clone().oneshot(LlmRequest::prompt("Hello.").with_feature("chat")));
        let _ = tokio::time::timeout(Duration::ZERO, &mut first).await;
        let places = AT_ONCE + 1;
        vec![
            at("the answer", boxed(ours::five_with_places(places, hangs())), false, calls).await,
            at("a stream's first token", boxed(ours::five_with_places(places, stream)), true, calls).await,
            at("the wait before a retry", boxed(ours::retrying(places, fails)), false, calls).await,
            at("the queue of a bulkhead", boxed(ours::timeout(queue)), false, calls).await,
        ]
    })
}

fn boxed<S>(service: S) -> Boxed
where
    S: tower::Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    BoxCloneService::new(service)
}

async fn at(at: &'static str, service: Boxed, stream: bool, calls: usize) -> Overrun {
    let callers = (0..AT_ONCE).map(|caller| {
        let mut service = service.clone();
        tokio::spawn(async move {
            // Not all at the same moment.
            tokio::time::sleep(DEADLINE.mul_f64(caller as f64 / AT_ONCE as f64)).await;
            let mut over = Vec::new();
            for _ in 0..calls / AT_ONCE {
                let begun = Instant::now();
                let request = Llm::request().with_stream(stream).with_timeout(DEADLINE);
                let answer = service.ready().await.expect("a stack is ready").call(request).await;
                assert!(answer.is_err());
                over.push(begun.elapsed().saturating_sub(DEADLINE));
            }
            over
        })
    });
    let mut all = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        all.extend(caller.await.expect("a caller ends without a panic"));
    }
    all.sort_unstable();
    Overrun { at, calls: all.len(), p999: quantile(&all, 0.999), most: all.last().copied().unwrap_or_default() }
}
