//! The configuration file: what is wrong with broken ones, what the imported forms become, and what the environment
//! adds.

mod broken;
mod environment;
mod explained;
mod good;
mod imported;
mod schema;
mod unreadable;

use std::path::{Path, PathBuf};

use steadfast_stack::{Config, ConfigError, Environment, Loader};

use broken::BROKEN;

fn folder(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join("tests/stack/config").join(name)
}

fn environment() -> Environment {
    [("STEADFAST_TEST_MODEL", "gpt-4o"), ("HOME", "/nowhere")].into_iter().collect()
}

fn load(path: &Path) -> Result<Config, ConfigError> {
    Loader::new().environment(environment()).priced(|_, _| false).path(path)
}

#[test]
fn each_broken_file_is_told_where_and_what() {
    let mut files: Vec<&str> = BROKEN.iter().map(|row| row.0).collect();
    files.dedup();
    assert!(files.len() >= 40);
    let mut wrong = Vec::new();
    for file in &files {
        let Err(error) = load(&folder("broken").join(file)) else {
            wrong.push(format!("{file}: nothing is wrong with it"));
            continue;
        };
        let shown = error.to_string();
        let rows: Vec<_> = BROKEN.iter().filter(|row| row.0 == *file).collect();
        let met = rows.len() == error.problems().len()
            && rows.iter().all(|(_, line, column, phrase, suggestion)| {
                error.problems().iter().any(|problem| {
                    problem.line == *line
                        && (*column == 0 || problem.column == *column)
                        && problem.message.contains(phrase)
                        && problem.suggestion.as_deref() == *suggestion
                })
            })
            && !shown.contains("hidden");
        if !met {
            wrong.push(format!("{file}: {rows:?}\n{shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
