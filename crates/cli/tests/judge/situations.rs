//! The situations. Each is one for a client alone and for a client through the gateway.

use std::{pin::Pin, sync::Arc, time::Duration};

use steadfast::providers::simulated::Fault;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::sleep,
};

use crate::{
    manner::Manner,
    names::Answering,
    plan::{Call, Plan, at_once, every},
    provider::{A_BAD_REQUEST, EIGHT_MEGABYTES, Network, Provider, Refusal, TAKE_YOUR_TIME},
    world::{File, Stage, Wire, World},
};

/// A promise of the gateway's, beside the one that every situation has: nobody is lost whom the provider alone serves,
/// nobody waits longer by more than two seconds, and nobody hears of an outage later than after ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// No other.
    NoWorse,
    /// The provider sees no more calls than from the client alone.
    NoMoreCalls,
    /// Whoever is refused alone reads the same words.
    SameWords,
    /// Every call is served, though the client alone is lost; at most one waits for more than ten seconds.
    Served,
    /// The same of every call but the first, whose caller is impatient.
    ServedNext,
}

type Happening = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The providers' trouble while a client follows its plan.
pub(crate) struct Situation {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) plan: Plan,
    pub(crate) promise: Promise,
    /// True if it takes longer than a test that everybody runs may take.
    pub(crate) is_long: bool,
    /// True if its clients are agents, whose calls take seconds.
    pub(crate) is_for_agents: bool,
    happens: Box<dyn Fn(Arc<World>) -> Happening + Send + Sync>,
}

impl Situation {
    fn new<F>(name: impl Into<String>, plan: Plan, happens: impl Fn(Arc<World>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self {
            name: name.into(),
            stage: Stage { file: File::One, wire: Wire::Http2, replicas: 1, has_names: false },
            plan,
            promise: Promise::NoWorse,
            is_long: false,
            is_for_agents: false,
            happens: Box::new(move |world| Box::pin(happens(world))),
        }
    }

    fn file(mut self, file: File) -> Self {
        self.stage.file = file;
        self
    }

    fn http1(mut self) -> Self {
        self.stage.wire = Wire::Http1;
        self
    }

    fn has_names(mut self) -> Self {
        self.stage.has_names = true;
        self
    }

    fn replicas(mut self, replicas: usize) -> Self {
        self.stage.replicas = replicas;
        self
    }

    fn promise(mut self, promise: Promise) -> Self {
        self.promise = promise;
        self
    }

    fn long(mut self) -> Self {
        self.is_long = true;
        self
    }

    /// Returns the number of other rows whose part of a processor it takes: each turn of an agent begins with a second.
    pub(crate) fn weight(&self) -> u32 {
        if self.is_for_agents { 5 } else { 1 }
    }

    /// Lets it happen.
    pub(crate) fn happens(&self, world: Arc<World>) -> Happening {
        (self.happens)(world)
    }

    /// Returns all of them.
    pub(crate) fn all() -> Vec<Self> {
        let all =
            [networks(), names(), connections(), streams(), keys_and_limits(), bad_requests(), stalls(), lasting()];
        all.into_iter().chain([bad_servers(), repeats(), agents()]).flatten().collect()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A network that is away for so many seconds, from the first call on, and callers at regular times until after it.
fn network(how: Network, away: u64) -> Situation {
    let word = if how == Network::Refused { "refused" } else { "reset" };
    // A call in the last second that a client alone hears of in time makes no difference.
    let step = (away as f64 / 12.0).max(0.5);
    let plan = Plan::new(every(step, 0.2, away as f64 + 4.0), 30);
    let situation = Situation::new(format!("network-{word}-{away}s"), plan, move |world| async move {
        let all = |network| world.providers.iter().for_each(|provider| provider.network(network));
        all(how);
        sleep(seconds(away)).await;
        all(Network::Here);
    });
    let situation = situation.file(File::Readme);
    if away > 6 { situation.long() } else { situation }
}

fn named(mut situation: Situation, end: &str) -> Situation {
    situation.name.push_str(end);
    situation
}

fn networks() -> Vec<Situation> {
    let mut all: Vec<Situation> = [Network::Refused, Network::Reset]
        .into_iter()
        .flat_map(|how| [1, 6, 15, 60].map(|away| network(how, away)))
        .collect();
    for how in [Network::Refused, Network::Reset] {
        all.push(named(network(how, 6).file(File::One), "-one-tier"));
        all.push(named(network(how, 6).http1(), "-http1"));
    }
    all
}

/// The names of providers that are away for six seconds, or come late, as all connections have ended.
fn names() -> Vec<Situation> {
    let named = |name: &str, answering: Answering| {
        let happens = move |world: Arc<World>| async move {
            let names = world.names.as_ref().unwrap();
            names.answer(answering);
            world.first().leave();
            sleep(seconds(6)).await;
            names.answer(Answering::AtOnce);
        };
        Situation::new(name, Plan::new(every(0.5, 0.2, 10.2), 30), happens)
    };
    // The restart takes its time, and a gateway that begins knows no address.
    let late = |world: Arc<World>| async move {
        world.names.as_ref().unwrap().answer(Answering::After(seconds(3)));
        world.restart().await;
    };
    let all = [
        named("dns-away", Answering::Failing),
        named("dns-silent", Answering::Never),
        Situation::new("dns-late-then-restart", Plan::new(every(0.5, 3.0, 6.0), 30), late),
    ];
    all.into_iter().map(|situation| situation.http1().has_names()).collect()
}

/// Twenty calls under way on one connection as it ends, and callers afterwards.
fn under_way(name: &str, end: impl Fn(&World) + Send + Sync + Copy + 'static) -> Situation {
    let mut calls = at_once(20, 0.1, "hello");
    calls.extend(every(1.0, 2.0, 7.0));
    Situation::new(name, Plan::new(calls, 20), move |world| async move {
        let script = world.first().script();
        script.latency(seconds(1));
        sleep(Duration::from_millis(800)).await;
        end(&world);
        script.latency(Duration::ZERO);
    })
}

fn connections() -> Vec<Situation> {
    let cut = |world: &World| world.first().cut();
    let refuse = |world: &World| world.first().refuse_streams();
    let replicas = {
        let happens = |world: Arc<World>| async move {
            world.first().script().latency(Duration::from_millis(300));
            sleep(seconds(1)).await;
            world.stop_one();
        };
        Situation::new("one-of-three-replicas-stops", Plan::new(every(0.1, 0.0, 5.0), 20), happens).replicas(3)
    };
    // A laptop that wakes, or whose VPN changes: what is connected is dead, and what connects is served.
    let wakes = |asleep: f64| {
        let mut calls = at_once(3, asleep, "hello");
        calls.extend(every(1.0, asleep + 1.5, asleep + 14.5));
        Situation::new("sleep-and-wake", Plan::new(calls, 30), |world| async move {
            world.providers.iter().for_each(Provider::freeze);
        })
    };
    vec![
        wakes(0.5),
        named(wakes(2.5).http1(), "-http1"),
        named(wakes(0.5).file(File::Readme), "-readme"),
        under_way("connection-ends", cut),
        named(under_way("connection-ends", cut).http1(), "-http1"),
        named(under_way("connection-ends", cut).file(File::Readme), "-readme"),
        named(under_way("connection-ends", cut).file(File::TwoModels), "-two-models"),
        under_way("goaway", |world| world.first().leave()),
        under_way("goaway-unprocessed", refuse),
        replicas,
    ]
}

fn streams() -> Vec<Situation> {
    let mut many = at_once(130, 0.1, TAKE_YOUR_TIME);
    many.extend(every(1.0, 1.0, 4.0));
    let readers = |world: Arc<World>| async move {
        let mut readers = Vec::new();
        for _ in 0..8 {
            readers.push(slow_reader(&world.target).await);
        }
        sleep(seconds(30)).await;
    };
    vec![
        Situation::new("streams-130", Plan::new(many, 25), |_| async {}).streamed(),
        Situation::new("slow-readers", Plan::new(every(1.0, 6.0, 10.0), 15), readers),
    ]
}

/// Asks for a large stream, reads its beginning, and then nothing.
async fn slow_reader(target: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    // Else the system would read for it.
    socket.set_recv_buffer_size(4096).ok()?;
    let mut stream = socket.connect(target.trim_start_matches("http://").parse().ok()?).await.ok()?;
    let body = format!(
        r#"{{"model":"claude-sonnet-4-5","max_tokens":100000,"stream":true,"messages":[{{"role":"user","content":"{EIGHT_MEGABYTES}"}}]}}"#
    );
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: server\r\nx-api-key: sk-key\r\nanthropic-version: 2023-06-01\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.ok()?;
    stream.read_u8().await.ok()?;
    Some(stream)
}

/// Anthropic's words of a limit that its customer has set or reached. They come as a 400.
const LIMITS: [(&str, &str); 2] = [
    (
        "usage-limit",
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}"#,
    ),
    (
        "credit-balance",
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}"#,
    ),
];

/// Anthropic's words for a model that is no longer there.
const RETIRED: &str =
    r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-3-5-sonnet-20240620"}}"#;

fn keys_and_limits() -> Vec<Situation> {
    let revoked = |world: Arc<World>| async move {
        world.first().script().fail(Fault::Unauthorized);
        world.restart().await;
    };
    // The restart takes its time on a busy machine.
    let revoked = Situation::new("key-revoked-then-restart", Plan::new(every(0.5, 6.0, 9.0), 15), revoked);
    let retired = |world: Arc<World>| async move {
        world.first().script().fail(Fault::Unavailable);
        world.providers[1].refuse(Refusal { status: 404, body: RETIRED });
    };
    let mut all = vec![
        revoked.file(File::Readme).promise(Promise::Served),
        Situation::new("retired-fallback", Plan::new(every(0.5, 0.2, 3.2), 15), retired)
            .file(File::Three)
            .promise(Promise::Served),
    ];
    for (name, body) in LIMITS {
        for (end, file) in [("", File::Readme), ("-imported", File::OnError("429, 500, 502, 503, timeout"))] {
            let refuse = move |world: Arc<World>| async move { world.first().refuse(Refusal { status: 400, body }) };
            let plan = Plan::new(every(0.5, 0.2, 3.2), 15);
            let limit = Situation::new(format!("{name}-as-400{end}"), plan, refuse).file(file);
            all.push(limit.promise(Promise::Served));
        }
    }
    all
}

fn stalls() -> Vec<Situation> {
    let silent = |fault: Fault| {
        move |world: Arc<World>| {
            let fault = fault.clone();
            async move { world.first().script().fail(fault) }
        }
    };
    let stall = |name, plan, fault| Situation::new(name, plan, silent(fault)).file(File::Readme);
    let all_different = |mut situation: Situation| {
        let calls = situation.plan.calls.iter_mut().enumerate();
        calls.for_each(|(number, call)| call.prompt = format!("question {number}"));
        named(situation, "-streamed").streamed()
    };
    // The README's limits are 30 s for an answer's beginning and 60 s within a stream. Whoever waits longer is served,
    // as all SDKs are by default; whoever leaves earlier is lost at the provider alone too, but only once.
    let of = |patience: u32| {
        let next = f64::from(patience) + 1.2;
        Plan::new([every(1.0, 0.2, 0.2), every(1.0, next, next + 1.0)].concat(), patience.into())
    };
    let before = "silent-before-the-first-token";
    let within = "silent-in-the-stream";
    let left = |situation: Situation| named(situation, "-impatient").promise(Promise::ServedNext);
    vec![
        stall(before, of(40), Fault::Hang).promise(Promise::Served).long(),
        all_different(stall(before, of(40), Fault::Hang)).promise(Promise::Served).long(),
        stall(within, Plan::new(every(1.0, 0.2, 0.2), 70), Fault::StallAfter(3))
            .streamed()
            .promise(Promise::Served)
            .long(),
        left(stall(before, of(12), Fault::Hang)),
        left(all_different(stall(before, of(16), Fault::Hang))),
        left(stall(within, of(14), Fault::StallAfter(3)).streamed()),
    ]
}

fn lasting() -> Vec<Situation> {
    let limited = Fault::RateLimited { retry_after: Some(seconds(2)) };
    let faults = [("429", limited), ("503", Fault::Unavailable), ("529", Fault::Overloaded)];
    let lasting = |name: String, fault: Fault, calls| {
        let fails = move |world: Arc<World>| {
            let fault = fault.clone();
            async move { world.providers.iter().for_each(|provider| provider.script().fail(fault.clone())) }
        };
        Situation::new(name, Plan::new(calls, 40), fails)
    };
    let mut all = Vec::new();
    for (status, fault) in faults {
        let one = lasting(format!("calls-{status}"), fault.clone(), every(1.0, 0.2, 0.2));
        all.push(one.promise(Promise::NoMoreCalls));
        let many = lasting(format!("lasting-{status}"), fault.clone(), every(1.0, 0.2, 8.2));
        all.push(many.promise(Promise::NoMoreCalls));
        let readme = lasting(format!("lasting-{status}-readme"), fault, every(1.0, 0.2, 8.2)).file(File::Readme);
        all.push(readme);
    }
    all
}

/// Servers that treat their connections badly. Most clients alone speak HTTP/1.1, where only some of it can be.
fn bad_servers() -> Vec<Situation> {
    let manners = [
        ("no-streams", Manner::NoStreams),
        ("one-call-a-connection", Manner::OneCall),
        ("goaway-with-every-answer", Manner::Goaway),
        ("first-write-reset", Manner::FirstWrite),
    ];
    let behaves = |(name, manner)| {
        let behave = move |world: Arc<World>| async move { world.first().behave(manner) };
        Situation::new(format!("server-{name}"), Plan::new(every(0.5, 0.5, 5.0), 15), behave)
    };
    let mut all: Vec<_> = manners.into_iter().map(behaves).collect();
    all.extend(manners.into_iter().skip(1).map(|manner| named(behaves(manner).http1(), "-http1")));
    all
}

/// A caller who repeats one request a hundred times, while the provider fails for three seconds, or for good.
fn repeats() -> Vec<Situation> {
    let fails = |lasts: Duration| {
        move |world: Arc<World>| async move {
            world.first().script().fail(Fault::Unavailable);
            sleep(lasts).await;
            world.first().script().heal();
        }
    };
    let plan = Plan::new(every(0.1, 0.0, 9.9), 30);
    [("for-three-seconds", 3), ("for-good", 60)]
        .into_iter()
        .map(|(name, lasts)| {
            let situation =
                Situation::new(format!("a-hundred-repeats-failing-{name}"), plan.clone(), fails(seconds(lasts)));
            situation.promise(Promise::NoMoreCalls)
        })
        .collect()
}

/// Requests that are bad by themselves, all different, from callers that cannot be told apart.
fn bad_requests() -> Vec<Situation> {
    let bad = |number| Call { at: 0.2 + 0.1 * f64::from(number), prompt: format!("{A_BAD_REQUEST} {number}") };
    let mut calls: Vec<_> = (0..30).map(bad).collect();
    calls.extend(every(0.5, 0.7, 5.7));
    let credit = move |world: Arc<World>| async move { world.first().refuse(Refusal { status: 400, body: CREDIT }) };
    vec![
        Situation::new("bad-requests", Plan::new(calls, 15), |_| async {}).promise(Promise::SameWords),
        Situation::new("credit-in-an-ordinary-400", Plan::new(every(0.5, 0.2, 3.2), 15), credit)
            .file(File::Readme)
            .promise(Promise::SameWords),
    ]
}

/// Turns of agents, which repeat much and long by themselves.
fn agents() -> Vec<Situation> {
    let away = |away: u64, step: f64| {
        let plan = Plan::new(every(step, 0.2, 0.2 + step), 60);
        let happens = move |world: Arc<World>| async move {
            let all = |network| world.providers.iter().for_each(|provider| provider.network(network));
            all(Network::Reset);
            sleep(seconds(away)).await;
            all(Network::Here);
        };
        Situation::new(format!("agent-network-reset-{away}s"), plan, happens).file(File::Readme)
    };
    // An agent takes its time to begin: the connection ends once the turns are under way, or soon.
    let cut = |world: Arc<World>| async move {
        let before = world.first().calls();
        world.first().script().latency(seconds(5));
        for _ in 0..100 {
            sleep(Duration::from_millis(100)).await;
            if world.first().calls() >= before + 2 {
                break;
            }
        }
        world.first().cut();
        world.first().script().latency(Duration::ZERO);
    };
    let fails = |fault: Fault| {
        move |world: Arc<World>| {
            let fault = fault.clone();
            async move { world.first().script().fail(fault) }
        }
    };
    let refuse = |world: Arc<World>| async move {
        let (_, body) = LIMITS[0];
        world.first().refuse(Refusal { status: 400, body });
    };
    let few = || Plan::new(every(2.0, 0.2, 2.2), 40);
    let all = [
        away(6, 3.0),
        away(15, 8.0),
        Situation::new("agent-connection-ends", Plan::new(at_once(2, 0.1, "hello"), 40), cut),
        Situation::new("agent-key-revoked", few(), fails(Fault::Unauthorized))
            .file(File::Readme)
            .promise(Promise::Served),
        Situation::new("agent-usage-limit-as-400", few(), refuse).file(File::Readme).promise(Promise::Served),
        Situation::new("agent-stall", Plan::new(every(1.0, 0.2, 0.2), 100), fails(Fault::StallAfter(3)))
            .file(File::Readme)
            .promise(Promise::Served)
            .long(),
    ];
    all.into_iter().map(|situation| Situation { is_for_agents: true, ..situation }).collect()
}

/// A bad request that has a word of a limit.
const CREDIT: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"tools.0.input_schema: credit: a number was expected"}}"#;

impl Situation {
    fn streamed(mut self) -> Self {
        self.plan = self.plan.streamed();
        self
    }
}
