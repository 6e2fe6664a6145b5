//! The contract of every store for replicas: the one in memory, and a real Redis.

use std::{sync::Arc, time::Duration};

use steadfast_stores::replicas::{MemoryReplicas, Notice, ReplicaStore, Report, Snapshot};

use crate::replicas::server;

over_each_store! {
    MemoryReplicas, "exchange":
    nobody_has_said_anything_yet,
    a_notice_stands_for_all_with_its_age,
    what_happened_later_stays_though_it_is_told_first,
    totals_are_of_all_replicas,
    any_name_and_any_number_will_do,
    who_waits_is_told_of_a_notice,
}

const SECOND: Duration = Duration::from_secs(1);
/// Between two questions to a busy machine.
const SLACK: Duration = Duration::from_secs(5);

fn notice(change: &'static str, age: Duration, remaining: Duration) -> Option<Notice> {
    Some(Notice { change: change.into(), age, remaining })
}

async fn says(store: &impl ReplicaStore, replica: u64, notice: Option<Notice>) -> Snapshot {
    let said = Report { replica, notices: vec![("sonnet".into(), notice)], counts: Vec::new() };
    store.exchange(&said).await.unwrap()
}

async fn counts(store: &impl ReplicaStore, counts: &[(&str, i64)]) -> Vec<i64> {
    let counts = counts.iter().map(|(name, count)| (Arc::from(*name), *count)).collect();
    let heard = store.exchange(&Report { replica: 1, notices: Vec::new(), counts }).await.unwrap();
    heard.totals
}

async fn nobody_has_said_anything_yet(store: &impl ReplicaStore) {
    let heard = says(store, 1, None).await;
    assert_eq!(heard.notices, [None]);
    let said = Report { replica: 1, notices: vec![("sonnet".into(), None)], counts: vec![("chat".into(), 0)] };
    let heard = store.exchange(&said).await.unwrap();
    assert_eq!((heard.notices, heard.totals), (vec![None], vec![0]));
    assert_eq!(store.exchange(&Report::default()).await.unwrap().notices, []);
}

async fn a_notice_stands_for_all_with_its_age(store: &impl ReplicaStore) {
    let own = says(store, 1, notice("open", 3 * SECOND, 60 * SECOND)).await;
    let (stamp, _) = own.notices[0].clone().unwrap();
    assert_eq!(stamp.replica, 1);
    let other = says(store, 2, None).await;
    let (seen, notice) = other.notices[0].clone().unwrap();
    assert_eq!((seen, &*notice.change), (stamp, "open"));
    assert!(notice.age >= 3 * SECOND && notice.age < 3 * SECOND + SLACK, "{:?}", notice.age);
    assert!(notice.remaining <= 60 * SECOND && notice.remaining > 60 * SECOND - SLACK, "{:?}", notice.remaining);
}

async fn what_happened_later_stays_though_it_is_told_first(store: &impl ReplicaStore) {
    says(store, 1, notice("open", Duration::ZERO, SECOND)).await;
    let late = says(store, 2, notice("closed", 60 * SECOND, Duration::ZERO)).await;
    let (stamp, stands) = late.notices[0].clone().unwrap();
    assert_eq!((stamp.replica, &*stands.change), (1, "open"));
    let newer = says(store, 2, notice("closed", Duration::ZERO, Duration::ZERO)).await;
    let (stamp, stands) = newer.notices[0].clone().unwrap();
    assert_eq!((stamp.replica, &*stands.change, stands.remaining), (2, "closed", Duration::ZERO));
}

async fn totals_are_of_all_replicas(store: &impl ReplicaStore) {
    assert_eq!(counts(store, &[("chat", 3), ("batch", 1)]).await, [3, 1]);
    assert_eq!(counts(store, &[("batch", 0), ("chat", 4)]).await, [1, 7]);
    assert_eq!(counts(store, &[("chat", -2)]).await, [5]);
    let epoch = async || store.exchange(&Report::default()).await.unwrap().epoch;
    assert_eq!(epoch().await, epoch().await);
}

async fn any_name_and_any_number_will_do(store: &impl ReplicaStore) {
    let large = 1 << 60;
    let names = ["a|b", "line\r\nbreak", "日本", "{tag}", "\\\"'", " "];
    for name in names {
        assert_eq!(counts(store, &[(name, large), (name, 1)]).await, [large, large + 1], "{name:?}");
        let said = Report {
            replica: u64::MAX,
            notices: vec![(name.into(), notice("throttled", Duration::MAX, Duration::MAX))],
            counts: Vec::new(),
        };
        let heard = store.exchange(&said).await.unwrap();
        let (stamp, notice) = heard.notices[0].clone().unwrap();
        assert_eq!((stamp.replica, &*notice.change), (u64::MAX, "throttled"), "{name:?}");
        assert!(notice.remaining > 1000 * SECOND);
    }
}

async fn who_waits_is_told_of_a_notice(store: &impl ReplicaStore) {
    let deadline = tokio::time::Instant::now() + 20 * SECOND;
    // A listener's first connection takes a moment, in which a message may be lost: what is asked is that it comes at
    // all.
    loop {
        assert!(tokio::time::Instant::now() < deadline, "nobody is told");
        let begun = tokio::time::Instant::now();
        let said = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            says(store, 1, notice("open", Duration::ZERO, SECOND)).await
        };
        tokio::join!(store.changed(2 * SECOND), said);
        if begun.elapsed() < SECOND {
            return;
        }
    }
}

#[tokio::test]
async fn what_is_damaged_in_redis_is_as_if_it_were_not_there() {
    let Some(server) = server::Server::start().await else { return };
    let redis = steadfast_stores::redis::Redis::open(&server.url()).unwrap().limit(5 * SECOND);
    says(&redis, 1, notice("open", Duration::ZERO, SECOND)).await;
    counts(&redis, &[("chat", 5)]).await;
    let epoch = redis.exchange(&Report::default()).await.unwrap().epoch;

    for damage in ["", "open", "1|2", "x|1|2|open", "99999999999999|1|99999999999999|open", "-1|1|1|open"] {
        server.asks(&["HSET", "steadfast:circuits", "sonnet", damage]).await.unwrap();
        assert_eq!(says(&redis, 2, None).await.notices, [None], "{damage:?}");
        let (stamp, _) = says(&redis, 2, notice("closed", Duration::ZERO, SECOND)).await.notices[0].clone().unwrap();
        assert_eq!(stamp.replica, 2, "{damage:?}");
    }
    for damage in ["five", "9223372036854775807", ""] {
        server.asks(&["HSET", "steadfast:totals", "chat", damage]).await.unwrap();
        assert_eq!(counts(&redis, &[("chat", 2)]).await, [2], "{damage:?}");
        assert_ne!(redis.exchange(&Report::default()).await.unwrap().epoch, epoch, "it begins anew");
    }
    // Something else of this name: an error that says so, and nothing of it is touched.
    server.asks(&["DEL", "steadfast:totals"]).await.unwrap();
    server.asks(&["SET", "steadfast:totals", "mine"]).await.unwrap();
    let error = redis.exchange(&Report::default()).await.unwrap_err();
    assert_eq!(error.kind(), steadfast::store::StoreErrorKind::Corrupt, "{error}");
    assert_eq!(server.asks(&["GET", "steadfast:totals"]).await.unwrap(), "$4\r\nmine\r\n");
    server.asks(&["FLUSHALL"]).await.unwrap();
    assert_ne!(redis.exchange(&Report::default()).await.unwrap().epoch, epoch);
}
