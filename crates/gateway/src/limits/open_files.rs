//! The number of connections that the limit of open files allows. Each connection is a file, and so is its request's
//! connection to a provider.

use steadfast_internal::system;

/// Returns the number of connections that can be open at once, of those wanted.
///
/// A server that spends its last file on a caller cannot call the provider, and takes the provider for down. Half of
/// the files are therefore for callers, and further callers wait. With `calls_out` false (simulated models, for a first
/// look) no call takes a file, and a low limit needs no warning.
pub(crate) fn connections(wanted: usize, calls_out: bool) -> usize {
    let Some(files) = system::open_files() else { return wanted };
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

/// The files that are open besides connections: the log, the listener, the configuration's watch, the runtime's.
const OTHERS: u64 = 100;

fn room(wanted: usize, files: u64) -> usize {
    let room = files.saturating_sub(OTHERS) / 2;
    usize::try_from(room).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
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
