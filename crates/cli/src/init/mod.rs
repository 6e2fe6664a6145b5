//! `steadfast init`: a first configuration, from the keys in the environment.

mod draft;
mod questions;

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::{self, Path, PathBuf},
};

use clap::Args;
use steadfast_stack::{Config, Environment, Format};

pub(crate) use self::draft::Draft;
use self::questions::Questions;
use crate::Failure;

/// Write a first configuration, from the keys in the environment and three questions
///
/// It asks which keys to use, in which order, and how many dollars a day may cost. Enter takes the answer in brackets.
/// Keys are named by their variables; neither the terminal nor the file shows one. Exit code: 0; 2 if the environment
/// has no key, or the file is there already.
#[derive(Args)]
pub(crate) struct Init {
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "steadfast.yaml")]
    out: PathBuf,

    /// Take the usual answers without asking, as where nobody is at a terminal
    #[arg(long, short)]
    yes: bool,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let file = self.out.display();
        let draft = Draft::of(&Environment::process());
        let mut draft = draft.ok_or_else(|| {
            Failure::usage(format_args!(
                "the environment has no provider's key: set one of {}; `steadfast serve` without a file has simulated models",
                Draft::variables()
            ))
        })?;
        let is_there = format!("{file} is there already: `--force` replaces it, `--out FILE` writes another");
        if !self.force && fs::symlink_metadata(&self.out).is_ok() {
            return Err(Failure::usage(is_there));
        }
        if !self.yes && io::stdin().is_terminal() {
            let asked = Questions::new(io::stdin().lock(), io::stderr().lock()).ask(&mut draft);
            asked.map_err(|error| Failure::usage(format_args!("no answer ({error}): {file} is not written")))?;
        }
        let store = path::absolute(self.out.with_file_name("steadfast.db"));
        let store = store.ok().and_then(|store| Some(store.to_str()?.to_owned()));
        let text = draft.text(store.as_deref());
        // A folder may have a name that means something in a configuration.
        Config::from_str(&text, Format::Yaml)?;
        write(&self.out, &text, self.force).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::usage(is_there),
            _ => Failure::usage(format_args!("cannot write {file}: {error}")),
        })?;
        let budget = draft.usd_per_day.map(|usd| format!("; at most ${usd} a day")).unwrap_or_default();
        writeln!(
            io::stdout().lock(),
            "{file}: {}{budget}\n\n  steadfast check {file} --live\n  steadfast run --config {file} -- claude",
            draft.tiers().join(", then ")
        )?;
        Ok(())
    }
}

/// Writes a file, as a whole or not at all.
fn write(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    if !replace {
        return fs::File::create_new(path)?.write_all(text.as_bytes());
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}
