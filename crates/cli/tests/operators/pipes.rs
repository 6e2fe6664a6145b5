//! A reader that has gone: `steadfast .. | head` ends every command without a word.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use crate::common::{Folder, STEADFAST, comes, key, serve::Serve, steadfast};

/// The commands that the program has, the inner ones too, as its help lists them.
fn commands() -> Vec<Vec<String>> {
    let inner = |before: &[&str]| {
        let help = steadfast(before.iter().copied().chain(["--help"]), &[]).out;
        let lines: Vec<String> = help.lines().map(str::to_owned).collect();
        let names =
            lines.into_iter().skip_while(|line| line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let names = names.filter(|line| !line.starts_with("   "));
        let names: Vec<String> = names.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect();
        names.into_iter().filter(|name| name != "help")
    };
    let outer: Vec<String> = inner(&[]).collect();
    let all = outer.into_iter().flat_map(|name| {
        let within: Vec<Vec<String>> = inner(&[&name]).map(|inner| vec![name.clone(), inner]).collect();
        if within.is_empty() { vec![vec![name]] } else { within }
    });
    all.collect()
}

/// The arguments with which a command prints something; `None` for one that prints nothing where all is well.
fn arguments(command: &[&str], config: &str) -> Option<Vec<String>> {
    let more: &[&str] = match command {
        ["check"] => &["--offline", config],
        ["ask"] => &["hello", "--json"],
        ["admin", "open" | "close" | "auto" | "drain" | "undrain"] => &["only"],
        ["admin", "level"] => &["none"],
        ["admin", "explain"] => &["sf-0-0"],
        ["handoff", "answer"] => &["task_1", "yes"],
        ["handoff", "forget" | "show" | "claim" | "release" | "redrive"] => &["task_1"],
        ["conformance" | "drill"] => &["--list"],
        ["key", "create" | "show" | "rotate" | "pause" | "resume" | "remove"] => &["ana"],
        ["key", "limit"] => &["ana", "--concurrency", "1"],
        ["key", "import"] => &["keys.yaml"],
        ["spend", "reconcile"] => &["usage.json"],
        ["prices", "import"] => &["prices.json", "--model", "gpt-4o"],
        ["key", "list" | "log"] => &[],
        ["completions"] => &["bash"],
        ["health" | "serve" | "run" | "simulate"] | ["demo", _] => return None,
        ["admin" | "config" | "handoff", _] | ["init" | "man" | "spend"] => &[],
        unknown => panic!("{unknown:?}: say with which arguments it prints something"),
    };
    Some(command.iter().chain(more).map(|&word| word.to_owned()).collect())
}

/// Runs a command with standard output, or with both outputs, of a pipe that nobody reads. Returns its words and code.
fn unread(arguments: &[String], environment: &[(&str, &str)], errors_too: bool) -> (String, Option<i32>) {
    let pipe = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let output = Command::new(STEADFAST)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(pipe())
        .stderr(if errors_too { pipe() } else { Stdio::piped() })
        .output()
        .unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[test]
fn every_command_ends_quietly_when_nobody_reads_it() {
    let text = "tiers: [{ name: only, provider: simulated }]\ncache: {}\n";
    let folder = Folder::new("pipes");
    let config = folder.file("steadfast.yaml", text);
    let (admin, entry) = key("ana");
    let served = Serve::with(text).keys(&format!("{entry}    admin: true\n")).start();
    let environment = [("STEADFAST_URL", &*served.url()), ("STEADFAST_ADMIN_KEY", &admin), ("STEADFAST_KEY", &admin)];
    let commands = commands();
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let Some(arguments) = arguments(&command, config.to_str().unwrap()) else { continue };
        let read = steadfast(arguments.iter().map(String::as_str), &environment);
        let (said, code) = unread(&arguments, &environment, false);
        if read.code == Some(0) {
            assert!(!read.out.is_empty(), "{arguments:?} prints nothing");
            assert_eq!((said.as_str(), code), ("", Some(1)), "{arguments:?}");
        }
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        for wrong in [arguments.clone(), [arguments.clone(), vec!["--no-such-option".to_owned()]].concat()] {
            let (_, code) = unread(&wrong, &environment, true);
            assert!(matches!(code, Some(0..=2)), "{wrong:?} ended with {code:?}");
        }
    }
}

#[test]
fn a_gateway_serves_though_nobody_reads_its_greeting() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut serving = Command::new(STEADFAST)
        .args(["serve", "--listen", &address.to_string()])
        .env_clear()
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("http://{address}/readyz");
    let ready = comes(Duration::from_secs(60), "it neither serves nor ends", || {
        let ended = serving.try_wait().unwrap().is_some();
        let ready = steadfast(["health", "--url", &url], &[]).code == Some(0);
        (ready || ended).then_some(ready)
    });
    let _ = serving.kill();
    let _ = serving.wait();
    assert!(ready, "it ended");
}
