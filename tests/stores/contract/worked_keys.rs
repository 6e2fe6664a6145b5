//! The providers' keys that have worked: in memory, in a file, in a database.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use steadfast_stores::{
    postgres::Postgres,
    sqlite::Sqlite,
    worked_keys::{KEEP, MemoryWorkedKeys, REFRESH, WorkedKey, WorkedKeyStore},
};

use crate::testing::{Folder, Schema};

const DAY: Duration = Duration::from_secs(86_400);

fn worked(name: &str, ago: Duration) -> WorkedKey {
    WorkedKey { name: name.into(), ago }
}

/// Returns the whole days since the last success of each of these that is known.
async fn days(store: &Arc<dyn WorkedKeyStore>, names: &[&str]) -> BTreeMap<String, u64> {
    let found = store.find(names.iter().map(|name| (*name).into()).collect()).await.unwrap();
    found.into_iter().map(|key| (key.name.to_string(), key.ago.as_secs() / DAY.as_secs())).collect()
}

/// The contract of a store, as two processes have it.
async fn keeps([one, other]: [Arc<dyn WorkedKeyStore>; 2]) {
    let known = |expected: &[(&str, u64)]| expected.iter().map(|(name, days)| ((*name).to_owned(), *days)).collect();
    let all = ["main 1", "Main 1", "'x\u{e9}\" 2", "old"];
    assert_eq!(days(&one, &all).await, known(&[]));
    one.note(Vec::new()).await.unwrap();
    assert!(one.find(Vec::new()).await.unwrap().is_empty());

    let first = vec![worked("main 1", 10 * DAY), worked("'x\u{e9}\" 2", Duration::ZERO), worked("old", KEEP)];
    one.note(first).await.unwrap();
    assert_eq!(days(&other, &all).await, known(&[("main 1", 10), ("'x\u{e9}\" 2", 0)]));
    assert_eq!(days(&other, &["main 1"]).await, known(&[("main 1", 10)]));

    // A time that is less than a day newer is no change, and an older one is none either.
    for ago in [10 * DAY - REFRESH / 2, 40 * DAY, KEEP] {
        other.note(vec![worked("main 1", ago)]).await.unwrap();
        assert_eq!(days(&one, &["main 1"]).await, known(&[("main 1", 10)]));
    }
    // A name that is there twice counts once.
    other.note(vec![worked("main 1", 8 * DAY), worked("main 1", 6 * DAY), worked("old", DAY)]).await.unwrap();
    let seen = days(&one, &all).await;
    assert_eq!(seen, known(&[("main 1", 6), ("'x\u{e9}\" 2", 0), ("old", 1)]));
}

#[tokio::test]
async fn memory_keeps_worked_keys() {
    let store = MemoryWorkedKeys::new();
    keeps([Arc::new(store.clone()), Arc::new(store)]).await;
}

#[tokio::test(start_paused = true)]
async fn memory_forgets_a_key_after_ninety_days() {
    let store: Arc<dyn WorkedKeyStore> = Arc::new(MemoryWorkedKeys::new());
    store.note(vec![worked("main 1", Duration::ZERO)]).await.unwrap();
    tokio::time::advance(89 * DAY).await;
    assert_eq!(days(&store, &["main 1"]).await.len(), 1);
    tokio::time::advance(DAY).await;
    assert_eq!(days(&store, &["main 1"]).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_keeps_worked_keys() {
    let folder = Folder::new("worked-keys");
    let open = || -> Arc<dyn WorkedKeyStore> { Arc::new(Sqlite::open(folder.file()).unwrap()) };
    keeps([open(), open()]).await;
    assert_eq!(days(&open(), &["main 1"]).await.len(), 1, "after a restart");
    // An entry that is over is gone, and no reader waits for that.
    open().note(vec![worked("gone", KEEP - Duration::from_millis(1))]).await.unwrap();
    open().note(vec![worked("main 1", Duration::ZERO)]).await.unwrap();
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    let entries = || file.query_row("SELECT count(*) FROM worked_keys", (), |row| row.get::<_, i64>(0)).unwrap();
    while entries() > 3 {
        tokio::task::yield_now().await;
        open().note(Vec::new()).await.unwrap();
    }
    assert_eq!(entries(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_keeps_worked_keys() {
    let Some(schema) = Schema::new("worked_keys").await else { return };
    let connect = async || Postgres::connect(schema.url()).await.unwrap();
    keeps([Arc::new(connect().await), Arc::new(connect().await)]).await;
    let store: Arc<dyn WorkedKeyStore> = Arc::new(connect().await);
    assert_eq!(days(&store, &["main 1"]).await.len(), 1, "after a restart");
    schema.execute("UPDATE steadfast_worked_keys SET at = at - 90::bigint * 86400000 WHERE name = 'main 1'").await;
    assert_eq!(days(&store, &["main 1"]).await.len(), 0);
    // Many replicas at once, each with another order.
    let notes = (0..20).map(|n| {
        let store = store.clone();
        let mut keys: Vec<_> = (0..10).map(|key| worked(&format!("many {key}"), DAY * (20 - n))).collect();
        keys.rotate_left(n as usize % 10);
        tokio::spawn(async move { store.note(keys).await })
    });
    for note in notes.collect::<Vec<_>>() {
        note.await.unwrap().unwrap();
    }
    let names: Vec<String> = (0..10).map(|key| format!("many {key}")).collect();
    let found = days(&store, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(found.len() == 10 && found.values().all(|days| *days <= 2), "{found:?}");
    schema.ends().await;
}
