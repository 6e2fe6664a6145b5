//! Tests of the queue's order and of its waits.

use super::*;

fn queued(limit: usize, len: usize) -> BulkheadLayer {
    BulkheadLayer::new().feature("chat", limit).queue(len)
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_served_in_the_order_of_their_calls() {
    let leaf = Strict::new().takes(SECOND);
    let mut llm = queued(1, 10).layer(leaf.clone());
    let busy = llm.call(ask("chat"));
    let calls: Vec<_> = (0..5).map(|n| llm.call(ask("chat").with_session(format!("{n}")))).collect();
    // Polled the other way round.
    let calls: Vec<_> = calls.into_iter().rev().map(tokio::spawn).collect();
    busy.await.unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let order: Vec<_> = leaf.seen().iter().filter_map(|request| request.session().map(str::to_owned)).collect();
    assert_eq!(order, ["0", "1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_overtake_those_who_wait() {
    let mut llm = queued(1, 2).layer(Strict::new().takes(SECOND));
    let busy = llm.call(ask("chat"));
    let mut waits = task::spawn(llm.call(ask("chat")));
    assert_pending!(waits.poll());
    busy.await.unwrap();
    assert!(waits.is_woken());
    let mut newcomer = task::spawn(llm.call(ask("chat")));
    assert_pending!(newcomer.poll());
    let counts = (llm.handle().in_flight("chat"), llm.handle().queued("chat"));
    assert_eq!(counts, (1, 1), "the place is the first's, though it has not looked yet");
    assert_pending!(waits.poll());
    assert_pending!(newcomer.poll());
    assert_eq!((llm.handle().in_flight("chat"), llm.handle().queued("chat")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses() {
    let mut llm = queued(1, 2).layer(Silent);
    let busy = [llm.call(ask("chat")), llm.call(ask("chat")), llm.call(ask("chat"))];
    let error = llm.call(ask("chat")).await.unwrap_err();
    assert_eq!(error.message(), r#"feature "chat": 1 in flight (limit 1), 2 queued (limit 2)"#);
    drop(busy);
    assert_eq!((llm.handle().in_flight("chat"), llm.handle().queued("chat")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_holds_nothing_of_the_inner_service() {
    let leaf = Strict::new().takes(SECOND);
    let mut llm = queued(1, 5).layer(leaf.clone());
    let busy = llm.call(ask("chat"));
    let polled = leaf.polled_ready();
    let mut waits = task::spawn(llm.call(ask("chat")));
    for _ in 0..10 {
        assert_pending!(waits.poll());
    }
    assert_eq!(leaf.polled_ready(), polled);
    busy.await.unwrap();
    assert!(waits.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_after_the_maximum() {
    let layer = queued(1, 5).max_wait(3 * SECOND);
    let mut llm = layer.layer(Silent);
    let _busy = llm.call(ask("chat"));
    let waits = llm.call(ask("chat"));
    // The clock began with the call.
    tokio::time::sleep(SECOND).await;
    let mut waits = task::spawn(waits);
    assert_pending!(waits.poll());
    tokio::time::advance(Duration::from_millis(1999)).await;
    assert_pending!(waits.poll());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(waits.is_woken());
    let error = assert_ready!(waits.poll()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BulkheadFull);
    let message = r#"feature "chat": no place within 3s, 1 in flight (limit 1), 1 queued (limit 5)"#;
    assert_eq!(error.message(), message);
    assert_eq!(error.attempts()[0].took, 3 * SECOND, "the wait is in the record");
    assert_eq!(layer.handle().queued("chat"), 0, "it has left the queue, though its future is still held");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_requests_deadline() {
    let mut llm = queued(1, 5).layer(Silent);
    let _busy = llm.call(ask("chat"));
    let begun = Instant::now();
    let error = llm.call(ask("chat").with_timeout(2 * SECOND)).await.unwrap_err();
    assert_eq!(begun.elapsed(), 2 * SECOND);
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(error.message().contains("passed after 2s in the queue"), "{error}");

    let late = ask("chat").with_timeout(SECOND);
    tokio::time::advance(SECOND).await;
    let begun = Instant::now();
    assert_eq!(llm.call(late).await.unwrap_err().kind(), ErrorKind::Deadline);
    assert_eq!(begun.elapsed(), Duration::ZERO, "no wait is begun that cannot end in time");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_with_the_end_of_the_wait_is_taken() {
    let mut llm = queued(1, 5).max_wait(SECOND).layer(Strict::new().takes(SECOND));
    let busy = tokio::spawn(llm.call(ask("chat")));
    let mut waits = task::spawn(llm.call(ask("chat")));
    assert_pending!(waits.poll());
    tokio::time::advance(SECOND).await;
    busy.await.unwrap().unwrap();
    // Both are there: the place and the end of the wait.
    assert_pending!(waits.poll());
    assert_eq!((llm.handle().in_flight("chat"), llm.handle().queued("chat")), (1, 0));
    assert!(waits.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_with_its_place_just_given_passes_it_on() {
    let mut llm = queued(1, 5).layer(Strict::new().takes(SECOND));
    let busy = llm.call(ask("chat"));
    let mut leaves = task::spawn(llm.call(ask("chat")));
    let mut next = task::spawn(llm.call(ask("chat")));
    assert_pending!(leaves.poll());
    assert_pending!(next.poll());
    busy.await.unwrap();
    assert!(leaves.is_woken() && !next.is_woken());
    drop(leaves);
    assert!(next.is_woken());
    assert!(next.await.is_ok());
    assert_eq!((llm.handle().in_flight("chat"), llm.handle().queued("chat")), (0, 0));
}

/// Drops a call after each possible number of polls, with and without the queue before it.
#[tokio::test(start_paused = true)]
async fn dropped_at_any_await_point_it_leaves_nothing_behind() {
    let layer = BulkheadLayer::new()
        .feature("chat", Limits::new(1).queue(3).requests_per_minute(60_000).tokens_per_minute(60_000_000));
    let mut llm = layer.layer(Strict::new().pending(3).takes(SECOND));
    let handle = layer.handle();
    for busy in [false, true] {
        let mut answered = false;
        for polls in 0..25 {
            let mut first = busy.then(|| task::spawn(llm.call(ask("chat"))));
            let mut call = task::spawn(llm.call(ask("chat")));
            answered = false;
            for _ in 0..polls {
                tokio::time::advance(SECOND / 4).await;
                if first.as_mut().is_some_and(|first| first.poll().is_ready()) {
                    first = None;
                }
                if call.poll().is_ready() {
                    answered = true;
                    break;
                }
            }
            drop((call, first));
            assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (0, 0), "after {polls} polls");
        }
        assert!(answered, "the last of them went all the way");
    }
    assert!(llm.call(ask("chat")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_only_when_there_is_something_to_do() {
    let mut llm = queued(1, 200).layer(Silent);
    let _busy = llm.call(ask("chat"));
    let mut waits: Vec<_> = (0..100).map(|_| task::spawn(llm.call(ask("chat")))).collect();
    for call in &mut waits {
        assert_pending!(call.poll());
    }
    tokio::time::advance(29 * SECOND).await;
    tokio::task::yield_now().await;
    assert!(!waits.iter().any(|call| call.is_woken()));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiting_clones_are_all_served_or_leave_no_trace() {
    let llm = queued(3, 1000).max_wait(Duration::MAX).layer(Strict::new().pending(1).takes(SECOND));
    let begun = Instant::now();
    let calls: Vec<_> = (0..1000).map(|_| llm.clone().call(ask("chat"))).collect();
    assert_eq!((llm.handle().in_flight("chat"), llm.handle().queued("chat")), (3, 997));
    // Every other one leaves.
    let calls: Vec<_> =
        calls.into_iter().enumerate().filter_map(|(n, call)| (n % 2 == 0).then(|| tokio::spawn(call))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(begun.elapsed(), 167 * SECOND, "500 calls, three at a time");
    assert_eq!((llm.handle().in_flight("chat"), llm.handle().queued("chat")), (0, 0));
}
