//! See the library's documentation for how to run this and how it measures.

use std::{env, fs, process::Command};

use steadfast_wire_bench::{contestants, report, timing};

fn main() -> Result<(), String> {
    let mut contestants = contestants::all();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--quick").collect();
    let quick = words.len() < arguments.len();
    let (times, file) = match words[..] {
        [] => (timing::measure(&mut contestants, quick), None),
        ["--json", file] => (timing::measure(&mut contestants, quick), Some(file)),
        ["allocations"] => (Vec::new(), None),
        _ => return Err("use: wire [--quick] [--json FILE | allocations]".into()),
    };
    if let Some(file) = file {
        fs::write(file, report::json(&contestants, &times).to_string()).map_err(|error| format!("{file}: {error}"))?;
    }
    report::tables(&contestants, &times, &count_allocations(contestants.len()));
    Ok(())
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
