//! Tests of which calls are left before the limit, and which are not.

use proptest::{prelude::*, test_runner::RngSeed};
use tokio::task::JoinSet;

use super::*;
use crate::chat::{Chat, Message, Thinking};

/// A model whose answers take as long as the request says, and the layer around it.
struct Bench {
    layer: TimeoutLayer,
}

/// The time of an answer.
#[derive(Clone, Copy)]
struct Takes(Duration);

/// The outcome of a call: its time, and whether it was left for being silent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ended {
    after: Duration,
    is_left: bool,
}

impl Bench {
    fn new(limit: Duration) -> Self {
        Self { layer: TimeoutLayer::new(limit).adaptive() }
    }

    /// Makes one call with a request that could go on to another model.
    fn call(&self, mut request: LlmRequest, takes: Duration) -> impl Future<Output = Ended> + Send + 'static {
        request.context_mut().prospects.note_can_go_on(true);
        self.last_call(request, takes)
    }

    /// Makes one call with a request that has no other model.
    fn last_call(&self, request: LlmRequest, takes: Duration) -> impl Future<Output = Ended> + Send + 'static {
        let model = provider_fn(|request: LlmRequest| {
            let takes = request.extensions().get::<Takes>().map_or(Duration::ZERO, |takes| takes.0);
            async move {
                sleep(takes).await;
                Ok::<_, LlmError>(LlmResponse::from_text("hello"))
            }
        });
        let llm = self.layer.layer(model);
        async move {
            let begun = Instant::now();
            let answer = llm.oneshot(request.with_extension(Takes(takes))).await;
            let is_left = answer.is_err_and(|error| error.timeout().unwrap().limit == TimeoutLimit::Silence);
            Ended { after: begun.elapsed(), is_left }
        }
    }

    /// Makes so many calls in a row that take as long.
    async fn is_used_to(&self, calls: u32, request: &LlmRequest, takes: Duration) {
        for _ in 0..calls {
            assert_eq!(self.call(request.clone(), takes).await, Ended { after: takes, is_left: false });
        }
    }

    /// Makes calls that begin a second apart, and returns their outcomes in that order.
    async fn one_a_second(&self, calls: impl IntoIterator<Item = (LlmRequest, Duration)>) -> Vec<Ended> {
        let mut under_way = JoinSet::new();
        for (place, (request, takes)) in calls.into_iter().enumerate() {
            let call = self.call(request, takes);
            under_way.spawn(async move { (place, call.await) });
            sleep(secs(1)).await;
        }
        let mut ended = under_way.join_all().await;
        ended.sort_by_key(|(place, _)| *place);
        ended.into_iter().map(|(_, ended)| ended).collect()
    }
}

const LONG: Duration = secs(3600);

#[tokio::test(start_paused = true)]
async fn a_model_that_has_been_silent_to_several_is_left_before_the_limit() {
    let bench = Bench::new(secs(30));
    bench.is_used_to(40, &asked(), secs(2)).await;
    let ended = bench.one_a_second((0..12).map(|_| (asked(), LONG))).await;
    // Calls are late after five times 2 s, as near as that is known. The eighth late call decides for all of them,
    // and for those after it.
    for (place, ended) in ended.iter().enumerate() {
        assert!(ended.is_left, "{place}");
        let least = if place < 7 { 17 - place as u64 } else { 8 };
        assert!((secs(least)..=secs(least + 3)).contains(&ended.after), "{place}: {ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_left_who_has_nowhere_else_to_go_and_nobody_before_it_is_known_what_is_usual() {
    let bench = Bench::new(secs(30));
    for _ in 0..10 {
        assert_eq!(bench.call(asked(), LONG).await, Ended { after: secs(30), is_left: false });
    }
    bench.is_used_to(40, &asked(), secs(1)).await;
    for _ in 0..10 {
        assert_eq!(bench.last_call(asked(), LONG).await, Ended { after: secs(30), is_left: false });
    }
}

#[tokio::test(start_paused = true)]
async fn a_few_late_answers_are_waited_for() {
    let bench = Bench::new(secs(30));
    for _ in 0..20 {
        bench.is_used_to(40, &asked(), secs(1)).await;
        assert_eq!(bench.call(asked(), secs(20)).await, Ended { after: secs(20), is_left: false });
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_readiness_is_not_late() {
    let bench = Bench::new(secs(30));
    bench.is_used_to(40, &asked(), secs(1)).await;
    let mut calls: Vec<_> = (0..10)
        .map(|_| {
            let mut request = asked();
            request.context_mut().prospects.note_can_go_on(true);
            task::spawn(bench.layer.layer(Unready).oneshot(request))
        })
        .collect();
    for _ in 0..29 {
        calls.iter_mut().for_each(|call| assert_pending!(call.poll()));
        advance(secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_has_become_slow_for_good_is_waited_for_in_the_end() {
    let bench = Bench::new(secs(30));
    bench.is_used_to(300, &asked(), secs(1)).await;
    let ended = bench.one_a_second((0..2500).map(|_| (asked(), secs(20)))).await;
    assert!(ended[10..400].iter().filter(|ended| ended.is_left).count() > 350);
    assert!(ended[2000..].iter().all(|ended| !ended.is_left));
}

#[tokio::test(start_paused = true)]
async fn what_takes_long_by_its_kind_is_not_late() {
    let thinks = || {
        let mut chat = Chat::new([Message::user("hello")]);
        chat.thinking = Some(Thinking::Auto);
        LlmRequest::from(chat)
    };
    let bench = Bench::new(Duration::MAX);
    let kinds = [(asked(), 1), (thinks(), 40), (asked().with_stream(true), 2), (asked().with_feature("report"), 25)];
    let calls = (0..400).flat_map(|_| kinds.iter().map(|(request, takes)| (request.clone(), secs(*takes))));
    assert!(bench.one_a_second(calls).await.iter().all(|ended| !ended.is_left));
}

/// One caller's slow prompts do not count against the model while others are answered.
#[tokio::test(start_paused = true)]
async fn one_callers_slow_prompts_leave_the_others_calls_alone() {
    let bench = Bench::new(secs(60));
    let of = |session: &str| asked().with_session(session);
    bench.is_used_to(100, &of("one"), secs(1)).await;
    let others = || (0..15).map(|place| (of(["one", "two"][place % 2]), secs(1)));
    let hostile = (0..200).flat_map(|_| std::iter::once((of("slow"), secs(40))).chain(others()));
    let ended = bench.one_a_second(hostile).await;
    assert!(ended.iter().all(|ended| !ended.is_left));
    // Its own calls are no more than four of the eight in the end: one late call of another caller is waited for.
    assert_eq!(bench.one_a_second([(of("two"), secs(50)), (of("one"), secs(1))]).await[0].after, secs(50));
    // Nor does it keep the other callers' calls from being left, if the model is silent to them too.
    let ended = bench.one_a_second((0..12).map(|place| (of(["one", "two", "three"][place % 3]), LONG))).await;
    assert!(ended.iter().filter(|ended| ended.is_left).count() >= 11, "{ended:?}");
}

/// The distribution of times, by a number between 0 and 1.
#[derive(Clone, Copy, Debug)]
enum Tail {
    /// The median in seconds, and the deviation of the logarithm.
    LogNormal(f64, f64),
    /// The least in seconds, and the weight of the tail: the smaller, the heavier.
    Pareto(f64, f64),
}

impl Tail {
    fn draw(self, rng: &mut fastrand::Rng) -> Duration {
        let uniform = |rng: &mut fastrand::Rng| 1.0 - rng.f64();
        let seconds = match self {
            // The Box-Muller transform.
            Self::LogNormal(median, deviation) => {
                let (one, two) = (uniform(rng), uniform(rng));
                median * (deviation * (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()).exp()
            }
            Self::Pareto(least, weight) => least * uniform(rng).powf(-1.0 / weight),
        };
        Duration::from_secs_f64(seconds.min(100_000.0))
    }
}

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![
        (0.2..4.0, 0.2..1.2).prop_map(|(median, deviation)| Tail::LogNormal(median, deviation)),
        (0.1..3.0, 1.5..4.0).prop_map(|(least, weight)| Tail::Pareto(least, weight)),
    ]
}

proptest! {
    // The share is one of chance: with a tail as heavy as 1.5 a run in some thirty has a bad hour, in which dozens are
    // left. So several runs count together, and the seed is fixed.
    #![proptest_config(ProptestConfig { cases: 6, rng_seed: RngSeed::Fixed(16), ..ProptestConfig::default() })]

    /// At most one in a thousand calls of a healthy model goes elsewhere, for any tail and any traffic.
    #[test]
    fn nobody_healthy_is_cut_off(tail in tail(), per_second in 0.05..20.0f64, seed: u64) {
        const CALLS: u32 = 8000;
        const RUNS: u32 = 5;
        let mut rng = fastrand::Rng::with_seed(seed);
        let runs = (0..RUNS).map(|_| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_time().start_paused(true).build().unwrap().block_on(async {
                let bench = Bench::new(Duration::MAX);
                let mut under_way = JoinSet::new();
                for _ in 0..CALLS {
                    under_way.spawn(bench.call(asked(), tail.draw(&mut rng)));
                    sleep(Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / per_second)).await;
                }
                under_way.join_all().await.iter().filter(|ended| ended.is_left).count()
            })
        });
        let left: Vec<usize> = runs.collect();
        prop_assert!(left.iter().sum::<usize>() <= (RUNS * CALLS) as usize / 1000, "{left:?} of {CALLS} each");
    }
}
