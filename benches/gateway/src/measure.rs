//! Each contestant in turn: started, measured in all its cells, ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    contestants::{Contestant, Measured},
    dialect::Mode,
    load::{Load, Shape},
    process::Process,
    provider::{Provider, Way},
    rig::{Rig, Running},
    trials::Trials,
};

/// One measurement of a contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub shape: Shape,
    /// The first provider is down, so that the second serves.
    pub down: bool,
}

/// The numbers of callers at once.
pub const CONNECTIONS: [usize; 3] = [1, 16, 128];

impl Cell {
    const fn of(mode: Mode, connections: usize, down: bool) -> Self {
        Self { shape: Shape { mode, connections, fresh: false }, down }
    }

    /// A stream on a connection of its own, for comparison with one on a connection that is kept.
    pub const FRESH: Self = Self { shape: Shape { mode: Mode::Stream, connections: 1, fresh: true }, down: false };

    /// A request with a picture.
    pub const PICTURE: Self = Self::of(Mode::Picture, 16, false);

    /// A few words that name it.
    pub fn name(self) -> String {
        let Shape { mode, connections, fresh } = self.shape;
        let new = if fresh { ", new connections" } else { "" };
        let down = if self.down { ", the first provider down" } else { "" };
        format!("{}, {connections} connections{new}{down}", mode.name())
    }

    /// True of what a contestant of this kind is measured in.
    pub fn is_for(self, measured: Measured) -> bool {
        match measured {
            Measured::Whole | Measured::Once => true,
            Measured::Up => !self.down,
            Measured::Sixteen => !self.down && self.shape.connections == 16 && self.shape.mode != Mode::Picture,
            Measured::Instructions | Measured::Answers => false,
        }
    }

    /// All, in the order in which they are measured: one with the first provider down right after the same with it up,
    /// since a machine is quicker in one minute than in the next.
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for mode in [Mode::Plain, Mode::Stream] {
            for connections in CONNECTIONS {
                cells.extend([false, true].map(|down| Self::of(mode, connections, down)));
            }
        }
        cells.extend([Self::FRESH, Self::PICTURE]);
        cells
    }
}

/// The result of one cell, in one round.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Figures {
    pub per_second: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p99: f64,
    /// Microseconds for each request.
    pub cpu: f64,
    /// Bytes.
    pub peak: f64,
    /// The share of requests that had no whole answer.
    pub failed: f64,
    /// The number of requests to the first provider, for each request.
    pub asked: f64,
}

/// The results of a contestant.
#[derive(Clone, Debug)]
pub struct Row {
    pub contestant: Contestant,
    pub version: String,
    /// Why it was not measured.
    pub absent: Option<String>,
    /// The moment and the last words of one that ended in mid-run; later nothing of it was measured.
    pub died: Option<String>,
    /// For each cell the rounds.
    pub cells: Vec<(Cell, Vec<Figures>)>,
    /// The first failure.
    pub failure: Option<String>,
    pub trials: Trials,
}

impl Row {
    pub fn new(contestant: Contestant) -> Self {
        let cells = Cell::all().into_iter().filter(|cell| cell.is_for(contestant.measured));
        Self {
            contestant,
            version: String::new(),
            absent: None,
            died: None,
            cells: cells.map(|cell| (cell, Vec::new())).collect(),
            failure: None,
            trials: Trials::default(),
        }
    }

    /// Returns the reason of missing figures: it did not start, or it ended in mid-run.
    pub fn missing(&self) -> Option<String> {
        let absent = self.absent.as_ref().map(|why| format!("absent: {why}"));
        absent.or_else(|| self.died.as_ref().map(|how| format!("ended: {how}")))
    }

    /// The middle of the rounds, figure by figure.
    pub fn median(&self, cell: Cell) -> Option<Figures> {
        let rounds = &self.cells.iter().find(|(at, _)| *at == cell)?.1;
        let of = |figure: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        (!rounds.is_empty()).then(|| Figures {
            per_second: of(|f| f.per_second),
            p50: of(|f| f.p50),
            p99: of(|f| f.p99),
            cpu: of(|f| f.cpu),
            peak: of(|f| f.peak),
            failed: of(|f| f.failed),
            asked: of(|f| f.asked),
        })
    }
}

impl Rig {
    /// One round of a contestant. A second process of it has a first provider that is down.
    pub async fn round(&self, row: &mut Row, wanted: impl Fn(&Cell) -> bool, timing: Timing) {
        if row.died.is_some() {
            return;
        }
        let has_down = row.cells.iter().any(|(cell, _)| cell.down && wanted(cell));
        let started = async {
            let up = self.start(&row.contestant).await?;
            let down = if has_down { Some(self.start_down(&row.contestant, timing).await?) } else { None };
            Ok::<_, String>((up, down))
        };
        let (mut up, mut down) = match started.await {
            Ok(started) => started,
            Err(absent) => {
                row.absent = Some(absent);
                return;
            }
        };
        row.version.clone_from(&up.version);
        for (cell, rounds) in row.cells.iter_mut().filter(|(cell, _)| wanted(cell)) {
            let (rig, running) = match &mut down {
                Some((rig, running)) if cell.down => (&*rig, running),
                _ => (self, &mut up),
            };
            let (figures, failure) = rig.cell(running, *cell, timing).await;
            if row.failure.is_none() {
                row.failure = failure;
            }
            if let Some(death) = running.death(&format!("in {}", cell.name())) {
                // The figures of a cell in which it ended are those of a part of it.
                row.died = Some(death);
                break;
            }
            rounds.push(figures);
        }
    }

    /// Starts a contestant with a first provider of its own, which then is down, and waits until it has noticed: how it
    /// is from then on is measured.
    async fn start_down(&self, contestant: &Contestant, timing: Timing) -> Result<(Self, Running), String> {
        let primary = Provider::start(Duration::ZERO, Duration::ZERO).await.map_err(|error| error.to_string())?;
        let rig = Self { primary, folder: self.folder.join("down"), ..self.clone() };
        let running = rig.start(contestant).await?;
        rig.primary.set_way(Way::Down);
        let load = Load::start(&running.target, Shape { mode: Mode::Plain, connections: 16, fresh: false });
        sleep(timing.notice).await;
        load.end(PATIENCE).await;
        Ok((rig, running))
    }

    async fn cell(&self, running: &Running, cell: Cell, timing: Timing) -> (Figures, Option<String>) {
        let used = || running.process.as_ref().map(Process::used).unwrap_or_default();
        if let Some(process) = &running.process {
            process.forget_peak();
        }
        let load = Load::start(&running.target, cell.shape);
        sleep(timing.warm_up).await;
        let (before, asked_before) = (used(), self.primary.asked());
        load.begin();
        sleep(timing.measured).await;
        let mut outcome = load.so_far();
        // A slow contestant has longer, or there would be too few answers to tell the 99th of a hundred.
        while outcome.requests() < ENOUGH && outcome.seconds < timing.measured.as_secs_f64() * LONGER {
            sleep(timing.measured / 4).await;
            outcome = load.so_far();
        }
        let (after, asked) = (used(), self.primary.asked() - asked_before);
        load.end(PATIENCE).await;
        let requests = outcome.requests() as f64;
        let all = requests + outcome.failures as f64;
        let of_each = |sum: f64| if all > 0.0 { sum / all } else { 0.0 };
        let figures = Figures {
            per_second: outcome.per_second(),
            p50: outcome.quantile(0.5),
            p99: outcome.quantile(0.99),
            cpu: of_each(after.cpu_seconds - before.cpu_seconds) * 1e6,
            peak: after.peak as f64,
            failed: of_each(outcome.failures as f64),
            asked: of_each(asked as f64),
        };
        (figures, outcome.failure.map(|failure| format!("{}: {failure}", cell.name())))
    }
}

/// The duration of each cell.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub warm_up: Duration,
    pub measured: Duration,
    /// The time that a gateway has to notice that a provider is down.
    pub notice: Duration,
}

/// So many answers are enough for a 99th percentile.
const ENOUGH: u64 = 500;
/// The most times as long that a cell may take to get them.
const LONGER: f64 = 4.0;
/// The longest wait for the last answers of a cell.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{
        contestants::{Gateway, Surroundings},
        dialect::Dialect,
        load::Target,
        report,
        result::Measured as Run,
    };

    /// A program that lives for so long, while the provider itself gives the answers.
    fn living(surroundings: &Surroundings, seconds: &str) -> Result<Gateway, String> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo begin; sleep {seconds}; echo 'out | of memory'; exit 3")]);
        let target = Target::of(surroundings.primary, Dialect::OpenAi, "m");
        Ok(Gateway { version: "1.0".to_owned(), command, target, says: None })
    }

    async fn rig(name: &str) -> Rig {
        let start = || Provider::start(Duration::ZERO, Duration::ZERO);
        let folder = std::env::temp_dir().join(format!("steadfast-measure-{}-{name}", std::process::id()));
        let (primary, backup) = (start().await.unwrap(), start().await.unwrap());
        Rig { primary, backup, gateways: folder.clone(), steadfast: folder.clone(), folder, under: &[] }
    }

    fn shown(row: Row) -> String {
        report::markdown(&Run::now("Once.".to_owned(), vec![row], None))
    }

    const MILLISECOND: Duration = Duration::from_millis(1);
    const SHORT: Timing = Timing {
        warm_up: MILLISECOND.saturating_mul(2),
        measured: MILLISECOND.saturating_mul(20),
        notice: MILLISECOND,
    };

    #[tokio::test]
    async fn who_ends_in_mid_run_is_shown_with_its_last_words_and_without_figures_from_then_on() {
        let rig = rig("ends").await;
        let mut row = Row::new(Contestant::new("Brief", "a test", Some(|around| living(around, "0.15"))));
        rig.round(&mut row, |cell| !cell.down, SHORT).await;
        std::fs::remove_dir_all(&rig.folder).unwrap();
        let died = row.died.clone().unwrap();
        assert!(died.starts_with("in ") && died.ends_with("begin / out | of memory"), "{died}");
        assert!(row.absent.is_none() && row.cells.iter().any(|(_, rounds)| rounds.is_empty()));
        let text = shown(row);
        assert!(text.contains("| Brief | ended: in ") && text.contains("it ended by itself"), "{text}");
    }

    #[tokio::test]
    async fn down_is_measured_right_after_up_with_a_first_provider_of_its_own() {
        let rig = rig("down").await;
        let mut row = Row::new(Contestant::new("Passed", "a test", Some(|around| living(around, "60"))));
        // Long enough for some answers on a machine that is busy.
        let timing = Timing { measured: MILLISECOND.saturating_mul(100), ..SHORT };
        rig.round(&mut row, |cell| cell.shape.mode == Mode::Plain, timing).await;
        std::fs::remove_dir_all(&rig.folder).unwrap();
        assert!(row.absent.is_none() && row.died.is_none());
        let measured: Vec<_> = row.cells.iter().filter_map(|(cell, _)| Some((cell, row.median(*cell)?))).collect();
        for (at, (cell, figures)) in measured.iter().enumerate() {
            assert_eq!(cell.down, at % 2 == 1, "{}", cell.name());
            // Nobody goes on to the second provider here.
            let failed = if cell.down { 1.0 } else { 0.0 };
            assert!((figures.failed - failed).abs() < 1e-9 && figures.asked > 0.0, "{}: {figures:?}", cell.name());
        }
        assert_eq!(measured.len(), 2 * CONNECTIONS.len());
        assert!(row.failure.unwrap().contains("503"));
    }

    #[tokio::test]
    async fn who_ends_at_its_start_is_shown_as_absent_and_why() {
        async fn start(make: fn(&Surroundings) -> Result<Gateway, String>) -> Row {
            let rig = rig("absent").await;
            rig.primary.set_way(Way::Down);
            let mut row = Row::new(Contestant::new("None", "a test", Some(make)));
            // Its answers are of a provider that stays down.
            row.absent = rig.start(&row.contestant).await.err();
            std::fs::remove_dir_all(&rig.folder).unwrap();
            row
        }
        let row = start(|around| living(around, "0")).await;
        let absent = row.absent.clone().unwrap();
        assert!(absent.starts_with("it ends at its start: 503") && absent.contains("out | of memory"), "{absent}");
        assert!(shown(row).contains("- None: absent: it ends at its start"));
        let row = start(|_| Err("it is not installed".to_owned())).await;
        assert_eq!(row.absent.as_deref(), Some("it is not installed"));
    }

    #[tokio::test]
    async fn wrong_answers_are_failures_with_the_first_of_them() {
        let rig = rig("wrong").await;
        let mut row = Row::new(Contestant::new("Wrong", "a test", Some(|around| living(around, "60"))));
        let running = rig.start(&row.contestant).await.unwrap();
        // Half answers, from here on.
        rig.primary.set_way(Way::Cut);
        for (cell, rounds) in row.cells.iter_mut().filter(|(cell, _)| cell.shape.mode != Mode::Stream) {
            let (figures, failure) = rig.cell(&running, *cell, SHORT).await;
            rounds.push(figures);
            row.failure = row.failure.take().or(failure);
            assert!(figures.failed > 0.99, "{figures:?}");
        }
        drop(running);
        std::fs::remove_dir_all(&rig.folder).unwrap();
        let mut slow = row.clone();
        for (_, rounds) in &mut slow.cells {
            *rounds = vec![Figures::default()];
        }
        assert!(shown(slow).contains("| no answer in time |"));
        let text = shown(row);
        assert!(text.contains("| Wrong | 16 | 0 | - | - | - |") && text.contains("100.0%"), "{text}");
        assert!(text.contains("its first failure: plain, 1 connections: "), "{text}");
    }
}
