//! A price, a cap and a period: spending never exceeds the cap by more than the requests in flight.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, UNIX_EPOCH},
};

use crate::common::testing::Strict;
use futures_util::{future::join_all, stream};
use steadfast::{
    BoxLlmService, BudgetHandle, BudgetLayer, ErrorKind, Event, Events, FallbackLayer, Frame, LlmBody, LlmError,
    LlmRequest, LlmResponse, RouteLayer, StreamEvent,
    chat::{Chat, Message, Usage},
    layers::{
        budget::{AtCap, BudgetKey, Cap, Period},
        fallback::Tier,
        route::Rule,
    },
    ledger::Next,
    prices::{Price, PriceTable, Usd},
    provider_fn,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

const HOUR: Duration = Duration::from_secs(3600);

/// A thousandth of a dollar for each token of the large model, in or out; of the small one a tenth of that.
fn prices() -> PriceTable {
    let price = |dollars| Price::dollars(dollars, dollars).unwrap();
    PriceTable::empty().with("large", price(1000.0)).with("small", price(100.0))
}

/// So many thousandths of a dollar.
fn mills(mills: u64) -> Usd {
    Usd::from_nanos(mills * 1_000_000)
}

/// Begins at ten o'clock, at the start of a clock hour.
fn budget(cap: Cap) -> BudgetLayer {
    BudgetLayer::new(prices()).cap(cap).starting_at(UNIX_EPOCH + Duration::from_secs(1_795_168_800))
}

/// A request to the large model for at most so many tokens of answer, or for as many as it likes.
fn ask(most: Option<u32>) -> LlmRequest {
    let chat = Chat::new([Message::user("")]).model("large");
    LlmRequest::from(match most {
        Some(most) => chat.max_tokens(most),
        None => chat,
    })
}

fn answer(model: &'static str, tokens: u64) -> LlmResponse {
    let mut message = Message::assistant("hello");
    message.usage = Some(Usage::new(0, tokens));
    LlmResponse::from_message(message).with_model("provider", model)
}

type Llm = BoxLlmService;

fn boxed<S>(service: S) -> Llm
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone + Send + Sync + 'static,
    S::Error: Into<LlmError>,
    S::Future: Send,
{
    BoxCloneSyncService::new(service.map_err(Into::into))
}

/// A leaf whose answers take so many tokens.
fn model(name: &'static str, tokens: u64) -> Llm {
    boxed(provider_fn(move |_| std::future::ready(Ok::<_, LlmError>(answer(name, tokens)))))
}

/// The fate of a request, in its extensions.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// The tokens of the answer, in so many frames where it is a stream.
    tokens: u64,
    frames: u64,
    latency: Duration,
    fails: Option<ErrorKind>,
}

/// The tokens that the provider has really charged for, hour by hour, by its own books.
#[derive(Clone, Debug, Default)]
struct Bill(Arc<Mutex<[u64; 8]>>);

impl Bill {
    fn charge(&self, hour: usize, tokens: u64) {
        self.0.lock().unwrap()[hour] += tokens;
    }
}

/// A provider that charges for each token when it makes it, and for whole answers even if nobody waits for them.
fn provider(bill: Bill, begun: Instant) -> Llm {
    boxed(provider_fn(move |request: LlmRequest| {
        let bill = bill.clone();
        let fate = *request.extensions().get::<Fate>().unwrap();
        // A request belongs to the hour in which it was admitted, which is now.
        let hour = (begun.elapsed().as_secs() / 3600) as usize;
        async move {
            if let Some(kind) = fate.fails {
                sleep(fate.latency).await;
                return Err(LlmError::new(kind, "scripted"));
            }
            if !request.is_stream() {
                bill.charge(hour, fate.tokens);
                sleep(fate.latency).await;
                return Ok(answer("large", fate.tokens));
            }
            sleep(fate.latency).await;
            let frames = stream::unfold(0, move |made| {
                let bill = bill.clone();
                async move {
                    if made > fate.frames {
                        return None;
                    }
                    sleep(fate.latency / 4).await;
                    if made == fate.frames {
                        return Some((Ok(Frame::event(StreamEvent::End)), made + 1));
                    }
                    let each = fate.tokens / fate.frames;
                    bill.charge(hour, each);
                    let told = StreamEvent::Usage(Usage::new(0, each * (made + 1)));
                    let text = StreamEvent::Text { index: 0, text: "x".into() };
                    Some((Ok(Frame::events_of(vec![told, text])), made + 1))
                }
            });
            Ok(LlmResponse::new(LlmBody::from_frames(Box::pin(frames))).with_model("provider", "large"))
        }
    }))
}

/// One task: asks, reads, leaves, for some hours.
async fn user(llm: Llm, seed: u64, until: Instant, refused: Arc<AtomicU64>) {
    let mut random = fastrand::Rng::with_seed(seed);
    while Instant::now() < until {
        let frames = random.u64(1..8);
        let tokens = frames * random.u64(1..25);
        // A third does not say how much it may become, and may exceed what is reserved for it.
        let bounded = random.u8(0..3) > 0;
        let fails = [ErrorKind::Server, ErrorKind::RateLimited, ErrorKind::Connect];
        let fate = Fate {
            tokens,
            frames,
            latency: Duration::from_millis(random.u64(1..20_000)),
            fails: (random.u8(0..10) == 0).then(|| fails[random.usize(..fails.len())]),
        };
        let request = ask(bounded.then_some(tokens as u32)).with_stream(random.bool()).with_extension(fate);
        // The caller waits for requests that may exceed the cap: of one that was left, only the reservation is known.
        let leaves = bounded && random.u8(0..4) == 0;
        let patience = if leaves { Duration::from_millis(random.u64(0..30_000)) } else { HOUR };
        let call = async {
            let mut response = llm.clone().oneshot(request).await?;
            while let Some(frame) = response.body_mut().frame().await {
                frame?;
            }
            Ok::<_, LlmError>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(patience, call).await
            && error.kind() == ErrorKind::Budget
        {
            refused.fetch_add(1, SeqCst);
            assert_eq!(error.retry_after().map(|after| after <= HOUR), Some(true), "{error}");
            sleep(Duration::from_secs(random.u64(1..600))).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn spending_exceeds_the_cap_by_no_more_than_the_requests_in_flight() {
    const TASKS: u64 = 64;
    const HOURS: usize = 4;
    // The longest answer is 168 tokens; where the request does not bound it, 100 are reserved.
    const OVER: u64 = TASKS * (168 - 100);
    for (seed, limit) in [(1, 20_000), (2, 60_000), (3, 5_000)] {
        let (bill, begun, refused) = (Bill::default(), Instant::now(), Arc::new(AtomicU64::new(0)));
        let layer = budget(Cap::new("cap", mills(limit), Period::Hour)).default_output(100);
        let handle = layer.handle();
        let llm = boxed(layer.layer(provider(bill.clone(), begun)));
        let until = begun + HOUR * HOURS as u32;
        let users = (0..TASKS).map(|task| tokio::spawn(user(llm.clone(), seed << 32 | task, until, refused.clone())));
        let users: Vec<_> = users.collect();
        let watched = handle.clone();
        let watch = tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(7)).await;
                assert!(watched.spent("cap") <= mills(limit + OVER), "{watched:?}");
            }
        });
        for user in users {
            user.await.unwrap();
        }
        assert!(!watch.is_finished(), "the watch saw too much spent");
        watch.abort();
        let billed = *bill.0.lock().unwrap();
        for (hour, billed) in billed[..HOURS].iter().enumerate() {
            assert!(*billed <= limit + OVER, "hour {hour}: {billed} of {limit}");
            assert!(*billed >= limit - limit / 4, "hour {hour} begins anew, and uses its money: {billed} of {limit}");
        }
        assert!(refused.load(SeqCst) > 100, "{refused:?}");
        assert_eq!(handle.reserved("cap"), Usd::ZERO, "nothing is left behind");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_share_the_cap_to_the_last_request() {
    let layer =
        budget(Cap::new("cap", mills(10_000), Period::Day)).cap(Cap::new("key", mills(1000), Period::Day).each_key());
    let handle = layer.handle();
    let leaf = provider_fn(|_| async {
        tokio::task::yield_now().await;
        Ok::<_, LlmError>(answer("large", 7))
    });
    let llm = layer.layer(leaf);
    let tasks = (0..64).map(|task: u64| {
        let llm = llm.clone();
        tokio::spawn(async move {
            let mut answered = 0;
            for n in 0..400 {
                let request = ask(Some(7)).with_extension(BudgetKey::new(format!("{}", (task + n) % 16)));
                answered += u64::from(llm.clone().oneshot(request).await.is_ok());
            }
            answered
        })
    });
    let answered: u64 = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    // The answered requests are those that fit, and at the end one of each key that did not.
    assert_eq!(handle.spent("cap"), mills(7 * answered));
    assert!((10_000 / 7..=10_000 / 7 + 16).contains(&answered), "{answered}");
    assert_eq!((handle.reserved("cap"), handle.reserved("key")), (Usd::ZERO, Usd::ZERO));
    assert_eq!(handle.spent("key"), handle.spent("cap"));
}

/// Events in words.
fn told(heard: &mut tokio::sync::broadcast::Receiver<Event>) -> Vec<String> {
    std::iter::from_fn(|| heard.try_recv().ok())
        .map(|event| match event {
            Event::BudgetReached { cap, percent, .. } => format!("{cap} at {percent}%"),
            Event::BudgetReset { cap, .. } => format!("{cap} anew"),
            other => format!("{other:?}"),
        })
        .collect()
}

fn tier(response: &LlmResponse) -> &str {
    response.served_by().tier.unwrap_or("none")
}

#[tokio::test(start_paused = true)]
async fn at_the_cap_a_feature_is_told_of_stepped_down_or_refused() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let cap = |name: &str| Cap::new(format!("{name} per hour"), mills(100), Period::Hour).feature(name);
    let layer = budget(cap("batch").at_cap(AtCap::Warn))
        .cap(cap("chat").at_cap(AtCap::StepDown(2)))
        .cap(cap("free").at_cap(AtCap::Refuse))
        .events(events);
    let fallback = FallbackLayer::new("large").push(Tier::new("small", model("small", 50)).level(2));
    let llm = ServiceBuilder::new().layer(layer).layer(fallback).service(model("large", 50));
    let mut served = Vec::new();
    for feature in ["batch", "chat", "free"] {
        for _ in 0..3 {
            served.push(match llm.clone().oneshot(ask(Some(50)).with_feature(feature)).await {
                Ok(response) => tier(&response).to_owned(),
                Err(error) => error.kind().to_string(),
            });
        }
    }
    let [large, small] = ["large", "small"].map(str::to_owned);
    let batch = [large.clone(), large.clone(), large.clone()];
    let chat = [large.clone(), large.clone(), small];
    let free = [large.clone(), large, "budget".to_owned()];
    assert_eq!(served, [batch, chat, free].concat());
    let each = ["batch", "chat", "free"].map(|name| [80, 100].map(|percent| format!("{name} per hour at {percent}%")));
    assert_eq!(told(&mut heard), each.concat(), "each once");

    sleep(HOUR).await;
    for feature in ["batch", "chat", "free"] {
        let response = llm.clone().oneshot(ask(Some(50)).with_feature(feature)).await.unwrap();
        assert_eq!((tier(&response), response.degraded()), ("large", None), "{feature}: a new hour");
    }
    assert_eq!(told(&mut heard), ["batch", "chat", "free"].map(|name| format!("{name} per hour anew")));
}

#[tokio::test(start_paused = true)]
async fn a_tiers_cap_sends_requests_to_the_cheaper_tier_until_it_begins_anew() {
    let cap = budget(Cap::new("large per hour", mills(100), Period::Hour)).model(None, "large");
    let large = cap.layer(model("large", 50));
    let llm = FallbackLayer::new("large").tier("small", model("small", 50)).layer(large);
    // Nobody names a model: the tier's own is what is reserved for.
    let ask = || LlmRequest::from(Chat::new([Message::user("")]).max_tokens(50));
    let mut served = Vec::new();
    for _ in 0..4 {
        let response = llm.clone().oneshot(ask()).await.unwrap();
        served.push((tier(&response).to_owned(), response.with_prices(&prices()).cost().unwrap()));
    }
    let expected = [("large", 50), ("large", 50), ("small", 5), ("small", 5)];
    assert_eq!(served, expected.map(|(tier, cost)| (tier.to_owned(), mills(cost))));

    let response = llm.clone().oneshot(ask()).await.unwrap();
    let [refused] = response.attempts() else { panic!("{:?}", response.attempts()) };
    assert_eq!(
        (refused.failure, refused.next, refused.took),
        (Some(ErrorKind::Budget), Next::FailedOver, Duration::ZERO)
    );
    assert_eq!(response.served_by().attempts, 1, "a refusal on this side costs none");
    assert!(
        refused.message.as_str().contains("\"large per hour\"")
            && refused.message.as_str().contains("2026-11-20T11:00:00Z")
    );

    sleep(HOUR).await;
    assert_eq!(tier(&llm.oneshot(ask()).await.unwrap()), "large");
}

#[tokio::test(start_paused = true)]
async fn a_route_saves_and_the_budget_counts_what_was_really_spent() {
    let layer = budget(Cap::new("cap", mills(10_000), Period::Day));
    let handle = layer.handle();
    let small = Arc::new(AtomicU64::new(0));
    let calls = small.clone();
    let cheap = provider_fn(move |_| {
        let call = calls.fetch_add(1, SeqCst);
        async move {
            match call {
                2 => Err(LlmError::new(ErrorKind::Overloaded, "scripted")),
                _ => Ok(answer("small", 100)),
            }
        }
    });
    let route = RouteLayer::new()
        .prices(prices())
        .instead_of(None, "large")
        .rule(Rule::new("short").feature("summary").max_input_tokens(2000).no_tools(), cheap);
    let llm =
        ServiceBuilder::new().layer(layer).layer(route).layer(FallbackLayer::new("large")).service(model("large", 100));
    let (mut cost, mut saved, mut routes) = (Usd::ZERO, Usd::ZERO, Vec::new());
    for feature in ["summary", "chat", "summary", "summary"] {
        let response = llm.clone().oneshot(ask(Some(100)).with_feature(feature)).await.unwrap();
        let paid = response.cost().unwrap();
        cost = cost + paid;
        saved = saved + response.cost_without_route().map_or(Usd::ZERO, |dear| dear.saturating_sub(paid));
        routes.push((response.route().map(str::to_owned), response.attempts().len()));
    }
    let short = || Some("short".to_owned());
    assert_eq!(
        routes,
        [(short(), 0), (None, 0), (short(), 0), (None, 1)],
        "the large one serves where the small fails"
    );
    assert_eq!((cost, saved), (mills(10 + 100 + 10 + 100), mills(180)));
    assert_eq!((handle.spent("cap"), handle.reserved("cap")), (cost, Usd::ZERO));
}

/// A stack of the three in some order, the first of `order` outermost.
fn stack(order: [usize; 3], leaf: Strict) -> (Llm, BudgetHandle) {
    let layer = budget(Cap::new("cap", mills(1_000_000_000), Period::Day));
    let route = RouteLayer::new().rule(Rule::new("cheap").feature("summary"), leaf.clone());
    let handle = layer.handle();
    let mut llm = boxed(leaf);
    for layer_of in order.into_iter().rev() {
        llm = match layer_of {
            0 => boxed(layer.layer(llm)),
            1 => boxed(route.layer(llm)),
            _ => boxed(FallbackLayer::new("large").tier("small", model("small", 1)).layer(llm)),
        };
    }
    (llm, handle)
}

#[tokio::test(start_paused = true)]
async fn all_orders_answer_over_a_strict_service_with_64_clones_half_of_them_dropped() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let leaf = Strict::new().pending(3).takes(Duration::from_millis(100)).fails_readiness(1);
        let (llm, handle) = stack(order, leaf.clone());
        let calls = (0..64).map(|clone| {
            let mut llm = llm.clone();
            async move {
                llm.ready().await.unwrap();
                let feature = if clone % 3 == 0 { "summary" } else { "chat" };
                let call = llm.call(ask(Some(1)).with_feature(feature));
                // Half of them are dropped on their way.
                match clone % 2 {
                    0 => tokio::time::timeout(Duration::from_millis(clone), call).await.ok(),
                    _ => Some(call.await),
                }
            }
        });
        let answered = tokio::time::timeout(Duration::from_secs(300), join_all(calls)).await;
        let answered = answered.unwrap_or_else(|_| panic!("{order:?}: deadlock"));
        assert_eq!(answered.iter().flatten().count(), 32, "{order:?}");
        for answer in answered.into_iter().flatten() {
            answer.unwrap_or_else(|error| panic!("{order:?}: {error}"));
        }
        assert_eq!((handle.reserved("cap"), leaf.running()), (Usd::ZERO, 0), "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_at_any_point_leaves_no_reservation_behind() {
    let begun = Instant::now();
    for stream in [false, true] {
        for polls in 0..24 {
            let layer = budget(Cap::new("cap", mills(1000), Period::Day));
            let handle = layer.handle();
            let llm = boxed(layer.layer(boxed(provider(Bill::default(), begun))));
            let fate = Fate { tokens: 40, frames: 4, latency: Duration::from_millis(8), fails: None };
            let mut call = Box::pin(async {
                let mut response = llm.oneshot(ask(Some(50)).with_stream(stream).with_extension(fate)).await?;
                while let Some(frame) = response.body_mut().frame().await {
                    frame?;
                }
                Ok::<_, LlmError>(())
            });
            for _ in 0..polls {
                let mut context = Context::from_waker(Waker::noop());
                if call.as_mut().poll(&mut context).is_ready() {
                    break;
                }
                tokio::time::advance(Duration::from_millis(1)).await;
            }
            drop(call);
            let spend = &handle.snapshot()[0];
            assert_eq!(spend.reserved, Usd::ZERO, "{polls} polls");
            assert!(spend.spent <= mills(50), "{polls} polls: {spend:?}");
        }
    }
}

#[tokio::test]
async fn budget_and_route_add_no_allocation_to_an_answer_or_a_stream() {
    let frames = || {
        let end = [StreamEvent::Usage(Usage::new(10, 5)), StreamEvent::End];
        [Ok(Frame::text("hello"))].into_iter().chain(end.map(|event| Ok(Frame::event(event))))
    };
    // By the built-in prices: others go with the answer.
    let layer = BudgetLayer::new(PriceTable::builtin()).cap(Cap::new("cap", mills(1_000_000_000), Period::Month));
    let [openai, gpt]: [Arc<str>; 2] = ["openai".into(), "gpt-4o".into()];
    let leaf = provider_fn(move |request: LlmRequest| {
        let response = match request.is_stream() {
            true => LlmResponse::new(LlmBody::from_frames(stream::iter(frames()))),
            false => LlmResponse::from_text("hello"),
        };
        std::future::ready(Ok::<_, LlmError>(response.with_model(openai.clone(), gpt.clone())))
    });
    let route = RouteLayer::new().rule(Rule::new("cheap").feature("summary").no_tools(), leaf.clone());
    let mut stack = ServiceBuilder::new().layer(layer.clone()).layer(route).service(leaf.clone());
    let chat = Chat::new([Message::user("hello")]).model("gpt-4o");
    for stream in [false, true] {
        let request = LlmRequest::from(chat.clone()).with_feature("chat").with_stream(stream);
        let bare = allocations(&mut leaf.clone(), &request);
        assert_eq!((bare > 0, allocations(&mut stack, &request)), (true, bare), "the leaf names its model in a box");
    }
    assert!(layer.handle().spent("cap") > Usd::ZERO);
}

/// Returns the number of allocations of one call, after a first that may warm up whatever is made once.
fn allocations<S>(llm: &mut S, request: &LlmRequest) -> u64
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    let mut call = || {
        let mut context = Context::from_waker(Waker::noop());
        assert!(llm.poll_ready(&mut context).is_ready());
        let mut future = pin!(llm.call(request.clone()));
        let Poll::Ready(Ok(mut response)) = future.as_mut().poll(&mut context) else { panic!("the leaf is ready") };
        // A whole answer is not made into a frame here.
        while request.is_stream()
            && let Poll::Ready(Some(frame)) = response.body_mut().poll_frame(&mut context)
        {
            frame.unwrap();
        }
    };
    call();
    allocation_counter::measure(call).count_total
}
