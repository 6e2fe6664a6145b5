//! Mistakes that libraries like this one make, each as a small program that is run against whoever it applies to.
//!
//! Each runs in a process of its own: one that panics or hangs is a row of the table, and not the end of it. They run
//! in real time with waits of milliseconds, for most breakers read the system's clock, which cannot be paused.

mod backoffs;
mod breakers;
mod budgets;
mod process;
mod readiness;
mod recovery;
mod releases;
mod scripted;
mod waiting;
mod windows;

pub use self::process::{Found, run_all};

/// The result of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub passes: bool,
    /// The observation, in a few words.
    pub seen: String,
}

impl Verdict {
    fn new(passes: bool, seen: impl Into<String>) -> Self {
        Self { passes, seen: seen.into() }
    }
}

/// A trap, and those who may fall into it.
pub struct Trap {
    /// Short, for the command line.
    pub id: &'static str,
    /// The sentence that holds for who passes.
    pub says: &'static str,
    pub cases: Vec<Case>,
}

pub struct Case {
    pub who: &'static str,
    run: Box<dyn Fn() -> Verdict>,
}

impl Case {
    fn new(who: &'static str, run: impl Fn() -> Verdict + 'static) -> Self {
        Self { who, run: Box::new(run) }
    }
}

pub const OURS: &str = "steadfast";

/// All traps, in the order of the table.
pub fn all() -> Vec<Trap> {
    let mut traps = Vec::new();
    traps.extend(windows::traps());
    traps.extend(recovery::traps());
    traps.extend(backoffs::traps());
    traps.extend(budgets::traps());
    traps.extend(readiness::traps());
    traps.extend(releases::traps());
    traps
}

/// Runs one in this process; `None` if there is no such one.
pub fn run(id: &str, who: &str) -> Option<Verdict> {
    let trap = all().into_iter().find(|trap| trap.id == id)?;
    let case = trap.cases.into_iter().find(|case| case.who == who)?;
    Some((case.run)())
}

/// Runs it on a runtime of one thread, in real time.
fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(future)
}

/// The same, where tasks may be spawned that stay on the thread.
fn block_on_local<F: Future>(future: F) -> F::Output {
    block_on(tokio::task::LocalSet::new().run_until(future))
}
