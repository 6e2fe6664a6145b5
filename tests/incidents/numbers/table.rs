//! The table of `tests/README.md` says which test holds which number: what it names is there.

use std::{fs, path::Path};

const TABLE: &str = include_str!("../../README.md");
/// The races that `tests/races` runs.
const RACES: &str = include_str!("../../../src/races.rs");

/// The words of a cell that are marked as code.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Returns whether a source has a test or a race of this name.
fn has_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    source.match_indices(&head).any(|(at, _)| {
        let above = source[..at].lines().rev().take(3);
        let is_test = above.map(str::trim).any(|line| line.starts_with("#[") && line.contains("test"));
        is_test || RACES.contains(&format!("::{name}"))
    })
}

#[test]
fn every_row_of_the_table_names_a_test_that_is_there() {
    let top = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let rows = TABLE.lines().filter(|line| line.starts_with('|') && line.contains("::"));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect();
    let numbers: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(numbers, (1..=20).map(|number| number.to_string()).collect::<Vec<_>>(), "each names a test");
    for row in &rows {
        // The last file that was named, with what is in it.
        let (mut file, mut source) = ("", String::new());
        for name in row[3..].iter().copied().flat_map(named) {
            if name.starts_with("STEADFAST_") {
                assert!(source.contains(name), "{}: {file} does not read {name}", row[0]);
                continue;
            }
            let (path, test) = name.split_once("::").map_or((name, None), |(path, test)| (path, Some(test)));
            // The published package is without these.
            if ["crates", "benches", "fuzz"].iter().any(|room| path.starts_with(room) && !top.join(room).exists()) {
                continue;
            }
            if !path.is_empty() {
                let places = [top.join(path), top.join("tests/incidents/numbers").join(path)];
                let place = places.iter().find(|place| place.exists());
                let place = place.unwrap_or_else(|| panic!("{}: there is no {path}", row[0]));
                (file, source) = (path, fs::read_to_string(place).unwrap_or_default());
            }
            if let Some(test) = test {
                assert!(has_test(&source, test), "{}: {file} has no test {test}", row[0]);
            }
        }
    }
}
