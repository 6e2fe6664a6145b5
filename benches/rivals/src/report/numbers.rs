//! The stack's promises in numbers.

use std::{fmt::Write as _, time::Duration};

use super::{Finding, Section, number};
use crate::{
    measure::allocations::Idle,
    numbers::{Overhead, Overrun, Refusals},
};

/// All that was measured.
#[derive(Debug)]
pub struct Numbers {
    pub overhead: Overhead,
    pub idle: Vec<Idle>,
    pub refusals: Refusals,
    pub overruns: Vec<Overrun>,
}

pub fn section(numbers: &Numbers) -> Section {
    let mut section = Section {
        title: "What the stack promises, in numbers".to_owned(),
        repeat: "cargo run --release --features liter-llm -- numbers".to_owned(),
        text: String::new(),
        ..Section::default()
    };
    let Numbers { overhead, idle, refusals, overruns } = numbers;
    let text = &mut section.text;
    let nanos = |time: Duration| time.as_nanos() as f64;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let _ = writeln!(
        text,
        "- The five with events, status and metrics, added to a call of a service that answers at once: p50 {} ns, p99 {} ns; to each \
         event of a stream: {} ns (without layers {}). By the clock on the wall, the best of the rounds.",
        number(Some(nanos(overhead.p50))),
        number(Some(nanos(overhead.p99))),
        number(Some(nanos(overhead.event))),
        number(Some(nanos(overhead.bare_event))),
    );
    let _ = writeln!(
        text,
        "- A bulkhead of {} places under 16 threads and 32 callers: {} calls refused, within {} µs at p99.9; at most {} calls inside at once.",
        refusals.limit,
        refusals.refused,
        number(Some(micros(refusals.p999))),
        refusals.peak,
    );
    text.push_str("\nA deadline of 50 ms, 500 calls at once on 2 threads, by where they hang:\n\n");
    text.push_str("| | calls | overrun p99.9 ms | most ms |\n|---|---:|---:|---:|\n");
    for one in overruns {
        let _ = writeln!(text, "| {} | {} | {:.1} | {:.1} |", one.at, one.calls, millis(one.p999), millis(one.most));
    }
    if !idle.is_empty() {
        text.push_str("\nBytes of one call while it waits for its answer:\n\n");
        text.push_str("| | its future | on the heap | together |\n|---|---:|---:|---:|\n");
        for one in idle {
            let _ = writeln!(text, "| {} | {} | {} | {} |", one.name, one.future, one.heap, one.future + one.heap);
        }
    }
    let mut aim = |what: &str, measured: f64, wanted: f64| {
        section.findings.push(Finding::at_most(what, measured, wanted));
    };
    aim("added to a unary call, p50 µs", micros(overhead.p50), 10.0);
    aim("added to a unary call, p99 µs", micros(overhead.p99), 50.0);
    aim("added to an event of a stream, µs", micros(overhead.event), 1.0);
    let size = |name: &str| idle.iter().find(|one| one.name == name).map(|one| (one.future + one.heap) as f64);
    if let (Some(five), Some(bare)) = (size("steadfast's five"), size("bare, on LlmRequest")) {
        aim("memory added to an idle call, bytes", five - bare, 2048.0);
    }
    aim("refusal of a full bulkhead under 16 threads, p99.9 ms", millis(refusals.p999), 1.0);
    aim("calls inside a bulkhead, more than its limit", refusals.peak.saturating_sub(refusals.limit) as f64, 0.0);
    let worst = |of: fn(&Overrun) -> Duration| overruns.iter().map(of).max().unwrap_or_default();
    aim("deadline overrun, p99.9 ms", millis(worst(|one| one.p999)), 50.0);
    aim("deadline overrun, the most ms", millis(worst(|one| one.most)), 250.0);
    section
}
