//! The reports of a change of the serving tier: at once, and after relapses only of lasting changes.
//!
//! A request that one tier fails and the next one answers is no change if that happens now and then, and neither is
//! a lucky answer of a primary that is down. A reported recovery that then fails again is a *relapse*. Each relapse
//! asks for more requests in a row before the next change is reported, and for more time before a recovery, too.

use std::time::Duration;

use tokio::time::Instant;

/// The direction of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To a tier further from the primary.
    Down,
    /// To a tier nearer to the primary.
    Up,
    /// To the primary.
    Home,
}

/// The changes reported of late, and the change to report.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SwitchReports {
    /// The time at which the primary stopped serving; `None` while it serves.
    pub(crate) away_since: Option<Instant>,
    /// The time of the last change. A request that began before it proves nothing about the time after.
    pub(crate) last: Option<Instant>,
    /// The time of the last change, reported or not.
    seen: Option<Instant>,
    /// True if the last change was toward the primary.
    was_up: bool,
    relapses: usize,
    /// True if an operator has ordered the last change.
    is_ordered: bool,
    streak: Option<Streak>,
}

/// Requests in a row that another tier answered than the reported one.
#[derive(Clone, Copy, Debug)]
struct Streak {
    direction: Direction,
    answers: u32,
    since: Instant,
}

/// The number of requests in a row that show a change, and the time for which it must have lasted: after no
/// relapse, one, and more.
const DOWN: [u32; 3] = [1, 10, 20];
const UP: [(u32, Duration); 3] =
    [(1, Duration::ZERO), (5, Duration::from_secs(60)), (20, Duration::from_secs(20 * 60))];
/// The time without a change after which relapses are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(12 * 3600);

impl SwitchReports {
    /// Returns when the primary stopped serving, whether that is reported or not yet.
    pub(crate) fn elsewhere_since(&self) -> Option<Instant> {
        let streak = self.streak.filter(|streak| streak.direction == Direction::Down);
        self.away_since.or_else(|| streak.map(|streak| streak.since))
    }

    /// Records an answer of a tier other than the reported one. Returns when the change began, if it is to be
    /// reported now.
    pub(crate) fn shows(&mut self, direction: Direction, at: Instant) -> Option<Instant> {
        if self.seen.replace(at).is_some_and(|seen| at.saturating_duration_since(seen) > FORGOTTEN) {
            (self.relapses, self.was_up) = (0, false);
        }
        if std::mem::take(&mut self.is_ordered) && direction != Direction::Down {
            (self.last, self.streak) = (Some(at), None);
            return Some(at);
        }
        let known = self.streak.filter(|streak| streak.direction == direction);
        let streak = Streak {
            answers: known.map_or(1, |known| known.answers + 1),
            direction,
            since: known.map_or(at, |known| known.since),
        };
        let is_relapse = direction == Direction::Down && self.was_up;
        let (answers, lasts) = match direction {
            Direction::Down => (DOWN[(self.relapses + usize::from(is_relapse)).min(DOWN.len() - 1)], Duration::ZERO),
            Direction::Up | Direction::Home => UP[self.relapses.min(UP.len() - 1)],
        };
        if streak.answers < answers || at.saturating_duration_since(streak.since) < lasts {
            self.streak = Some(streak);
            return None;
        }
        self.relapses += usize::from(is_relapse);
        (self.was_up, self.last, self.streak) = (direction != Direction::Down, Some(at), None);
        Some(streak.since)
    }

    /// Records that an operator has drained the serving tier: that is no relapse, nor is its return one.
    pub(crate) fn is_ordered(&mut self, at: Instant) {
        (self.is_ordered, self.last, self.streak) = (true, Some(at), None);
    }

    /// Records an answer of the tier that is reported to serve.
    pub(crate) fn goes_on(&mut self) {
        self.streak = None;
    }

    /// Returns whether the primary has already answered the last request.
    pub(crate) fn is_returning(&self) -> bool {
        self.streak.is_some_and(|streak| streak.direction == Direction::Home)
    }

    /// Returns whether an answer of the primary changes nothing.
    pub(crate) fn is_settled(&self) -> bool {
        self.away_since.is_none() && self.streak.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns the reports for answers that come `apart` from each other: `.` by the tier that serves at the
    /// beginning, `x` by one further down. `v` and `^` stand where a change is reported.
    fn reports(answers: &str, apart: Duration) -> String {
        let (mut reports, mut at, mut is_down) = (SwitchReports::default(), Instant::now(), false);
        let mut signs = String::new();
        for answer in answers.chars() {
            at += apart;
            let direction = match (answer == 'x', is_down) {
                (true, false) => Direction::Down,
                (false, true) => Direction::Home,
                _ => {
                    reports.goes_on();
                    signs.push(answer);
                    continue;
                }
            };
            let change = reports.shows(direction, at).is_some();
            is_down ^= change;
            signs.push(match (change, direction) {
                (true, Direction::Down) => 'v',
                (true, _) => '^',
                (false, _) => answer,
            });
        }
        signs
    }

    #[test]
    fn the_first_change_each_way_is_told_at_once() {
        assert_eq!(reports("..xxxx....", SECOND), "..vxxx^...");
    }

    #[test]
    fn after_a_return_only_what_lasts_is_told() {
        assert_eq!(reports("x.x.xx.xxxx.xxxxxxxxx.xxxxxxxxxxx", SECOND), "v^x.xx.xxxx.xxxxxxxxx.xxxxxxxxxvx");
        // And then the recovery, when it has lasted for a minute of five answers or more.
        assert_eq!(reports("x.xxxxxxxxxx....x.......", 15 * SECOND), "v^xxxxxxxxxv....x....^..");
    }

    #[test]
    fn a_provider_that_fails_now_and_then_is_one_switch_and_one_return() {
        let answers = "....x".repeat(500);
        assert_eq!(reports(&answers, SECOND).matches(['v', '^']).count(), 2);
    }

    #[test]
    fn waves_are_told_as_one_outage_until_they_are_over() {
        // Five minutes of every twenty, for a day; then it is well.
        let wave = |well: usize| "x".repeat(40) + &".".repeat(well);
        let answers = wave(120).repeat(72) + &wave(400);
        let reports = reports(&answers, Duration::from_millis(7500));
        assert_eq!(reports.matches(['v', '^']).collect::<String>(), "v^v^v^");
        assert!(reports.rfind('^') > Some(72 * 160));
    }

    #[test]
    fn what_an_operator_orders_is_told_at_once_and_is_no_relapse() {
        let (mut reports, at) = (SwitchReports::default(), Instant::now());
        for _ in 0..10 {
            reports.is_ordered(at);
            assert_eq!(reports.shows(Direction::Home, at), Some(at));
        }
        assert!(reports.shows(Direction::Down, at).is_some() && reports.shows(Direction::Home, at).is_some());
        assert!(reports.shows(Direction::Down, at).is_none());
    }

    #[test]
    fn relapses_are_forgotten_in_the_end() {
        let (mut reports, at) = (SwitchReports::default(), Instant::now());
        assert!(reports.shows(Direction::Down, at).is_some() && reports.shows(Direction::Home, at).is_some());
        assert!(reports.shows(Direction::Down, at + FORGOTTEN).is_none());
        reports.goes_on();
        assert!(reports.shows(Direction::Down, at + FORGOTTEN * 2 + SECOND).is_some());
    }
}
