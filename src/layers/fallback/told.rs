//! When it is told that another tier serves than before: at once, and after relapses only what lasts.
//!
//! A request that one tier fails and the next one answers is no news by itself where that happens now and then, and neither is a lucky answer
//! of a primary that is down. What has been told as a way back and then fails again is a *relapse*. Each asks for more requests in a row
//! before the next change is told, and the way back for more time, too.

use std::time::Duration;

use tokio::time::Instant;

/// Which way a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To a tier further from the primary.
    Down,
    /// To one that is nearer.
    Up,
    /// To the primary.
    Home,
}

/// What was told of late, and what there is to tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// When the primary stopped serving; `None` while it serves.
    pub(super) away_since: Option<Instant>,
    /// The last change. What a request that began before it has met proves nothing about the time after.
    pub(super) last: Option<Instant>,
    /// When there was something to tell last, told or not.
    seen: Option<Instant>,
    /// Whether the last change was a way back.
    was_up: bool,
    relapses: usize,
    /// Whether an operator has ordered the last change.
    is_ordered: bool,
    streak: Option<Streak>,
}

/// Requests in a row that were answered elsewhere than is told.
#[derive(Clone, Copy, Debug)]
struct Streak {
    way: Way,
    answers: u32,
    since: Instant,
}

/// How many requests in a row tell of a change, and for how long it must have been so: after no relapse, one, and more.
const DOWN: [u32; 3] = [1, 10, 20];
const UP: [(u32, Duration); 3] =
    [(1, Duration::ZERO), (5, Duration::from_secs(60)), (20, Duration::from_secs(20 * 60))];
/// Relapses are forgotten when everything was as it is told for so long.
const FORGOTTEN: Duration = Duration::from_secs(12 * 3600);

impl Told {
    /// A request was answered by another tier than the one that is told to serve. Since when that is so, if it is to be told now.
    pub(super) fn shows(&mut self, way: Way, at: Instant) -> Option<Instant> {
        if self.seen.replace(at).is_some_and(|seen| at.saturating_duration_since(seen) > FORGOTTEN) {
            (self.relapses, self.was_up) = (0, false);
        }
        if std::mem::take(&mut self.is_ordered) && way != Way::Down {
            (self.last, self.streak) = (Some(at), None);
            return Some(at);
        }
        let known = self.streak.filter(|streak| streak.way == way);
        let streak = Streak {
            answers: known.map_or(1, |known| known.answers + 1),
            way,
            since: known.map_or(at, |known| known.since),
        };
        let is_relapse = way == Way::Down && self.was_up;
        let (answers, lasts) = match way {
            Way::Down => (DOWN[(self.relapses + usize::from(is_relapse)).min(DOWN.len() - 1)], Duration::ZERO),
            Way::Up | Way::Home => UP[self.relapses.min(UP.len() - 1)],
        };
        if streak.answers < answers || at.saturating_duration_since(streak.since) < lasts {
            self.streak = Some(streak);
            return None;
        }
        self.relapses += usize::from(is_relapse);
        (self.was_up, self.last, self.streak) = (way != Way::Down, Some(at), None);
        Some(streak.since)
    }

    /// An operator has taken the tier out of service that is told to serve: that is no relapse, nor is its return one.
    pub(super) fn is_ordered(&mut self, at: Instant) {
        (self.is_ordered, self.last, self.streak) = (true, Some(at), None);
    }

    /// The tier that is told to serve has answered.
    pub(super) fn goes_on(&mut self) {
        self.streak = None;
    }

    /// Whether the primary has answered the last request already.
    pub(super) fn is_returning(&self) -> bool {
        self.streak.is_some_and(|streak| streak.way == Way::Home)
    }

    /// Whether an answer of the primary says nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.away_since.is_none() && self.streak.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is told of answers that come a second apart: `.` by the tier that serves at the beginning, `x` by one further down, each
    /// `ms` after the one before. `v` and `^` stand where a change is told.
    fn told(answers: &str, apart: Duration) -> String {
        let (mut told, mut at, mut is_down) = (Told::default(), Instant::now(), false);
        let mut signs = String::new();
        for answer in answers.chars() {
            at += apart;
            let way = match (answer == 'x', is_down) {
                (true, false) => Way::Down,
                (false, true) => Way::Home,
                _ => {
                    told.goes_on();
                    signs.push(answer);
                    continue;
                }
            };
            let change = told.shows(way, at).is_some();
            is_down ^= change;
            signs.push(match (change, way) {
                (true, Way::Down) => 'v',
                (true, _) => '^',
                (false, _) => answer,
            });
        }
        signs
    }

    #[test]
    fn the_first_change_each_way_is_told_at_once() {
        assert_eq!(told("..xxxx....", SECOND), "..vxxx^...");
    }

    #[test]
    fn after_a_return_only_what_lasts_is_told() {
        assert_eq!(told("x.x.xx.xxxx.xxxxxxxxx.xxxxxxxxxxx", SECOND), "v^x.xx.xxxx.xxxxxxxxx.xxxxxxxxxvx");
        // And then the way back, when it has lasted for a minute of five answers or more.
        assert_eq!(told("x.xxxxxxxxxx....x.......", 15 * SECOND), "v^xxxxxxxxxv....x....^..");
    }

    #[test]
    fn a_provider_that_fails_now_and_then_is_one_switch_and_one_return() {
        let answers = "....x".repeat(500);
        assert_eq!(told(&answers, SECOND).matches(['v', '^']).count(), 2);
    }

    #[test]
    fn waves_are_told_as_one_outage_until_they_are_over() {
        // Five minutes of every twenty, for a day; then it is well.
        let wave = |well: usize| "x".repeat(40) + &".".repeat(well);
        let answers = wave(120).repeat(72) + &wave(400);
        let told = told(&answers, Duration::from_millis(7500));
        assert_eq!(told.matches(['v', '^']).collect::<String>(), "v^v^v^");
        assert!(told.rfind('^') > Some(72 * 160));
    }

    #[test]
    fn what_an_operator_orders_is_told_at_once_and_is_no_relapse() {
        let (mut told, at) = (Told::default(), Instant::now());
        for _ in 0..10 {
            told.is_ordered(at);
            assert_eq!(told.shows(Way::Home, at), Some(at));
        }
        assert!(told.shows(Way::Down, at).is_some() && told.shows(Way::Home, at).is_some());
        assert!(told.shows(Way::Down, at).is_none());
    }

    #[test]
    fn relapses_are_forgotten_in_the_end() {
        let (mut told, at) = (Told::default(), Instant::now());
        assert!(told.shows(Way::Down, at).is_some() && told.shows(Way::Home, at).is_some());
        assert!(told.shows(Way::Down, at + FORGOTTEN).is_none());
        told.goes_on();
        assert!(told.shows(Way::Down, at + FORGOTTEN * 2 + SECOND).is_some());
    }
}
