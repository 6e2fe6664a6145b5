//! Another configuration takes the place of the one at work: no request is lost, and what has not changed goes on.

use std::time::Duration;

use steadfast::{
    BoxLlmService, ErrorKind, Event, LlmRequest, LlmResponse,
    events::{CircuitState, RequestOutcome},
    providers::simulated::{Fault, FaultMix, Simulated},
};
use steadfast_stack::{Config, Environment, Feature, Span, Stack, StackHandle, Tier};
use tokio::{
    runtime::Handle,
    sync::broadcast::{Receiver, error::TryRecvError},
    task::JoinSet,
    time::sleep,
};
use tower::{Service, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn tier(name: &str) -> Tier {
    Tier { name: name.into(), ..Tier::default() }
}

fn config(tiers: &[&str]) -> Config {
    Config { tiers: tiers.iter().map(|name| tier(name)).collect(), ..Config::default() }
}

fn concurrency(limit: usize) -> Feature {
    Feature { concurrency: Some(limit), ..Feature::default() }
}

fn with_feature(mut config: Config, name: &str, limit: usize) -> Config {
    config.features.insert(name.into(), concurrency(limit));
    config
}

fn ask(feature: &str) -> LlmRequest {
    LlmRequest::prompt("hello").with_feature(feature)
}

async fn tier_of(llm: &BoxLlmService, request: LlmRequest) -> String {
    let response = llm.clone().oneshot(request).await.expect("an answer");
    let tier = response.served_by().tier.expect("a tier").to_owned();
    response.collect().await.expect("the whole answer");
    tier
}

/// Returns the events of reloads, in order.
fn reloads(heard: &mut Receiver<Event>) -> Vec<Event> {
    let mut told = Vec::new();
    loop {
        match heard.try_recv() {
            Ok(event @ (Event::Reloaded { .. } | Event::ReloadRefused { .. })) => told.push(event),
            Ok(_) => {}
            Err(TryRecvError::Empty) => return told,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Twenty clients, each with one request after another, half of them streams; a primary that fails now and then.
struct Load {
    clients: JoinSet<u32>,
}

impl Load {
    fn begin(llm: &BoxLlmService, requests: u32) -> Self {
        let mut clients = JoinSet::new();
        for client in 0..20 {
            let llm = llm.clone();
            clients.spawn(async move {
                let feature = ["chat", "summary", "rare"][client as usize % 3];
                let mut whole = 0;
                for number in 0..requests {
                    let request = ask(feature).with_stream((client + number) % 2 == 0);
                    let answer = llm.clone().oneshot(request).await.expect("no request is lost");
                    let message = answer.collect().await.expect("no answer is cut");
                    whole += u32::from(message.text().starts_with("All is well"));
                }
                whole
            });
        }
        Self { clients }
    }

    async fn whole_answers(mut self) -> u32 {
        let mut sum = 0;
        while let Some(whole) = self.clients.join_next().await {
            sum += whole.expect("no client panics");
        }
        sum
    }
}

fn provider(name: &str, latency: Duration) -> Simulated {
    Simulated::new(name).reply("All is well, as it was before.").latency(latency).pace(40 * MILLISECOND).seed(7)
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reloads_under_load_lose_no_request_and_leak_no_task() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let unsteady = FaultMix::new().with(0.1, Fault::ServerError).with(0.05, Fault::Overloaded);
    let a = provider("a", 200 * MILLISECOND).fault_mix(unsteady);
    let (b, c) = (provider("b", 100 * MILLISECOND), provider("c", 300 * MILLISECOND));
    let counts = [a.handle(), b.handle(), c.handle()];
    let stack = Stack::builder()
        .leaf("a", a)
        .leaf("b", b)
        .leaf("c", c)
        .seed(3)
        .build(with_feature(config(&["a", "b"]), "chat", 50))
        .unwrap();
    let (handle, mut heard) = (stack.handle(), stack.handle().events().subscribe());
    let load = Load::begin(&stack.service(), 60);
    for round in 0..100 {
        sleep(170 * MILLISECOND).await;
        // Tiers come and go and change places, circuits change, features come and go, limits move.
        let mut next = config([&["a", "b"][..], &["a", "c", "b"], &["b", "a"]][round % 3]);
        next.tiers[0].circuit_breaker = (round % 4 == 1).then(|| steadfast_stack::CircuitBreaker {
            consecutive_failures: Some(4 + round as u32),
            ..Default::default()
        });
        if round % 5 != 0 {
            next = with_feature(next, "chat", 20 + round % 7);
        }
        if round % 2 == 0 {
            next = with_feature(next, "summary", 20);
        }
        handle.reload(next).expect("a good configuration");
        // Whatever is in flight is known to the new stack.
        let known: usize = handle.bulkhead().snapshot().iter().map(|load| load.in_flight).sum();
        assert!(known <= 20, "round {round}: {known}");
    }
    assert_eq!(load.whole_answers().await, 20 * 60);
    assert_eq!(reloads(&mut heard).len(), 100);
    for load in handle.bulkhead().snapshot() {
        assert_eq!((load.in_flight, load.queued), (0, 0), "{load:?}");
    }
    for count in counts {
        assert_eq!(count.stats().in_flight, 0);
    }
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
}

#[tokio::test(start_paused = true)]
async fn circuits_of_unchanged_tiers_keep_their_state_and_changed_ones_are_new() {
    let stack = Stack::from_config(config(&["a", "b", "c"])).unwrap();
    let handle = stack.handle();
    for circuit in handle.circuits().values() {
        circuit.force_open();
    }
    let mut next = config(&["d", "b", "a"]);
    // Its leaf is another.
    next.tiers[1].model = Some("another".into());
    // Neither the limits of time and attempts nor what is known of the model make it another.
    next.tiers[2].context_window = Some(1000);
    next.retry.max_attempts = Some(5);
    let reload = handle.reload(next).unwrap();
    let names = |names: &[std::sync::Arc<str>]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&reload.kept), ["a"]);
    assert_eq!(names(&reload.changed), ["d", "b"]);
    assert_eq!(names(&reload.removed), ["c"]);
    let states = handle.circuits().into_iter().map(|(name, circuit)| (name.to_string(), circuit.state()));
    let [open, closed] = [CircuitState::Open, CircuitState::Closed];
    assert_eq!(states.collect::<Vec<_>>(), [("a".into(), open), ("b".into(), closed), ("d".into(), closed)]);
    assert_eq!(tier_of(&stack.service(), ask("chat")).await, "d");

    // A circuit breaker with other settings is another one.
    let mut next = handle.config().as_ref().clone();
    next.circuit_breaker.consecutive_failures = Some(9);
    assert_eq!(handle.reload(next).unwrap().kept.len(), 0);
    assert_eq!(handle.circuit("a").unwrap().state(), closed);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_that_is_kept_spares_a_provider_that_is_down() {
    let down = Simulated::new("a").fault_mix(Fault::ServerError);
    let calls = down.handle();
    let stack = Stack::builder().leaf("a", down).seed(1).build(config(&["a", "b"])).unwrap();
    let llm = stack.service();
    while stack.handle().circuit("a").unwrap().state() == CircuitState::Closed {
        assert_eq!(tier_of(&llm, ask("chat")).await, "b");
    }
    let before = calls.stats().calls;
    for limit in 1..10 {
        stack.handle().reload(with_feature(config(&["a", "b"]), "chat", limit)).unwrap();
        assert_eq!(tier_of(&llm, ask("chat")).await, "b");
    }
    assert_eq!(calls.stats().calls, before);
    calls.heal();
    sleep(60 * SECOND).await;
    assert_eq!(tier_of(&llm, ask("chat")).await, "a", "and it comes back in its time");
}

#[tokio::test(start_paused = true)]
async fn limits_are_followed_at_once_and_count_what_is_in_flight() {
    let slow = Simulated::new("a").latency(SECOND);
    let limit = |limit| with_feature(config(&["a"]), "chat", limit);
    let stack = Stack::builder().leaf("a", slow).build(limit(2)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let begin = || tokio::spawn(llm.clone().oneshot(ask("chat")));
    let first = [begin(), begin()];
    tokio::task::yield_now().await;
    let full = async || llm.clone().oneshot(ask("chat")).await.unwrap_err().kind();
    assert_eq!(full().await, ErrorKind::BulkheadFull);

    handle.reload(limit(3)).unwrap();
    assert_eq!((handle.bulkhead().in_flight("chat"), handle.bulkhead().limit("chat")), (2, 3));
    let third = begin();
    tokio::task::yield_now().await;
    assert_eq!(full().await, ErrorKind::BulkheadFull, "one more, and not three");

    handle.reload(limit(1)).unwrap();
    assert_eq!(full().await, ErrorKind::BulkheadFull);
    for call in first.into_iter().chain([third]) {
        assert!(call.await.unwrap().is_ok(), "a lower limit interrupts nobody");
    }
    assert!(llm.clone().oneshot(ask("chat")).await.is_ok());

    // By hand, until the file says something else.
    handle.bulkhead().set_limit("chat", 0).unwrap();
    handle.reload(with_feature(limit(1), "summary", 3)).unwrap();
    assert_eq!(full().await, ErrorKind::BulkheadFull);
    handle.reload(limit(2)).unwrap();
    assert!(llm.clone().oneshot(ask("chat")).await.is_ok());

    // A feature that goes away shares the places of all others.
    handle.reload(config(&["a"])).unwrap();
    assert!(handle.bulkhead().set_limit("chat", 1).is_err());
    assert_eq!(handle.bulkhead().limit("chat"), 20_000);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_wrong_is_refused_and_the_old_one_goes_on() {
    let stack =
        Stack::builder().environment(Environment::default()).build(with_feature(config(&["a"]), "chat", 5)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let mut heard = handle.events().subscribe();
    let before = handle.config();
    let mut wrong = with_feature(config(&["a", "gpt"]), "chat", 1);
    wrong.tiers[1].provider = steadfast_stack::Provider::OpenAi;
    let error = handle.reload(wrong).unwrap_err();
    assert!(error.to_string().contains("tiers.gpt.api_key"), "{error}");
    // Wrong only once the tiers are known.
    let mut wrong = with_feature(config(&["a"]), "chat", 1);
    wrong.fallback.routes.insert("timeout".into(), vec!["nobody".into()]);
    assert!(handle.reload(wrong).is_err());
    match &reloads(&mut heard)[..] {
        [Event::ReloadRefused { problem, .. }, Event::ReloadRefused { .. }] => {
            assert!(problem.contains("OPENAI_API_KEY"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((handle.config(), handle.bulkhead().limit("chat")), (before, 5));
    assert_eq!(tier_of(&llm, ask("chat")).await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_begun_ends_where_it_began() {
    let stack = Stack::builder().leaf("a", provider("a", SECOND)).build(config(&["a"])).unwrap();
    let llm = stack.service();
    let (old, begun) = (llm.clone().oneshot(ask("chat").with_stream(true)).await.unwrap(), stack.handle());
    begun.reload(config(&["b"])).unwrap();
    assert_eq!(tier_of(&llm, ask("chat")).await, "b");
    assert_eq!(begun.bulkhead().in_flight("chat"), 1);
    assert_eq!(old.served_by().tier, Some("a"));
    assert_eq!(old.text().await.unwrap(), "All is well, as it was before.");
    assert_eq!(begun.bulkhead().in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_over_reloads_is_one_switch_and_one_recovery() {
    let a = Simulated::new("a");
    let sick = a.handle();
    let stack = Stack::builder().leaf("a", a).seed(1).build(config(&["a", "b"])).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let mut heard = handle.events().subscribe();
    assert_eq!(handle.status().active_tier, "a");
    sick.fail(Fault::Overloaded);
    for limit in 1..10 {
        assert_eq!(tier_of(&llm, ask("chat")).await, "b");
        handle.reload(with_feature(config(&["a", "b"]), "chat", limit)).unwrap();
        sleep(10 * SECOND).await;
    }
    assert_eq!(handle.status().active_tier, "b");
    sick.heal();
    sleep(60 * SECOND).await;
    assert_eq!(tier_of(&llm, ask("chat")).await, "a");
    let mut told = Vec::new();
    while let Ok(event) = heard.try_recv() {
        match event {
            Event::ModelSwitched { .. } => told.push("switched"),
            Event::ModelRecovered { after, .. } => {
                assert!(after > 90 * SECOND, "{after:?}");
                told.push("recovered");
            }
            _ => {}
        }
    }
    assert_eq!(told, ["switched", "recovered"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_worked_is_known_to_have_worked() {
    let a = Simulated::new("a");
    let sick = a.handle();
    let stack = Stack::builder().leaf("a", a).build(config(&["a", "b"])).unwrap();
    let llm = stack.service();
    assert_eq!(tier_of(&llm, ask("chat")).await, "a");
    stack.handle().reload(with_feature(config(&["a", "b"]), "chat", 3)).unwrap();
    sick.fail(Fault::Unauthorized);
    assert_eq!(tier_of(&llm, ask("chat")).await, "b", "an outage, and not a wrong key");
}

#[tokio::test(start_paused = true)]
async fn sessions_stay_with_their_tier() {
    let pinned = |tiers: &[&str]| {
        let mut config = config(tiers);
        config.fallback.session = Some(steadfast_stack::Session::Pin);
        config
    };
    let stack = Stack::from_config(pinned(&["a", "b"])).unwrap();
    let llm = stack.service();
    let mine = || ask("chat").with_session("mine");
    assert_eq!(tier_of(&llm, mine()).await, "a");
    stack.handle().reload(pinned(&["b", "a"])).unwrap();
    assert_eq!(tier_of(&llm, mine()).await, "a", "whatever its place is now");
    assert_eq!(tier_of(&llm, ask("chat").with_session("other")).await, "b");
}

#[tokio::test(start_paused = true)]
async fn a_pinned_level_stays_over_reloads() {
    let ladder = || {
        let mut config = config(&["full", "small"]);
        config.tiers[1].level = Some(3);
        config
    };
    let stack = Stack::from_config(ladder()).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    handle.pin_level(Some(2));
    assert_eq!(tier_of(&llm, ask("chat")).await, "small");
    handle.reload(with_feature(ladder(), "chat", 2)).unwrap();
    assert_eq!((tier_of(&llm, ask("chat")).await.as_str(), handle.pinned_level()), ("small", Some(2)));
    handle.pin_level(None);
    assert_eq!((tier_of(&llm, ask("chat")).await.as_str(), handle.pinned_level()), ("full", None));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stack_leaves_no_task_and_closes_its_events() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let stack = Stack::from_config(config(&["a"])).unwrap();
    let handle: StackHandle = stack.handle();
    handle.status();
    let mut heard = handle.events().subscribe();
    let answer: LlmResponse = stack.service().oneshot(ask("chat").with_stream(true)).await.unwrap();
    drop((stack, handle));
    assert!(answer.collect().await.is_ok(), "an answer needs none of it");
    let told = heard.try_recv().unwrap();
    assert!(matches!(told, Event::RequestEnded(ended) if ended.outcome == RequestOutcome::Answered));
    tokio::task::yield_now().await;
    assert_eq!(heard.try_recv().unwrap_err(), TryRecvError::Closed);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
}

#[tokio::test(start_paused = true)]
async fn a_time_of_a_feature_is_followed_at_once() {
    let hangs = Simulated::new("a").fault_mix(Fault::Hang);
    let stack = Stack::builder().leaf("a", hangs).build(config(&["a"])).unwrap();
    let mut next = config(&["a"]);
    next.features.insert("chat".into(), Feature { timeout: Some(Span(2 * SECOND)), ..Feature::default() });
    stack.handle().reload(next).unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(stack.service().oneshot(ask("chat")).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed(), 2 * SECOND);
}

mod of_a_file {
    use std::{
        fs,
        path::{Path, PathBuf},
        sync::atomic::{AtomicU32, Ordering},
    };

    use tokio::time::timeout;

    use super::*;

    /// A folder that is removed with its contents.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let name = format!("steadfast-reload-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).expect("a folder for temporary files");
            Self(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(path: &Path, limit: usize) {
        let text =
            format!("tiers: [{{ name: a, provider: simulated }}]\nfeatures: {{ chat: {{ concurrency: {limit} }} }}\n");
        fs::write(path, text).unwrap();
    }

    /// Replaces the file as editors do it: a new file, moved into the old one's place.
    fn put_in_place(folder: &Folder, path: &Path, limit: usize) {
        let new = folder.path(".new.yaml");
        write(&new, limit);
        fs::rename(new, path).unwrap();
    }

    /// The next event about a reload. It is the file system that tells of changes, so the wait is real, and bounded.
    async fn next(heard: &mut Receiver<Event>) -> Event {
        let next = async {
            loop {
                let event = heard.recv().await.expect("the stack is there");
                if matches!(event, Event::Reloaded { .. } | Event::ReloadRefused { .. }) {
                    return event;
                }
            }
        };
        timeout(20 * SECOND, next).await.expect("a change of the file is seen")
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_wrong_or_gone_is_refused_and_the_old_stack_goes_on() {
        let folder = Folder::new();
        let path = folder.path("steadfast.yaml");
        write(&path, 3);
        let stack = Stack::from_path(&path).unwrap();
        let handle = stack.handle();
        let mut heard = handle.events().subscribe();
        write(&path, 4);
        assert_eq!(handle.reload_from_path().unwrap().kept.len(), 1);
        assert_eq!(handle.bulkhead().limit("chat"), 4);

        fs::write(&path, "tiers: [{ name: a, provider: simulated }]\nfeatures: { chat: { concurency: 5 } }\n").unwrap();
        let error = handle.reload_from_path().unwrap_err();
        assert_eq!((error.problems()[0].line, error.problems()[0].suggestion.as_deref()), (2, Some("concurrency")));
        fs::remove_file(&path).unwrap();
        let error = handle.reload_from_path().unwrap_err();
        assert_eq!(error.problems()[0].file.as_deref(), Some(&*path));
        match &reloads(&mut heard)[..] {
            [
                Event::Reloaded { kept: 1, changed: 0, .. },
                Event::ReloadRefused { .. },
                Event::ReloadRefused { problem, .. },
            ] => {
                assert!(problem.contains("there is no such file"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(handle.bulkhead().limit("chat"), 4);
        assert_eq!(tier_of(&stack.service(), ask("chat")).await, "a");
    }

    #[test]
    fn a_missing_key_is_told_with_the_file() {
        let folder = Folder::new();
        let path = folder.path("steadfast.yaml");
        fs::write(&path, "tiers: [{ name: a, provider: openai, model: m }]").unwrap();
        let error = Stack::builder().environment(Environment::default()).load(&path).unwrap_err();
        assert_eq!(error.problems()[0].variable.as_deref(), Some("OPENAI_API_KEY"));
        assert_eq!(error.problems()[0].file.as_deref(), Some(&*path));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stack_without_a_file_has_nothing_to_read_again() {
        let handle = Stack::from_config(config(&["a"])).unwrap().handle();
        assert!(handle.reload_from_path().is_err() && handle.watch().is_err());
    }

    #[tokio::test]
    async fn a_watched_file_is_followed_through_edits_errors_and_absence() {
        let folder = Folder::new();
        let path = folder.path("steadfast.yaml");
        write(&path, 3);
        let stack = Stack::from_path(&path).unwrap();
        let handle = stack.handle();
        let mut heard = handle.events().subscribe();
        // Before anybody watches: it is noticed with the first look.
        write(&path, 4);
        let watching = handle.watch().unwrap();
        assert!(matches!(next(&mut heard).await, Event::Reloaded { .. }));
        assert_eq!(handle.bulkhead().limit("chat"), 4);

        put_in_place(&folder, &path, 5);
        assert!(matches!(next(&mut heard).await, Event::Reloaded { .. }));
        assert_eq!(handle.bulkhead().limit("chat"), 5);

        fs::write(&path, "tiers: []").unwrap();
        assert!(matches!(next(&mut heard).await, Event::ReloadRefused { .. }));
        fs::remove_file(&path).unwrap();
        assert!(matches!(next(&mut heard).await, Event::ReloadRefused { .. }));
        assert_eq!(handle.bulkhead().limit("chat"), 5);

        write(&path, 6);
        assert!(matches!(next(&mut heard).await, Event::Reloaded { .. }));
        assert_eq!(handle.bulkhead().limit("chat"), 6);
        // Each was told once, however many steps it had.
        assert_eq!(heard.try_recv().unwrap_err(), TryRecvError::Empty);
        drop(watching);
    }

    /// Somebody reloads between two changes, and the second change takes back the first.
    #[tokio::test]
    async fn a_change_that_is_taken_back_is_seen_although_somebody_else_has_loaded_it() {
        let folder = Folder::new();
        let path = folder.path("steadfast.yaml");
        write(&path, 3);
        let stack = Stack::from_path(&path).unwrap();
        let handle = stack.handle();
        let mut heard = handle.events().subscribe();
        let _watching = handle.watch().unwrap();
        put_in_place(&folder, &path, 4);
        assert!(matches!(next(&mut heard).await, Event::Reloaded { .. }));

        put_in_place(&folder, &path, 5);
        handle.reload_from_path().unwrap();
        put_in_place(&folder, &path, 4);
        assert!(matches!(next(&mut heard).await, Event::Reloaded { .. }));
        assert_eq!(handle.bulkhead().limit("chat"), 5);
        assert!(matches!(next(&mut heard).await, Event::Reloaded { .. }));
        assert_eq!(handle.bulkhead().limit("chat"), 4);
    }

    /// A reload as Kubernetes does it: the file is a link into a folder that is a link, which is turned to another.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_folder_that_is_turned_to_another_is_seen() {
        use std::os::unix::fs::symlink;

        let folder = Folder::new();
        for (version, limit) in [("..v1", 3), ("..v2", 7)] {
            fs::create_dir(folder.path(version)).unwrap();
            write(&folder.path(version).join("steadfast.yaml"), limit);
        }
        symlink("..v1", folder.path("..data")).unwrap();
        symlink("..data/steadfast.yaml", folder.path("steadfast.yaml")).unwrap();
        let stack = Stack::from_path(folder.path("steadfast.yaml")).unwrap();
        let handle = stack.handle();
        let mut heard = handle.events().subscribe();
        let _watching = handle.watch().unwrap();
        symlink("..v2", folder.path("..tmp")).unwrap();
        fs::rename(folder.path("..tmp"), folder.path("..data")).unwrap();
        assert!(matches!(next(&mut heard).await, Event::Reloaded { .. }));
        assert_eq!(handle.bulkhead().limit("chat"), 7);
    }
}

/// Threads that call while another reloads: what is counted over all reloads comes out even.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn threads_that_call_while_others_reload_lose_nothing() {
    let stack =
        Stack::builder().leaf("a", Simulated::new("a")).build(with_feature(config(&["a", "b"]), "chat", 9)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let mut llm = llm.clone();
        calls.spawn(async move {
            for number in 0..2000 {
                let request = ask(["chat", "other"][number % 2]).with_stream(number % 3 == 0);
                let answer = llm.ready().await.unwrap().call(request).await.expect("no request is lost");
                answer.collect().await.expect("a whole answer");
                tokio::task::yield_now().await;
            }
        });
    }
    for round in 0..200 {
        let next =
            if round % 3 == 0 { config(&["b", "a"]) } else { with_feature(config(&["a"]), "chat", 8 + round % 5) };
        handle.reload(next).unwrap();
        tokio::task::yield_now().await;
    }
    while let Some(ended) = calls.join_next().await {
        ended.expect("no call fails");
    }
    for load in handle.bulkhead().snapshot() {
        assert_eq!((load.in_flight, load.queued), (0, 0), "{load:?}");
    }
}
