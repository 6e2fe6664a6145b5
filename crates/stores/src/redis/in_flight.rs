use std::sync::{Arc, LazyLock};

use redis::Script;

use super::{Redis, clock::late, link::Purpose, millis, number};
use crate::replicas::{InFlightFuture, InFlightStore, LEASE};
use steadfast::store::{StoreError, StoreErrorKind};

static IN_FLIGHT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/in_flight.lua")));

const WHAT: &str = "counting the requests in flight of callers";

/// A hash for each name, `flight:` and the name behind the prefix, which expires with the last replica's lease.
impl InFlightStore for Redis {
    fn count_in_flight<'a>(&'a self, replica: u64, counts: &'a [(Arc<str>, usize)]) -> InFlightFuture<'a> {
        Box::pin(async move {
            let mut call = IN_FLIGHT.prepare_invoke();
            call.arg(self.not_after()).arg(replica).arg(millis(LEASE));
            for (name, count) in counts {
                call.key(self.key(&format!("flight:{name}"))).arg(count);
            }
            let reply: Vec<Vec<u8>> = self.run(WHAT, Purpose::Replicas, &call).await?;
            self.set_clock(reply.first());
            match &reply[..] {
                [_] if !counts.is_empty() => Err(late(WHAT)),
                reply => others(reply, counts.len()).ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, WHAT)),
            }
        })
    }
}

/// Parses the script's reply: the time, then for each name the number at other replicas.
fn others(reply: &[Vec<u8>], names: usize) -> Option<Vec<usize>> {
    let others = reply.get(1..).filter(|others| others.len() == names)?;
    others.iter().map(|count| usize::try_from(number(count)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_no_answer() {
        let reply = |parts: &[&str]| others(&parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>(), 1);
        assert_eq!(reply(&["1000", "7"]), Some(vec![7]));
        let bad: [&[&str]; 5] = [&[], &["1"], &["1", "x"], &["1", "-1"], &["1", "2", "3"]];
        assert!(bad.iter().all(|bad| reply(bad).is_none()));
    }
}
