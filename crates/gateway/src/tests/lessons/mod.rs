//! Tests for the complaints of other gateways' users (GATEWAY.md, section B), through each protocol where they apply,
//! and for Claude Code's requirements (section E).
//!
//! The gateway is the real one but for the socket: [`house`] puts a stack as a file describes it behind the real
//! routes.
#![doc = include_str!("lessons.md")]

mod claude_code;
mod conversations;
mod failures;
mod house;
mod names;
mod other_forms;
mod outages;
mod prompt_caches;
mod repeats;
mod same_request;
mod sessions;
mod setups;
mod silent_turns;
mod slow_answers;
mod streams;
mod wire;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use super::harness::{CHAT, GEMINI, MESSAGES, PATHS, RESPONSES, hello, mistake};

/// The protocols of lessons that spell requests or providers' answers of their own.
const TWO_PATHS: [&str; 2] = [MESSAGES, CHAT];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of all functions, and so of all tests, of all packages.
fn functions() -> HashSet<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["src", "tests", "crates"] {
        sources(&top.join(folder), &mut files);
    }
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let name = |rest: &str| rest.split(|char: char| !char.is_alphanumeric() && char != '_').next().unwrap().to_owned();
    text.split("fn ").skip(1).map(name).collect()
}

/// The tests that a row of a table names.
fn named(cell: &str) -> Vec<&str> {
    let names = cell.split('`').skip(1).step_by(2).filter(|name| name.contains('_'));
    names.map(|name| name.rsplit("::").next().unwrap()).collect()
}

/// Every lesson has its row, and every test that a row names is there.
#[test]
fn the_table_of_lessons_is_whole_and_true() {
    let there = functions();
    let rows: Vec<Vec<&str>> = include_str!("lessons.md")
        .lines()
        .filter(|line| line.starts_with("| B") || line.starts_with("| E"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let numbers: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let all: Vec<String> = (1..=59).map(|n| format!("B{n}")).chain((1..=7).map(|n| format!("E{n}"))).collect();
    assert_eq!(numbers[..all.len()], all);
    for row in rows {
        let named = named(row[2]);
        assert!(!named.is_empty() || row[2].contains("held by construction") || row[2].contains("not held"), "{row:?}");
        for name in named {
            assert!(there.contains(name), "{}: no test is named {name}", row[0]);
        }
    }
}

/// Checks that each claim of the threat model names an existing test.
#[test]
fn the_threat_model_names_tests_that_there_are() {
    let there = functions();
    let rows = include_str!("../../../THREATS.md").lines().filter(|line| line.matches(" | ").count() >= 2);
    let rows: Vec<&str> = rows.filter(|row| !row.ends_with(" | by which test |")).collect();
    assert!(rows.len() > 40, "{}", rows.len());
    for row in rows {
        let named = named(row.rsplit(" | ").next().unwrap());
        assert!(!named.is_empty(), "no test holds this: {row}");
        for name in named {
            assert!(there.contains(name), "no test is named {name}: {row}");
        }
    }
}
