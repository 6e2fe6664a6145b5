//! The official SDKs that drive a gateway.
//!
//! `STEADFAST_SDK_PYTHON` names a Python that has the packages `openai` and `anthropic` (default: `python3`), and
//! `STEADFAST_SDK_NODE` a folder whose `node_modules` have `openai` and `@anthropic-ai/sdk`. A variable that names what does
//! not have them fails the test; without the variable it says so and is skipped.

use std::{path::Path, process::Command};

/// A Python with the SDKs, about to run this script.
pub fn python(script: &str) -> Option<Command> {
    let named = std::env::var("STEADFAST_SDK_PYTHON");
    let python = named.clone().unwrap_or_else(|_| "python3".to_owned());
    let imports = Command::new(&python).args(["-c", "import openai, anthropic"]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        assert!(named.is_err(), "{python} has not both of the packages openai and anthropic");
        eprintln!("skipped: {python} has not both of the packages openai and anthropic (STEADFAST_SDK_PYTHON)");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(script);
    Some(command)
}

/// A Node about to run this script, and the folder of the SDKs, which is the script's second argument.
pub fn node(script: &str) -> Option<(Command, String)> {
    let named = std::env::var("STEADFAST_SDK_NODE");
    let folder = named.clone().unwrap_or_default();
    let there = |package: &str| Path::new(&folder).join("node_modules").join(package).is_dir();
    if !there("openai") || !there("@anthropic-ai/sdk") {
        assert!(named.is_err(), "{folder} has not both of the node_modules openai and @anthropic-ai/sdk");
        eprintln!("skipped: no folder with the node_modules openai and @anthropic-ai/sdk (STEADFAST_SDK_NODE)");
        return None;
    }
    let mut command = Command::new("node");
    command.arg(script);
    Some((command, folder))
}
