//! The stores that are tested, each empty, and as two processes have it.

use std::sync::Arc;

use steadfast::layers::idempotency::{IdempotencyStore, MemoryIdempotency};

pub(crate) struct Place {
    /// The store, and the same as another process has it.
    pub(crate) stores: [Arc<dyn IdempotencyStore>; 2],
    /// Bounds the bytes of its answers.
    pub(crate) bound: Box<dyn Fn(u64) + Send + Sync>,
    own: Own,
}

enum Own {
    Nothing,
    Folder(#[allow(dead_code, reason = "held until the end")] crate::testing::Folder),
    Schema(crate::testing::Schema),
}

impl Place {
    pub(crate) async fn ends(self) {
        drop(self.stores);
        if let Own::Schema(schema) = self.own {
            schema.ends().await;
        }
    }
}

pub(crate) async fn memory(_: &str) -> Option<Place> {
    let store = MemoryIdempotency::new();
    let bound = store.clone();
    Some(Place {
        stores: [Arc::new(store.clone()), Arc::new(store)],
        bound: Box::new(move |bytes| bound.set_max_bytes(bytes)),
        own: Own::Nothing,
    })
}

pub(crate) async fn sqlite(test: &str) -> Option<Place> {
    use steadfast_stores::sqlite::Sqlite;
    let folder = crate::testing::Folder::new(test);
    let open = || Sqlite::open(folder.file()).unwrap();
    let (one, other) = (open(), open());
    let bound = one.clone();
    Some(Place {
        stores: [Arc::new(one), Arc::new(other)],
        bound: Box::new(move |bytes| bound.set_max_answer_bytes(bytes)),
        own: Own::Folder(folder),
    })
}

pub(crate) async fn postgres(test: &str) -> Option<Place> {
    use steadfast_stores::postgres::Postgres;
    let schema = crate::testing::Schema::new(test).await?;
    let connect = async || Postgres::connect(schema.url()).await.unwrap();
    let (one, other) = (connect().await, connect().await);
    let bound = one.clone();
    Some(Place {
        stores: [Arc::new(one), Arc::new(other)],
        bound: Box::new(move |bytes| bound.set_max_answer_bytes(bytes)),
        own: Own::Schema(schema),
    })
}

pub(crate) async fn redis(test: &str) -> Option<Place> {
    use steadfast_stores::redis::Redis;
    let Ok(url) = std::env::var("STEADFAST_TEST_REDIS") else {
        println!("skipped: STEADFAST_TEST_REDIS names no Redis");
        return None;
    };
    let prefix = format!("steadfast-test-{}-{test}:", std::process::id());
    // Other tests keep the machine busy.
    let open = || Arc::new(Redis::open(&url).unwrap().prefix(prefix.as_str()).limit(crate::contract::SECOND * 5));
    // Its records go by themselves.
    Some(Place { stores: [open(), open()], bound: Box::new(drop), own: Own::Nothing })
}
