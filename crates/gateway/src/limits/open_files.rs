//! How many connections there can be: each is a file to the system, and so is the one that its request takes to a provider.

/// How many connections can be open at once, of so many that are wanted.
///
/// A server that spends its last file on a caller has none left to call the provider with, and takes the provider to be
/// down. So half of the files are for callers, and the others wait outside. Where no call takes one (`calls_out`), as of simulated
/// models for a first look, nobody needs to hear of it.
pub(crate) fn connections(wanted: usize, calls_out: bool) -> usize {
    let Some(files) = raised() else { return wanted };
    let room = room(wanted, files);
    if room < wanted && calls_out {
        tracing::warn!(
            connections = room,
            files,
            "fewer connections than wanted: raise the limit of open files (`ulimit -n`, LimitNOFILE)"
        );
    }
    room
}

/// What is open beside connections: the log, the listener, the configuration's watch, what runs the tasks.
const OTHERS: u64 = 100;

fn room(wanted: usize, files: u64) -> usize {
    let room = files.saturating_sub(OTHERS) / 2;
    usize::try_from(room).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
}

/// The limit of open files, raised as far as the system allows without asking anybody: many systems begin with 1,024 for
/// the sake of programs that cannot count further.
#[cfg(unix)]
fn raised() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, most) {
        Ok(()) => limit.maximum,
        // Some systems say "no limit" and mean one of their own.
        Err(_) => limit.current,
    }
}

#[cfg(not(unix))]
fn raised() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_a_file_for_its_call() {
        assert_eq!(room(20_000, 1_048_576), 20_000);
        assert_eq!(room(20_000, 20_100), 10_000);
        assert_eq!(room(20_000, 64), 1);
        assert_eq!(room(0, 64), 1);
    }
}
