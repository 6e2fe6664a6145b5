//! Tests of limits that change while calls run.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_is_reached_as_calls_end() {
    let layer = BulkheadLayer::new().feature("chat", 4);
    let (handle, mut llm) = (layer.handle(), layer.layer(Silent));
    let mut busy: Vec<_> = (0..4).map(|_| llm.call(ask("chat"))).collect();
    handle.set_limit("chat", 2).unwrap();
    assert_eq!((handle.limit("chat"), handle.in_flight("chat")), (2, 4), "nobody is interrupted");
    for left in [3, 2, 1] {
        assert!(llm.call(ask("chat")).await.is_err(), "no other begins");
        busy.pop();
        assert_eq!(handle.in_flight("chat"), left);
    }
    busy.push(llm.call(ask("chat")));
    assert!(llm.call(ask("chat")).await.is_err());
    drop(busy);
    assert_eq!(handle.in_flight("chat"), 0);
    let busy = [llm.call(ask("chat")), llm.call(ask("chat"))];
    assert_eq!(handle.in_flight("chat"), 2);
    assert!(llm.call(ask("chat")).await.is_err());
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_lets_in_whoever_waits_at_once() {
    let layer = BulkheadLayer::new().feature("chat", 1).queue(10);
    let (handle, mut llm) = (layer.handle(), layer.layer(Silent));
    let _busy = llm.call(ask("chat"));
    let mut waits: Vec<_> = (0..4).map(|_| task::spawn(llm.call(ask("chat")))).collect();
    for call in &mut waits {
        assert_pending!(call.poll());
    }
    handle.set_limit("chat", 3).unwrap();
    assert_eq!(waits.iter().map(|call| call.is_woken()).collect::<Vec<_>>(), [true, true, false, false]);
    for call in &mut waits {
        assert_pending!(call.poll());
    }
    assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_limit_lowered_and_raised_under_load_with_waiters_adds_up() {
    let leaf = Strict::new().takes(SECOND);
    let layer = BulkheadLayer::new().feature("chat", 5).queue(1000).max_wait(Duration::MAX);
    let (handle, llm) = (layer.handle(), layer.layer(leaf.clone()));
    let calls: Vec<_> = (0..200).map(|_| tokio::spawn(llm.clone().call(ask("chat")))).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut limit = 5;
    while handle.queued("chat") > 0 {
        let before = handle.in_flight("chat");
        let next = random.usize(1..10);
        handle.set_limit("chat", next).unwrap();
        tokio::time::sleep(SECOND / 2).await;
        let running = leaf.running();
        assert!(running <= next.max(before).max(limit), "{running} running under {next}");
        limit = next;
        // Long enough for all calls that were begun before.
        tokio::time::sleep(2 * SECOND).await;
        assert!(leaf.running() <= next, "{} running under {next}", leaf.running());
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!((handle.in_flight("chat"), leaf.calls()), (0, 200));
    handle.set_limit("chat", 2).unwrap();
    let mut llm = llm;
    let _busy = [llm.call(ask("chat")), llm.call(ask("chat"))];
    assert_eq!(handle.in_flight("chat"), 2);
    assert_pending!(task::spawn(llm.call(ask("chat"))).poll());
}

#[tokio::test(start_paused = true)]
async fn a_closed_feature_refuses_newcomers_and_serves_who_waits_when_it_opens() {
    let layer = BulkheadLayer::new().feature("chat", 1).queue(5);
    let (handle, mut llm) = (layer.handle(), layer.layer(Strict::new().takes(SECOND)));
    let busy = llm.call(ask("chat"));
    let mut waits = task::spawn(llm.call(ask("chat")));
    handle.set_limit("chat", 0).unwrap();
    assert!(busy.await.is_ok());
    assert_pending!(waits.poll());
    assert_eq!(llm.call(ask("chat")).await.unwrap_err().kind(), ErrorKind::BulkheadFull);
    handle.set_limit("chat", 1).unwrap();
    assert!(waits.is_woken());
    assert!(waits.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_handle_knows_all_counts_and_refuses_unknown_names() {
    let layer = BulkheadLayer::new().feature("summary", 2).feature("chat", 9).feature("chat", 1).queue(1);
    let (handle, mut llm) = (layer.handle(), layer.layer(Silent));
    let _busy = [llm.call(ask("chat")), llm.call(ask("chat")), llm.call(ask("other"))];
    let counts: Vec<_> = handle
        .snapshot()
        .into_iter()
        .map(|load| (load.feature.as_deref().map(str::to_owned), load.limit, load.in_flight, load.queued))
        .collect();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(counts, [(named("chat"), 1, 1, 1), (named("summary"), 2, 0, 0), (None, 64, 1, 0)]);

    assert_eq!(handle.set_limit("other", 1).unwrap_err().field(), "feature");
    assert_eq!(handle.limit("other"), 64);
    handle.set_default_limit(1);
    assert_eq!(handle.limit("other"), 1);
}

#[test]
fn limits_moved_from_many_threads_end_at_the_last_one() {
    let layer = BulkheadLayer::new().feature("chat", 8);
    let (handle, llm) = (layer.handle(), layer.layer(Silent));
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (handle, mut llm) = (handle.clone(), llm.clone());
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut held = Vec::new();
                for _ in 0..20_000 {
                    match random.u8(..4) {
                        0 => handle.set_limit("chat", random.usize(..16)).unwrap(),
                        1 => held.clear(),
                        _ => held.push(llm.call(ask("chat"))),
                    }
                }
            });
        }
    });
    handle.set_limit("chat", 6).unwrap();
    assert_eq!(handle.in_flight("chat"), 0);
    let mut llm = llm;
    let mut calls: Vec<_> = (0..7).map(|_| task::spawn(llm.call(ask("chat")))).collect();
    assert_eq!(handle.in_flight("chat"), 6);
    assert!(assert_ready!(calls[6].poll()).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_shrinks_when_the_provider_says_too_much_and_grows_under_load() {
    let bounds = Adaptive::between(2, 12).backoff(0.5).unwrap();
    let overloaded = LlmError::new(ErrorKind::Overloaded, "");
    let layer = BulkheadLayer::new().feature("chat", Limits::new(8).adaptive(bounds).queue(100));
    let (handle, mut llm) = (layer.handle(), layer.layer(Strict::new().takes(SECOND).fails(8, overloaded)));

    let calls: Vec<_> = (0..8).map(|_| llm.call(ask("chat"))).collect();
    for call in calls {
        assert!(call.await.is_err());
    }
    assert_eq!(handle.limit("chat"), 4, "one event, one decrease");

    for limit in [4, 5, 6] {
        // A round of answers under load, and one more because of rounding.
        let calls: Vec<_> = (0..=limit).map(|_| tokio::spawn(llm.call(ask("chat")))).collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    }
    assert!(handle.limit("chat") > 4, "{}", handle.limit("chat"));

    let grown = handle.limit("chat");
    for _ in 0..100 {
        llm.call(ask("chat")).await.unwrap();
    }
    assert_eq!(handle.limit("chat"), grown, "no load, no growth");
    assert_eq!(handle.in_flight("chat"), 0);

    drop(llm.call(ask("chat")));
    assert_eq!(handle.limit("chat"), grown, "whoever leaves says nothing");
    handle.set_limit("chat", 100).unwrap();
    assert_eq!(handle.limit("chat"), 12);
    handle.set_limit("chat", 0).unwrap();
    assert_eq!(llm.call(ask("chat")).await.unwrap_err().kind(), ErrorKind::BulkheadFull);
}
