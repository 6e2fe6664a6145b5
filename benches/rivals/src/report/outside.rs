//! The results of other packages: streams and requests, and the gateway.

use std::{
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
    }))
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
