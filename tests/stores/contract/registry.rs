//! The registry of callers' keys and orders by hand: in memory, in a file, in a database.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use steadfast_stores::{
    postgres::Postgres,
    registry::{
        EntryKind::{self, Key, Order},
        MemoryRegistry, RegistryEdit, RegistryOutcome, RegistryStore,
    },
    sqlite::Sqlite,
};

use crate::testing::{Folder, Schema};

fn edit(kind: EntryKind, name: &str, replaces: impl Into<Option<u64>>, document: Option<&str>) -> RegistryEdit {
    let action = if document.is_some() { "set" } else { "remove" };
    let (name, document) = (name.into(), document.map(Into::into));
    RegistryEdit { kind, name, action: action.into(), replaces: replaces.into(), document }
}

/// The contract of a store, as two processes have it.
async fn keeps([one, other]: &[Arc<dyn RegistryStore>; 2]) {
    use RegistryOutcome::{Applied, Conflict};

    for kind in [Key, Order] {
        let empty = one.read(kind).await.unwrap();
        assert_eq!((empty.revision, empty.entries.len()), (0, 0));
    }
    assert_eq!(one.changes(0, 10).await.unwrap().changes, []);
    assert_eq!(one.apply("ann", Vec::new()).await.unwrap(), Applied(0));

    let made = vec![
        edit(Key, "ci", None, Some("{\"a\":1}")),
        edit(Order, "ci", None, Some("{}")),
        edit(Key, "Ü'ber \"x\"", None, Some("\u{1f980}")),
    ];
    assert_eq!(one.apply("ann", made).await.unwrap(), Applied(3));
    // A name is there once for each kind; an order is made whole or not at all.
    for (edits, in_the_way) in [
        (vec![edit(Key, "new", None, Some("1")), edit(Key, "ci", None, Some("2"))], (Key, "ci")),
        (vec![edit(Key, "new", None, Some("1")), edit(Key, "ci", 2, Some("2"))], (Key, "ci")),
        (vec![edit(Key, "new", None, Some("1")), edit(Key, "new", None, Some("2"))], (Key, "new")),
        (vec![edit(Order, "ci", 2, None), edit(Order, "gone", 7, None)], (Order, "gone")),
    ] {
        let (kind, name) = in_the_way;
        assert_eq!(other.apply("bob", edits).await.unwrap(), Conflict(kind, name.into()));
    }
    assert_eq!(other.apply("bob", vec![edit(Key, "ci", 1, Some("{\"a\":2}"))]).await.unwrap(), Applied(4));
    assert_eq!(one.apply("ann", vec![edit(Key, "ci", 1, None)]).await.unwrap(), Conflict(Key, "ci".into()));
    // Within one order a later change sees an earlier one.
    let twice = vec![edit(Order, "t", None, Some("1")), edit(Order, "t", 5, Some("2")), edit(Order, "ci", 2, None)];
    assert_eq!(one.apply("ann", twice).await.unwrap(), Applied(7));

    let keys = vec![(Key, "ci", "{\"a\":2}", 4), (Key, "Ü'ber \"x\"", "\u{1f980}", 3)];
    for (kind, expected) in [(Key, keys), (Order, vec![(Order, "t", "2", 6)])] {
        let now = other.read(kind).await.unwrap();
        let entries = now.entries.iter().map(|entry| (entry.kind, &*entry.name, &*entry.document, entry.revision));
        assert_eq!((entries.collect::<Vec<_>>(), now.revision), (expected, 7));
    }

    let log = other.changes(0, 100).await.unwrap();
    let seen = log.changes.iter().map(|change| {
        (
            change.revision,
            &*change.actor,
            &*change.action,
            &*change.name,
            change.before.as_deref(),
            change.after.as_deref(),
        )
    });
    let expected = [
        (1, "ann", "set", "ci", None, Some("{\"a\":1}")),
        (2, "ann", "set", "ci", None, Some("{}")),
        (3, "ann", "set", "Ü'ber \"x\"", None, Some("\u{1f980}")),
        (4, "bob", "set", "ci", Some("{\"a\":1}"), Some("{\"a\":2}")),
        (5, "ann", "set", "t", None, Some("1")),
        (6, "ann", "set", "t", Some("1"), Some("2")),
        (7, "ann", "remove", "ci", Some("{}"), None),
    ];
    assert_eq!((seen.collect::<Vec<_>>(), log.latest), (expected.to_vec(), 7));
    let hour = Duration::from_secs(3600);
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    assert!(log.changes.iter().all(|change| change.at + hour > clock && change.at < clock + hour));

    let page = one.changes(4, 2).await.unwrap();
    assert_eq!((&page.changes[..], page.latest), (&log.changes[4..6], 7));
    assert_eq!(one.changes(7, 2).await.unwrap().changes, []);
    let newest: Vec<_> = log.changes.iter().rev().cloned().collect();
    assert_eq!(one.history(None, None, 3).await.unwrap(), newest[..3]);
    assert_eq!(one.history(None, Some(5), 3).await.unwrap(), newest[3..6]);
    let of_ci = one.history(Some((Key, "ci")), None, 9).await.unwrap();
    assert_eq!(of_ci, [log.changes[3].clone(), log.changes[0].clone()]);
    assert_eq!(one.history(Some((Key, "CI")), None, 9).await.unwrap(), []);
}

/// Many who change one entry at once: each goes by what it read, and no change is lost. A reader of the changes sees
/// every revision once and in order.
async fn loses_nothing(stores: &[Arc<dyn RegistryStore>; 2]) {
    const TASKS: usize = 8;
    const ADDITIONS: usize = 6;
    let begin = stores[0].read(Key).await.unwrap().revision;
    stores[0].apply("ann", vec![edit(Key, "sum", None, Some(""))]).await.unwrap();
    let adding = (0..TASKS).map(|task| {
        let store = stores[task % 2].clone();
        tokio::spawn(async move {
            for addition in 0..ADDITIONS {
                loop {
                    let entries = store.read(Key).await.unwrap().entries;
                    let sum = entries.iter().find(|entry| &*entry.name == "sum").unwrap();
                    let more = format!("{}{task}.{addition} ", sum.document);
                    let edits = vec![edit(Key, "sum", sum.revision, Some(&more))];
                    if let RegistryOutcome::Applied(_) = store.apply("ann", edits).await.unwrap() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    let adding: Vec<_> = adding.collect();
    let mut known = begin;
    let mut documents = BTreeMap::new();
    while known < begin + 1 + (TASKS * ADDITIONS) as u64 {
        for change in stores[1].changes(known, 3).await.unwrap().changes {
            assert_eq!(change.revision, known + 1);
            known = change.revision;
            documents.insert(known, change.after.unwrap());
        }
        tokio::task::yield_now().await;
    }
    for task in adding {
        task.await.unwrap();
    }
    let last = documents.into_values().last().unwrap();
    let mut added: Vec<&str> = last.split_whitespace().collect();
    added.sort_unstable();
    added.dedup();
    assert_eq!(added.len(), TASKS * ADDITIONS);
}

async fn holds(stores: [Arc<dyn RegistryStore>; 2]) {
    keeps(&stores).await;
    loses_nothing(&stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let store = MemoryRegistry::new();
    holds([Arc::new(store.clone()), Arc::new(store)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    let folder = Folder::new("registry");
    let open = || Arc::new(Sqlite::open(folder.file()).unwrap());
    holds([open(), open()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let Some(schema) = Schema::new("registry").await else { return };
    let connect = async || Arc::new(Postgres::connect(schema.url()).await.unwrap());
    holds([connect().await, connect().await]).await;
    schema.ends().await;
}
