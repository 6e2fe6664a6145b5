//! The load that a build learns from: whole answers, pictures and streams in a dialect, with the first provider up and
//! down.

use std::time::Duration;

use crate::{
    contestants::{Contestant, Measured},
    dialect::Mode,
    load::{Load, Shape},
    provider::Way,
    rig::Rig,
};

/// Starts a contestant, asks it for some of each, and ends it, so that it writes its profile.
///
/// # Errors
///
/// It does not start, or an answer is not whole.
pub async fn run(rig: &Rig, contestant: &Contestant) -> Result<(), String> {
    let running = rig.start(contestant).await?;
    for way in [Way::Answers, Way::Down] {
        rig.primary.set_way(way);
        for mode in [Mode::Plain, Mode::Picture, Mode::Stream] {
            if mode != Mode::Plain && contestant.measured == Measured::Answers {
                continue;
            }
            let load = Load::start(&running.target, Shape { mode, connections: CONNECTIONS, fresh: false });
            let answered = load.until(requests(mode)).await;
            load.end(PATIENCE).await;
            answered?;
        }
    }
    rig.primary.set_way(Way::Answers);
    Ok(())
}

const CONNECTIONS: usize = 16;
/// The longest wait for the last answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the number of requests: of the long ones fewer, so that each kind counts about as much.
fn requests(mode: Mode) -> u64 {
    match mode {
        Mode::Plain => 2000,
        Mode::Picture => 500,
        Mode::Stream => 200,
    }
}
