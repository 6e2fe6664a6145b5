//! The parts of the report, each by itself or all of them.

use std::{env, error::Error, fs, path::PathBuf};

use steadfast_rivals::{
    contestants::{self, Contestant, GROWTH},
    measure::{Effort, allocations, instructions, threads as threaded, timing, wall},
    numbers,
    outage::{self, Fault},
    report::{self, Section, calls::Figures, numbers::Numbers},
    traps,
};
use tokio::runtime::Runtime;

pub struct Options {
    pub words: Vec<String>,
    pub effort: Effort,
    /// The file for the report. Default: `benches/REPORT.md`, and what it comes to in `BENCHMARKS.md`.
    out: Option<PathBuf>,
}

const REPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../REPORT.md");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../BENCHMARKS.md");

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self { words: Vec::new(), effort: Effort::Whole, out: None };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.effort = Effort::Quick,
                "--out" => options.out = Some(arguments.next().ok_or("--out needs a file")?.into()),
                _ => options.words.push(argument),
            }
        }
        Ok(options)
    }
}

/// Writes what could be measured, and fails if something could not.
pub fn report(runtime: &Runtime, options: &Options) -> Result<(), Box<dyn Error>> {
    let effort = options.effort;
    let machine = report::machine::text();
    let measured = [
        traps(None),
        Ok(outage(effort)),
        calls(runtime, None, effort),
        growth(effort),
        Ok(threads(effort)),
        Ok(numbers(effort)),
        wire(effort),
    ];
    let mut sections = Vec::new();
    let mut failed = Vec::new();
    for section in measured.into_iter().map(|section| section.map(Some)).chain([gateway()]) {
        match section {
            Ok(section) => sections.extend(section),
            Err(error) => failed.push(error.to_string()),
        }
    }
    let out = options.out.clone().unwrap_or_else(|| REPORT.into());
    fs::write(&out, report::whole::text(&machine, effort, &sections, &failed))?;
    println!("{}", out.display());
    if effort == Effort::Whole && options.out.is_none() && failed.is_empty() {
        fs::write(PAGE, report::page::updated(&fs::read_to_string(PAGE)?, &machine, &sections)?)?;
        println!("{PAGE}");
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

fn wire(effort: Effort) -> Result<Section, Box<dyn Error>> {
    said("streams and requests");
    Ok(report::outside::wire(effort == Effort::Quick)?)
}

fn gateway() -> Result<Option<Section>, Box<dyn Error>> {
    Ok(report::outside::gateway()?)
}

/// Prints the measurement that begins: some take minutes.
fn said(what: &str) {
    eprintln!("measuring: {what}");
}

pub fn calls(runtime: &Runtime, table: Option<&str>, effort: Effort) -> Result<Section, Box<dyn Error>> {
    said("costs per call");
    let all = contestants::all();
    let wanted = |c: &&Contestant| !GROWTH.contains(&c.group) && table.is_none_or(|table| c.group == table);
    let some: Vec<&Contestant> = all.iter().filter(wanted).collect();
    if some.is_empty() {
        return Err(format!("no such table; there are: {}", report::calls::GROUPS.join(", ")).into());
    }
    let counted = allocations::measure().unwrap_or_default();
    // All or none: the counting binary may be an older one.
    let counts: Option<Vec<f64>> = some.iter().map(|c| counted.per_call.get(&c.id()).copied()).collect();
    if counts.is_none() {
        eprintln!("allocations: not all of them were counted, so that none are shown");
    }
    let figures = Figures {
        times: timing::measure(&some, effort),
        instructions: count_instructions(&some, effort)?,
        allocations: counts.unwrap_or_default(),
    };
    let mut section = report::calls::section(&report::calls::rows(&some, &figures));
    if table.is_none_or(|table| table == contestants::FULL) {
        section.text.push_str(&report::calls::refusal_by_timer(wall::resilience_refusal(runtime)));
    }
    Ok(section)
}

pub fn growth(effort: Effort) -> Result<Section, Box<dyn Error>> {
    said("what grows");
    let all = contestants::all();
    let some: Vec<&Contestant> = all.iter().filter(|c| GROWTH.contains(&c.group)).collect();
    let times = timing::measure_sized(&some, effort);
    let counted = count_instructions(&some, effort)?;
    Ok(report::growth::section(&some, &times, &counted))
}

pub fn threads(effort: Effort) -> Section {
    said("calls per second");
    report::threads::section(&threaded::measure(effort))
}

pub fn outage(effort: Effort) -> Section {
    said("an outage");
    let outages = [Fault::Errors, Fault::Silence].map(|fault| (fault, on_a_thread(move || outage::run(fault, effort))));
    report::outage::section(&outages)
}

pub fn traps(only: Option<&str>) -> Result<Section, Box<dyn Error>> {
    said("traps");
    Ok(report::traps::section(&traps::run_all(only)?))
}

pub fn numbers(effort: Effort) -> Section {
    said("numbers");
    let idle = allocations::measure().map(|counted| counted.idle).unwrap_or_default();
    let (overhead, refusals, overruns) =
        on_a_thread(move || (numbers::overhead(effort), numbers::refusals(effort), numbers::overruns(effort)));
    report::numbers::section(&Numbers { overhead, idle, refusals, overruns })
}

/// Away from this thread, which is in the context of a runtime already.
fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(run).join().expect("what is measured ends without a panic")
}

fn count_instructions(contestants: &[&Contestant], effort: Effort) -> Result<Vec<f64>, Box<dyn Error>> {
    if effort == Effort::Quick {
        return Ok(Vec::new());
    }
    if !instructions::valgrind_is_here() {
        eprintln!("instructions: skipped, for there is no valgrind here");
        return Ok(Vec::new());
    }
    Ok(instructions::measure(&env::current_exe()?, contestants)?)
}
