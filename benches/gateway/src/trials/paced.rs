//! Streams at a model's pace: the time to the first piece of text, and the longest gap between two pieces, as callers
//! see them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::{
    dialect::{Dialect, Mode},
    http::{Connection, Kind},
    load::{Target, request},
    pace,
    provider::{PACE, Way},
    rig::Rig,
};

/// The times of all streams, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct PacedStreams {
    pub streams: usize,
    pub failed: usize,
    /// Until the first piece.
    pub first_p50: f64,
    pub first_p99: f64,
    /// The longest gap of each stream.
    pub gap_p50: f64,
    pub gap_p99: f64,
}

/// The streams at once.
pub const AT_ONCE: usize = 64;
/// The streams of each caller, one after the other.
const EACH: usize = 3;
/// The longest time for all streams of a caller, which last 1.3 s each.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures a contestant's.
pub async fn run(rig: &Rig, target: &Target) -> PacedStreams {
    rig.primary.set_way(Way::Paced);
    let bytes = request(target, Mode::Stream);
    let begun = std::time::Instant::now();
    let mut callers = JoinSet::new();
    for number in 0..AT_ONCE {
        let (target, bytes) = (target.clone(), bytes.clone());
        // Spread over the time between two pieces, so that the provider does not write all at once.
        let from = begun + PACE * u32::try_from(number).unwrap_or_default() / AT_ONCE as u32;
        callers.spawn(async move {
            pace::until(from).await;
            tokio::time::timeout(PATIENCE, call(&target, &bytes)).await.unwrap_or_default()
        });
    }
    let times = callers.join_all().await.concat();
    rig.primary.set_way(Way::Answers);
    PacedStreams::of(&times)
}

/// The times of one stream that was whole, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    first: f64,
    gap: f64,
}

impl PacedStreams {
    fn of(times: &[Times]) -> Self {
        let at = |of: fn(&Times) -> f64, share| quantile(times.iter().map(of).collect(), share);
        Self {
            streams: times.len(),
            failed: AT_ONCE * EACH - times.len(),
            first_p50: at(|times| times.first, 0.5),
            first_p99: at(|times| times.first, 0.99),
            gap_p50: at(|times| times.gap, 0.5),
            gap_p99: at(|times| times.gap, 0.99),
        }
    }
}

/// The smallest value that this share of all is not above (nearest rank); 0 of none.
pub fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Asks for one stream after the other, and returns the times of those that are whole.
async fn call(target: &Target, bytes: &[u8]) -> Vec<Times> {
    let mut all = Vec::new();
    let mut connection = None;
    for _ in 0..EACH {
        let fresh = match connection.take() {
            Some(kept) => Some(kept),
            None => TcpStream::connect(target.address).await.and_then(Connection::new).ok(),
        };
        let Some(fresh) = fresh else { continue };
        if let Some((times, kept)) = stream(fresh, target.dialect, bytes).await {
            all.push(times);
            connection = kept;
        }
    }
    all
}

async fn stream(mut connection: Connection, dialect: Dialect, bytes: &[u8]) -> Option<(Times, Option<Connection>)> {
    let asked = Instant::now();
    connection.send(bytes).await.ok()?;
    let head = connection.head(Kind::Response).await.ok()??;
    let (mut framing, mut body) = (head.framing, Vec::new());
    let mut arrivals: Vec<Instant> = Vec::new();
    let mut seen = 0;
    while connection.part(&mut framing, &mut body).await.ok()? {
        // Several at once are one arrival.
        let pieces = Dialect::pieces(&body);
        if pieces > seen {
            seen = pieces;
            arrivals.push(Instant::now());
        }
    }
    if !dialect.is_whole(Mode::Stream, &body) {
        return None;
    }
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let gaps = arrivals.windows(2).map(|pair| millis(pair[1].duration_since(pair[0])));
    let first = millis(arrivals.first()?.duration_since(asked));
    Some((Times { first, gap: gaps.fold(0.0, f64::max) }, Some(connection).filter(|_| !head.closes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Provider;

    #[test]
    fn a_quantile_is_the_value_of_its_rank() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let at = |share| quantile(values.clone(), share);
        assert_eq!([at(0.5), at(0.99), at(1.0)].map(|value| value as u32), [100, 198, 200]);
        assert_eq!(quantile(Vec::new(), 0.5) as u32, 0);
        assert_eq!(quantile(vec![7.0], 0.99) as u32, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_is_seen_where_it_is() {
        let provider = Provider::start(Duration::ZERO, PACE).await.unwrap();
        let target = Target::of(provider.address, Dialect::OpenAi, "m");
        provider.set_way(Way::Paced);
        let paced = PacedStreams::of(&call(&target, &request(&target, Mode::Stream)).await);
        assert_eq!((paced.streams, paced.failed), (EACH, AT_ONCE * EACH - EACH));
        assert_eq!([paced.gap_p50, paced.gap_p99], [20.0; 2]);
        // The first event has no text. A paused clock may be one wait ahead of the socket.
        assert!([paced.first_p50, paced.first_p99].iter().all(|first| (20.0..=40.0).contains(first)), "{paced:?}");
        provider.set_way(Way::Cut);
        assert!(call(&target, &request(&target, Mode::Stream)).await.is_empty());
        let at_once = Provider::start(Duration::ZERO, Duration::ZERO).await.unwrap();
        let target = Target::of(at_once.address, Dialect::OpenAi, "m");
        let times = call(&target, &request(&target, Mode::Stream)).await;
        assert_eq!((times.len(), times.iter().filter(|times| times.gap > 0.0).count()), (EACH, 0));
    }
}
