//! Fifty honest callers and five hostile ones before providers of which one is half broken, as OpenAI's was for fifteen
//! hours in June 2025: 5 % of its calls fail, and 25 % at the peak.
//!
//! It takes a minute, or as many seconds as `STEADFAST_SOAK_SECONDS` says. In turns the hostile are at work and are
//! not, so that what else goes on in the machine weighs on both alike.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    OPENAI, World,
    acts::{self, Acts, CHAT, MESSAGES},
    figures::{Figures, Side, Times},
    has_subscribers,
};
use crate::{Client, SOON, size};

const HONEST: usize = 50;
const HOSTILE: usize = 5;

/// An ordinary key's limits.
const LIMITS: &str =
    ", requests_per_minute: 600, tokens_per_minute: 2000000, concurrency: 10, budget: { usd: 100, period: day }";

/// The gateway's memory, in mebibytes.
const MEMORY: usize = 512;

/// The share of calls in a hundred that fail, and whether the hostile are at work: over and over.
const PHASES: [(u64, bool); 4] = [(5, false), (5, true), (25, true), (25, false)];

/// Between two phases, for what is under way to end. What begins then is counted in neither.
const PAUSE: Duration = Duration::from_secs(1);

/// The phases of so many seconds, and how long each is.
fn phases(seconds: u64) -> (Vec<(u64, bool)>, Duration) {
    let rounds = (seconds / 60).max(2);
    let phases: Vec<_> = (0..rounds).flat_map(|_| PHASES).collect();
    let length = Duration::from_secs(seconds) / u32::try_from(phases.len()).unwrap();
    (phases, length.saturating_sub(PAUSE))
}

/// The state that all callers share.
struct Stage {
    address: String,
    /// The side on which is counted what begins now.
    side: AtomicUsize,
    is_over: AtomicBool,
}

/// Sides: without the hostile, with them, and between the two.
const WITHOUT: usize = 0;
const WITH: usize = 1;
const BETWEEN: usize = 2;

impl Stage {
    fn side(&self) -> usize {
        self.side.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// An honest caller: both dialects, streams and whole answers, and a little time between two.
async fn honest(stage: Arc<Stage>, number: usize) -> [Side; 3] {
    let mut random = Rng::with_seed(number as u64);
    let mut sides = <[Side; 3]>::default();
    let name = format!("honest-{number}");
    let mut client = None;
    while !stage.is_over() {
        sleep(Duration::from_millis(random.u64(50..250))).await;
        let (path, to) = *random.choice(&[(MESSAGES, ""), (CHAT, ""), (CHAT, OPENAI)]).unwrap();
        let sent = if random.bool() { acts::plain(path, to) } else { acts::stream(path, to) };
        let side = stage.side();
        let begun = Instant::now();
        let asking = async {
            let client: &mut Client = match &mut client {
                Some(client) => client,
                none => none.insert(Client::connect(&stage.address).await?),
            };
            client.send(sent.bytes(&name)).await?;
            client.answer().await
        };
        let answered = timeout(Duration::from_secs(60), asking).await;
        match answered {
            Ok(Ok(answer)) if answer.is_whole() => sides[side].honest.add(begun.elapsed()),
            lost => {
                client = None;
                sides[side].lost.push(format!("{lost:?} after {:?}", begun.elapsed()));
            }
        }
    }
    sides
}

/// A hostile caller: one act after the other, of all that there are.
async fn hostile(stage: Arc<Stage>, acts: Arc<Acts>, number: usize) -> Vec<(&'static str, acts::Told)> {
    let mut random = Rng::with_seed(1_000 + number as u64);
    let mut told = Vec::new();
    let name = format!("hostile-{number}");
    while !stage.is_over() {
        if stage.side() == WITH {
            told.push(acts.one(&stage.address, &name, &mut random).await);
        }
        sleep(Duration::from_millis(50)).await;
    }
    told
}

/// Asks for a sign of life forty times a second, each time on a new connection, on a thread of its own.
fn signs_of_life(stage: &Stage) -> [Times; 3] {
    let mut times = <[Times; 3]>::default();
    while !stage.is_over() {
        let (side, begun) = (stage.side(), Instant::now());
        let mut connection = TcpStream::connect(&stage.address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
        times[side].add(begun.elapsed());
        thread::sleep(Duration::from_millis(25));
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a minute, or as long as it is told to"]
async fn the_honest_do_not_feel_the_hostile() {
    let seconds = std::env::var("STEADFAST_SOAK_SECONDS").map_or(64, |seconds| seconds.parse().unwrap());
    let (phases, length) = phases(seconds);
    let honest_keys = (0..HONEST).map(|number| (format!("honest-{number}"), ""));
    let hostile_keys = (0..HOSTILE).map(|number| (format!("hostile-{number}"), LIMITS));
    let keys: Vec<_> = honest_keys.chain(hostile_keys).chain([("honest".to_owned(), "")]).collect();
    let mut world = World::start(&keys, &gateway());
    assert_eq!(world.serves_honest().await, ["sonnet", "gpt"]);
    let (before, _) = world.memory();
    let stage = Arc::new(Stage {
        address: world.address().to_owned(),
        side: AtomicUsize::new(BETWEEN),
        is_over: AtomicBool::new(false),
    });
    let acts = Arc::new(Acts::new());
    let life = thread::spawn({
        let stage = stage.clone();
        move || signs_of_life(&stage)
    });
    let (mut honest_callers, mut hostile_callers) = (JoinSet::new(), JoinSet::new());
    for number in 0..HONEST {
        honest_callers.spawn(honest(stage.clone(), number));
    }
    for number in 0..HOSTILE {
        hostile_callers.spawn(hostile(stage.clone(), acts.clone(), number));
    }
    for (failing, is_hostile) in phases {
        // The speed of a quick model.
        world.provider.act(200, failing);
        stage.side.store(if is_hostile { WITH } else { WITHOUT }, Ordering::Relaxed);
        sleep(length).await;
        stage.side.store(BETWEEN, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
    stage.is_over.store(true, Ordering::Relaxed);
    let mut figures = Figures { seconds, ..Figures::default() };
    for sides in honest_callers.join_all().await {
        let [without, with, between] = sides;
        figures.without.add(&without);
        figures.with.add(&with);
        figures.with.lost.extend(between.lost);
    }
    let [without, with, between] = life.join().unwrap();
    figures.without.healthz.extend(&without);
    figures.with.healthz.extend(&with);
    figures.with.healthz.extend(&between);
    for (name, told) in hostile_callers.join_all().await.into_iter().flatten() {
        *figures.acts.entry(name).or_default() += told;
    }
    (figures.opened, figures.provider) = (world.opened(), world.provider.stats());
    // It is to stop while the hostile are at work.
    let mut last = JoinSet::new();
    for number in 0..HOSTILE {
        let (acts, address, mut random) = (acts.clone(), stage.address.clone(), Rng::with_seed(number as u64));
        last.spawn(async move {
            while acts.one(&address, &format!("hostile-{number}"), &mut random).await.1.requests > 0 {}
        });
    }
    sleep(Duration::from_secs(1)).await;
    world.signal("-TERM");
    figures.heard = has_subscribers(&stage.address).await;
    last.shutdown().await;
    figures.memory = world.memory().1;
    println!("{figures}\n{}", figures.json());
    // The gateway does not wait for work that no caller waits for.
    world.signal("-TERM");
    let log = world.gateway.into_inner().ran().err;
    assert!(!log.contains("panicked"), "{log}");
    let lost: Vec<&String> = figures.without.lost.iter().chain(&figures.with.lost).collect();
    assert!(lost.is_empty(), "{} lost: {:#?}", lost.len(), &lost[..lost.len().min(5)]);
    // One tier is half broken, the other well; neither refuses a key or a quota, and both agree about who is mistaken.
    let by_failures = |labels: &str| {
        labels.contains(r#"tier="sonnet""#)
            && [r#"reason="failures""#, r#"reason="probe_failed""#].iter().any(|reason| labels.contains(reason))
    };
    assert!(figures.opened.iter().all(|(labels, _)| by_failures(labels)), "{:?}", figures.opened);
    assert!(figures.memory < before + MEMORY * 1024, "{before} kB before, {} kB at most", figures.memory);
    // Times are promised of a release build, on a machine with nothing else to do, over as long as somebody asks for.
    if std::env::var_os("STEADFAST_SOAK_SECONDS").is_some() && !cfg!(debug_assertions) {
        assert!(figures.ratio() <= 1.3, "p99 is {:.2} times that without the hostile", figures.ratio());
        let late = figures.with.healthz.over(Duration::from_millis(50));
        assert!(late * 1000 <= figures.with.healthz.count(), "{late} signs of life took more than 50 ms");
        assert!(figures.heard < Duration::from_secs(1), "SIGTERM was heard after {:?}", figures.heard);
    }
}

fn gateway() -> String {
    format!("memory: {MEMORY}MiB")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it keeps a machine busy"]
async fn the_gateway_receives_a_signal_during_each_hostile_act() {
    let acts = Arc::new(Acts::new());
    let mut wrong = Vec::new();
    for (name, sent) in acts.all() {
        let world = World::of_two("", "");
        let address = world.address().to_owned();
        let mut acting = JoinSet::new();
        for sent in sent.iter().cycle().take(10) {
            let (sent, address) = (sent.clone(), address.clone());
            acting.spawn(async move { sent.act(&address, "hostile", Duration::from_secs(60)).await });
        }
        sleep(Duration::from_millis(300)).await;
        world.signal("-TERM");
        let heard = has_subscribers(&address).await;
        println!("{name}: heard after {heard:?}");
        // A second is promised of a release build.
        let most = if cfg!(debug_assertions) { SOON } else { Duration::from_secs(1) };
        if size(0, 1) == 1 && heard > most {
            wrong.push(format!("{name}: {heard:?}"));
        }
        acting.shutdown().await;
        drop(world);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
