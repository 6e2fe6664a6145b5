//! The contract of every store that counts the requests in flight of callers: the one in memory, and a real Redis; and
//! limits of callers over them.

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use steadfast::{BulkheadLayer, layers::balance::HeadroomStore, layers::bulkhead::SharedRate};
use steadfast_stores::replicas::{InFlightStore, LEASE, LimitSync, MemoryReplicas, SharedLimits};
use tokio::time::{Instant, sleep};

use crate::replicas::server;

over_each_store! {
    MemoryReplicas, "limits":
    each_hears_the_sum_of_the_others,
    a_number_counts_for_the_lease,
    any_name_will_do,
    two_replicas_count_together,
}

async fn count(store: &impl InFlightStore, replica: u64, name: &str, count: usize) -> usize {
    let others = store.count_in_flight(replica, &[(name.into(), count)]).await.unwrap();
    assert_eq!(others.len(), 1);
    others[0]
}

async fn each_hears_the_sum_of_the_others(store: &impl InFlightStore) {
    assert_eq!(count(store, 1, "a", 3).await, 0);
    assert_eq!((count(store, 2, "a", 4).await, count(store, 3, "a", 0).await), (3, 7));
    assert_eq!((count(store, 1, "a", 1).await, count(store, 2, "a", 0).await), (4, 1));
    assert_eq!((count(store, u64::MAX, "b", 9).await, count(store, 1, "b", 1).await), (0, 9));
    let both = [("b".into(), 0), ("a".into(), 0), ("none".into(), 0)];
    assert_eq!(store.count_in_flight(2, &both).await.unwrap(), [10, 1, 0]);
    assert_eq!(store.count_in_flight(2, &[]).await.unwrap(), [0; 0]);
}

async fn a_number_counts_for_the_lease(store: &impl InFlightStore) {
    let begun = Instant::now();
    count(store, 1, "a", 3).await;
    while count(store, 2, "a", 1).await == 3 {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() >= LEASE - Duration::from_millis(10), "{:?}", begun.elapsed());
    assert_eq!(count(store, 1, "a", 0).await, 1, "the other's goes on, as it was said again");
}

async fn any_name_will_do(store: &impl InFlightStore) {
    for name in ["", "a b\n", "{x}", "ключ", "a*b:c"] {
        assert_eq!((count(store, 1, name, 2).await, count(store, 2, name, usize::MAX >> 16).await), (0, 2));
    }
}

async fn two_replicas_count_together<S: HeadroomStore + InFlightStore + Clone>(store: &S) {
    let replica = || {
        let (set, bulkhead) = (SharedLimits::new(), BulkheadLayer::new().default_limit(5));
        let (limit, rate) = (set.limit("key a"), SharedRate::of_requests(NonZeroU32::new(6).unwrap()));
        limit.set_rate("requests", Some((rate.clone(), 6)));
        let work = Arc::new(AtomicUsize::new(0));
        limit.set_places(Some((bulkhead.handle(), 5, work.clone())));
        (LimitSync::start(store.clone(), &set), limit, rate, work, bulkhead.handle())
    };
    let [one, other] = [replica(), replica()];
    (0..4).for_each(|_| one.2.take(Instant::now(), None).unwrap());
    one.3.store(3, std::sync::atomic::Ordering::Relaxed);
    let (_one, _other) = (one.1.enter(), other.1.enter());
    let learns = async || {
        while other.2.level(Instant::now()).unwrap().left > 2 || other.1.elsewhere() != 3 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), learns()).await.expect("the other learns of it");
    assert_eq!((other.4.limit("any"), one.4.limit("any")), (2, 5));
}

#[tokio::test]
async fn a_record_that_is_no_count_is_none() {
    let Some(redis) = server::shared("limits-damaged") else { return };
    let client = redis::Client::open(std::env::var("STEADFAST_TEST_REDIS").unwrap()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("steadfast-test-{}-limits-damaged:flight:n", std::process::id());
    let damages =
        [vec!["SET", &key, "text"], vec!["HSET", &key, "7", "text", "8", "3|9999999999999"], vec!["DEL", &key]];
    for fill in damages {
        let _: redis::Value = redis::cmd("DEL").arg(&key).query_async(&mut raw).await.unwrap();
        let _: redis::Value = redis::cmd(fill[0]).arg(&fill[1..]).query_async(&mut raw).await.unwrap();
        assert_eq!((count(&redis, 1, "n", 2).await, count(&redis, 2, "n", 1).await), (0, 2));
    }
}
