//! A first provider that fails in other ways than by an error at once, as callers see it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use super::ends::End;
use crate::{
    dialect::Mode,
    http::{Connection, Kind},
    load::{Target, request},
    provider::Way,
    rig::Rig,
};

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Fault {
    /// A stream that the provider closes after 20 of its events.
    Cut,
    /// A whole answer that comes after 30 s.
    Late,
    /// The head of a stream, and then nothing.
    Silent,
}

impl Fault {
    pub const ALL: [Self; 3] = [Self::Cut, Self::Late, Self::Silent];

    const fn way(self) -> (Way, Mode) {
        match self {
            Self::Cut => (Way::Cut, Mode::Stream),
            Self::Late => (Way::Late, Mode::Plain),
            Self::Silent => (Way::Silent, Mode::Stream),
        }
    }

    /// A few words for the head of a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cut => "closes the connection in mid-stream, after 20 events of each stream",
            Self::Late => "answers after 30 s, whole answers",
            Self::Silent => "sends the head of a stream and then nothing",
        }
    }
}

/// The ends of all requests under a fault.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ends {
    pub fault: Fault,
    /// The number of requests that came to each end, in the order of [`End::ALL`].
    pub ends: [u64; End::ALL.len()],
    /// Seconds until the callers had their ends.
    pub p50: f64,
    pub most: f64,
    /// The requests that the second provider had.
    pub second: u64,
}

/// The callers at once, and the requests of each: the second shows what was learned of the first.
const CALLERS: usize = 16;
const EACH: usize = 2;
/// The longest that a caller waits: longer than a provider that is late.
const PATIENCE: Duration = Duration::from_secs(35);

/// Asks a contestant that has just been started, with a first provider that fails so.
pub async fn run(rig: &Rig, target: &Target, fault: Fault) -> Ends {
    let (way, mode) = fault.way();
    rig.primary.set_way(way);
    let before = rig.backup.asked();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let target = target.clone();
        callers.spawn(async move {
            let mut ends = Vec::new();
            for _ in 0..EACH {
                let begun = Instant::now();
                let ended = ask(&target, mode, PATIENCE).await;
                ends.push((ended, begun.elapsed().as_secs_f64()));
            }
            ends
        });
    }
    let ends = callers.join_all().await.concat();
    rig.primary.set_way(Way::Answers);
    Ends::of(fault, &ends, rig.backup.asked() - before)
}

impl Ends {
    fn of(fault: Fault, ends: &[(End, f64)], second: u64) -> Self {
        let count = |ended| ends.iter().filter(|(end, _)| *end == ended).count() as u64;
        let took = || ends.iter().map(|(_, seconds)| *seconds).collect();
        let [p50, most] = [0.5, 1.0].map(|share| super::paced::quantile(took(), share));
        Self { fault, ends: End::ALL.map(count), p50, most, second }
    }
}

/// One request on a connection of its own, for so long.
async fn ask(target: &Target, mode: Mode, patience: Duration) -> End {
    let (mut status, mut body) = (None, Vec::new());
    let exchange = async {
        let mut connection = Connection::new(TcpStream::connect(target.address).await?)?;
        connection.send(&request(target, mode)).await?;
        if let Some(head) = connection.head(Kind::Response).await? {
            status = Some(head.status);
            let mut framing = head.framing;
            while connection.part(&mut framing, &mut body).await? {}
        }
        std::io::Result::Ok(())
    };
    let waited = timeout(patience, exchange).await.is_err();
    End::of(target.dialect, mode, status, &body, waited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dialect::Dialect, provider::Provider};

    #[tokio::test]
    async fn without_a_gateway_each_fault_is_what_the_caller_sees() {
        let provider = Provider::start(Duration::ZERO, Duration::ZERO).await.unwrap();
        let target = Target::of(provider.address, Dialect::OpenAi, "m");
        let short = Duration::from_millis(50);
        for (way, mode, ended) in [
            (Way::Answers, Mode::Stream, End::Whole),
            (Way::Down, Mode::Plain, End::ErrorStatus),
            (Way::Cut, Mode::Stream, End::Break),
            (Way::Cut, Mode::Plain, End::Break),
            (Way::Late, Mode::Plain, End::Silence),
            (Way::Silent, Mode::Stream, End::Silence),
        ] {
            provider.set_way(way);
            // What ends does so at once; the patience is for what does not.
            let patience = if ended == End::Silence { short } else { PATIENCE };
            assert_eq!(ask(&target, mode, patience).await, ended, "{way:?}");
        }
    }

    #[test]
    fn ends_are_counted_and_timed() {
        let ends = [(End::Whole, 1.0), (End::Whole, 2.0), (End::Break, 9.0)];
        let seen = Ends::of(Fault::Cut, &ends, 2);
        assert_eq!(seen.ends, [2, 0, 0, 1, 0, 0]);
        assert_eq!((seen.p50 as u32, seen.most as u32), (2, 9));
    }
}
