//! Any order of the layers compiles with one error type and behaves; tower's own layers fit in between.

use std::{sync::Arc, time::Duration};

use crate::common::testing::Strict;
use futures_util::future::join_all;
use steadfast::{
    BalanceLayer, BoxLlmService, BulkheadHandle, BulkheadLayer, CircuitBreakerHandle, CircuitBreakerLayer, ErrorKind,
    Events, FallbackLayer, HedgeLayer, LlmError, LlmRequest, LlmResponse, MirrorLayer, ObserveLayer,
    RetryWithJitterLayer, TimeoutLayer,
    layers::{
        balance::{Deployment, Deployments},
        commit::CommitOnFirstTokenLayer,
    },
    prices::PriceTable,
    provider_fn,
    providers::Canned,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

/// Whatever the five layers are put around.
trait Llm: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>> + Clone {}
impl<S: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>> + Clone> Llm for S {}

fn is_llm<S: Llm + Service<LlmRequest, Error = LlmError>>() {}

/// A call that outlives its caller needs a task, and so the two bounds; with them the same holds.
#[allow(dead_code, reason = "that it compiles is the proof")]
fn closed_with_a_task<S: Llm + Clone + Send + 'static>()
where
    S::Future: Send,
{
    is_llm::<<steadfast::IdempotencyLayer as Layer<S>>::Service>();
}

/// Each layer makes of any such service another one, with `Error = LlmError`: so every order of any number of them
/// compiles, by induction. No `Send` and no `'static` is asked of the service inside.
#[allow(dead_code, reason = "that it compiles is the proof")]
fn closed_under_composition<S: Llm>() {
    is_llm::<<TimeoutLayer as Layer<S>>::Service>();
    is_llm::<<RetryWithJitterLayer as Layer<S>>::Service>();
    is_llm::<<CircuitBreakerLayer as Layer<S>>::Service>();
    is_llm::<<BulkheadLayer as Layer<S>>::Service>();
    is_llm::<<FallbackLayer as Layer<S>>::Service>();
    is_llm::<<HedgeLayer as Layer<S>>::Service>();
    is_llm::<<steadfast::BudgetLayer as Layer<S>>::Service>();
    is_llm::<<steadfast::RouteLayer as Layer<S>>::Service>();
    is_llm::<<MirrorLayer as Layer<S>>::Service>();
    is_llm::<<ObserveLayer as Layer<S>>::Service>();
    is_llm::<<steadfast::CacheLayer as Layer<S>>::Service>();
    is_llm::<<steadfast::ValidateLayer as Layer<S>>::Service>();
    is_llm::<<BalanceLayer as Layer<Deployments<S>>>::Service>();
}

/// A stack of the five in some order, and what tells whether anything is still held.
struct Stack {
    llm: BoxLlmService,
    bulkhead: BulkheadHandle,
    circuit: CircuitBreakerHandle,
}

const LIMIT: usize = 40;

/// Puts the five around `leaf`, the first of `order` outermost.
fn stack(order: [usize; 5], leaf: Strict) -> Stack {
    stack_with(order, leaf, None)
}

/// The same with a mirror inside of so many of them.
fn stack_with(order: [usize; 5], leaf: Strict, mirror: Option<(usize, MirrorLayer)>) -> Stack {
    let bulkhead = BulkheadLayer::new().feature("chat", LIMIT).queue(1000).max_wait(Duration::from_secs(60));
    let circuit = CircuitBreakerLayer::new("primary");
    let (bulkhead_handle, circuit_handle) = (bulkhead.handle(), circuit.handle());
    let mut llm: BoxLlmService = BoxCloneSyncService::new(leaf.map_err(LlmError::from));
    let mirrored = |llm: BoxLlmService, inside_of: usize| match &mirror {
        Some((place, mirror)) if *place == inside_of => BoxCloneSyncService::new(mirror.layer(llm)),
        _ => llm,
    };
    for (place, layer) in order.into_iter().enumerate().rev() {
        llm = mirrored(llm, place + 1);
        llm = match layer {
            0 => BoxCloneSyncService::new(TimeoutLayer::new(Duration::from_secs(90)).layer(llm)),
            1 => BoxCloneSyncService::new(bulkhead.layer(llm)),
            2 => BoxCloneSyncService::new(
                FallbackLayer::new("primary").tier("canned", Canned::text("canned")).layer(llm),
            ),
            3 => BoxCloneSyncService::new(RetryWithJitterLayer::new().seed(7).layer(llm)),
            _ => BoxCloneSyncService::new(circuit.layer(llm)),
        };
    }
    llm = mirrored(llm, 0);
    Stack { llm, bulkhead: bulkhead_handle, circuit: circuit_handle }
}

fn permutations() -> Vec<[usize; 5]> {
    let mut all = Vec::new();
    for number in 0..5usize.pow(5) {
        let order: [usize; 5] = std::array::from_fn(|place| number / 5usize.pow(place as u32) % 5);
        if (0..5).all(|layer| order.contains(&layer)) {
            all.push(order);
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn all_orders_answer_over_a_strict_service_with_64_clones_half_of_them_dropped() {
    let orders = permutations();
    assert_eq!(orders.len(), 120);
    for order in orders {
        let leaf = Strict::new().pending(3).takes(Duration::from_millis(100)).fails_readiness(1);
        let Stack { llm, bulkhead, circuit } = stack(order, leaf.clone());
        let calls = (0..64).map(|clone| {
            let mut llm = llm.clone();
            async move {
                llm.ready().await.unwrap();
                // Half of them are dropped after they were ready.
                if clone % 2 == 0 {
                    return None;
                }
                Some(llm.call(LlmRequest::prompt("hello").with_feature("chat")).await)
            }
        });
        let answered = tokio::time::timeout(Duration::from_secs(300), join_all(calls)).await;
        let answered = answered.unwrap_or_else(|_| panic!("{order:?}: deadlock"));
        for answer in answered.into_iter().flatten() {
            answer.unwrap_or_else(|error| panic!("{order:?}: {error}"));
        }
        assert_eq!(bulkhead.in_flight("chat"), 0, "{order:?}");
        assert_eq!(circuit.state(), steadfast::events::CircuitState::Closed, "{order:?}");
        assert_eq!(leaf.running(), 0, "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_fits_between_any_two_and_around_all() {
    let (chat, ms) = (|| LlmRequest::prompt("hello").with_feature("chat"), Duration::from_millis);
    for (place, same) in (0..=5).flat_map(|place| [(place, false), (place, true)]) {
        let first = Strict::new().pending(2).takes(ms(100)).fails_readiness(1);
        let second = Strict::new().pending(3).takes(ms(30));
        let hedge = HedgeLayer::new("primary").after(ms(50)).extra(0.5);
        let hedge = if same { hedge } else { hedge.tier("second", second.clone()) };
        let bulkhead = BulkheadLayer::new().feature("chat", LIMIT).queue(1000).max_wait(Duration::from_secs(60));
        let circuit = CircuitBreakerLayer::new("primary");
        let mut llm: BoxLlmService = BoxCloneSyncService::new(first.clone().map_err(LlmError::from));
        for layer in (0..=5).rev() {
            if layer == place {
                llm = BoxCloneSyncService::new(hedge.layer(llm));
            }
            llm = match layer {
                0 => BoxCloneSyncService::new(TimeoutLayer::new(Duration::from_secs(90)).layer(llm)),
                1 => BoxCloneSyncService::new(bulkhead.layer(llm)),
                2 => BoxCloneSyncService::new(
                    FallbackLayer::new("primary").tier("canned", Canned::text("canned")).layer(llm),
                ),
                3 => BoxCloneSyncService::new(RetryWithJitterLayer::new().seed(7).layer(llm)),
                4 => BoxCloneSyncService::new(circuit.layer(llm)),
                _ => llm,
            };
        }
        let answers = join_all((0..64).map(|_| llm.clone().oneshot(chat()))).await;
        assert!(answers.iter().all(Result::is_ok), "{place} {same}");
        let stats = hedge.handle().stats();
        assert!(stats.sent > 0 && stats.extra_load() <= 0.5, "{place} {same} {stats:?}");
        assert_eq!((bulkhead.handle().in_flight("chat"), first.running(), second.running()), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_balancer_fits_between_any_two_and_around_all() {
    for place in 0..=5 {
        let leaves = [Strict::new().pending(2).takes(Duration::from_millis(100)), Strict::new().pending(1)];
        let bulkhead = BulkheadLayer::new().feature("chat", LIMIT).queue(1000).max_wait(Duration::from_secs(60));
        let mut stacks = leaves.clone().map(|leaf| BoxCloneSyncService::new(leaf.map_err(LlmError::from)));
        for layer in (0..=5).rev() {
            if layer == place {
                let deployments =
                    stacks.iter().enumerate().map(|(at, llm)| Deployment::new(at.to_string(), llm.clone()));
                let llm: BoxLlmService =
                    BoxCloneSyncService::new(BalanceLayer::new().seed(7).layer(Deployments::new(deployments).unwrap()));
                stacks = [llm.clone(), llm];
            }
            stacks = stacks.map(|llm| match layer {
                0 => BoxCloneSyncService::new(TimeoutLayer::new(Duration::from_secs(90)).layer(llm)),
                1 => BoxCloneSyncService::new(bulkhead.layer(llm)),
                2 => BoxCloneSyncService::new(
                    FallbackLayer::new("primary").tier("canned", Canned::text("canned")).layer(llm),
                ),
                3 => BoxCloneSyncService::new(RetryWithJitterLayer::new().seed(7).layer(llm)),
                4 => BoxCloneSyncService::new(CircuitBreakerLayer::new("primary").layer(llm)),
                _ => llm,
            });
        }
        let chat = || LlmRequest::prompt("hello").with_feature("chat");
        let answers = join_all((0..64).map(|_| stacks[0].clone().oneshot(chat()))).await;
        assert!(answers.iter().all(Result::is_ok), "{place}");
        let running = leaves.each_ref().map(Strict::running);
        assert_eq!((bulkhead.handle().in_flight("chat"), running), (0, [0, 0]), "{place}");
        assert!(leaves.iter().all(|leaf| leaf.calls() > 0), "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirror_at_any_place_changes_no_answer_and_tells_of_each_call_that_passes_it() {
    for place in 0..=5 {
        for order in permutations().into_iter().step_by(17) {
            let leaf = Strict::new().pending(2).takes(Duration::from_millis(100));
            let candidate = Strict::new().pending(1).takes(Duration::from_millis(300));
            let mirror = MirrorLayer::new(candidate.clone()).share(1.0).max_in_flight(100);
            let mirrored = mirror.handle();
            let Stack { llm, bulkhead, circuit } = stack_with(order, leaf.clone(), Some((place, mirror)));
            let calls = (0..30).map(|_| llm.clone().oneshot(LlmRequest::prompt("hello").with_feature("chat")));
            for answer in join_all(calls).await {
                assert_eq!(answer.unwrap().text().await.unwrap(), "hello", "{order:?} {place}");
            }
            assert_eq!(bulkhead.in_flight("chat"), 0, "{order:?} {place}");
            assert_eq!(circuit.state(), steadfast::events::CircuitState::Closed, "{order:?} {place}");
            assert_eq!((leaf.calls(), leaf.running()), (30, 0), "{order:?} {place}");
            while mirrored.under_way() > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!((candidate.calls(), mirrored.stats().compared), (30, 30), "{order:?} {place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_outside_the_retry_holds_one_place_for_all_attempts() {
    // A bulkhead outside of the retry holds one place for all attempts; inside of it, one for each.
    for (order, most) in [([0, 1, 2, 3, 4], 1), ([0, 2, 3, 1, 4], 1)] {
        let leaf = Strict::new().takes(Duration::from_secs(1)).fails(1, LlmError::new(ErrorKind::Server, "down"));
        let Stack { llm, bulkhead, .. } = stack(order, leaf.clone());
        let call = tokio::spawn(llm.oneshot(LlmRequest::prompt("hello").with_feature("chat")));
        let mut seen = Vec::new();
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            seen.push(bulkhead.in_flight("chat"));
        }
        let response = call.await.unwrap().unwrap();
        assert_eq!(seen.iter().max(), Some(&most), "{order:?}");
        let waits_without_a_place = seen.iter().rposition(|held| *held == 1) > seen.iter().position(|held| *held == 0);
        assert_eq!(waits_without_a_place, order[1] != 1, "{order:?}: {seen:?}");
        assert_eq!(response.served_by().attempts, 2, "{order:?}");
        assert_eq!(bulkhead.in_flight("chat"), 0, "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn towers_own_layers_fit_in_between() {
    let leaf = Strict::new().pending(1);
    // `rate_limit` is not `Clone`: it goes behind a buffer, as its own docs say.
    let inner = ServiceBuilder::new().buffer::<LlmRequest>(8).rate_limit(1000, Duration::from_secs(1)).service(leaf);
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(90)))
        .buffer::<LlmRequest>(8)
        .layer(FallbackLayer::new("primary").tier("canned", Canned::text("canned")))
        .load_shed()
        .concurrency_limit(4)
        .layer(RetryWithJitterLayer::new())
        .timeout(Duration::from_secs(30))
        .layer(CircuitBreakerLayer::new("primary"))
        .map_request(|request: LlmRequest| request.with_feature("chat"))
        .layer(BulkheadLayer::new().feature("chat", 2))
        .service(inner);
    let response = llm.oneshot(LlmRequest::prompt("hello")).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn towers_timeout_is_a_timeout_and_its_load_shed_an_overload() {
    let hanging = provider_fn(|_| std::future::pending::<Result<LlmResponse, LlmError>>());
    let llm = ServiceBuilder::new().layer(RetryWithJitterLayer::new()).timeout(Duration::from_secs(1)).service(hanging);
    let error = llm.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);

    let shedding = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .load_shed()
        .concurrency_limit(1)
        .service(hanging);
    let held = tokio::spawn(shedding.clone().oneshot(LlmRequest::prompt("hello")));
    tokio::task::yield_now().await;
    let error = shedding.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    held.abort();
}

#[tokio::test(start_paused = true)]
async fn towers_retry_repeats_our_requests() {
    #[derive(Clone)]
    struct Twice(usize);
    impl tower::retry::Policy<LlmRequest, LlmResponse, LlmError> for Twice {
        type Future = std::future::Ready<()>;
        fn retry(
            &mut self,
            _: &mut LlmRequest,
            result: &mut Result<LlmResponse, LlmError>,
        ) -> Option<std::future::Ready<()>> {
            self.0 = self.0.checked_sub(1)?;
            result.is_err().then(|| std::future::ready(()))
        }
        fn clone_request(&mut self, request: &LlmRequest) -> Option<LlmRequest> {
            Some(request.clone())
        }
    }
    let leaf = Strict::new().fails(2, LlmError::new(ErrorKind::Server, "down"));
    let llm =
        ServiceBuilder::new().retry(Twice(2)).layer(TimeoutLayer::new(Duration::from_secs(1))).service(leaf.clone());
    llm.oneshot(LlmRequest::prompt("hello")).await.unwrap();
    assert_eq!(leaf.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stack_has_a_name_for_a_struct_field_and_is_called_from_many_tasks() {
    struct App {
        llm: BoxLlmService,
    }
    let Stack { llm, .. } = stack([0, 1, 2, 3, 4], Strict::new().takes(Duration::from_millis(100)));
    let app = Arc::new(App { llm });
    let before = tokio::time::Instant::now();
    let calls = (0..LIMIT).map(|_| {
        let app = app.clone();
        tokio::spawn(async move { app.llm.clone().oneshot(LlmRequest::prompt("hello").with_feature("chat")).await })
    });
    for answer in join_all(calls).await {
        answer.unwrap().unwrap();
    }
    assert_eq!(before.elapsed(), Duration::from_millis(100), "no layer makes one call wait for another");
}

/// As tower's own services give theirs: a user may read and change a client below the layers.
#[test]
fn the_service_inside_of_each_layer_can_be_reached() {
    #[derive(Clone)]
    struct Client(&'static str);
    impl Service<LlmRequest> for Client {
        type Response = LlmResponse;
        type Error = LlmError;
        type Future = std::future::Ready<Result<LlmResponse, LlmError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), LlmError>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: LlmRequest) -> Self::Future {
            std::future::ready(Ok(LlmResponse::from_text(self.0)))
        }
    }
    macro_rules! reach {
        ($($layer:expr),* $(,)?) => {
            [$({
                let mut service = $layer.layer(Client("before"));
                assert_eq!(service.get_ref().0, "before");
                service.get_mut().0 = "after";
                service.into_inner().0
            }),*]
        };
    }
    let reached = reach![
        TimeoutLayer::new(Duration::from_secs(1)),
        RetryWithJitterLayer::new(),
        CircuitBreakerLayer::new("first"),
        BulkheadLayer::new(),
        FallbackLayer::new("first"),
        HedgeLayer::new("first"),
        steadfast::BudgetLayer::new(PriceTable::builtin()),
        steadfast::RouteLayer::new(),
        MirrorLayer::new(Canned::text("candidate")),
        ObserveLayer::new(Events::new()),
        CommitOnFirstTokenLayer::new(),
        steadfast::CacheLayer::new(),
        steadfast::IdempotencyLayer::new(),
        steadfast::ValidateLayer::new(),
    ];
    assert_eq!(reached, ["after"; 14]);
}
