//! Troubles of a database lose nothing.

use std::time::Duration;

use steadfast::{LlmRequest, store::StoreErrorKind};
use steadfast_handoff::{Claimant, Desk, DeskError, Handoff, RedriveScope, TaskFilter, TaskStore};
use steadfast_stores::postgres::Postgres;
use tower::ServiceExt;

use crate::{tasks::suite::new_task, testing::Schema};

fn kind(error: DeskError) -> StoreErrorKind {
    match error {
        DeskError::Store(error) => error.kind(),
        error => panic!("{error}"),
    }
}

pub(crate) async fn open(place: &Schema) -> Postgres {
    Postgres::connect(place.url()).await.unwrap()
}

#[tokio::test]
async fn who_waits_has_the_answer_that_was_given_in_another_process() {
    let Some(place) = Schema::new("tasks_waits").await else { return };
    let (here, there) = (Desk::new(open(&place).await), Desk::new(open(&place).await));
    let asked = tokio::spawn(Handoff::new(&here).wait().oneshot(LlmRequest::prompt("May I?")));
    let id = loop {
        if let [task] = &there.list(TaskFilter::new()).await.unwrap()[..] {
            break task.id;
        }
    };
    there.answer(id, "ana", "You may.").await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().text().await.unwrap(), "You may.");
    place.ends().await;
}

#[tokio::test]
async fn a_database_that_may_only_be_read_says_so_and_what_is_there_is_served() {
    let Some(place) = Schema::new("tasks_read_only").await else { return };
    let id = open(&place).await.insert(new_task("hello")).await.unwrap();
    let url = format!("{}%20-c%20default_transaction_read_only%3Don", place.url());
    let store = Postgres::connect(&url).await.unwrap();
    assert_eq!(kind(store.insert(new_task("more")).await.unwrap_err()), StoreErrorKind::ReadOnly);
    assert_eq!(store.get(id).await.unwrap().id, id);
    let error = Handoff::new(&Desk::new(store)).oneshot(LlmRequest::prompt("May I?")).await.unwrap_err();
    assert!(error.to_string().contains("the store cannot be written"), "{error}");
    place.ends().await;
}

#[tokio::test]
async fn a_damaged_row_is_an_error_of_its_own_and_the_rest_is_served() {
    let Some(place) = Schema::new("tasks_damaged").await else { return };
    let store = open(&place).await;
    let (bad, good) = (store.insert(new_task("bad")).await.unwrap(), store.insert(new_task("good")).await.unwrap());
    place.execute(&format!("UPDATE steadfast_tasks SET request = '{{', created_at = 0 WHERE id = '{bad}'")).await;
    assert_eq!(kind(store.get(bad).await.unwrap_err()), StoreErrorKind::Corrupt);
    let oldest = store.claim_oldest(Claimant::redrive("1"), Duration::ZERO, RedriveScope::All).await.unwrap();
    assert_eq!(oldest.unwrap().id, good, "it holds up nobody");
    place.execute(&format!("UPDATE steadfast_tasks SET claim_kind = 'cat' WHERE id = '{bad}'")).await;
    assert_eq!(store.list(TaskFilter::new()).await.unwrap().len(), 1);
    place.ends().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_and_no_task_is_called_queued() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = Postgres::lazy(&format!("postgres://ada@127.0.0.1:{port}/state")).unwrap();
    let error = Handoff::new(&Desk::new(store)).oneshot(LlmRequest::prompt("May I?")).await.unwrap_err();
    assert!(error.to_string().contains("the store cannot be reached"), "{error}");
}

/// Each locks all open tasks: in one order, or two of them wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_may_ask_for_a_redrive_of_all_at_once() {
    let Some(place) = Schema::new("tasks_redrive_all").await else { return };
    let store = open(&place).await;
    for number in 0..200 {
        store.insert(new_task(&format!("task {number}"))).await.unwrap();
    }
    // The order of the rows is not that of their ids.
    place.execute("UPDATE steadfast_tasks SET reason = 'x' WHERE id > (SELECT min(id) FROM steadfast_tasks) AND random() < 0.5").await;
    let asks = (0..32).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.order_redrive(None).await })
    });
    for asked in futures_util::future::join_all(asks).await {
        assert_eq!(asked.unwrap().unwrap(), 200);
    }
    place.ends().await;
}

#[tokio::test]
async fn a_database_that_has_lost_a_table_is_refused_and_one_that_loses_it_says_so() {
    let Some(place) = Schema::new("tasks_lost").await else { return };
    let store = open(&place).await;
    place.execute("DROP TABLE steadfast_task_deliveries").await;
    assert_eq!(kind(store.stats().await.unwrap_err()), StoreErrorKind::Corrupt);
    let error = Postgres::connect(place.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("has lost its table steadfast_task_deliveries"), "{error}");
    place.ends().await;
}
