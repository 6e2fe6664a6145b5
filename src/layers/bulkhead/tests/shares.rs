//! Tests of fair shares: no key takes the places, the queue or the rate that another wants.

use super::*;
use crate::request::BudgetKey;

fn of(key: &str, max_tokens: u32) -> LlmRequest {
    let chat = Chat::new([Message::user("hello")]).max_tokens(max_tokens);
    LlmRequest::from(chat).with_feature("chat").with_extension(BudgetKey::new(key))
}

/// A leaf that takes ten minutes for the key `hostile`, and 50 ms for others.
fn leaf() -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static {
    provider_fn(|request: LlmRequest| async move {
        let slow = request.key().is_some_and(|key| &**key == "hostile");
        tokio::time::sleep(if slow { 600 * SECOND } else { Duration::from_millis(50) }).await;
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(8, 5));
        Ok::<_, LlmError>(LlmResponse::from_message(message))
    })
}

/// Sends so many calls of an honest key, fifteen in a second, and returns how many were refused.
async fn honest<S>(llm: &S, count: u32, max_tokens: u32) -> u32
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    let mut calls = Vec::new();
    for _ in 0..count {
        calls.push(tokio::spawn(llm.clone().oneshot(of("honest", max_tokens))));
        tokio::time::sleep(Duration::from_micros(66_667)).await;
    }
    let mut refused = 0;
    for call in calls {
        refused += u32::from(call.await.unwrap().is_err());
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn slow_streams_of_one_key_do_not_take_all_places() {
    let layer = BulkheadLayer::new().feature("chat", 100);
    let (handle, llm) = (layer.handle(), layer.layer(leaf()));
    assert_eq!(honest(&llm, 1, 1).await, 0);
    let hostile: Vec<_> = (0..110).map(|_| tokio::spawn(llm.clone().oneshot(of("hostile", 1)))).collect();
    assert_eq!(honest(&llm, 258, 1).await, 0);
    assert_eq!(handle.in_flight("chat"), 75, "a quarter stays for the others");
    let mut refused = Vec::new();
    for call in hostile {
        if call.is_finished() {
            refused.push(call.await.unwrap().unwrap_err());
        } else {
            call.abort();
            let _ = call.await;
        }
    }
    assert_eq!((refused.len(), handle.in_flight("chat")), (35, 0));
    let error = &refused[0];
    assert_eq!(
        error.reached_limit(),
        Some(&crate::error::ReachedLimit::Share(Box::new(crate::error::ReachedLimit::Concurrency)))
    );
    assert!(error.retry_at().is_some() && error.message().contains(r#"of the key "hostile""#), "{}", error.message());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_alone_takes_all_places_and_gives_way_as_its_work_ends() {
    let layer = BulkheadLayer::new().feature("chat", 4);
    let (handle, mut llm) = (layer.handle(), layer.layer(Silent));
    let mut hostile: Vec<_> = (0..4).map(|_| task::spawn(llm.call(of("hostile", 1)))).collect();
    hostile.iter_mut().for_each(|call| assert_pending!(call.poll()));
    let is_full = llm.call(of("honest", 1)).await.unwrap_err();
    assert_eq!(is_full.reached_limit(), Some(&crate::error::ReachedLimit::Concurrency));
    hostile.pop();
    let over = llm.call(of("hostile", 1)).await.unwrap_err();
    assert!(matches!(over.reached_limit(), Some(crate::error::ReachedLimit::Share(_))), "{over:?}");
    assert_eq!(over.retry_after(), Some(SECOND));
    let mut one = task::spawn(llm.call(of("honest", 1)));
    assert_pending!(one.poll());
    assert_eq!(handle.in_flight("chat"), 4);
    // Within two spans the other key is forgotten.
    drop((one, hostile));
    tokio::time::advance(120 * SECOND).await;
    let mut alone: Vec<_> = (0..4).map(|_| task::spawn(llm.call(of("hostile", 1)))).collect();
    alone.iter_mut().for_each(|call| assert_pending!(call.poll()));
    drop(alone);
    assert_eq!(handle.in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_key_with_the_fewest_places_is_first_in_the_queue_and_nobody_fills_it() {
    let layer = BulkheadLayer::new().feature("chat", Limits::new(2).queue(8).max_wait(Duration::MAX));
    let (handle, mut llm) = (layer.handle(), layer.layer(Silent));
    let mut busy: Vec<_> = (0..2).map(|_| task::spawn(llm.call(of("hostile", 1)))).collect();
    busy.iter_mut().for_each(|call| assert_pending!(call.poll()));
    let mut of_hostile: Vec<_> = (0..8).map(|_| task::spawn(llm.call(of("hostile", 1)))).collect();
    of_hostile.iter_mut().for_each(|call| assert_pending!(call.poll()));
    drop(of_hostile.split_off(6));
    let mut of_honest: Vec<_> = (0..2).map(|_| task::spawn(llm.call(of("honest", 1)))).collect();
    of_honest.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (2, 8));
    drop(of_hostile.pop());
    let refused = llm.call(of("hostile", 1)).await.unwrap_err();
    assert!(matches!(refused.reached_limit(), Some(crate::error::ReachedLimit::Share(_))), "the queue has shares too");
    busy.pop();
    assert!(of_honest[0].is_woken() && !of_hostile[0].is_woken(), "six of the other key came before");
    drop(of_honest);
    assert_eq!(
        (handle.in_flight("chat"), handle.queued("chat")),
        (1, 5),
        "the place stays for the key that wanted two"
    );
    drop((busy, of_hostile));
    assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_holds_its_share_leaves_free_places_to_others_and_is_served_in_the_end() {
    let layer = BulkheadLayer::new().feature("chat", Limits::new(8).queue(20).max_wait(Duration::MAX));
    let (handle, mut llm) = (layer.handle(), layer.layer(Silent));
    drop(llm.call(of("honest", 1)));
    let mut hostile: Vec<_> = (0..10).map(|_| task::spawn(llm.call(of("hostile", 1)))).collect();
    hostile.iter_mut().for_each(|call| assert_pending!(call.poll()));
    assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (6, 4));
    let mut honest = task::spawn(llm.call(of("honest", 1)));
    assert_pending!(honest.poll());
    assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (7, 4), "it overtakes");
    drop(honest);
    for left in (0..10_usize).rev() {
        drop(hostile.remove(0));
        hostile.iter_mut().for_each(|call| assert_pending!(call.poll()));
        let counts = (handle.in_flight("chat"), handle.queued("chat"));
        assert_eq!(counts, (left.min(6), left.saturating_sub(6)), "each end serves the next");
    }
}

#[tokio::test(start_paused = true)]
async fn large_reservations_of_one_key_leave_the_others_their_part_of_a_rate() {
    for (rate, max_tokens) in [(200_000, 199_950), (200_000, 40_000), (1_000_000, 133_333_280)] {
        let layer = BulkheadLayer::new().feature("chat", Limits::new(100).tokens_per_minute(rate));
        let llm = layer.layer(leaf());
        assert_eq!(honest(&llm, 1, 1000).await, 0);
        let hostile = tokio::spawn({
            let llm = llm.clone();
            async move {
                loop {
                    let _ = tokio::time::timeout(SECOND / 10, llm.clone().oneshot(of("hostile", max_tokens))).await;
                    tokio::time::sleep(SECOND / 10).await;
                }
            }
        });
        assert_eq!(honest(&llm, 266, 1000).await, 0, "{rate}, {max_tokens}");
        hostile.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn many_requests_of_one_key_leave_the_others_their_part_of_a_rate() {
    let layer = BulkheadLayer::new().feature("chat", Limits::new(1000).requests_per_minute(600));
    let mut llm = layer.layer(Strict::new());
    llm.call(of("honest", 1)).await.unwrap();
    let (mut honest, mut hostile) = (0, 0);
    for _ in 0..600 {
        for _ in 0..10 {
            match llm.call(of("hostile", 1)).await {
                Ok(_) => hostile += 1,
                Err(error) => assert!(matches!(error.reached_limit(), Some(crate::error::ReachedLimit::Share(_)))),
            }
        }
        // Two in a second, of ten that the rate has.
        tokio::time::advance(SECOND / 2).await;
        honest += u32::from(llm.call(of("honest", 1)).await.is_ok());
    }
    assert_eq!(honest, 600);
    // 300 seconds at ten, less the honest ones, and three quarters of the burst.
    assert!((2400..=2900).contains(&hostile), "nothing is left unused: {hostile}");
}

#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_wherever_its_request_ends() {
    let limits = Limits::new(5).queue(5).max_wait(3 * SECOND).tokens_per_minute(60_000).requests_per_minute(6000);
    let layer = BulkheadLayer::new().feature("chat", limits);
    let (handle, llm) = (layer.handle(), layer.layer(Strict::new().pending(3).takes(SECOND)));
    let mut rng = fastrand::Rng::with_seed(8);
    for round in 0..300 {
        let mut calls: Vec<_> = (0..rng.usize(1..20))
            .map(|_| {
                let key = ["one", "two", "three"][rng.usize(..3)];
                task::spawn(llm.clone().call(of(key, rng.u32(1..2000))))
            })
            .collect();
        for _ in 0..rng.usize(..8) {
            calls.retain_mut(|call| (!call.is_woken() && rng.bool()) || call.poll().is_pending());
            if rng.bool() && !calls.is_empty() {
                drop(calls.swap_remove(rng.usize(..calls.len())));
            }
            tokio::time::advance(Duration::from_millis(rng.u64(..900))).await;
        }
        drop(calls);
        assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (0, 0), "round {round}");
        let features = handle.features();
        let gate = features.gate(Some("chat"));
        for key in ["one", "two", "three"] {
            assert_eq!(gate.semaphore().held(key), 0, "{key}, round {round}");
        }
    }
}
