//! See the library's documentation for how to run this and how it measures.

mod run;

use std::{env, error::Error, process::ExitCode};

use steadfast_rivals::{contestants, measure::instructions, traps};
use tokio::runtime::Builder;

use crate::run::Options;

const USE: &str = "use: rivals [--quick]
       rivals report [--quick] [--out FILE]
       rivals calls [TABLE] [--quick]
       rivals growth | threads | outage | numbers [--quick]
       rivals traps [TRAP] | trap TRAP WHO
       rivals list | run NAME CALLS";

/// Calls before those that count: they fill what is filled once.
const WARM_UP: u64 = 128;

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<(), Box<dyn Error>> {
    let options = Options::read(env::args().skip(1))?;
    // They bring a runtime of their own.
    if let [trap, id, who] = &options.words[..]
        && trap == "trap"
    {
        let verdict = traps::run(id, who).ok_or("no such trap, or nobody of that name to try it")?;
        println!("{}\t{}", if verdict.passes { "passes" } else { "fails" }, verdict.seen);
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let _context = runtime.enter();
    let words: Vec<&str> = options.words.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            print!("{}", run::calls(&runtime, None, options.effort)?.text);
            print!("\n{}", run::growth(options.effort)?.text);
            print!("\n{}", run::threads(options.effort).text);
        }
        ["report"] => run::report(&runtime, &options)?,
        ["calls"] => print!("{}", run::calls(&runtime, None, options.effort)?.text),
        ["calls", table] => print!("{}", run::calls(&runtime, Some(table), options.effort)?.text),
        ["growth"] => print!("{}", run::growth(options.effort)?.text),
        ["threads"] => print!("{}", run::threads(options.effort).text),
        ["outage"] => print!("{}", run::outage(options.effort).text),
        ["traps"] => print!("{}", run::traps(None)?.text),
        ["traps", id] => print!("{}", run::traps(Some(id))?.text),
        ["numbers"] => print!("{}", run::numbers(options.effort).text),
        ["list"] => contestants::all().iter().for_each(|contestant| println!("{}", contestant.id())),
        ["run", id, calls] => {
            let all = contestants::all();
            let contestant = all.iter().find(|c| c.id() == id).ok_or("no such contestant; `list` names them")?;
            let number = calls.parse()?;
            let mut calls = contestant.calls();
            // In a table of costs that should not grow the calls themselves must hardly count.
            calls(if contestant.sized().is_some() { WARM_UP / 8 } else { WARM_UP });
            instructions::counted(&mut calls, number);
        }
        _ => return Err(USE.into()),
    }
    Ok(())
}
