//! `steadfast man`: the manual, in the format of `man`.

use std::{fs, path::PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use crate::Failure;

/// Write the manual: the command's page to standard output, or a page for each subcommand into a folder
#[derive(Args)]
pub(crate) struct Manual {
    /// The folder, created if missing, such as /usr/local/share/man/man1
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Manual {
    pub(crate) fn run(self, command: Command) -> Result<(), Failure> {
        let mut command = command.disable_help_subcommand(true);
        // Gives each subcommand its whole name.
        command.build();
        let Some(folder) = self.out else {
            page(command).render(&mut std::io::stdout())?;
            return Ok(());
        };
        let write = || {
            fs::create_dir_all(&folder)?;
            pages(command).into_iter().try_for_each(|page| page.generate_to(&folder).map(drop))
        };
        write().map_err(|error| Failure::Config(format!("error: cannot write into {}: {error}", folder.display())))
    }
}

/// Returns the pages of a command, its subcommands, and theirs.
fn pages(command: Command) -> Vec<Man> {
    let inner: Vec<Man> = command.get_subcommands().cloned().flat_map(pages).collect();
    std::iter::once(page(command)).chain(inner).collect()
}

fn page(command: Command) -> Man {
    let version = command.get_version().unwrap_or_default();
    let source = format!("steadfast {version}");
    // man would leave out an empty date and put the source in its place.
    Man::new(command).date(" ").source(source).manual("User Commands")
}
