//! See `README.md` for how to run this and how it measures.

use std::{
    env,
    error::Error,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use steadfast_gateway_bench::{
    contestants::{self, Contestant, Measured as HowMuch, STEADFAST},
    dialect::{Dialect, Mode},
    instructions::{self, CALLGRIND},
    load::{Load, Shape, Target},
    measure::{Row, Timing},
    process::{CORE, RIG_CORE, cores},
    provider::Provider,
    report,
    result::Measured,
    rig::Rig,
    soak, training, trials,
};

const USE: &str =
    "use: gateway-load [all | load | trials | soak | instructions | train | provider | show FILE | ask ADDRESS plain|stream CONNECTIONS REQUESTS]
    [--only NAME;NAME] [--rounds N] [--seconds N] [--soak N] [--up] [--latency MS] [--pace MS] [--json FILE]";

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read(env::args().skip(1))?;
    if let ("show", [file]) = (options.action.as_str(), &options.arguments[..]) {
        print!("{}", report::markdown(&Measured::read(Path::new(file))?));
        return Ok(());
    }
    if env::var_os(PINNED).is_none() {
        let alone = cores() < 2;
        if alone && !["instructions", "train", "provider", "ask"].contains(&options.action.as_str()) {
            return Err("skipped: this machine has one core, and what is measured needs one besides the load's; \
                        `instructions` runs here"
                .into());
        }
        let steadfast = match (env::var_os("STEADFAST_BIN"), options.action.as_str()) {
            (Some(binary), _) => PathBuf::from(binary),
            (None, "provider" | "ask") => PathBuf::new(),
            (None, _) => build()?,
        };
        // The load and the provider on one core, what is measured on the other.
        let me = env::current_exe()?;
        let error = Command::new("taskset")
            .args(["-c", if alone { CORE } else { RIG_CORE }])
            .arg(me)
            .args(env::args_os().skip(1))
            .env(PINNED, "1")
            .env("STEADFAST_BIN", steadfast)
            .exec();
        return Err(format!("taskset: {error}; two cores are needed").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

/// Set in the process that is on its core.
const PINNED: &str = "GATEWAY_LOAD_PINNED";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Builds steadfast as it is shipped.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let built = Command::new(root().join("packaging/build")).stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err("steadfast does not build".into());
    }
    Ok(PathBuf::from(String::from_utf8(built.stdout)?.trim_end()))
}

struct Options {
    action: String,
    arguments: Vec<String>,
    only: Option<Vec<String>>,
    rounds: usize,
    seconds: f64,
    soak: u64,
    up: bool,
    /// Until the provider's first byte, and between two pieces of a stream.
    latency: Duration,
    pace: Duration,
    json: Option<PathBuf>,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            action: String::new(),
            arguments: Vec::new(),
            only: None,
            rounds: 3,
            seconds: 2.0,
            soak: 300,
            up: false,
            latency: Duration::ZERO,
            pace: Duration::ZERO,
            json: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(USE);
            match argument.as_str() {
                "--only" => options.only = Some(value()?.split(';').map(|name| name.trim().to_owned()).collect()),
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--soak" => options.soak = value()?.parse()?,
                "--up" => options.up = true,
                "--latency" => options.latency = Duration::from_millis(value()?.parse()?),
                "--pace" => options.pace = Duration::from_millis(value()?.parse()?),
                "--json" => options.json = Some(value()?.into()),
                other if other.starts_with('-') => return Err(USE.into()),
                _ if options.action.is_empty() => options.action = argument,
                _ => options.arguments.push(argument),
            }
        }
        if options.action.is_empty() {
            "all".clone_into(&mut options.action);
        }
        Ok(options)
    }

    fn wants(&self, contestant: &Contestant) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == contestant.name))
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    match options.action.as_str() {
        "all" | "load" | "trials" | "soak" => measure(&options).await,
        "instructions" => count(&options).await,
        "train" => train(&options).await,
        "provider" => {
            let provider = Provider::start(options.latency, options.pace).await?;
            println!("{}", provider.address);
            std::future::pending().await
        }
        "ask" => ask(&options.arguments).await,
        _ => Err(USE.into()),
    }
}

/// Two providers, and a folder for what runs beside them, whose contestants run under this program.
async fn rig(options: &Options, under: &'static [&'static str]) -> Result<Rig, Box<dyn Error>> {
    let folder = env::temp_dir().join(format!("gateway-load-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let start = || Provider::start(options.latency, options.pace);
    Ok(Rig {
        primary: start().await?,
        backup: start().await?,
        folder,
        gateways: root().canonicalize()?.join("target/gateways"),
        steadfast: env::var_os("STEADFAST_BIN").map(PathBuf::from).unwrap_or_default(),
        under,
    })
}

/// Counts instructions of steadfast in all of its ways.
async fn count(options: &Options) -> Result<(), Box<dyn Error>> {
    if Command::new(CALLGRIND[0]).arg("--version").output().is_err() {
        println!("Instructions: skipped, valgrind is not installed.");
        return Ok(());
    }
    let rig = rig(options, CALLGRIND).await?;
    let mut counts = Vec::new();
    for contestant in contestants::ALL.iter().filter(|one| one.is_steadfast() && options.wants(one)) {
        eprintln!("instructions: {}", contestant.name);
        counts.push(instructions::count(&rig, contestant).await?);
    }
    println!("{}", instructions::markdown(&counts));
    fs::remove_dir_all(&rig.folder)?;
    Ok(())
}

/// Gives steadfast, which was built to write a profile, some of all that it can be asked.
async fn train(options: &Options) -> Result<(), Box<dyn Error>> {
    let rig = rig(options, &[]).await?;
    for contestant in contestants::ALL.iter().filter(|one| one.is_steadfast() && options.wants(one)) {
        eprintln!("train: {}", contestant.name);
        training::run(&rig, contestant).await?;
    }
    fs::remove_dir_all(&rig.folder)?;
    Ok(())
}

async fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    let rig = rig(options, &[]).await?;
    let timing = Timing {
        warm_up: Duration::from_secs_f64(options.seconds / 2.0),
        measured: Duration::from_secs_f64(options.seconds),
        notice: Duration::from_secs(3),
    };
    let wanted = contestants::ALL.into_iter().filter(|contestant| options.wants(contestant));
    let wanted = wanted.filter(|contestant| !matches!(contestant.measured, HowMuch::Instructions | HowMuch::Answers));
    let mut rows: Vec<Row> = wanted.map(Row::new).collect();
    let does = |action: &str| ["all", action].contains(&options.action.as_str());
    if does("load") {
        for round in 1..=options.rounds {
            let once = [HowMuch::Once, HowMuch::Sixteen];
            for row in rows.iter_mut().filter(|row| round == 1 || !once.contains(&row.contestant.measured)) {
                eprintln!("round {round} of {}: {}", options.rounds, row.contestant.name);
                rig.round(row, |cell| !(options.up && cell.down), timing).await;
            }
        }
    }
    if does("trials") {
        let tried = rows.iter_mut().filter(|row| row.contestant.is_tried() && row.missing().is_none());
        let mut tried: Vec<_> = tried.map(|row| (row.contestant, &mut row.trials)).collect();
        for (contestant, trials) in &mut tried {
            eprintln!("trials: {}", contestant.name);
            **trials = trials::run(&rig, contestant, timing.measured).await;
        }
        trials::under_faults(&rig, &mut tried).await?;
    }
    let mut soaked = None;
    if does("soak") {
        eprintln!("soak: {} s", options.soak);
        let steadfast = contestants::ALL.into_iter().find(|contestant| contestant.name == STEADFAST);
        let steadfast = steadfast.ok_or("there is no steadfast")?;
        let done = soak::run(&rig, &steadfast, Duration::from_secs(options.soak)).await;
        // What was measured before it is not lost with it.
        soaked = done.inspect_err(|problem| eprintln!("soak: {problem}")).ok();
    }
    let how = format!(
        "Medians of {} rounds, each cell {} s after {} s of warming up. Contestants on one core, load and provider together \
         on the other.",
        options.rounds,
        options.seconds,
        options.seconds / 2.0
    );
    let result = Measured::now(how, rows, soaked);
    match (&result.soak, options.action.as_str()) {
        (Some(soaked), "soak") => println!("{}", report::of_soak(soaked)),
        _ => println!("{}", report::markdown(&result)),
    }
    if let Some(path) = &options.json {
        result.write(path)?;
    }
    fs::remove_dir_all(&rig.folder)?;
    Ok(())
}

/// So many requests to an address and no more: for profilers, which count what a request costs.
async fn ask(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [address, mode, connections, requests] = arguments else { return Err(USE.into()) };
    let mode = if mode == "stream" { Mode::Stream } else { Mode::Plain };
    let shape = Shape { mode, connections: connections.parse()?, fresh: false };
    let target = Target::of(address.parse()?, Dialect::OpenAi, "gpt-4o-mini");
    let requests: u64 = requests.parse()?;
    let load = Load::start(&target, shape);
    let outcome = load.until(requests).await?;
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|share| outcome.quantile(share));
    println!(
        "{} requests, {:.0} a second, p50 {p50:.3} ms, p90 {p90:.3}, p99 {p99:.3}, p99.9 {p999:.3}",
        outcome.requests(),
        outcome.per_second(),
    );
    load.end(Duration::from_secs(1)).await;
    Ok(())
}
