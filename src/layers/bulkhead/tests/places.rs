//! Tests of the holder of a place, and of the time for which it holds it.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_full_feature_refuses_at_once_and_says_so() {
    let mut llm = BulkheadLayer::new().feature("chat", 2).layer(Silent);
    let _busy = (llm.call(ask("chat")), llm.call(ask("chat")));
    let error = llm.call(ask("chat")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BulkheadFull);
    assert_eq!(error.message(), r#"feature "chat": 2 in flight (limit 2)"#);
    assert_eq!(error.retry_after(), None, "nobody knows");
    let [attempt] = error.attempts() else { panic!("one line in the record") };
    assert!(attempt.is_local(), "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nobody_reads_allocates_the_error_alone() {
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(Silent);
    let _busy = llm.call(ask("chat"));
    let request = ask("chat");
    let measured = allocation_counter::measure(|| {
        let mut idle = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(llm.call(request.clone())).poll(&mut idle).is_ready());
    });
    assert_eq!(measured.count_total, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_read_later_says_what_was_so_when_it_was_refused() {
    let layer = BulkheadLayer::new().feature("chat", 1).default_limit(1);
    let mut llm = layer.layer(Silent);
    let busy = (llm.call(ask("chat")), llm.call(ask("mail")));
    let named = llm.call(ask("chat")).await.unwrap_err();
    let unnamed = llm.call(ask("mail")).await.unwrap_err();
    drop(busy);
    layer.handle().set_limit("chat", 7).unwrap();
    let copy = named.clone();
    assert_eq!(named.message(), r#"feature "chat": 1 in flight (limit 1)"#);
    assert_eq!(copy.attempts()[0].message, named.message());
    assert_eq!(unnamed.message(), r#"feature "mail", under the default limit: 1 in flight (limit 1)"#);
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_refusal_is_of_the_time_when_it_was_refused() {
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(Silent);
    let _busy = llm.call(ask("chat"));
    let (begun, error) = (Instant::now(), llm.call(ask("chat")).await.unwrap_err());
    tokio::time::advance(SECOND).await;
    let [attempt] = error.attempts() else { panic!("one line in the record") };
    assert_eq!((attempt.begun, attempt.took, attempt.failure), (begun, Duration::ZERO, Some(error.kind())));
    assert_eq!(attempt.message, error.message());
    assert_eq!(error.clone().attempts(), error.attempts());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_does_not_touch_the_inner_service() {
    let leaf = Strict::new().takes(SECOND);
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(leaf.clone());
    let _busy = llm.call(ask("chat"));
    let polled = leaf.polled_ready();
    for _ in 0..100 {
        llm.call(ask("chat")).await.unwrap_err();
    }
    assert_eq!((leaf.calls(), leaf.polled_ready()), (1, polled));
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_0_is_closed() {
    let mut llm = BulkheadLayer::new().feature("chat", Limits::new(0).queue(9)).layer(Strict::new());
    let error = llm.call(ask("chat")).await.unwrap_err();
    assert_eq!(error.message(), r#"feature "chat": closed (limit 0)"#);
    assert!(llm.call(ask("other")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_largest_limits_are_taken() {
    let limits = Limits::new(usize::MAX).queue(usize::MAX).max_wait(Duration::MAX);
    let layer = BulkheadLayer::new().default_limit(limits);
    let mut llm = layer.layer(Strict::new());
    assert!(llm.call(ask("chat")).await.is_ok());
    for limit in [0, usize::MAX, 1, usize::MAX] {
        layer.handle().set_default_limit(limit);
    }
    assert!(llm.call(ask("chat")).await.is_ok());
    assert_eq!(layer.handle().in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn no_feature_takes_the_places_of_another() {
    let mut llm = BulkheadLayer::new().feature("chat", 1).feature("summary", Limits::new(1).queue(10)).layer(Silent);
    let mut busy: Vec<_> = (0..11).map(|_| task::spawn(llm.call(ask("summary")))).collect();
    for call in &mut busy {
        assert_pending!(call.poll());
    }
    let handle = llm.handle();
    assert_eq!((handle.in_flight("summary"), handle.queued("summary")), (1, 10));
    let mut chat = task::spawn(llm.call(ask("chat")));
    assert_pending!(chat.poll());
    assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn features_that_were_not_named_share_the_default_limit() {
    let mut llm = BulkheadLayer::new().feature("chat", 1).default_limit(3).layer(Silent);
    let _busy = [llm.call(ask("a")), llm.call(ask("b")), llm.call(LlmRequest::prompt("none"))];
    assert_eq!(llm.handle().in_flight("whatever"), 3);
    let error = llm.call(ask("c")).await.unwrap_err();
    assert_eq!(error.message(), r#"feature "c", under the default limit: 3 in flight (limit 3)"#);
    let error = llm.call(LlmRequest::prompt("none")).await.unwrap_err();
    assert_eq!(error.message(), "no feature, under the default limit: 3 in flight (limit 3)");
    assert_pending!(task::spawn(llm.call(ask("chat"))).poll());
}

#[tokio::test(start_paused = true)]
async fn feature_names_from_requests_take_no_memory() {
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(Strict::new());
    for n in 0..10_000 {
        llm.call(ask(&format!("made up {n}"))).await.unwrap();
    }
    assert_eq!(llm.handle().snapshot().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_and_clones_share_their_limits() {
    let layer = BulkheadLayer::new().feature("chat", 3);
    let mut one = layer.layer(Silent);
    let mut two = layer.clone().layer(Silent);
    let mut three = one.clone();
    let _busy = [one.call(ask("chat")), two.call(ask("chat")), three.call(ask("chat"))];
    assert_eq!(one.call(ask("chat")).await.unwrap_err().kind(), ErrorKind::BulkheadFull);
    assert_eq!(layer.handle().in_flight("chat"), 3);

    let mut changed = layer.feature("summary", 1).layer(Silent);
    assert_pending!(task::spawn(changed.call(ask("chat"))).poll());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_ready_clones_that_are_parked_block_nobody() {
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(Strict::new());
    let mut parked = Vec::new();
    for _ in 0..1000 {
        let mut clone = llm.clone();
        clone.ready().await.unwrap();
        parked.push(clone);
    }
    assert!(llm.call(ask("chat")).await.is_ok());
    drop(parked);
    assert_eq!(llm.handle().in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn cancelled_request_frees_its_slot() {
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(Strict::new().takes(SECOND));
    let unpolled = llm.call(ask("chat"));
    assert!(llm.call(ask("chat")).await.is_err());
    drop(unpolled);
    let mut polled = task::spawn(llm.call(ask("chat")));
    assert_pending!(polled.poll());
    assert!(llm.call(ask("chat")).await.is_err());
    drop(polled);
    assert!(llm.call(ask("chat")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_frees_its_slot_while_its_future_is_still_held() {
    let failing = Strict::new().fails(1, LlmError::new(ErrorKind::Server, ""));
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(failing);
    let mut failed = task::spawn(llm.call(ask("chat")));
    assert!(assert_ready!(failed.poll()).is_err());
    assert_eq!(llm.handle().in_flight("chat"), 0);
    assert!(llm.call(ask("chat")).await.is_ok());
    drop(failed);
    assert_eq!(llm.handle().in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_leaf_frees_its_slot() {
    let leaf = provider_fn(|_| async { panic!("a bug of somebody's") as Result<LlmResponse, Infallible> });
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(leaf);
    assert!(tokio::spawn(llm.call(ask("chat"))).await.is_err());
    assert_eq!(llm.handle().in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_complete_answer_frees_its_slot_at_once() {
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(Strict::new());
    let held = llm.call(ask("chat")).await.unwrap();
    assert_eq!(llm.handle().in_flight("chat"), 0);
    drop(held);
    assert_eq!(llm.handle().in_flight("chat"), 0);
}

/// Opens one stream after the other under a limit of 1, and ends each in its own way.
#[tokio::test(start_paused = true)]
async fn a_stream_holds_its_slot_until_it_ends_breaks_or_is_dropped() {
    let (responses, feeds): (Vec<_>, Vec<_>) = (0..4).map(|_| streamed()).unzip();
    let responses = std::sync::Arc::new(std::sync::Mutex::new(responses.into_iter()));
    let leaf = provider_fn(move |_| {
        let next = responses.lock().unwrap().next();
        async move { next.ok_or_else(|| LlmError::new(ErrorKind::Other, "no more")) }
    })
    .inner_commits();
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(leaf);
    let handle = llm.handle();

    for (n, feed) in feeds.into_iter().enumerate() {
        let mut response = llm.call(ask("chat")).await.unwrap();
        feed.send(Ok(Frame::text("hel"))).unwrap();
        assert!(response.body_mut().frame().await.unwrap().is_ok());
        assert_eq!(handle.in_flight("chat"), 1, "in the middle of stream {n}");
        assert_eq!(llm.call(ask("chat")).await.unwrap_err().kind(), ErrorKind::BulkheadFull);
        match n {
            0 => {
                feed.send(Ok(Frame::event(StreamEvent::End))).unwrap();
                assert!(response.body_mut().frame().await.unwrap().is_ok());
                assert_eq!(handle.in_flight("chat"), 0, "it has ended, though its reader has not");
            }
            1 => {
                feed.send(Err(LlmError::new(ErrorKind::StreamBroken, ""))).unwrap();
                assert!(response.body_mut().frame().await.unwrap().is_err());
                assert_eq!(handle.in_flight("chat"), 0, "broken");
            }
            2 => {
                drop(feed);
                assert!(response.body_mut().frame().await.unwrap().is_err());
                assert_eq!(handle.in_flight("chat"), 0, "cut");
            }
            _ => {
                drop(response);
                assert_eq!(handle.in_flight("chat"), 0, "dropped");
            }
        }
    }
}

/// The limit moves meanwhile, calls wait, and a quarter of them are dropped somewhere.
#[test]
fn the_peak_is_never_above_the_limit_on_many_threads() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let (running, peak, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let leaf = {
        let (running, peak) = (running.clone(), peak.clone());
        provider_fn(move |_| {
            struct Running(Arc<AtomicUsize>);
            impl Drop for Running {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, SeqCst);
                }
            }
            let now = running.fetch_add(1, SeqCst) + 1;
            peak.fetch_max(now, SeqCst);
            let guard = Running(running.clone());
            async move {
                let _guard = guard;
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(LlmResponse::from_text("hello"))
            }
        })
    };
    let llm = BulkheadLayer::new().feature("chat", Limits::new(5).queue(1000)).layer(leaf);
    let handle = llm.handle();
    runtime.block_on(async {
        let moved = handle.clone();
        let mover = tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(0);
            loop {
                moved.set_limit("chat", random.usize(1..=5)).unwrap();
                tokio::task::yield_now().await;
            }
        });
        let callers: Vec<_> = (0..64)
            .map(|caller| {
                let mut llm = llm.clone();
                tokio::spawn(async move {
                    let mut random = fastrand::Rng::with_seed(caller);
                    let mut answered = 0;
                    for _ in 0..500 {
                        let call = llm.call(ask("chat"));
                        if random.u8(..) < 64 {
                            let mut call = Box::pin(call);
                            for _ in 0..random.u8(..3) {
                                let _ = futures_util::poll!(&mut call);
                            }
                            drop(call);
                        } else {
                            call.await.unwrap();
                            answered += 1;
                        }
                    }
                    answered
                })
            })
            .collect();
        for caller in callers {
            answered.fetch_add(caller.await.unwrap(), SeqCst);
        }
        mover.abort();
    });
    assert!(answered.load(SeqCst) > 20_000);
    assert!(peak.load(SeqCst) <= 5, "{peak:?}");
    assert_eq!((handle.in_flight("chat"), handle.queued("chat"), running.load(SeqCst)), (0, 0, 0));
}
