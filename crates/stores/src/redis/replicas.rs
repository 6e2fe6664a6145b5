use std::{borrow::Cow, future::Future, pin::Pin, sync::LazyLock, time::Duration};

use redis::Script;

use super::{Redis, clock::late, link::Purpose, listener::Channel, millis, number};
use crate::replicas::{Notice, ReplicaStore, Report, Snapshot, Stamp};
use steadfast::store::{StoreError, StoreErrorKind};

static EXCHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/exchange.lua")));

/// Two hashes, `circuits` and `totals` behind the prefix, which expire a day after the last replica.
impl ReplicaStore for Redis {
    fn exchange<'a>(
        &'a self,
        report: &'a Report,
    ) -> Pin<Box<dyn Future<Output = Result<Snapshot, StoreError>> + Send + 'a>> {
        Box::pin(async move {
            let mut call = EXCHANGE.prepare_invoke();
            call.key(self.key("circuits")).key(self.key("totals"));
            call.arg(self.not_after())
                .arg(self.key(Channel::News.name()))
                .arg(report.replica)
                .arg(report.notices.len());
            for (name, notice) in &report.notices {
                let none = Notice { change: Cow::Borrowed(""), age: Duration::ZERO, remaining: Duration::ZERO };
                let Notice { change, age, remaining } = notice.as_ref().unwrap_or(&none);
                call.arg(&**name).arg(&**change).arg(millis(*age)).arg(millis(*remaining));
            }
            call.arg(report.counts.len());
            for (name, count) in &report.counts {
                call.arg(&**name).arg(count);
            }
            let reply: Vec<Vec<u8>> = self.run(WHAT, Purpose::Replicas, &call).await?;
            self.set_clock(reply.first());
            match &reply[..] {
                [_] => Err(late(WHAT)),
                reply => snapshot(report, reply).ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, WHAT)),
            }
        })
    }

    fn changed<'a>(&'a self, at_most: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.listener().wait_for(Channel::News, b"", at_most))
    }
}

const WHAT: &str = "exchanging state with other replicas";

/// Parses the script's reply: the time, the epoch, the notices, the totals.
fn snapshot(report: &Report, reply: &[Vec<u8>]) -> Option<Snapshot> {
    let (head, rest) = reply.split_at_checked(2)?;
    let (notices, totals) = rest.split_at_checked(report.notices.len())?;
    let now = number(&head[0])?;
    let epoch = number(&head[1])?;
    let notices = notices.iter().map(|notice| self::notice(notice, now)).collect();
    let total = |total: &Vec<u8>| std::str::from_utf8(total).ok()?.parse().ok();
    let totals = totals.iter().map(total).collect::<Option<Vec<i64>>>()?;
    (totals.len() == report.counts.len()).then_some(Snapshot { epoch, notices, totals })
}

/// Parses a notice; a damaged one is none.
fn notice(notice: &[u8], now: u64) -> Option<(Stamp, Notice)> {
    let mut parts = notice.splitn(4, |byte| *byte == b'|');
    let mut next = || parts.next();
    let (at, replica, until) = (number(next()?)?, number(next()?)?, number(next()?)?);
    let what = String::from_utf8(next()?.to_vec()).ok()?;
    let span = |from: u64, to: u64| Duration::from_millis(to.saturating_sub(from));
    Some((Stamp { at, replica }, Notice { change: what.into(), age: span(at, now), remaining: span(now, until) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_no_answer() {
        let report = Report { replica: 1, notices: vec![("a".into(), None)], counts: vec![("b".into(), 1)] };
        let reply =
            |parts: &[&str]| snapshot(&report, &parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>());
        let good = reply(&["1000", "7", "900|5|1500|closed", "-3"]).unwrap();
        assert_eq!((good.epoch, &good.totals[..]), (7, &[-3][..]));
        let (stamp, notice) = good.notices[0].clone().unwrap();
        assert_eq!(stamp, Stamp { at: 900, replica: 5 });
        assert_eq!((notice.age, notice.remaining), (Duration::from_millis(100), Duration::from_millis(500)));
        for bad in ["", "900", "900|5", "x|5|1500|closed", "900|5|1500"] {
            assert_eq!(reply(&["1000", "7", bad, "-3"]).unwrap().notices, [None], "{bad}");
        }
        for bad in [&[] as &[&str], &["1000"], &["1000", "7", ""], &["x", "7", "", "1"], &["1000", "7", "", "1", "2"]] {
            assert_eq!(reply(bad), None, "{bad:?}");
        }
    }
}
