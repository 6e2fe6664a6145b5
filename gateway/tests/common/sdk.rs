//! The real binary, and the official SDKs that drive it.
//!
//! `STEADFAST_SDK_PYTHON` names a Python that has the packages `openai` and `anthropic` (default: `python3`), and
//! `STEADFAST_SDK_NODE` a folder whose `node_modules` have `openai` and `@anthropic-ai/sdk`. A variable that names what does
//! not have them fails the test; without the variable it says so and is skipped.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Ends the server when it is dropped.
pub(crate) struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves this configuration, with a log of this level. Gives the address too.
pub(crate) fn start(config: &str, log: &str) -> (Gateway, String) {
    let folder = std::env::temp_dir().join(format!("steadfast-sdk-{}-{:x}", std::process::id(), fastrand::u32(..)));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("steadfast.yaml");
    fs::write(&file, config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_steadfast"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log", log, "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let gateway = Gateway(child);
    fs::remove_dir_all(folder).unwrap();
    (gateway, line.trim().split("http://").nth(1).expect("an address").to_owned())
}

/// A Python with the SDKs, about to run this script.
pub(crate) fn python(script: &str) -> Option<Command> {
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
pub(crate) fn node(script: &str) -> Option<(Command, String)> {
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
