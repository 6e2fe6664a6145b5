//! Each program in a process of its own.

use std::{
    env,
    io::{self, Read as _},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Trap, Verdict, all};

/// Longer than any program takes that does not hang.
const LIMIT: Duration = Duration::from_secs(15);

/// A trap with what became of each who tried.
#[derive(Debug)]
pub struct Found {
    pub id: &'static str,
    pub says: &'static str,
    pub verdicts: Vec<(&'static str, Verdict)>,
}

/// # Errors
///
/// This program cannot be started once more.
pub fn run_all(only: Option<&str>) -> io::Result<Vec<Found>> {
    let wanted = |trap: &Trap| only.is_none_or(|only| trap.id == only);
    let run = |trap: Trap| {
        let verdicts = trap.cases.iter().map(|case| Ok((case.who, apart(trap.id, case.who)?)));
        Ok(Found { id: trap.id, says: trap.says, verdicts: verdicts.collect::<io::Result<_>>()? })
    };
    all().into_iter().filter(wanted).map(run).collect()
}

fn apart(id: &str, who: &str) -> io::Result<Verdict> {
    let mut child = Command::new(env::current_exe()?)
        .args(["trap", id, who])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(Verdict::new(false, "hangs"));
        }
        sleep(Duration::from_millis(2));
    };
    let (mut said, mut complained) = (String::new(), String::new());
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut said)?;
    }
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut complained)?;
    }
    Ok(match said.trim_end().split_once('\t') {
        Some((verdict @ ("passes" | "fails"), seen)) if status.success() => Verdict::new(verdict == "passes", seen),
        _ => Verdict::new(false, format!("panics: {}", message(&complained))),
    })
}

/// The line after the one that says where it was.
fn message(complained: &str) -> &str {
    let mut lines = complained.lines().skip_while(|line| !line.contains("panicked at")).skip(1);
    lines.next().unwrap_or("no word about it").trim()
}
