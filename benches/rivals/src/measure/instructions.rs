//! Instructions per call, by callgrind: two runs, of N and of 2 N calls, whose difference is N calls and nothing else.
//!
//! What comes before them is not counted: tables are hashed by chance, so that to fill them takes now more, now less.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

use crate::contestants::Contestant;

const CALLS: u64 = 2000;
/// In a table of costs that should not grow, so that the calls themselves hardly count.
const SIZED_CALLS: u64 = 200;

/// Runs what callgrind is to count: it knows the place by this function's name.
#[inline(never)]
pub fn counted(calls: &mut dyn FnMut(u64), number: u64) {
    calls(std::hint::black_box(number));
    // Not the last thing done, so that the call is none in disguise.
    std::hint::black_box(());
}

pub fn valgrind_is_here() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Instructions per call of each contestant. One process each, side by side.
///
/// # Errors
///
/// When valgrind does not run, or does not say how many there were.
pub fn measure(program: &Path, contestants: &[&Contestant]) -> io::Result<Vec<f64>> {
    let calls = |contestant: &Contestant| if contestant.sized().is_some() { SIZED_CALLS } else { CALLS };
    contestants.iter().map(|contestant| per_call(program, &contestant.id(), calls(contestant))).collect()
}

fn per_call(program: &Path, id: &str, calls: u64) -> io::Result<f64> {
    std::thread::scope(|scope| {
        let once = scope.spawn(|| instructions(program, id, calls));
        let twice = instructions(program, id, 2 * calls)?;
        let once = once.join().expect("the thread only starts a process")?;
        Ok(twice.saturating_sub(once) as f64 / calls as f64)
    })
}

fn instructions(program: &Path, id: &str, calls: u64) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*instructions::counted*"])
        .arg(program)
        .args(["run", id, &calls.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, count)| count.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("no instruction count from valgrind for {id:?}:\n{said}")))
}
