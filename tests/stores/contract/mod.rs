//! The contract that every store keeps: in memory, in a file, in a database.
//!
//! Stores behind a server need one: `STEADFAST_TEST_POSTGRES` names a PostgreSQL database where schemas may be made,
//! and `STEADFAST_TEST_REDIS` a Redis. Without it their tests say that they are skipped.

mod accounts;
mod answers;
mod cache;
mod caps;
mod keys;
mod ledger;
mod objects;
mod owner;
mod places;
mod processes;
mod registry;
mod responses;
mod stack;
mod worked_keys;

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The tests of idempotency keys, for a store: a place of [`places`].
macro_rules! keys {
    ($place:ident) => {
        keys! { $place with an_answer_that_never_has_room_is_not_kept_and_its_key_is_free }
    };
    ($place:ident with $($more:ident)*) => {
        keys! {
            $place:
            of_all_who_claim_at_once_one_wins
            another_input_is_a_conflict_and_changes_nothing
            a_repeat_is_busy_until_the_answer_is_there
            an_answer_comes_back_as_it_was
            a_stream_comes_back_frame_by_frame_in_its_own_bytes
            a_lease_that_is_over_may_be_taken_by_another_input_too
            an_answer_whose_time_is_over_is_not_there
            a_renewed_lease_holds
            a_lease_that_is_over_and_that_nobody_has_taken_is_given_again
            who_comes_back_after_its_lease_was_taken_changes_nothing
            an_answer_that_came_after_its_lease_is_kept_where_nobody_has_taken_the_key
            what_is_done_is_not_renewed_not_released_and_not_answered_again
            a_key_that_is_given_back_is_won_next
            no_ticket_is_given_twice
            what_was_made_for_a_tenant_or_a_session_is_forgotten_and_nothing_else
            waiting_ends_with_the_change_and_never_later_than_it_may
            a_call_that_was_dropped_half_way_may_be_made_again
            a_key_whose_lease_is_over_is_inherited_and_one_that_was_answered_is_not
            $($more)*
        }
    };
    ($place:ident: $($test:ident)*) => {
        mod $place {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(place) = crate::contract::places::$place(stringify!($test)).await else { return };
                    crate::contract::keys::$test(&place).await;
                    place.ends().await;
                }
            )*
        }
    };
}

keys!(memory);
keys!(sqlite);
keys!(postgres);
// The server decides which keys it has room for.
keys!(redis with);

/// Behind a server a reply may be lost: then a claim is made again under the same ticket.
macro_rules! tickets {
    ($place:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $place() {
            let test = concat!(stringify!($place), "_tickets");
            let Some(place) = crate::contract::places::$place(test).await else { return };
            crate::contract::keys::a_claim_whose_reply_was_lost_is_the_claimants(&place).await;
            place.ends().await;
        }
    };
}

mod tickets {
    tickets!(sqlite);
    tickets!(postgres);
    tickets!(redis);
}

/// Runs on a clock that goes four times as fast as the real one. A paused clock would jump to the next timeout whenever
/// all tasks wait for the store, which has a thread or a server of its own.
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it gives the store's thread real time")]
async fn on_a_quick_clock<T>(work: impl Future<Output = T>) -> T {
    let clock = async {
        let mut last = std::time::Instant::now();
        loop {
            // The paused clock jumps nowhere meanwhile.
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_micros(250))).await.unwrap();
            let now = std::time::Instant::now();
            tokio::time::advance(4 * (now - std::mem::replace(&mut last, now))).await;
        }
    };
    tokio::select! {
        done = work => done,
        never = clock => never,
    }
}
