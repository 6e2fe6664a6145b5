//! Every sentence of `IdempotencyStore`, as a test of any store.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all, poll};
use steadfast::layers::{
    cache::{Answer, AnswerOwner},
    idempotency::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, Ticket},
};
use tokio::time::{sleep, timeout};

use crate::contract::{
    SECOND,
    answers::{FRAMES, made_for, raw_frames, streamed, text, whole, wire},
    places::Place,
};

type Store = dyn IdempotencyStore;

/// One that a slow machine does not outlast between two lines.
const LONG: Duration = Duration::from_secs(600);
/// One that a test can wait for.
const SHORT: Duration = Duration::from_millis(50);

const KEY: IdempotencyKey = IdempotencyKey::from_bytes([1; 32]);
const INPUT: Fingerprint = Fingerprint::from_bytes([2; 32]);
const OTHER_INPUT: Fingerprint = Fingerprint::from_bytes([3; 32]);

async fn claim(store: &Store, input: Fingerprint, lease: Duration) -> Claim {
    store.claim(&KEY, &input, lease).await.unwrap()
}

async fn wins(store: &Store, lease: Duration) -> Ticket {
    match claim(store, INPUT, lease).await {
        Claim::Won(ticket) | Claim::Inherited(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

async fn is_busy(store: &Store) -> bool {
    matches!(claim(store, INPUT, LONG).await, Claim::Busy { .. })
}

/// Claims until the key is free, which it must be soon.
async fn wins_soon(store: &Store, input: Fingerprint, lease: Duration) -> Ticket {
    let claims = async {
        loop {
            match claim(store, input, lease).await {
                Claim::Won(ticket) | Claim::Inherited(ticket) => return ticket,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(20 * SECOND, claims).await.expect("the key is free by now")
}

/// The answer that is there.
async fn done(store: &Store) -> Arc<Answer> {
    match claim(store, INPUT, LONG).await {
        Claim::Done(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// Returns the text of the store's answer.
async fn said(store: &Store) -> String {
    let answer = done(store).await;
    text(&answer).await
}

async fn completes(store: &Store, ticket: Ticket, answer: &Arc<Answer>) -> bool {
    store.complete(&KEY, ticket, answer.clone(), LONG).await.unwrap()
}

pub(crate) async fn of_all_who_claim_at_once_one_wins(place: &Place) {
    let claims = (0..32).map(|claimant| {
        let store = place.stores[claimant % 2].clone();
        tokio::spawn(async move { claim(&*store, INPUT, LONG).await })
    });
    let mut won = 0;
    for claimed in join_all(claims).await {
        match claimed.unwrap() {
            Claim::Won(_) => won += 1,
            Claim::Busy { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(won, 1);
}

pub(crate) async fn another_input_is_a_conflict_and_changes_nothing(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, LONG).await;
    assert!(matches!(claim(&**other, OTHER_INPUT, LONG).await, Claim::Conflict), "while it is processing");
    assert!(completes(&**one, ticket, &whole("hello").await).await);
    assert!(matches!(claim(&**other, OTHER_INPUT, LONG).await, Claim::Conflict), "once it is done");
    assert_eq!(said(&**other).await, "hello");
    // Another key is another record.
    let key = IdempotencyKey::from_bytes([9; 32]);
    assert!(matches!(other.claim(&key, &OTHER_INPUT, LONG).await.unwrap(), Claim::Won(_)));
}

pub(crate) async fn a_repeat_is_busy_until_the_answer_is_there(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, LONG).await;
    for store in &place.stores {
        match claim(&**store, INPUT, LONG).await {
            Claim::Busy { lease_left } => assert!(lease_left <= LONG && lease_left > LONG / 2, "{lease_left:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(completes(&**one, ticket, &whole("hello").await).await);
    for store in [one, other, one] {
        assert_eq!(said(&**store).await, "hello");
    }
}

pub(crate) async fn an_answer_comes_back_as_it_was(place: &Place) {
    let [one, other] = &place.stores;
    let answer = whole("schön \\n ".repeat(2000).as_str()).await;
    let ticket = wins(&**one, LONG).await;
    assert!(completes(&**one, ticket, &answer).await);
    let again = done(&**other).await;
    assert_eq!((wire(&again).await, again.names()), (wire(&answer).await, (Some("openai"), Some("gpt-4o"))));
    assert_eq!(text(&again).await, text(&answer).await);
}

pub(crate) async fn a_stream_comes_back_frame_by_frame_in_its_own_bytes(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, LONG).await;
    assert!(completes(&**one, ticket, &streamed().await).await);
    let again = done(&**other).await;
    assert_eq!(raw_frames(&again).await, FRAMES);
    assert_eq!(text(&again).await, "one");
}

pub(crate) async fn a_lease_that_is_over_may_be_taken_by_another_input_too(place: &Place) {
    let [one, other] = &place.stores;
    wins(&**one, SHORT).await;
    wins_soon(&**other, OTHER_INPUT, LONG).await;
    assert!(matches!(claim(&**one, INPUT, LONG).await, Claim::Conflict));
}

pub(crate) async fn an_answer_whose_time_is_over_is_not_there(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, LONG).await;
    assert!(one.complete(&KEY, ticket, whole("hello").await, SHORT).await.unwrap());
    let again = wins_soon(&**other, OTHER_INPUT, LONG).await;
    assert_ne!(again, ticket);
    assert!(matches!(claim(&**one, INPUT, LONG).await, Claim::Conflict));
}

pub(crate) async fn a_renewed_lease_holds(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, SECOND).await;
    assert!(one.renew(&KEY, ticket, LONG).await.unwrap());
    match claim(&**other, INPUT, LONG).await {
        Claim::Busy { lease_left } => assert!(lease_left > LONG / 2, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
    // A shorter one counts from now, too.
    assert!(one.renew(&KEY, ticket, SHORT).await.unwrap());
    wins_soon(&**other, INPUT, LONG).await;
}

pub(crate) async fn a_lease_that_is_over_and_that_nobody_has_taken_is_given_again(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, SHORT).await;
    sleep(4 * SHORT).await;
    assert!(one.renew(&KEY, ticket, LONG).await.unwrap());
    assert!(is_busy(&**other).await);
}

pub(crate) async fn who_comes_back_after_its_lease_was_taken_changes_nothing(place: &Place) {
    let [one, other] = &place.stores;
    let late = wins(&**one, SHORT).await;
    let now = wins_soon(&**other, INPUT, LONG).await;
    assert_ne!(late, now);
    assert!(!one.renew(&KEY, late, SHORT).await.unwrap());
    one.release(&KEY, late).await.unwrap();
    assert!(!completes(&**one, late, &whole("late").await).await);
    match claim(&**one, INPUT, LONG).await {
        Claim::Busy { lease_left } => assert!(lease_left > LONG / 2, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
    assert!(completes(&**other, now, &whole("in time").await).await);
    assert_eq!(said(&**one).await, "in time");
    assert!(!completes(&**one, late, &whole("late").await).await);
    assert_eq!(said(&**one).await, "in time");
}

pub(crate) async fn an_answer_that_came_after_its_lease_is_kept_where_nobody_has_taken_the_key(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, SHORT).await;
    sleep(4 * SHORT).await;
    assert!(completes(&**one, ticket, &whole("hello").await).await);
    assert_eq!(said(&**other).await, "hello");
}

pub(crate) async fn what_is_done_is_not_renewed_not_released_and_not_answered_again(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, LONG).await;
    assert!(completes(&**one, ticket, &whole("hello").await).await);
    assert!(!one.renew(&KEY, ticket, SHORT).await.unwrap());
    one.release(&KEY, ticket).await.unwrap();
    assert!(!completes(&**one, ticket, &whole("again").await).await);
    sleep(2 * SHORT).await;
    assert_eq!(said(&**other).await, "hello");
}

pub(crate) async fn a_key_that_is_given_back_is_won_next(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, LONG).await;
    one.release(&KEY, Ticket(ticket.0 + 1000)).await.unwrap();
    assert!(is_busy(&**other).await, "another's ticket gives nothing back");
    one.release(&KEY, ticket).await.unwrap();
    one.release(&KEY, ticket).await.unwrap();
    wins(&**other, LONG).await;
    // It is not the record's any more.
    one.release(&KEY, ticket).await.unwrap();
    assert!(is_busy(&**other).await);
    assert!(!one.renew(&KEY, Ticket(u64::MAX), LONG).await.unwrap());
}

pub(crate) async fn an_answer_that_never_has_room_is_not_kept_and_its_key_is_free(place: &Place) {
    let [one, other] = &place.stores;
    (place.bound)(20);
    let ticket = wins(&**one, LONG).await;
    assert!(!completes(&**one, ticket, &whole("hello").await).await);
    wins(&**other, LONG).await;
}

pub(crate) async fn what_was_made_for_a_tenant_or_a_session_is_forgotten_and_nothing_else(place: &Place) {
    let store = &*place.stores[0];
    let whose = [("ada", "one"), ("ada", "two"), ("bob", "one"), ("bob", "two")];
    let mut answers = Vec::new();
    for (tenant, session) in whose {
        answers.push(made_for(tenant, session).await);
    }
    let key = |number: u8| IdempotencyKey::from_bytes([number; 32]);
    // More than are looked at in one turn.
    for number in 0..200u8 {
        let Claim::Won(ticket) = store.claim(&key(number), &INPUT, LONG).await.unwrap() else { panic!("a new key") };
        let answer = answers[usize::from(number) % 4].clone();
        assert!(store.complete(&key(number), ticket, answer, LONG).await.unwrap());
    }
    let Claim::Won(_) = store.claim(&key(255), &INPUT, LONG).await.unwrap() else { panic!("a new key") };
    assert_eq!(store.forget_owner(&AnswerOwner::tenant("eve")).await.unwrap(), 0);
    assert_eq!(store.forget_owner(&AnswerOwner::session("one").of_tenant("ada")).await.unwrap(), 50);
    assert_eq!(store.forget_owner(&AnswerOwner::tenant("bob")).await.unwrap(), 100);
    for number in 0..200u8 {
        let claim = place.stores[1].claim(&key(number), &INPUT, LONG).await.unwrap();
        let stays = number % 4 == 1;
        assert_eq!(matches!(claim, Claim::Done(_)), stays, "{number}: {claim:?}");
        assert_eq!(matches!(claim, Claim::Won(_)), !stays, "{number}: {claim:?}");
    }
    assert_eq!(store.forget_owner(&AnswerOwner::session("two")).await.unwrap(), 50);
    let claim = store.claim(&key(255), &INPUT, LONG).await.unwrap();
    assert!(matches!(claim, Claim::Busy { .. }), "what is under way is nobody's yet: {claim:?}");
}

pub(crate) async fn no_ticket_is_given_twice(place: &Place) {
    let mut tickets = HashSet::new();
    for round in 0..20 {
        let store = &place.stores[round % 2];
        let ticket = wins(&**store, LONG).await;
        assert!(tickets.insert(ticket), "{ticket:?}");
        store.release(&KEY, ticket).await.unwrap();
    }
}

pub(crate) async fn waiting_ends_with_the_change_and_never_later_than_it_may(place: &Place) {
    let [one, other] = &place.stores;
    let ticket = wins(&**one, LONG).await;
    timeout(5 * SECOND, other.changed(&KEY, SHORT)).await.expect("it waits no longer than it may");

    let mut waits = other.changed(&KEY, LONG);
    assert!(poll!(&mut waits).is_pending(), "it waits before there is a change");
    assert!(completes(&**one, ticket, &whole("hello").await).await);
    timeout(10 * SECOND, waits).await.expect("it is told of the answer");
    assert_eq!(said(&**other).await, "hello");
}

pub(crate) async fn a_call_that_was_dropped_half_way_may_be_made_again(place: &Place) {
    let [one, other] = &place.stores;
    for _ in 0..10 {
        // Polled once, and left: it has taken effect or not.
        let _ = one.claim(&KEY, &INPUT, SHORT).now_or_never();
    }
    let ticket = wins_soon(&**other, INPUT, LONG).await;
    let _ = other.renew(&KEY, ticket, LONG).now_or_never();
    assert!(other.renew(&KEY, ticket, LONG).await.unwrap());
    let answer = whole("hello").await;
    let _ = other.complete(&KEY, ticket, answer.clone(), LONG).now_or_never();
    completes(&**other, ticket, &answer).await;
    assert_eq!(said(&**one).await, "hello");
    let _ = other.release(&KEY, ticket).now_or_never();
    assert_eq!(said(&**one).await, "hello");
}

pub(crate) async fn a_key_whose_lease_is_over_is_inherited_and_one_that_was_answered_is_not(place: &Place) {
    let [one, other] = &place.stores;
    wins(&**one, Duration::from_millis(20)).await;
    sleep(Duration::from_millis(60)).await;
    let Claim::Inherited(ticket) = claim(&**other, INPUT, LONG).await else { panic!("nobody knows of an answer") };
    assert!(other.complete(&KEY, ticket, whole("hello").await, Duration::from_millis(20)).await.unwrap());
    sleep(Duration::from_millis(60)).await;
    assert!(matches!(claim(&**one, INPUT, LONG).await, Claim::Won(_)), "its time is over");
}

pub(crate) async fn a_claim_whose_reply_was_lost_is_the_claimants(place: &Place) {
    let [one, other] = &place.stores;
    let own = Ticket(1 << 40);
    for _ in 0..3 {
        let claim = one.claim_as(&KEY, &INPUT, LONG, own).await.unwrap();
        assert!(matches!(claim, Claim::Won(ticket) if ticket == own), "{claim:?}");
    }
    assert!(matches!(other.claim_as(&KEY, &INPUT, LONG, Ticket(1 << 41)).await.unwrap(), Claim::Busy { .. }));
    assert!(is_busy(&**other).await);
    one.release(&KEY, own).await.unwrap();
    let claim = one.claim_as(&KEY, &INPUT, LONG, own).await.unwrap();
    assert!(matches!(claim, Claim::Won(_)), "{claim:?}");
    assert!(completes(&**one, own, &whole("hello").await).await);
    assert!(matches!(one.claim_as(&KEY, &INPUT, LONG, own).await.unwrap(), Claim::Done(_)));
}
