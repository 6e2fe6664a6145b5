//! The guide's table from a status to a kind of error is what a client's author gets.

use http::StatusCode;
use steadfast::ErrorKind;

/// The rows of the guide's table from a status to a kind.
fn rows() -> Vec<(Vec<u16>, String)> {
    let guide = include_str!("../../crates/guide/src/getting_started.md");
    let table = guide.split("| status | kind |").nth(1).expect("the guide has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let statuses = cells[0].split(", ").flat_map(|part| match part.split_once(" to ") {
            Some((first, last)) => first.parse().unwrap()..=last.parse().unwrap(),
            None => part.parse().unwrap()..=part.parse().unwrap(),
        });
        (statuses.collect(), cells[1].split('`').nth(1).unwrap().to_owned())
    };
    rows.map(row).collect()
}

#[test]
fn the_guides_table_of_statuses_is_whole_and_true() {
    let rows = rows();
    for status in 400..=599 {
        // A row that names the status takes precedence over one with a range.
        let named = rows.iter().filter(|(statuses, _)| statuses.contains(&status));
        let (_, kind) = named.min_by_key(|(statuses, _)| statuses.len() > 20).unwrap_or_else(|| panic!("no {status}"));
        assert_eq!(*kind, format!("{:?}", ErrorKind::from_status(StatusCode::from_u16(status).unwrap())), "{status}");
    }
}
