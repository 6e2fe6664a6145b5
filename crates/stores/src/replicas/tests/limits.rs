//! Limits of callers over replicas, on paused time, beside one bucket that all of them could ask.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tower::{Layer, ServiceExt};

use crate::replicas::{InFlightFuture, InFlightStore, LimitSync, LimitUse, MemoryReplicas, SharedLimit, SharedLimits};
use steadfast::{
    BulkheadLayer, Chat, LlmError, LlmRequest, LlmResponse,
    chat::{Message, Usage},
    layers::{
        balance::{HeadroomFuture, HeadroomOrder, HeadroomStore},
        bulkhead::{Limits, SharedRate},
    },
    provider_fn,
    store::{StoreError, StoreErrorKind},
};

/// A store that can be away.
#[derive(Clone, Default)]
struct Store {
    memory: MemoryReplicas,
    is_away: Arc<AtomicBool>,
    exchanges: Arc<AtomicUsize>,
}

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::new(StoreErrorKind::Unavailable, "an exchange"))
}

impl HeadroomStore for Store {
    fn exchange<'a>(&'a self, orders: &'a [HeadroomOrder]) -> HeadroomFuture<'a> {
        self.exchanges.fetch_add(1, Relaxed);
        if self.is_away.load(Relaxed) { Box::pin(async { away() }) } else { self.memory.exchange(orders) }
    }
}

impl InFlightStore for Store {
    fn count_in_flight<'a>(&'a self, replica: u64, counts: &'a [(Arc<str>, usize)]) -> InFlightFuture<'a> {
        self.exchanges.fetch_add(1, Relaxed);
        if self.is_away.load(Relaxed) {
            Box::pin(async { away() })
        } else {
            self.memory.count_in_flight(replica, counts)
        }
    }
}

/// A replica's rate of requests.
struct Rate {
    rate: SharedRate,
    shared: SharedLimit,
    _sync: LimitSync,
}

impl Rate {
    fn over(store: &Store, per_minute: u32) -> Self {
        let limits = SharedLimits::new();
        let rate = SharedRate::of_requests(NonZeroU32::new(per_minute).unwrap());
        let shared = limits.limit("key a");
        shared.set_rate("requests", Some((rate.clone(), per_minute)));
        Self { rate, shared, _sync: LimitSync::start(store.clone(), &limits) }
    }

    fn ask(&self) -> bool {
        let passed = self.rate.take(Instant::now(), None).is_ok();
        self.shared.touch();
        passed
    }

    fn ask_often(&self, times: usize) -> usize {
        (0..times).filter(|_| self.ask()).count()
    }
}

/// The bucket of the naive kind that the replicas are to be together.
struct Bucket {
    level: f64,
    size: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_minute: u32) -> Self {
        Self { level: per_minute.into(), size: per_minute.into(), at: Instant::now() }
    }

    fn ask(&mut self) -> bool {
        let now = Instant::now();
        let come = (now - self.at).as_secs_f64() * self.size / 60.0;
        (self.level, self.at) = ((self.level + come).min(self.size), now);
        let passes = self.level >= 1.0;
        self.level -= f64::from(u8::from(passes));
        passes
    }
}

/// The longest time from a use until all know of it: two exchanges of 250 ms, and 20 ms before each.
const KNOWN: Duration = Duration::from_millis(600);

async fn millis(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}

/// The spread of requests over replicas.
#[derive(Clone, Copy, Debug)]
enum Spread {
    ToOne,
    InTurn,
    AtRandom,
    /// A hundred to one replica, then to the next.
    InBursts,
}

#[tokio::test(start_paused = true)]
async fn together_they_let_through_what_one_bucket_would() {
    for (replicas, spread) in [1, 2, 3, 8].into_iter().flat_map(|replicas| {
        [Spread::ToOne, Spread::InTurn, Spread::AtRandom, Spread::InBursts].map(move |spread| (replicas, spread))
    }) {
        for (per_minute, every_millis) in [(60, 100), (600, 10), (600, 90), (600, 400), (6000, 5)] {
            let (store, case) = (Store::default(), format!("{replicas} {spread:?} {per_minute} {every_millis}"));
            let all: Vec<_> = (0..replicas).map(|_| Rate::over(&store, per_minute)).collect();
            let (mut one, mut random) = (Bucket::new(per_minute), fastrand::Rng::with_seed(58));
            let (mut passed, mut would) = (0, 0);
            let asked = 180_000 / every_millis;
            for n in 0..asked {
                let replica = match spread {
                    Spread::ToOne => 0,
                    Spread::InTurn => n as usize % replicas,
                    Spread::AtRandom => random.usize(..replicas),
                    Spread::InBursts => n as usize / 100 % replicas,
                };
                passed += u64::from(all[replica].ask());
                would += u64::from(one.ask());
                millis(every_millis).await;
            }
            // So many pass before the others know of them.
            let unknown = (replicas as u64 - 1) * (KNOWN.as_millis() as u64 / every_millis + 1);
            let returned = u64::from(per_minute) / 60;
            assert!(passed <= would + unknown + 1, "{case}: {passed} passed, {would} of one bucket");
            assert!(passed + unknown + returned + 1 >= would, "{case}: {passed} passed, {would} of one bucket");
            if would == asked {
                assert_eq!(passed, asked, "{case}: nobody is refused within the rate");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_where_the_caller_was_idle_learns_within_an_exchange() {
    let store = Store::default();
    let [one, other] = [(); 2].map(|()| Rate::over(&store, 600));
    assert_eq!(one.ask_often(1000), 600);
    millis(300).await;
    assert_eq!(other.ask_often(1), 1, "it knows of nothing yet");
    millis(50).await;
    // Four requests came back in 350 ms, and one has passed.
    assert!(other.ask_often(1000) <= 3);
    millis(300).await;
    let left: Vec<_> = [&one, &other].map(|replica| replica.rate.level(Instant::now()).unwrap().left).into();
    // Six came back in 650 ms, and some passed.
    assert!(left[0] <= 6 && left[0].abs_diff(left[1]) <= 3, "callers hear the same at both: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_not_used_costs_the_store_nothing() {
    let store = Store::default();
    let one = Rate::over(&store, 600);
    millis(10_000).await;
    assert_eq!(store.exchanges.load(Relaxed), 0);
    assert_eq!(one.ask_often(10), 10);
    millis(2_000).await;
    let used = store.exchanges.load(Relaxed);
    assert!((4..=9).contains(&used), "{used} exchanges until the bucket is full again");
    millis(600_000).await;
    assert_eq!(store.exchanges.load(Relaxed), used);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_or_loses_all_gives_nobody_a_second_burst() {
    for loses_all in [false, true] {
        let store = Store::default();
        let [one, other] = [(); 2].map(|()| Rate::over(&store, 60));
        assert_eq!(one.ask_often(20) + other.ask_often(20), 40);
        millis(1_000).await;
        store.is_away.store(true, Relaxed);
        // Each goes on with what it knew: twenty are left.
        assert!((19..=21).contains(&one.ask_often(100)));
        millis(500).await;
        if loses_all {
            store.memory.forget();
        }
        store.is_away.store(false, Relaxed);
        millis(1_000).await;
        let (here, there) = (one.ask_often(100), other.ask_often(100));
        assert!(here <= 3, "loses all: {loses_all}: {here} more");
        // The store has only what came to it: the outage's requests are the one's alone, until it tells them.
        assert!(there <= 3, "loses all: {loses_all}: {there} at the other");
    }
}

/// A replica's bulkhead, whose calls end when they are told to.
struct Gate {
    layer: BulkheadLayer,
    shared: SharedLimit,
    other_work: Arc<AtomicUsize>,
    end: Arc<Semaphore>,
    ended: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    sync: Option<LimitSync>,
}

impl Gate {
    fn over(store: &Store, limits: Limits, places: Option<usize>, tokens: Option<u32>) -> Self {
        let layer = BulkheadLayer::new().default_limit(limits);
        let set = SharedLimits::new();
        let (shared, other_work) = (set.limit("key a"), Arc::new(AtomicUsize::new(0)));
        shared.set_places(places.map(|places| (layer.handle(), places, other_work.clone())));
        for (_, rate) in layer.handle().shared_rates() {
            shared.set_rate("tokens", Some((rate, tokens.unwrap())));
        }
        let sync = Some(LimitSync::start(store.clone(), &set));
        let (end, ended, refused) = (Arc::new(Semaphore::new(0)), Arc::default(), Arc::default());
        Self { layer, shared, other_work, end, ended, refused, sync }
    }

    fn places(store: &Store, limit: usize) -> Self {
        Self::over(store, Limits::new(limit), Some(limit), None)
    }

    /// Begins a call, which answers with this usage once it may end.
    fn begin(&self, usage: Usage) {
        let (end, ended, refused) = (self.end.clone(), self.ended.clone(), self.refused.clone());
        let provider = provider_fn(move |_| {
            let end = end.clone();
            async move {
                end.acquire().await.unwrap().forget();
                let mut message = Message::assistant("fine");
                message.usage = Some(usage);
                Ok::<_, LlmError>(LlmResponse::from_message(message))
            }
        });
        let (call, using): (_, LimitUse) = (self.layer.layer(provider), self.shared.enter());
        let request = LlmRequest::from(Chat::new([Message::user("hello")]).max_tokens(1000));
        tokio::spawn(async move {
            let answered = call.oneshot(request).await;
            drop(using);
            match answered {
                Ok(answer) => drop(answer.into_body().collect().await),
                Err(_) => drop(refused.fetch_add(1, SeqCst)),
            }
            ended.fetch_add(1, SeqCst);
        });
    }

    fn in_flight(&self) -> usize {
        self.layer.handle().snapshot().iter().map(|load| load.in_flight).sum()
    }

    fn refused(&self) -> usize {
        self.refused.swap(0, SeqCst)
    }

    /// Begins so many, one each 100 ms. Returns those that have a place.
    async fn begin_slowly(&self, calls: usize) -> usize {
        let before = self.in_flight();
        for _ in 0..calls {
            self.begin(Usage::default());
            millis(100).await;
        }
        self.in_flight() - before
    }
}

#[tokio::test(start_paused = true)]
async fn places_are_those_of_all_replicas() {
    let store = Store::default();
    let mut all: Vec<_> = (0..3).map(|_| Gate::places(&store, 5)).collect();
    assert_eq!(all[0].begin_slowly(4).await, 4);
    millis(300).await;
    assert_eq!(all[1].begin_slowly(5).await, 1, "four of five are elsewhere, as it learns in 20 ms");
    assert_eq!((all[1].refused(), all[1].shared.elsewhere()), (4, 4));
    // The one that it did not know of yet.
    assert_eq!(all[2].begin_slowly(5).await, 1);
    all[0].end.add_permits(2);
    millis(600).await;
    assert_eq!(all[2].begin_slowly(5).await, 1, "of six two have ended");
    // Work that calls no model counts too.
    all[0].end.add_permits(2);
    all[1].other_work.store(2, Relaxed);
    all[1].shared.touch();
    millis(600).await;
    assert_eq!((all[0].begin_slowly(1).await, all[0].shared.elsewhere()), (0, 5));
    // A replica that dies gives back what it held, two seconds later.
    let mut dead = all.remove(2);
    assert_eq!(dead.in_flight(), 2);
    drop(dead.sync.take());
    millis(1_000).await;
    assert_eq!(all[0].begin_slowly(1).await, 0);
    millis(1_500).await;
    assert_eq!(all[0].begin_slowly(5).await, 2, "three are the second's");
    // Alone again: its own limit.
    drop(all[0].sync.take());
    millis(10).await;
    assert_eq!((all[0].begin_slowly(9).await, all[0].in_flight()), (3, 5));
}

/// A refusal is forgotten with its reason: who finds all places free elsewhere is served, however long it was idle.
#[tokio::test(start_paused = true)]
async fn a_replica_that_refused_serves_once_the_others_are_free() {
    for idle_millis in [100, 400, 1_000, 3_000, 60_000] {
        for changes in [false, true] {
            let store = Store::default();
            let [one, other] = [(); 2].map(|()| Gate::places(&store, 5));
            assert_eq!(one.begin_slowly(5).await, 5);
            millis(300).await;
            assert_eq!(other.begin_slowly(3).await, 1, "it learns after its first");
            other.end.add_permits(1);
            millis(idle_millis).await;
            assert_eq!(other.in_flight(), 0);
            one.end.add_permits(5);
            millis(600).await;
            if changes {
                // A reload that takes the limit away, and one that brings it back.
                other.shared.set_places(None);
                other.shared.set_places(Some((other.layer.handle(), 5, other.other_work.clone())));
            }
            other.refused();
            (0..5).for_each(|_| other.begin(Usage::default()));
            millis(10).await;
            assert_eq!((other.in_flight(), other.refused()), (5, 0), "idle for {idle_millis} ms, {changes}");
        }
    }
}

/// Knowledge of others' places stays while they are held: of short calls beside five long ones few pass, not each.
#[tokio::test(start_paused = true)]
async fn short_calls_do_not_forget_the_long_ones_elsewhere() {
    let store = Store::default();
    let [one, other] = [(); 2].map(|()| Gate::places(&store, 5));
    assert_eq!(one.begin_slowly(5).await, 5);
    millis(300).await;
    let mut passed = 0;
    for _ in 0..50 {
        passed += other.begin_slowly(1).await;
        other.end.add_permits(other.in_flight());
        millis(700).await;
    }
    assert!(passed <= 1, "{passed} of 50 passed");
}

#[tokio::test(start_paused = true)]
async fn places_of_replicas_without_a_store_are_each_ones_own() {
    let store = Store::default();
    let [one, other] = [(); 2].map(|()| Gate::places(&store, 5));
    assert_eq!(one.begin_slowly(5).await, 5);
    millis(300).await;
    assert_eq!(other.begin_slowly(2).await, 1);
    store.is_away.store(true, Relaxed);
    millis(1_000).await;
    assert_eq!(other.begin_slowly(9).await, 4);
    store.is_away.store(false, Relaxed);
    millis(1_000).await;
    assert_eq!((one.shared.elsewhere(), other.shared.elsewhere()), (5, 5));
    assert_eq!(one.begin_slowly(1).await, 0);
    assert_eq!((one.in_flight(), other.in_flight()), (5, 5), "who runs goes on");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_charged_and_returned_at_all_replicas() {
    let store = Store::default();
    let tokens = || Limits::new(100).tokens_per_minute(10_000);
    let [one, other] = [(); 2].map(|()| Gate::over(&store, tokens(), None, Some(10_000)));
    // Each is charged for a thousand tokens and its prompt.
    (0..9).for_each(|_| one.begin(Usage::new(2, 98)));
    millis(100).await;
    assert_eq!(one.refused(), 0);
    other.begin(Usage::default());
    millis(50).await;
    (0..9).for_each(|_| other.begin(Usage::default()));
    millis(50).await;
    assert_eq!(other.refused(), 9, "one thousand was left, and it is used up");
    // Long calls outlast the minute in which their charge comes back, and their end is told all the same.
    millis(90_000).await;
    one.end.add_permits(9);
    other.end.add_permits(1);
    millis(600).await;
    let left = |gate: &Gate| gate.layer.handle().default_levels()[1].unwrap().left;
    assert_eq!((left(&one), left(&other)), (10_000, 10_000), "less was used than charged");
    (0..9).for_each(|_| one.begin(Usage::new(10_000, 10_000)));
    millis(10).await;
    one.end.add_permits(1);
    millis(600).await;
    assert_eq!((left(&one), left(&other)), (0, 10_000), "more was used than charged, and the other has not asked yet");
    for _ in 0..3 {
        other.begin(Usage::default());
        millis(50).await;
    }
    assert_eq!((left(&other), other.refused()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn many_callers_are_shared_in_parts_and_forgotten() {
    let (store, set) = (Store::default(), SharedLimits::new());
    let _sync = LimitSync::start(store.clone(), &set);
    let callers: Vec<_> = (0..10_000)
        .map(|caller| {
            let (shared, rate) = (set.limit(format!("key {caller}")), SharedRate::of_requests(NonZeroU32::MIN));
            shared.set_rate("requests", Some((rate.clone(), 1)));
            rate.take(Instant::now(), None).unwrap();
            shared.touch();
            (shared, rate)
        })
        .collect();
    millis(100).await;
    assert_eq!(store.exchanges.load(Relaxed), 10_000_usize.div_ceil(256));
    millis(70_000).await;
    let exchanges = store.exchanges.load(Relaxed);
    millis(10_000).await;
    assert_eq!(store.exchanges.load(Relaxed), exchanges, "all are full again");
    assert_eq!(callers.len(), 10_000);
}
