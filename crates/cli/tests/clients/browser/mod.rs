//! The status page, the badge and the page of those who answer in a real browser, before the real binary: from the
//! primary over the fallback to nobody, and back. What the browser does is in the scripts beside this file; this side
//! has what they look at, and does what they ask for.
//!
//! `STEADFAST_BROWSER` names Chromium's binary (default: `/usr/bin/chromium`), `STEADFAST_BROWSER_NODE` a folder whose
//! `node_modules` have `playwright-core`, and `STEADFAST_BROWSER_REACT` an installed copy of `examples/react-badge`. A
//! variable that names what is not there fails the test; without the variable it says so and is skipped.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

mod stage;

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use stage::Stage;

/// The command that runs a script, or nothing where it cannot run.
fn script(name: &str) -> Option<Command> {
    let chromium = named("STEADFAST_BROWSER", "", "Chromium", Some("/usr/bin/chromium"))?;
    let modules =
        named("STEADFAST_BROWSER_NODE", "node_modules/playwright-core", "the node module playwright-core", None)?;
    let mut node = Command::new("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/browser").join(name))
        .env("CHROMIUM", chromium)
        .env("MODULES", Path::new(&modules).join("node_modules"))
        .env("SHOTS", env::var("STEADFAST_BROWSER_SHOTS").unwrap_or_else(|_| shots()));
    Some(node)
}

/// Returns the path in an environment variable, if it exists.
fn named(variable: &str, within: &str, what: &str, default: Option<&str>) -> Option<String> {
    let value = env::var(variable);
    let path = value.clone().ok().or_else(|| default.map(str::to_owned)).unwrap_or_default();
    // Of a file nothing is within: not even an empty name.
    let there = if within.is_empty() { Path::new(&path).exists() } else { Path::new(&path).join(within).exists() };
    if there {
        return Some(path);
    }
    assert!(value.is_err(), "{variable}: {path} is not {what}, or has not got it");
    eprintln!("skipped: {what} is not there ({variable})");
    None
}

/// Returns the folder for screenshots, in the target folder.
fn shots() -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("browser").join("shots").display().to_string()
}

/// Runs a script. A line of its that begins with `@` is a wish, and is answered when it is done; all others are for
/// people.
fn run(script: &mut Command, stage: &mut Stage) {
    let mut node = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node is there");
    let mut answers = node.stdin.take().unwrap();
    for line in BufReader::new(node.stdout.take().unwrap()).lines().map_while(Result::ok) {
        match line.strip_prefix('@') {
            // It may have ended in the meantime.
            Some(wish) => drop(writeln!(answers, "{}", stage.fulfil(wish))),
            None => println!("{line}"),
        }
    }
    assert!(node.wait().unwrap().success(), "the script says what is wrong");
}

#[test]
fn the_page_tells_the_truth_from_outage_to_recovery() {
    if let Some(mut script) = script("page.mjs") {
        run(&mut script, &mut Stage::start());
    }
}

#[test]
fn the_page_holds_many_tiers_and_long_names_and_emptiness() {
    if let Some(mut script) = script("shapes.mjs") {
        run(&mut script, &mut Stage::start());
    }
}

#[test]
fn an_administrator_operates_from_the_page_and_nobody_else_does() {
    if let Some(mut script) = script("operate.mjs") {
        run(&mut script, &mut Stage::start());
    }
}

#[test]
fn people_answer_what_was_handed_to_them() {
    if let Some(mut script) = script("handoff.mjs") {
        run(&mut script, &mut Stage::with_people());
    }
}

#[test]
fn an_owner_reads_who_spends_what() {
    if let Some(mut script) = script("spend.mjs") {
        run(&mut script, &mut Stage::with_ledger());
    }
}

#[test]
fn the_badge_works_on_a_page_of_another_origin() {
    if let Some(mut script) = script("badge.mjs") {
        run(&mut script, &mut Stage::start());
    }
}

#[test]
fn the_react_example_shows_the_badge() {
    let Some(mut script) = script("react.mjs") else { return };
    let folder = named("STEADFAST_BROWSER_REACT", "node_modules/vite", "an installed examples/react-badge", None);
    if let Some(folder) = folder {
        run(script.env("EXAMPLE", folder), &mut Stage::start());
    }
}
