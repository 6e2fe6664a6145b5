//! The official SDKs that drive a gateway, and the clients and frameworks that are made of them.
//!
//! `STEADFAST_SDK_PYTHON` names a Python that has the packages of `sdk/requirements.txt` (default: `python3`),
//! `STEADFAST_SDK_CLIENTS` one that has those of `sdk/clients.txt` (default: `python3`), and `STEADFAST_SDK_NODE` a
//! folder whose `node_modules` have those of `sdk/package.json`. A variable that names what does not have them fails
//! the test; without the variable it says so and is skipped.

use std::{path::Path, process::Command};

/// A Python with the SDKs, about to run this script.
pub fn python(script: &str) -> Option<Command> {
    python_with("STEADFAST_SDK_PYTHON", script, &["openai", "anthropic", "google.genai"])
}

/// The Python that this variable names, with these packages, about to run this script.
pub fn python_with(variable: &str, script: &str, packages: &[&str]) -> Option<Command> {
    let named = std::env::var(variable);
    let python = named.clone().unwrap_or_else(|_| "python3".to_owned());
    // Some of them take seconds to import: it is enough that they are there.
    let find =
        "import importlib.util, sys; sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))";
    let found = Command::new(&python).args(["-c", find]).args(packages).output();
    if !found.is_ok_and(|output| output.status.success()) {
        let problem = format!("{python} has not all of the packages {}", packages.join(", "));
        assert!(named.is_err(), "{problem}");
        eprintln!("skipped: {problem} ({variable})");
        return None;
    }
    let mut command = Command::new(python);
    // Modules beside the script leave no compiled files there.
    command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// A Node about to run this script, and the folder of the SDKs, which is the script's last argument.
pub fn node(script: &str) -> Option<(Command, String)> {
    node_with(script, &["openai", "@anthropic-ai/sdk", "@google/genai"])
}

/// A Node about to run this script, and the folder of these packages, which is the script's last argument.
pub fn node_with(script: &str, packages: &[&str]) -> Option<(Command, String)> {
    let named = std::env::var("STEADFAST_SDK_NODE");
    let folder = named.clone().unwrap_or_default();
    let there = |package: &&str| Path::new(&folder).join("node_modules").join(package).is_dir();
    if !packages.iter().all(there) {
        let problem = format!("no folder with the node_modules {}", packages.join(", "));
        assert!(named.is_err(), "{folder}: {problem}");
        eprintln!("skipped: {problem} (STEADFAST_SDK_NODE)");
        return None;
    }
    let mut command = Command::new("node");
    command.arg(script);
    Some((command, folder))
}
