//! The results of other packages: streams and requests, and the gateway.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{Finding, Section};

const BENCHES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs the benchmark of streams and requests.
///
/// # Errors
///
/// The package does not build or does not run.
pub fn wire(quick: bool) -> io::Result<Section> {
    let mut arguments = Vec::new();
    if quick {
        arguments.push("--quick");
    }
    let file = std::env::temp_dir().join(format!("steadfast-wire-{}.json", std::process::id()));
    let name = file.to_string_lossy().into_owned();
    arguments.extend(["--json", name.as_str()]);
    let text = run("wire", &arguments)?;
    let found = read(&file);
    fs::remove_file(&file)?;
    let mut findings = Vec::new();
    for row in found?.as_array().into_iter().flatten() {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        if let (Some(ours), Some(theirs)) = (row["ours_ns"].as_f64(), row["ns"].as_f64()) {
            findings.push(Finding::cost(text("group"), text("name"), "µs", ours / 1e3, theirs / 1e3));
        }
    }
    Ok(Section {
        title: "Streams and requests: decoding and forwarding".to_owned(),
        repeat: "cargo run --release --manifest-path benches/wire/Cargo.toml".to_owned(),
        text,
        findings,
        ..Section::default()
    })
}

/// The gateway's last run, if its figures are there.
///
/// # Errors
///
/// The results are there, and cannot be read or shown.
pub fn gateway() -> io::Result<Option<Section>> {
    let file = PathBuf::from(BENCHES).join("gateway/result.json");
    if !file.exists() {
        return Ok(None);
    }
    let found = read(&file)?;
    let text = run("gateway", &["show", &file.to_string_lossy()])?;
    let mut findings = Vec::new();
    for aim in found["aims"].as_array().into_iter().flatten() {
        let what = format!("gateway: {}", aim["what"].as_str().unwrap_or_default());
        if let (Some(measured), Some(wanted)) = (aim["measured"].as_f64(), aim["wanted"].as_f64()) {
            findings.push(match aim["at_least"].as_bool() {
                Some(true) => Finding::at_least(what, measured, wanted),
                _ => Finding::at_most(what, measured, wanted),
            });
        }
    }
    let date = found["date"].as_str().unwrap_or("a day that it does not name");
    Ok(Some(Section {
        title: format!("The gateway beside nginx and other gateways (measured on {date})"),
        repeat: "cargo run --release --manifest-path benches/gateway/Cargo.toml -- --json benches/gateway/result.json"
            .to_owned(),
        text,
        findings,
        brief: brief(&found, date),
    }))
}

/// Returns the cells that users read first: 16 callers, each contestant in OpenAI's dialect.
fn brief(found: &Value, date: &str) -> String {
    let mut text = format!(
        "## The gateway\n\nRequests a second of 16 callers (CPU µs for each), one core and one worker for each, measured on {date}:\n\n\
         | | whole answers | the first provider down | streams of 64 pieces | the first provider down |\n|---|---:|---:|---:|---:|\n"
    );
    let contestants = found["contestants"].as_array().into_iter().flatten();
    for one in
        contestants.filter(|one| one["name"].as_str().is_some_and(|name| !name.contains(',') && name != "direct"))
    {
        let shown = [(false, false), (false, true), (true, false), (true, true)].map(|(stream, down)| {
            let cell = cell(one, stream, down)?;
            Some(format!("{:.0} ({:.0})", median(cell, "per_second")?, median(cell, "cpu")?))
        });
        let shown = shown.map(|figures| figures.unwrap_or_else(|| "-".to_owned()));
        let _ = writeln!(text, "| {} | {} |", one["name"].as_str().unwrap_or_default(), shown.join(" | "));
    }
    text
}

fn cell(contestant: &Value, stream: bool, down: bool) -> Option<&Value> {
    contestant["cells"].as_array()?.iter().find(|cell| {
        let is = |field: &str, wanted: bool| cell[field].as_bool() == Some(wanted);
        cell["connections"].as_u64() == Some(16)
            && is("stream", stream)
            && is("primary_down", down)
            && is("picture", false)
            && is("new_connections", false)
    })
}

fn median(cell: &Value, figure: &str) -> Option<f64> {
    let mut rounds: Vec<f64> = cell["rounds"].as_array()?.iter().filter_map(|round| round[figure].as_f64()).collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied()
}

/// Returns the output of a package beside this one.
fn run(package: &str, arguments: &[&str]) -> io::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(BENCHES).join(package).join("Cargo.toml");
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--")
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("benches/{package} failed")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read(file: &Path) -> io::Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(file)?)?)
}
