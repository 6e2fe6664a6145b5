//! The contract of every store of shared headroom: the one in memory, and a real Redis. Two replicas take from one.

use std::time::Duration;

use steadfast::layers::balance::{HeadroomGrant, HeadroomOrder, HeadroomStore, MemoryHeadroom};
use tokio::time::{Instant, sleep};

use crate::replicas::server;

over_each_store! {
    MemoryHeadroom, "headroom":
    what_is_taken_is_gone_for_the_other_replica,
    debts_and_gifts_are_settled,
    two_replicas_together_get_no_more_than_the_limit,
    any_name_and_any_number_will_do,
}

async fn ask(store: &impl HeadroomStore, order: HeadroomOrder) -> HeadroomGrant {
    let grants = store.exchange(&[order]).await.unwrap();
    assert_eq!(grants.len(), 1);
    grants[0]
}

fn order(name: &str) -> HeadroomOrder {
    // One in ten minutes comes back: nothing within a test.
    HeadroomOrder::new(name, 0.1)
}

fn is(grant: HeadroomGrant, granted: f64, left: f64) {
    assert!((grant.granted - granted).abs() < 0.02 && (grant.left - left).abs() < 0.02, "{grant:?}");
}

async fn what_is_taken_is_gone_for_the_other_replica(store: &impl HeadroomStore) {
    is(ask(store, order("tier/a:tokens").reserve(0.06)).await, 0.06, 0.04);
    is(ask(store, order("tier/a:tokens").reserve(0.06)).await, 0.04, 0.0);
    is(ask(store, order("tier/b:tokens").reserve(0.06)).await, 0.06, 0.04);
    assert_eq!(store.exchange(&[]).await.unwrap(), []);
    let both = [order("tier/a:tokens").reserve(0.1), order("tier/b:tokens").reserve(0.01)];
    let grants = store.exchange(&both).await.unwrap();
    is(grants[0], 0.0, 0.0);
    is(grants[1], 0.01, 0.03);
}

async fn debts_and_gifts_are_settled(store: &impl HeadroomStore) {
    is(ask(store, order("east").settle(500.0).reserve(1.0)).await, 0.0, -499.9);
    is(ask(store, order("east").settle(-499.95)).await, 0.0, 0.05);
    is(ask(store, order("east").settle(-1e9)).await, 0.0, 0.1);
}

async fn two_replicas_together_get_no_more_than_the_limit(store: &impl HeadroomStore) {
    const LIMIT: f64 = 60_000.0;
    let begun = Instant::now();
    let replica = async |seed: u64| {
        let (mut random, mut got) = (fastrand::Rng::with_seed(seed), 0.0);
        for _ in 0..60 {
            let wanted = random.f64() * 4000.0;
            got += ask(store, HeadroomOrder::new("busy", LIMIT).reserve(wanted)).await.granted;
            sleep(Duration::from_millis(random.u64(0..30))).await;
        }
        got
    };
    let (one, other) = tokio::join!(replica(1), replica(2));
    let allowed = LIMIT * (1.0 + begun.elapsed().as_secs_f64() / 60.0);
    assert!(one > LIMIT / 4.0 && other > LIMIT / 4.0, "{one} {other}");
    assert!(one + other <= allowed * 1.02, "{one} and {other} of {allowed}");
}

async fn any_name_and_any_number_will_do(store: &impl HeadroomStore) {
    for name in ["", "a b\n", "{x}", "ключ", "a*b:c"] {
        ask(store, HeadroomOrder::new(name, 60.0).reserve(1.0)).await;
    }
    for number in [1e300, -1e300, 0.0, 1e-9] {
        let grant = ask(store, HeadroomOrder::new("n", 60.0).settle(number).reserve(number)).await;
        assert!(grant.granted.is_finite() && grant.granted >= 0.0, "{number}: {grant:?}");
    }
}

#[tokio::test]
async fn a_record_that_is_no_bucket_is_a_full_one() {
    let Some(redis) = server::shared("headroom-damaged") else { return };
    let client = redis::Client::open(std::env::var("STEADFAST_TEST_REDIS").unwrap()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("steadfast-test-{}-headroom-damaged:headroom:n", std::process::id());
    for fill in [vec!["SET", &key, "text"], vec!["HSET", &key, "level", "nan", "at", "x"], vec!["DEL", &key]] {
        let _: redis::Value = redis::cmd("DEL").arg(&key).query_async(&mut raw).await.unwrap();
        let _: redis::Value = redis::cmd(fill[0]).arg(&fill[1..]).query_async(&mut raw).await.unwrap();
        is(ask(&redis, order("n").reserve(0.06)).await, 0.06, 0.04);
    }
}
