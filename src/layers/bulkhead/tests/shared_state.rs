//! Tests of two layers with one state, and calls in flight in both.

use super::*;

fn named(limits: impl Into<Limits>) -> BulkheadLayer {
    BulkheadLayer::new().feature("chat", limits)
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_count_in_the_layer_that_follows() {
    let before = named(2);
    let mut old = before.layer(Silent);
    let (one, two) = (old.call(ask("chat")), old.call(ask("chat")));

    let after = named(3).state(&before.handle());
    let mut new = after.layer(Silent);
    assert_eq!((after.handle().in_flight("chat"), after.handle().limit("chat")), (2, 3));
    let three = new.call(ask("chat"));
    assert_eq!(new.call(ask("chat")).await.unwrap_err().kind(), ErrorKind::BulkheadFull, "only one place was added");
    assert_eq!(old.call(ask("chat")).await.unwrap_err().kind(), ErrorKind::BulkheadFull, "the old one knows of it");
    drop((one, two, three));
    assert_eq!((before.handle().in_flight("chat"), after.handle().in_flight("chat")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_the_old_queue_is_let_in_by_the_new_limit() {
    let before = named(Limits::new(1).queue(2));
    let mut old = before.layer(Silent);
    let _one = old.call(ask("chat"));
    let mut waits = task::spawn(old.call(ask("chat")));
    assert_pending!(waits.poll());
    let after = named(Limits::new(2).queue(1)).state(&before.handle());
    let mut new = after.layer(Silent);
    assert!(waits.is_woken());
    assert_pending!(waits.poll());
    assert_eq!((after.handle().in_flight("chat"), after.handle().queued("chat")), (2, 0));
    let _queued = new.call(ask("chat"));
    assert_eq!(new.call(ask("chat")).await.unwrap_err().kind(), ErrorKind::BulkheadFull, "a queue of one");
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_is_reached_as_calls_end() {
    let before = named(3);
    let mut old = before.layer(Silent);
    let (one, two, three) = (old.call(ask("chat")), old.call(ask("chat")), old.call(ask("chat")));
    let after = named(1).state(&before.handle());
    let mut new = after.layer(Silent);
    drop((one, two));
    assert!(new.call(ask("chat")).await.is_err());
    drop(three);
    let _four = new.call(ask("chat"));
    assert_eq!(after.handle().in_flight("chat"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_feature_that_goes_and_comes_back_has_its_calls_counted() {
    let first = named(2);
    let mut old = first.layer(Silent);
    let call = old.call(ask("chat"));
    let without = BulkheadLayer::new().state(&first.handle());
    assert_eq!(without.handle().in_flight("chat"), 0, "the unnamed ones");
    drop((old, first));
    let still_without = BulkheadLayer::new().default_limit(7).state(&without.handle());
    let back = named(1).state(&still_without.handle());
    assert_eq!((back.handle().in_flight("chat"), back.handle().limit("chat")), (1, 1));
    drop(call);
    assert_eq!(back.handle().in_flight("chat"), 0);
}

#[test]
fn what_is_not_changed_stays_as_it_was_set_by_hand() {
    let first = named(2).feature("summary", 2);
    first.handle().set_limit("chat", 9).unwrap();
    first.handle().set_limit("summary", 9).unwrap();
    let after = named(2).feature("summary", 3).state(&first.handle());
    assert_eq!((after.handle().limit("chat"), after.handle().limit("summary")), (9, 3));
}

#[tokio::test(start_paused = true)]
async fn rates_that_stay_the_same_are_not_refilled() {
    let slow = |concurrency| named(Limits::new(concurrency).requests_per_minute(1));
    let before = slow(5);
    assert!(before.layer(Strict::new()).oneshot(ask("chat")).await.is_ok());
    let after = slow(6).state(&before.handle());
    assert!(after.layer(Strict::new()).oneshot(ask("chat")).await.is_err());
    let other = named(Limits::new(6).requests_per_minute(2)).state(&after.handle());
    assert!(other.layer(Strict::new()).oneshot(ask("chat")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_that_was_replaced_moves_nothing() {
    let bounds = |max| named(Limits::new(4).adaptive(Adaptive::between(1, max)));
    let before = bounds(10);
    let (failure, leaf) = (LlmError::new(ErrorKind::Overloaded, ""), Strict::new().takes(SECOND));
    let mut old = before.layer(leaf.clone().fails(1, failure.clone()));
    let call = tokio::spawn(old.call(ask("chat")));
    let same = bounds(10).state(&before.handle());
    let other = bounds(20).state(&same.handle());
    assert!(call.await.unwrap().is_err());
    assert_eq!(other.handle().limit("chat"), 4);
    assert!(other.layer(leaf.fails(1, failure)).oneshot(ask("chat")).await.is_err());
    assert_eq!(other.handle().limit("chat"), 3);
}
