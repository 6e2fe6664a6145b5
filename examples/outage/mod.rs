//! An outage of a primary, put to a stack: what its callers get, and what its layers tell.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use steadfast::{
    BoxLlmService, ErrorKind, Event, Events, LlmError, LlmRequest,
    providers::simulated::{Fault, RateLimit, SimulatedHandle},
};
use tokio::{sync::broadcast, task::JoinSet, time::Instant};
use tower::{Service, ServiceExt};

/// A stretch of the outage: its requests, its title, and the pause after five of them.
type Phase = (usize, &'static str, Duration);

/// Sends 200 requests while the primary works, is limited, goes down and comes back. Fails if one is lost, or if the
/// primary is not used again.
pub(crate) async fn run(
    llm: BoxLlmService,
    events: &Events,
    primary: &SimulatedHandle,
    limit: RateLimit,
    [brisk, slow]: [Duration; 2],
) -> ExitCode {
    let mut run = Run { llm, events: events.subscribe(), asked: 0, served: BTreeMap::new(), lost: 0 };
    run.phase((40, "all is well", brisk)).await;
    primary.rate_limit(Some(limit));
    run.phase((40, "sonnet is rate-limited: 429 with Retry-After", slow)).await;
    primary.rate_limit(None);
    // Retry-After is in whole seconds, and the circuit keeps to it.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    primary.fail(Fault::Unavailable);
    run.phase((30, "sonnet is down: 503", brisk)).await;
    primary.fail(Fault::Hang);
    run.phase((25, "sonnet is down: it takes requests and never answers", slow)).await;
    primary.fail(Fault::CutAfter(3));
    run.phase((25, "sonnet is half up: its answers break off in the middle", slow)).await;
    primary.heal();
    let back = run.phase((40, "sonnet is well again", slow)).await;

    let stats = primary.stats();
    println!(
        "\nsonnet had {} calls: {} answered, {} failed {:?}, {} given up on while they hung",
        stats.calls, stats.answered, stats.failed, stats.failed_by, stats.cancelled
    );
    let answered: usize = run.served.values().sum();
    let (asked, lost) = (run.asked, run.lost);
    let recovered = back.contains_key("sonnet");
    if !recovered {
        println!("sonnet was not used again after its recovery");
    }
    println!("answered {answered} of {asked}, lost {lost}; served by {}", list(&run.served));
    if lost == 0 && answered == asked && recovered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Run {
    llm: BoxLlmService,
    events: broadcast::Receiver<Event>,
    asked: usize,
    served: BTreeMap<String, usize>,
    lost: usize,
}

impl Run {
    /// Sends the requests of a phase, five at a time, and prints the events. Returns the tiers that served them.
    async fn phase(&mut self, (requests, title, pause): Phase) -> BTreeMap<String, usize> {
        println!("\n{}-{}: {title}", self.asked + 1, self.asked + requests);
        let (mut served, mut slowest) = (BTreeMap::new(), Duration::ZERO);
        for _ in 0..requests / 5 {
            let mut wave = JoinSet::new();
            for _ in 0..5 {
                self.asked += 1;
                wave.spawn(ask(self.llm.clone(), self.asked));
            }
            while let Some(result) = wave.join_next().await {
                match result.expect("a request does not panic") {
                    Ok((tier, took)) => {
                        *served.entry(tier).or_insert(0) += 1;
                        slowest = slowest.max(took);
                    }
                    Err(error) => {
                        self.lost += 1;
                        println!("  LOST: {error}");
                    }
                }
            }
            self.print_events();
            tokio::time::sleep(pause).await;
        }
        println!("  served by {}; the slowest took {slowest:.0?}", list(&served));
        for (tier, count) in &served {
            *self.served.entry(tier.clone()).or_default() += count;
        }
        served
    }

    /// Prints the layers' events since the last call.
    fn print_events(&mut self) {
        let asked = self.asked;
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::ModelSwitched { from, to, reason, .. } => {
                    println!("  by request {asked}: switched from {from} to {to} ({reason})");
                }
                Event::ModelRecovered { from, to, after, .. } => {
                    println!("  by request {asked}: back from {from} to {to} after {after:.1?}");
                }
                Event::CircuitChanged { circuit, from, to, reason, .. } => {
                    println!("  by request {asked}: circuit of {circuit}: {from} -> {to} ({reason})");
                }
                _ => {}
            }
        }
    }
}

/// Sends one request, every other one as a stream, reads the answer to its end, and returns its tier and its time.
async fn ask(mut llm: BoxLlmService, number: usize) -> Result<(String, Duration), LlmError> {
    let asked = Instant::now();
    let stream = number.is_multiple_of(2);
    let feature = if stream { "chat" } else { "summary" };
    let request =
        LlmRequest::prompt(format!("Question {number}: what is a closure?")).with_feature(feature).with_stream(stream);
    let answer = llm.ready().await?.call(request).await?;
    let tier = answer.served_by().tier.unwrap_or("nobody").to_owned();
    match answer.text().await?.is_empty() {
        false => Ok((tier, asked.elapsed())),
        true => Err(LlmError::new(ErrorKind::EmptyAnswer, "an answer without text")),
    }
}

/// Formats the counts: `gpt-4o 30, sonnet 10`.
fn list(served: &BTreeMap<String, usize>) -> String {
    let each: Vec<String> = served.iter().map(|(tier, count)| format!("{tier} {count}")).collect();
    each.join(", ")
}
