//! What users of other gateways complain of does not happen here: each complaint (GATEWAY.md, section B) as a test, through
//! both protocols where it applies, and what Claude Code needs (section E).
//!
//! The gateway is the real one but for the socket: [`house`] puts a stack as a file describes it behind the real routes.
#![doc = include_str!("lessons.md")]

mod claude_code;
mod conversations;
mod failures;
mod house;
mod outages;
mod repeats;
mod streams;
mod wire;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use super::harness::{CHAT, MESSAGES, PATHS, hello};

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

/// Every lesson has its row, and every test that a row names is there.
#[test]
fn the_table_of_lessons_is_whole_and_true() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for folder in ["src", "tests", "gateway/src", "gateway/tests"] {
        sources(&top.join(folder), &mut files);
    }
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let there: HashSet<&str> = text
        .split("fn ")
        .skip(1)
        .map(|rest| rest.split(|char: char| !char.is_alphanumeric() && char != '_').next().unwrap())
        .collect();
    let rows: Vec<Vec<&str>> = include_str!("lessons.md")
        .lines()
        .filter(|line| line.starts_with("| B") || line.starts_with("| E"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let numbers: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let all: Vec<String> = (1..=59).map(|n| format!("B{n}")).chain((1..=7).map(|n| format!("E{n}"))).collect();
    assert_eq!(numbers[..all.len()], all);
    for row in rows {
        let named: Vec<&str> = row[2].split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
        assert!(!named.is_empty() || row[2].contains("held by construction") || row[2].contains("not held"), "{row:?}");
        for name in named {
            let name = name.rsplit("::").next().unwrap();
            assert!(there.contains(name), "{}: no test is named {name}", row[0]);
        }
    }
}
