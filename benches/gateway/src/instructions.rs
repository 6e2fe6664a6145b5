//! Instructions for each request, by callgrind: only steadfast's own, none of the kernel's. Other programs beside it
//! change no count, so that no quiet machine is needed.

use std::{fmt::Write as _, fs, time::Duration};

use crate::{
    contestants::{Contestant, Measured},
    dialect::Mode,
    load::{Load, Shape},
    rig::Rig,
};

/// What the gateway runs under.
pub const CALLGRIND: &[&str] = &["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];

/// The instructions for each whole answer and for each stream of a contestant.
#[derive(Clone, Debug)]
pub struct Counts {
    pub name: &'static str,
    pub what: &'static str,
    pub plain: f64,
    /// `None` where there are no streams.
    pub stream: Option<f64>,
}

/// Counts a contestant's instructions. The rig's contestants run under [`CALLGRIND`].
///
/// # Errors
///
/// Why it cannot be counted.
pub async fn count(rig: &Rig, contestant: &Contestant) -> Result<Counts, String> {
    let Contestant { name, what, measured, .. } = *contestant;
    let plain = of_mode(rig, contestant, Mode::Plain).await?;
    let stream = match measured {
        Measured::Answers => None,
        _ => Some(of_mode(rig, contestant, Mode::Stream).await?),
    };
    Ok(Counts { name, what, plain, stream })
}

/// Two runs, of few requests and of many: what both have, the start and the first requests, does not count.
async fn of_mode(rig: &Rig, contestant: &Contestant, mode: Mode) -> Result<f64, String> {
    let few = run(rig, contestant, mode, FEW).await?;
    let many = run(rig, contestant, mode, FEW + counted(mode)).await?;
    Ok((many.instructions - few.instructions) / (many.requests - few.requests))
}

#[derive(Clone, Copy)]
struct Run {
    instructions: f64,
    requests: f64,
}

async fn run(rig: &Rig, contestant: &Contestant, mode: Mode, requests: u64) -> Result<Run, String> {
    let before = rig.primary.asked();
    let mut running = rig.start(contestant).await?;
    let load = Load::start(&running.target, Shape { mode, connections: 1, fresh: false });
    let answered = load.until(requests).await;
    load.end(Duration::from_secs(10)).await;
    answered?;
    // At its end callgrind reports.
    if let Some(process) = &mut running.process {
        process.end(Duration::from_secs(120));
    }
    let log = fs::read_to_string(rig.folder_of(contestant).join("log")).map_err(|error| error.to_string())?;
    let collected = log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    let instructions = collected.ok_or_else(|| format!("callgrind reports no count: {log}"))?;
    Ok(Run { instructions, requests: (rig.primary.asked() - before) as f64 })
}

const FEW: u64 = 50;

/// Returns the number of requests whose instructions count. Two starts of a gateway differ by some millions, which must
/// be little beside them: a stream takes ten times as many as a whole answer.
fn counted(mode: Mode) -> u64 {
    match mode {
        Mode::Plain | Mode::Picture => 2000,
        Mode::Stream => 200,
    }
}

/// The table, in Markdown. The first row is what the others are held against.
pub fn markdown(counts: &[Counts]) -> String {
    let mut text = String::from(
        "| | whole answer | / the first row | stream of 64 pieces | / the first row |\n|---|---:|---:|---:|---:|\n",
    );
    for Counts { name, plain, stream, .. } in counts {
        let first = counts.first();
        let by_plain = first.map_or(1.0, |first| plain / first.plain);
        let _ = write!(text, "| {name} | {plain:.0} | {by_plain:.2} |");
        let _ = match stream.zip(first.and_then(|first| first.stream)) {
            Some((stream, first)) => writeln!(text, " {stream:.0} | {:.2} |", stream / first),
            None => writeln!(text, " - | - |"),
        };
    }
    text.push('\n');
    for Counts { name, what, .. } in counts {
        let _ = writeln!(text, "- {name}: {what}");
    }
    text
}
