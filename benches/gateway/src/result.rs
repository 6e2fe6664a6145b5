//! A run's results as a file, for a later report.

use std::{fs, io, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::{
    contestants,
    dialect::Mode,
    load::Shape,
    measure::{Cell, Figures, Row},
    soak::Soak,
    targets::{self, Aim},
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
    cells: Vec<Rounds>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Rounds {
    stream: bool,
    connections: usize,
    new_connections: bool,
    primary_down: bool,
    rounds: Vec<Figures>,
}

impl Contestant {
    fn from_row(row: &Row) -> Self {
        let cells = row.cells.iter().filter(|(_, rounds)| !rounds.is_empty()).map(|(cell, rounds)| Rounds {
            stream: cell.shape.mode == Mode::Stream,
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
            cells: cells.collect(),
        }
    }

    /// `None` of one that is measured no more.
    fn into_row(self) -> Option<Row> {
        let contestant = contestants::ALL.into_iter().find(|contestant| contestant.name == self.name)?;
        let cells = self.cells.into_iter().map(|cell| {
            let mode = if cell.stream { Mode::Stream } else { Mode::Plain };
            let shape = Shape { mode, connections: cell.connections, fresh: cell.new_connections };
            (Cell { shape, down: cell.primary_down }, cell.rounds)
        });
        let row = Row::new(contestant);
        Some(Row { version: self.version, absent: self.absent, failure: self.failure, cells: cells.collect(), ..row })
    }
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("?", |(_, name)| name.trim());
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("Machine: {cores} cores ({model}), {}.", said("uname", &["-sr"]))
}

/// Returns a program's output, or nothing.
fn said(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut rows: Vec<Row> = contestants::ALL.into_iter().map(Row::new).collect();
        for row in &mut rows {
            for (_, rounds) in &mut row.cells {
                rounds.push(Figures { per_second: 1.5, ..Figures::default() });
            }
        }
        rows[1].absent = Some("it is not installed".to_owned());
        let run = Measured::now("Once.".to_owned(), rows, None);
        let file = std::env::temp_dir().join(format!("steadfast-result-{}.json", std::process::id()));
        run.write(&file).unwrap();
        let again = Measured::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(crate::report::markdown(&again), crate::report::markdown(&run));
    }
}
