//! The cost of watching: the five layers alone, and with events, status and all subscribers; while all is well, and
//! while another tier serves.
//!
//! The subscribers run on the same thread, in tasks of a runtime that the calls let run every 64th time: their CPU time
//! is in the figures.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use metrics_exporter_prometheus::PrometheusBuilder;
use steadfast::{
    Event, Events, LlmRequest, ObserveLayer,
    events::{Subscriber, Subscription},
};
use steadfast_subscribers::{StatusBoard, metrics::Metrics};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service};

use super::{Contestant, OBSERVED, OUR_FIVE};
use crate::{
    calls::{Calls, Expect},
    ours::{self, Llm},
    subject::{Answers, Subject},
};

/// The number of calls before the subscribers have their turn.
const TURN: u64 = 64;

/// Hears and forgets.
struct Deaf;

impl Subscriber for Deaf {
    fn event(&mut self, event: &Event) {
        std::hint::black_box(event);
    }
}

pub(super) fn add(list: &mut Vec<Contestant>) {
    let mut add = |name: &str, make: Box<dyn Fn() -> Calls>| {
        list.push(Contestant { group: OBSERVED, name: name.to_owned(), make });
    };
    add(OUR_FIVE, Box::new(|| calls(ours::five(Answers::<Llm>::new()), |_| Vec::new(), &Events::new())));
    let observed = |follow: fn(&Events) -> Vec<Subscription>| -> Box<dyn Fn() -> Calls> {
        Box::new(move || {
            let events = Events::new();
            calls(ObserveLayer::new(events.clone()).layer(ours::five(Answers::<Llm>::new())), follow, &events)
        })
    };
    add("and observe, nobody listens", observed(|_| Vec::new()));
    add(
        "and observe, one never reads",
        observed(|events| {
            std::mem::forget(events.subscribe());
            Vec::new()
        }),
    );
    add("and observe, one forgets", observed(|events| vec![events.follow(Deaf)]));
    add("and observe, two forget", observed(|events| vec![events.follow(Deaf), events.follow(Deaf)]));
    add("and observe and status", observed(|events| vec![events.follow(StatusBoard::new("primary"))]));
    add("and observe, status and metrics", observed(all));
    // The cost of a request while another tier serves.
    add(
        "past an open circuit",
        Box::new(|| calls(ours::five_past_an_open_circuit(Answers::<Llm>::new()), |_| Vec::new(), &Events::new())),
    );
    add(
        "past an open circuit, and observe, status and metrics",
        Box::new(|| {
            let events = Events::new();
            let five = ours::five_past_an_open_circuit(Answers::<Llm>::new());
            calls(ObserveLayer::new(events.clone()).layer(five), all, &events)
        }),
    );
}

/// All that watches.
fn all(events: &Events) -> Vec<Subscription> {
    let recorder = PrometheusBuilder::new().build_recorder();
    vec![events.follow((StatusBoard::new("primary"), Metrics::with_recorder(recorder).tier("primary")))]
}

fn calls<S>(mut llm: S, follow: fn(&Events) -> Vec<Subscription>, events: &Events) -> Calls
where
    S: Service<LlmRequest> + 'static,
{
    let runtime: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime of one thread");
    let subscription = runtime.block_on(async { follow(events) });
    let request = Llm::request();
    Box::new(move |n| {
        let _listens = &subscription;
        runtime.block_on(async {
            let mut cx = Context::from_waker(Waker::noop());
            for number in 1..=n {
                assert!(llm.poll_ready(&mut cx).is_ready());
                let mut call = pin!(llm.call(request.clone()));
                let Poll::Ready(Ok(answer)) = call.as_mut().poll(&mut cx) else { panic!("not {:?}", Expect::Answer) };
                drop(std::hint::black_box(answer));
                if number % TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    })
}
