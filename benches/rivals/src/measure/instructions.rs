//! Instructions per call, by callgrind.
//!
//! The work before the calls does not count: tables are filled once, and hashed by chance, so that to fill them takes
//! now more, now less.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
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

/// Instructions per call of each contestant. A process for each, as many at once as there are processors.
///
/// # Errors
///
/// Valgrind does not run, or does not report a number.
pub fn measure(program: &Path, contestants: &[&Contestant]) -> io::Result<Vec<f64>> {
    let wanted: Vec<(String, u64)> = contestants
        .iter()
        .map(|contestant| (contestant.id(), if contestant.sized().is_some() { SIZED_CALLS } else { CALLS }))
        .collect();
    let next = AtomicUsize::new(0);
    let counted = Mutex::new(vec![0.0; wanted.len()]);
    thread::scope(|scope| {
        let worker = || -> io::Result<()> {
            loop {
                let at = next.fetch_add(1, Relaxed);
                let Some((id, calls)) = wanted.get(at) else { return Ok(()) };
                let one = instructions(program, id, *calls)? as f64 / *calls as f64;
                counted.lock().unwrap_or_else(PoisonError::into_inner)[at] = one;
            }
        };
        let workers: Vec<_> = (0..thread::available_parallelism()?.get()).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker only starts processes"))
    })?;
    Ok(counted.into_inner().unwrap_or_else(PoisonError::into_inner))
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
