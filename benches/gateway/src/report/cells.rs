//! The tables of the rounds' cells.

use std::fmt::Write as _;

use super::{MB, missing, shown};
use crate::{
    contestants::{DIRECT, NGINX},
    dialect::{Mode, PICTURE},
    load::Shape,
    measure::{CONNECTIONS, Cell, Figures, Row},
};

pub(super) fn table(rows: &[Row], mode: Mode, down: bool) -> String {
    let state = if down { "the first provider down" } else { "both providers up" };
    let mut text = format!(
        "\n### {}, {state}\n\n| | connections | requests/s | / nginx | p50 ms | p99 ms | CPU µs/request | / nginx | peak MB | failed | asked the first provider |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        match mode {
            Mode::Plain | Mode::Picture => "Whole answers",
            Mode::Stream => "Streams of 64 pieces",
        }
    );
    let mut any = false;
    for connections in CONNECTIONS {
        let cell = Cell { shape: Shape { mode, connections, fresh: false }, down };
        let nginx = rows.iter().find(|row| row.contestant.name == NGINX).and_then(|row| row.median(cell));
        for row in rows {
            let Some(figures) = row.median(cell) else { continue };
            any = true;
            let ratio = |of: fn(&Figures) -> f64| {
                let ratio =
                    nginx.map(|nginx| of(&figures) / of(&nginx)).filter(|ratio| ratio.is_finite() && *ratio > 0.0);
                ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
            };
            let _ = writeln!(
                text,
                "| {} | {connections} | {:.0} | {} | {} | {} | {} | {} | {} | {} | {:.0}% |",
                row.contestant.name,
                figures.per_second,
                ratio(|f| f.per_second),
                shown(figures.p50, format!("{:.3}", figures.p50)),
                shown(figures.p99, format!("{:.3}", figures.p99)),
                shown(figures.cpu, format!("{:.1}", figures.cpu)),
                ratio(|f| f.cpu),
                shown(figures.peak, format!("{:.1}", figures.peak / MB)),
                failed(&figures),
                figures.asked * 100.0,
            );
        }
    }
    text.push_str(&missing(rows, 11, |row| cells(row, mode, down)));
    if any { text } else { String::new() }
}

/// The share that failed; where nothing came in the time of the cell, that.
fn failed(figures: &Figures) -> String {
    match figures.failed {
        share if share > 0.0 => format!("{:.1}%", share * 100.0),
        _ if figures.per_second > 0.0 => "-".to_owned(),
        _ => "no answer in time".to_owned(),
    }
}

/// True of a row that has such a cell, measured or not.
fn cells(row: &Row, mode: Mode, down: bool) -> bool {
    row.cells.iter().any(|(cell, _)| cell.shape.mode == mode && cell.down == down)
}

/// The time that one caller waits for more than without a gateway.
pub(super) fn added(rows: &[Row]) -> String {
    let cell = |mode| Cell { shape: Shape { mode, connections: 1, fresh: false }, down: false };
    let direct = rows.iter().find(|row| row.contestant.name == DIRECT);
    let (plain, stream) = (cell(Mode::Plain), cell(Mode::Stream));
    let Some((to_plain, to_stream)) = direct.and_then(|row| row.median(plain).zip(row.median(stream))) else {
        return String::new();
    };
    let mut text = String::from(
        "\n### Added for one caller, in µs over *direct*\n\n| | whole answer: p50 | p99 | stream: p50 | p99 |\n|---|---:|---:|---:|---:|\n",
    );
    for row in rows.iter().filter(|row| row.contestant.is_gateway()) {
        let Some((plain, stream)) = row.median(plain).zip(row.median(stream)) else { continue };
        let micros = |with: f64, without: f64| format!("{:.0}", (with - without) * 1e3);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.contestant.name,
            micros(plain.p50, to_plain.p50),
            micros(plain.p99, to_plain.p99),
            micros(stream.p50, to_stream.p50),
            micros(stream.p99, to_stream.p99),
        );
    }
    text.push_str(&missing(rows, 5, |row| row.contestant.is_tried()));
    text
}

/// Requests with a picture.
pub(super) fn pictures(rows: &[Row]) -> String {
    let mut text = format!(
        "\n### Requests with a picture of {} KB, 16 connections\n\n| | requests/s | p50 ms | p99 ms | CPU µs/request | peak MB | failed |\n|---|---:|---:|---:|---:|---:|---:|\n",
        PICTURE / 1000
    );
    let mut any = false;
    for row in rows {
        let Some(figures) = row.median(Cell::PICTURE) else { continue };
        any = true;
        let _ = writeln!(
            text,
            "| {} | {:.0} | {} | {} | {} | {} | {} |",
            row.contestant.name,
            figures.per_second,
            shown(figures.p50, format!("{:.3}", figures.p50)),
            shown(figures.p99, format!("{:.3}", figures.p99)),
            shown(figures.cpu, format!("{:.1}", figures.cpu)),
            shown(figures.peak, format!("{:.1}", figures.peak / MB)),
            failed(&figures),
        );
    }
    text.push_str(&missing(rows, 7, |row| cells(row, Mode::Picture, false)));
    if any { text } else { String::new() }
}

/// Each translation beside the same program without it.
pub(super) fn translated(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n### Translated, 16 connections\n\n\"/ passed on\" is by the same program's without translation.\n\n\
         | | | requests/s | / passed on | p99 ms | CPU µs/request | / passed on | failed |\n|---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut any = false;
    for row in rows {
        let Some(beside) = row.contestant.beside else { continue };
        for (mode, what) in [(Mode::Plain, "whole answer"), (Mode::Stream, "stream")] {
            let cell = Cell { shape: Shape { mode, connections: 16, fresh: false }, down: false };
            let Some(figures) = row.median(cell) else { continue };
            any = true;
            let passed = rows.iter().find(|row| row.contestant.name == beside).and_then(|row| row.median(cell));
            let ratio = |of: fn(&Figures) -> f64| {
                let ratio = passed.map(|passed| of(&figures) / of(&passed)).filter(|ratio| ratio.is_finite());
                ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
            };
            let _ = writeln!(
                text,
                "| {} | {what} | {:.0} | {} | {} | {} | {} | {} |",
                row.contestant.name,
                figures.per_second,
                ratio(|f| f.per_second),
                shown(figures.p99, format!("{:.3}", figures.p99)),
                shown(figures.cpu, format!("{:.1}", figures.cpu)),
                ratio(|f| f.cpu),
                failed(&figures),
            );
        }
    }
    text.push_str(&missing(rows, 8, |row| row.contestant.beside.is_some()));
    if any { text } else { String::new() }
}

/// A stream that waits for a delayed acknowledgement shows here: 40 ms more on a connection that is kept.
pub(super) fn kept_and_new(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n### A stream on a connection that is kept, and on a new one\n\n| | kept: p50 ms | p99 ms | new: p50 ms | p99 ms |\n|---|---:|---:|---:|---:|\n",
    );
    let kept = Cell { shape: Shape { fresh: false, ..Cell::FRESH.shape }, down: false };
    let mut any = false;
    for row in rows {
        if let (Some(kept), Some(new)) = (row.median(kept), row.median(Cell::FRESH)) {
            any = true;
            let name = row.contestant.name;
            let _ = writeln!(text, "| {name} | {:.3} | {:.3} | {:.3} | {:.3} |", kept.p50, kept.p99, new.p50, new.p99);
        }
    }
    if any { text } else { String::new() }
}
