//! Tests of keys in the database, beyond the tests of every store.

use super::*;
use crate::testing_keys::{complete_claim, is_done, taken, win};

#[tokio::test]
async fn what_is_over_is_swept_out_step_by_step_and_what_lives_stays() {
    let Some(schema) = Schema::new("sweep").await else { return };
    let database = Postgres::connect(schema.url()).await.unwrap();
    // The first answer would start a sweep beside this one, which skips a row that the other deletes.
    assert!(database.inner.quota.add(0));
    complete_claim(&database, 1).await;
    complete_claim(&database, 2).await;
    win(&database, 3).await;
    schema.execute("UPDATE steadfast_idempotency SET until = 1000 WHERE ticket = 2").await;
    let many = "INSERT INTO steadfast_idempotency (key, input, ticket, until)
        SELECT int4send(i), '', 0, i FROM generate_series(1, 1300) AS i";
    schema.execute(many).await;
    database.sweep_all().await.unwrap();
    assert_eq!(count(&database).await.unwrap(), 2);
    assert!(is_done(&database, 1).await);
    schema.ends().await;
}

#[tokio::test]
async fn over_the_room_the_answer_that_was_kept_first_goes_first() {
    let Some(schema) = Schema::new("room").await else { return };
    let database = Postgres::connect(schema.url()).await.unwrap();
    // The extra half absorbs the time in an answer, whose length varies by a byte.
    database.set_max_answer_bytes(3 * taken() + taken() / 2);
    for number in 1..=5 {
        complete_claim(&database, number).await;
    }
    win(&database, 6).await;
    database.sweep_all().await.unwrap();
    assert_eq!(count(&database).await.unwrap(), 4);
    for number in 3..=5 {
        assert!(is_done(&database, number).await, "{number}");
    }
    assert!(!is_done(&database, 1).await && !is_done(&database, 2).await);
    schema.ends().await;
}

#[tokio::test]
async fn an_answer_that_is_not_readable_is_as_not_there_and_the_others_are() {
    let Some(schema) = Schema::new("corrupt").await else { return };
    let database = Postgres::connect(schema.url()).await.unwrap();
    // One is damaged, one cut, and one of a later version.
    for broken in ["'\\x0102030405060708090a0b0c'", "substr(answer, 1, 20)", "'\\xff0102'"] {
        schema.execute("DELETE FROM steadfast_idempotency").await;
        complete_claim(&database, 1).await;
        complete_claim(&database, 2).await;
        let first = "(SELECT min(ticket) FROM steadfast_idempotency)";
        schema.execute(&format!("UPDATE steadfast_idempotency SET answer = {broken} WHERE ticket = {first}")).await;
        assert!(is_done(&database, 2).await, "{broken}");
        complete_claim(&database, 1).await;
        assert!(is_done(&database, 1).await, "{broken}");
    }
    schema.ends().await;
}
