//! A run's results as a file, for a later report.

use std::{fs, io, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::{
    contestants,
    dialect::Mode,
    load::Shape,
    measure::{Cell, Figures, Row},
    process,
    soak::Soak,
    targets::{self, Aim},
    trials::Trials,
};

/// A run: where and when, and all figures.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The day.
    pub date: String,
    pub machine: String,
    /// The method of measuring, in a sentence or two.
    pub how: String,
    pub rows: Vec<Row>,
    pub soak: Option<Soak>,
}

impl Measured {
    /// A run of today on this machine.
    pub fn now(how: String, rows: Vec<Row>, soak: Option<Soak>) -> Self {
        Self { date: said("date", &["-u", "+%Y-%m-%d"]), machine: machine(), how, rows, soak }
    }

    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, serde_json::to_string_pretty(&self.as_file())? + "\n")
    }

    /// # Errors
    ///
    /// The file cannot be read, or is of another form.
    pub fn read(file: &Path) -> io::Result<Self> {
        let File { date, machine, how, contestants, soak, .. } = serde_json::from_str(&fs::read_to_string(file)?)?;
        let rows = contestants.into_iter().filter_map(Contestant::into_row).collect();
        Ok(Self { date, machine, how, rows, soak })
    }

    fn as_file(&self) -> File {
        // JSON has no number for an aim that nothing was measured for.
        let aims = targets::of(&self.rows, self.soak.as_ref()).into_iter().filter(|target| target.measured.is_finite());
        let aims = aims.map(|target| {
            let (wanted, at_least) = match target.aim {
                Aim::AtLeast(wanted) => (wanted, true),
                Aim::AtMost(wanted) => (wanted, false),
            };
            Aimed { what: target.what, measured: target.measured, wanted, at_least }
        });
        File {
            date: self.date.clone(),
            machine: self.machine.clone(),
            how: self.how.clone(),
            aims: aims.collect(),
            contestants: self.rows.iter().map(Contestant::from_row).collect(),
            soak: self.soak.clone(),
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
struct File {
    date: String,
    machine: String,
    how: String,
    /// The aims, the missed first.
    aims: Vec<Aimed>,
    contestants: Vec<Contestant>,
    soak: Option<Soak>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Aimed {
    what: String,
    measured: f64,
    wanted: f64,
    /// Else at most.
    at_least: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Contestant {
    name: String,
    version: String,
    /// Why it was not measured.
    absent: Option<String>,
    failure: Option<String>,
    /// The moment and the last words of one that ended in mid-run.
    #[serde(default)]
    died: Option<String>,
    cells: Vec<Rounds>,
    #[serde(default)]
    trials: Trials,
}

#[derive(Debug, Deserialize, Serialize)]
struct Rounds {
    stream: bool,
    #[serde(default)]
    picture: bool,
    connections: usize,
    new_connections: bool,
    primary_down: bool,
    rounds: Vec<Figures>,
}

impl Contestant {
    fn from_row(row: &Row) -> Self {
        let cells = row.cells.iter().filter(|(_, rounds)| !rounds.is_empty()).map(|(cell, rounds)| Rounds {
            stream: cell.shape.mode == Mode::Stream,
            picture: cell.shape.mode == Mode::Picture,
            connections: cell.shape.connections,
            new_connections: cell.shape.fresh,
            primary_down: cell.down,
            rounds: rounds.clone(),
        });
        Self {
            name: row.contestant.name.to_owned(),
            version: row.version.clone(),
            absent: row.absent.clone(),
            failure: row.failure.clone(),
            died: row.died.clone(),
            cells: cells.collect(),
            trials: row.trials.clone(),
        }
    }

    /// `None` of one that is measured no more.
    fn into_row(self) -> Option<Row> {
        let contestant = contestants::ALL.into_iter().find(|contestant| contestant.name == self.name)?;
        let cells = self.cells.into_iter().map(|cell| {
            let mode = match (cell.stream, cell.picture) {
                (true, _) => Mode::Stream,
                (false, true) => Mode::Picture,
                (false, false) => Mode::Plain,
            };
            let shape = Shape { mode, connections: cell.connections, fresh: cell.new_connections };
            (Cell { shape, down: cell.primary_down }, cell.rounds)
        });
        Some(Row {
            contestant,
            version: self.version,
            absent: self.absent,
            died: self.died,
            failure: self.failure,
            cells: cells.collect(),
            trials: self.trials,
        })
    }
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("?", |(_, name)| name.trim());
    format!("Machine: {} cores ({model}), {}.", process::cores(), said("uname", &["-sr"]))
}

/// Returns a program's output, or nothing.
fn said(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report,
        trials::{Ends, Memory, OpenLoad, PacedStreams, Trial, cores::Cores, faults::Fault},
    };

    fn all() -> Vec<Row> {
        let mut rows: Vec<Row> = contestants::ALL.into_iter().map(Row::new).collect();
        for row in &mut rows {
            for (_, rounds) in &mut row.cells {
                rounds.push(Figures { per_second: 1.5, ..Figures::default() });
            }
        }
        rows
    }

    fn written(run: &Measured, name: &str) -> String {
        let file = std::env::temp_dir().join(format!("steadfast-result-{}-{name}.json", std::process::id()));
        run.write(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(report::markdown(&Measured::read(&file).unwrap()), report::markdown(run));
        fs::remove_file(&file).unwrap();
        text
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut rows = all();
        rows[1].absent = Some("it is not installed".to_owned());
        rows[2].died = Some("in plain, 16 connections; its last words: none".to_owned());
        let trial = Trial { rate: 900.0, p50: 0.5, p99: 1.5, kept_up: true };
        let seen = |fault| Ends { fault, ends: [1, 2, 3, 4, 5, 6], p50: 1.0, most: 30.0, second: 7 };
        rows[3].trials = Trials {
            memory: Some(Memory { idle: 9 << 20, loaded: 20 << 20, recovered: 10 << 20 }),
            open: Some(OpenLoad { sustained: vec![Some(900.0), Some(800.0), None], trials: vec![trial] }),
            paced: Some(PacedStreams {
                streams: 64,
                failed: 1,
                first_p50: 1.0,
                first_p99: 2.0,
                gap_p50: 20.0,
                gap_p99: 21.0,
            }),
            faults: Fault::ALL.map(seen).to_vec(),
            cores: Some(Cores { machine: 2, one: Default::default(), two: Default::default() }),
            problems: vec!["two cores with two workers: skipped, the machine has one core".to_owned()],
        };
        let run = Measured::now("Once.".to_owned(), rows, None);
        let text = report::markdown(&run);
        for shown in
            ["| steadfast | none | 800 | 900 |", "| steadfast | 9.0 | 20.0 | 10.0 |", "not measured: two cores"]
        {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        assert!(text.contains("| steadfast | 1 | 2 | 3 | 4 | 5 | 6 | 1.00 | 30.00 | 7 |"), "{text}");
        written(&run, "whole");
    }

    #[test]
    fn a_file_from_before_the_trials_is_shown_as_it_was() {
        let text = written(&Measured::now("Once.".to_owned(), all(), None), "old");
        let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
        for contestant in old["contestants"].as_array_mut().unwrap() {
            let contestant = contestant.as_object_mut().unwrap();
            contestant.retain(|field, _| field != "trials" && field != "died");
            for cell in contestant["cells"].as_array_mut().unwrap() {
                cell.as_object_mut().unwrap().remove("picture");
            }
        }
        let file = std::env::temp_dir().join(format!("steadfast-result-{}-older.json", std::process::id()));
        fs::write(&file, old.to_string()).unwrap();
        let text = report::markdown(&Measured::read(&file).unwrap());
        fs::remove_file(&file).unwrap();
        assert!(text.contains("| steadfast | 16 | 2 |") && !text.contains("### Memory"), "{text}");
    }
}
