//! The contract of every store of tasks, each sentence of `TaskStore` a test: in memory, in a file (SQLite), and in a
//! database (PostgreSQL, where `STEADFAST_TEST_POSTGRES` names one).

mod postgres;
mod sqlite;
mod suite;

/// Runs each promise with every store.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        mod of_memory {
            $(#[tokio::test]
            async fn $promise() {
                crate::tasks::suite::$promise(std::sync::Arc::new(steadfast_handoff::MemoryTasks::new())).await;
            })*
        }
        mod of_sqlite {
            $(#[tokio::test]
            async fn $promise() {
                let place = crate::testing::Folder::new(stringify!($promise));
                crate::tasks::suite::$promise(std::sync::Arc::new(crate::tasks::sqlite::open(&place))).await;
            })*
        }
        mod of_postgres {
            $(#[tokio::test]
            async fn $promise() {
                let Some(place) = crate::testing::Schema::new(stringify!($promise)).await else { return };
                crate::tasks::suite::$promise(std::sync::Arc::new(crate::tasks::postgres::open(&place).await)).await;
                place.ends().await;
            })*
        }
    };
}

promises![
    it_is_there_as_it_was_written,
    the_same_id_again_changes_nothing,
    a_repeat_is_the_same_task_until_that_has_expired,
    of_many_repeats_at_once_one_is_written,
    what_was_never_written_is_unknown,
    a_list_is_in_order_and_goes_on_where_it_ended,
    a_list_is_of_what_was_asked_for,
    of_many_who_claim_at_once_one_has_it,
    who_has_it_renews_and_others_are_told_who_and_until_when,
    a_claim_that_is_over_may_be_taken,
    only_who_has_a_claim_gives_it_back,
    of_many_who_answer_at_once_one_does,
    who_is_at_it_answers_and_others_only_by_force,
    the_same_answer_again_is_no_error_and_another_one_is,
    an_expired_task_is_neither_claimed_nor_answered,
    the_oldest_is_redriven_first_and_each_by_one,
    a_redrive_and_a_person_exclude_each_other,
    what_waits_for_a_person_is_redriven_when_it_is_asked_for,
    what_is_asked_for_is_all_that_may_be_answered,
    a_notification_is_written_with_its_task_and_due_until_it_is_settled,
    a_callback_is_written_with_the_answer,
    of_many_who_look_for_deliveries_each_has_its_own,
    a_late_word_on_a_delivery_changes_nothing,
    what_is_given_up_stays_and_is_counted,
    a_sweep_takes_what_is_over_and_nothing_else,
    what_there_is_to_do_is_counted,
    odd_characters_come_back,
    a_caller_has_so_many_tasks_and_others_have_theirs,
    of_many_at_once_no_more_are_written_than_there_may_be,
    bytes_count_as_long_as_a_task_is_kept,
    what_is_forgotten_is_gone_and_nothing_else,
];
