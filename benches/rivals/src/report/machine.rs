//! The place and time of the run, and the versions of the contestants.

use std::{fmt::Write as _, fs, process::Command};

/// The versions as they were resolved for this build.
const LOCK: &str = include_str!("../../Cargo.lock");

/// The packages that are measured here, as the registry calls them.
const WHO: [&str; 7] = ["steadfast", "tower", "tower-resilience", "seatbelt", "failsafe", "recloser", "liter-llm"];

pub fn text() -> String {
    let mut text = String::new();
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().map(|output| output.stdout);
        output.map(|said| String::from_utf8_lossy(&said).trim().to_owned()).unwrap_or_default()
    };
    let _ = writeln!(text, "- Date: {}, revision {}.", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]), revision());
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let _ = writeln!(
        text,
        "- Machine: {cores} cores ({}), {}; {}.",
        model.map_or("?", |(_, name)| name.trim()),
        said("uname", &["-sr"]),
        said("rustc", &["--version"]),
    );
    if let Some(load) = load() {
        let busy = if load > 0.5 * cores as f64 { ": **busy with other work, so that times are noise**" } else { "" };
        let _ = writeln!(text, "- Load when it began: {load:.1}{busy}.");
    }
    let versions = WHO.map(|name| format!("{name} {}", version(name).unwrap_or_else(|| "absent".to_owned())));
    let _ = writeln!(text, "- Contestants: {}.", versions.join(", "));
    text
}

fn revision() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// The load of the last minute.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn version(name: &str) -> Option<String> {
    if name == "liter-llm" && cfg!(not(feature = "liter-llm")) {
        return None;
    }
    let lock: toml::Table = LOCK.parse().ok()?;
    let packages = lock.get("package")?.as_array()?;
    let package = packages.iter().find(|package| package.get("name").and_then(toml::Value::as_str) == Some(name))?;
    package.get("version")?.as_str().map(str::to_owned)
}
