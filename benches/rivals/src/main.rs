//! See the library's documentation for how to run this and how it measures.

use std::{env, error::Error, process::Command};

use tokio::runtime::{Builder, Runtime};

use steadfast_rivals::{
    contestants::{self, Contestant},
    instructions,
    report::{self, Figures},
    throughput, timing, wall,
};

/// Calls before those that count: they fill what is filled once.
const WARM_UP: u64 = 128;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let _context = runtime.enter();
    let mut contestants = contestants::all();

    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut figures = Figures::default();
    match arguments[..] {
        [] => {
            figures.times = timing::measure(&mut contestants);
            figures.allocations = count_allocations(contestants.len());
            figures.instructions = count_instructions(&contestants)?;
            report::per_call(&contestants, &figures);
            report::ratios(&contestants, &figures);
            report::watched(&contestants, &figures);
            in_real_time(&runtime);
        }
        ["time"] => {
            figures.times = timing::measure(&mut contestants);
            report::per_call(&contestants, &figures);
            report::ratios(&contestants, &figures);
            report::watched(&contestants, &figures);
            in_real_time(&runtime);
        }
        ["allocations"] => {
            figures.allocations = count_allocations(contestants.len());
            report::per_call(&contestants, &figures);
        }
        ["callgrind"] => {
            figures.instructions = count_instructions(&contestants)?;
            report::per_call(&contestants, &figures);
            report::ratios(&contestants, &figures);
            report::watched(&contestants, &figures);
        }
        ["list"] => contestants.iter().for_each(|contestant| println!("{}", contestant.id())),
        ["run", id, calls] => {
            let calls = calls.parse()?;
            let contestant = contestants.iter_mut().find(|c| c.id() == id);
            let contestant = contestant.ok_or("no such contestant; `list` names them")?;
            (contestant.calls)(WARM_UP);
            instructions::counted(&mut contestant.calls, calls);
        }
        _ => {
            return Err("use: rivals [time | allocations | callgrind | list | run NAME CALLS]".into());
        }
    }
    Ok(())
}

fn in_real_time(runtime: &Runtime) {
    let shared = throughput::all();
    let rounds = throughput::measure(&shared);
    report::shared(&shared, &rounds);
    let refusal = wall::resilience_refusal(runtime);
    println!("\ntower-resilience's full bulkhead refuses through a timer: {refusal:.1?} until the caller hears of it");
}

fn count_instructions(contestants: &[Contestant]) -> Result<Vec<f64>, Box<dyn Error>> {
    if !instructions::valgrind_is_here() {
        eprintln!("instructions: skipped, for there is no valgrind here");
        return Ok(Vec::new());
    }
    let ids: Vec<String> = contestants.iter().map(Contestant::id).collect();
    Ok(instructions::measure(&env::current_exe()?, &ids)?)
}

/// Runs the second binary, which counts; cargo builds it if needed.
fn count_allocations(contestants: usize) -> Vec<f64> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--bin", "allocations", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output();
    let counts: Vec<f64> = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect(),
        Err(_) => Vec::new(),
    };
    if counts.len() == contestants {
        return counts;
    }
    eprintln!("allocations: skipped, for the counting binary did not run");
    Vec::new()
}
