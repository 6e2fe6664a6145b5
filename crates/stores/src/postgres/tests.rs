//! Tests of connecting, and of a server's failures.

mod keys;

use std::error::Error as _;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::testing::Schema;

async fn count(postgres: &Postgres) -> Result<i64, StoreError> {
    let client = postgres.client("counting").await?;
    let row = client.query_one("SELECT count(*) FROM steadfast_idempotency", &[]).await;
    row.map(|row| row.get(0)).map_err(|cause| postgres.failed("counting", cause))
}

#[tokio::test]
async fn a_wrong_url_is_refused_and_not_quoted() {
    for url in [
        "",
        "nonsense",
        "postgres://",
        "mysql://u:hush@h/d",
        "postgres://u:hush@h/d?sslmode=hush",
        "user=u password=hu=sh",
    ] {
        let error = Postgres::lazy(url).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{url}");
        assert!(error.source().is_none() && !format!("{error:?}").contains("hu"), "{error:?}");
    }
}

#[test]
fn debug_names_the_database_and_not_the_password() {
    let postgres = Postgres::lazy("postgres://ada:hush@db.internal:6000/state?sslmode=require").unwrap();
    assert_eq!(format!("{postgres:?}"), "Postgres { name: \"postgres db.internal:6000/state\", .. }");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Postgres::connect(&format!("postgres://ada:hush@127.0.0.1:{port}/state")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.heals() && !format!("{error:?}").contains("hush"), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}/state")), "{error}");
}

#[tokio::test]
async fn many_that_connect_to_a_new_database_at_once_all_have_it() {
    let Some(schema) = Schema::new("at_once").await else { return };
    let connecting: Vec<_> = (0..6)
        .map(|_| {
            let url = schema.url().to_owned();
            tokio::spawn(async move { Postgres::connect(&url).await })
        })
        .collect();
    for connected in connecting {
        assert_eq!(count(&connected.await.unwrap().unwrap()).await.unwrap(), 0);
    }
    schema.ends().await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_not_touched() {
    let Some(schema) = Schema::new("newer").await else { return };
    Postgres::connect(schema.url()).await.unwrap();
    schema.execute("INSERT INTO steadfast_schema VALUES (4711, 'later'); DROP TABLE steadfast_idempotency").await;
    let error = Postgres::connect(schema.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NewerSchema);
    assert!(error.to_string().contains("has version 4711"), "{error}");
    let untouched = "DO $$ BEGIN ASSERT to_regclass('steadfast_idempotency') IS NULL; END $$";
    schema.execute(untouched).await;
    schema.ends().await;
}

#[tokio::test]
async fn a_database_that_may_only_be_read_is_read_and_says_so_when_it_is_to_be_written() {
    let Some(schema) = Schema::new("read_only").await else { return };
    Postgres::connect(schema.url()).await.unwrap();
    let url = format!("{}%20-c%20default_transaction_read_only%3Don", schema.url());
    let postgres = Postgres::connect(&url).await.unwrap();
    assert_eq!(count(&postgres).await.unwrap(), 0, "its tables are there, so that nothing is written to open it");
    let client = postgres.client("writing").await.unwrap();
    let cause = client.execute("DELETE FROM steadfast_idempotency", &[]).await.unwrap_err();
    assert_eq!(postgres.failed("writing", cause).kind(), StoreErrorKind::ReadOnly);
    schema.ends().await;
}

#[tokio::test]
async fn an_error_does_not_tell_what_was_in_the_row() {
    let Some(schema) = Schema::new("row").await else { return };
    let postgres = Postgres::connect(schema.url()).await.unwrap();
    let client = postgres.client("writing").await.unwrap();
    let sql = "INSERT INTO steadfast_idempotency (key, input, ticket, until) VALUES ('hush', NULL, 1, 0)";
    let cause = client.execute(sql, &[]).await.unwrap_err();
    assert!(format!("{cause:?}").contains("Failing row"), "as the server tells it: {cause:?}");
    let error = postgres.failed("writing", cause);
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    let told = format!("{error:?} {}", error.source().unwrap());
    assert!(told.contains("null value") && !told.contains("Failing row"), "{told}");
    schema.ends().await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_misconfigured() {
    let Some(schema) = Schema::new("absent").await else { return };
    let mut config = Config::from_str(schema.url()).unwrap();
    config.dbname("steadfast_no_such_database");
    let error = config.connect(NoTls).await.map(drop).unwrap_err();
    assert_eq!(error::not_connected(String::new(), error).kind(), StoreErrorKind::Misconfigured);
    schema.ends().await;
}

/// Starts a server that gives one reply to every connection, and returns its address.
async fn says(severity: &str, code: &str, message: &str) -> String {
    let mut fields = Vec::new();
    for (field, text) in [('S', severity), ('V', severity), ('C', code), ('M', message)] {
        fields.extend_from_slice(format!("{field}{text}\0").as_bytes());
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    let reply = [&b"E"[..], &length, &fields].concat();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4];
            stream.read_exact(&mut head).await.unwrap();
            let mut startup = vec![0; u32::from_be_bytes(head) as usize - 4];
            stream.read_exact(&mut startup).await.unwrap();
            let _ = stream.write_all(&reply).await;
        }
    });
    format!("postgres://ada:hush@{address}/state?sslmode=disable")
}

#[tokio::test]
async fn a_wrong_password_is_misconfigured_and_a_server_that_starts_is_unavailable() {
    let url = says("FATAL", "28P01", "password authentication failed for user \"ada\"").await;
    let error = Postgres::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    let told = format!("{error} {} {error:?}", error.source().unwrap());
    assert!(told.contains("password authentication failed") && !told.contains("hush"), "{told}");

    let url = says("FATAL", "57P03", "the database system is starting up").await;
    let error = Postgres::connect(&url).await.unwrap_err();
    assert_eq!((error.kind(), error.heals()), (StoreErrorKind::Unavailable, true));
    let url = says("FATAL", "53300", "sorry, too many clients already").await;
    assert!(Postgres::connect(&url).await.unwrap_err().heals());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("postgres://ada:hush@{address}/state?connect_timeout=1");
    let begun = tokio::time::Instant::now();
    assert!(Postgres::connect(&url).await.unwrap_err().heals());
    assert!(begun.elapsed() < 2 * CONNECT, "{:?}", begun.elapsed());
}
