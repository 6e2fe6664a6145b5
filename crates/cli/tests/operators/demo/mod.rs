//! `steadfast demo outage`: the keys, a line for each request, and the sum.

mod process;

use std::{process::Command, time::Duration};

pub(crate) use self::process::Demo;
use crate::common::{STEADFAST, steadfast, within};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn each_key_is_a_trouble_and_no_caller_notices() {
    let mut demo = Demo::start(&["--port", "0", "--traffic", "0"]);
    assert_eq!(demo.call(false).status, 200);
    let line = demo.line("mine: ");
    assert!(line.starts_with("   1  mine: answered by first in ") && line.ends_with(" s"), "{line}");
    for (key, said, failure) in [
        ("f", "first fails", "server"),
        ("l", "first limits its callers", "rate limited"),
        ("d", "first is away", "connect"),
        ("s", "first is slow", "timeout"),
    ] {
        demo.press(key);
        demo.line(said);
        let answer = demo.call(true);
        assert!(answer.status == 200 && answer.body.contains("event: message_stop"), "{key}: {answer:?}");
        let line = demo.line("mine: ");
        assert!(line.contains("answered by second") && line.contains(&format!("(first: {failure}")), "{key}: {line}");
        // A circuit may have opened: only its probe finds the next trouble.
        demo.press("h");
        demo.line("first is well");
        within(PATIENCE, "first stays alone", || {
            demo.call(false);
            demo.line("mine: ").contains("answered by first")
        });
    }
    demo.press("q");
    let ran = demo.ended();
    assert_eq!(ran.code, Some(0));
    let sum = ran.out.lines().rev().take(2).collect::<Vec<_>>();
    assert!(sum[1].contains(" by first, ") && sum[1].ends_with(" by second, 0 lost"), "{sum:?}");
    assert_eq!(sum[0], "first alone: 3 lost (away 1x, fails 1x, limits 1x), 1 late by 10 s");
}

#[test]
fn a_stream_that_is_cut_goes_on_at_the_other_provider() {
    let mut demo = Demo::start(&["--port", "0", "--traffic", "0"]);
    demo.press("c");
    demo.line("first cuts streams: each answer is cut off after 6 words");
    let answer = demo.call(true);
    assert!(answer.status == 200 && answer.body.contains("event: message_stop"), "{answer:?}");
    let line = demo.line("mine: ");
    assert!(line.contains("answered by first") && line.ends_with(" characters)"), "{line}");
    assert!(line.contains("(second goes on after "), "{line}");
    // A whole answer is another's.
    assert_eq!(demo.call(false).status, 200);
    let line = demo.line("mine: ");
    assert!(line.contains("answered by second") && line.contains("(first: "), "{line}");
    demo.press("q");
    let ran = demo.ended();
    let sum = "2 requests: 1 by first, 1 by second, 1 of them ended by another, 0 lost\n\
               first alone: 2 lost (cuts streams 2x)\n";
    assert!(ran.out.ends_with(sum), "{}", ran.out);
}

#[test]
fn it_calls_itself_until_a_client_calls() {
    let mut demo = Demo::start(&["--port", "0"]);
    let line = demo.line("answered by first");
    assert!(line.starts_with("   1  answered by first in "), "{line}");
    demo.press("f");
    demo.line("answered by second");
    assert_eq!(demo.call(false).status, 200);
    demo.line("a client calls: no more calls of the demo's own");
    demo.line("mine: answered by second");
    demo.press("x");
    demo.line("f fails, s slow, c cuts streams, l limits, d away");
    demo.press("");
    demo.line("first is well");
    // Without input there are still signals.
    demo.close_input();
    demo.call(false);
    demo.line("mine: ");
    assert!(Command::new("kill").arg(demo.id().to_string()).status().unwrap().success());
    let ran = demo.ended();
    assert!(ran.code == Some(0) && ran.out.contains(" 0 lost\nfirst alone: "), "{ran:?}");
}

#[test]
fn a_terminal_sends_each_key_at_once_and_is_as_before_at_the_end() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operators/demo/terminal.py");
    let mut person = Command::new("timeout");
    person.args(["60", "python3", "-B", script, STEADFAST, "demo", "outage", "--port", "0", "--traffic", "0"]);
    let ran = String::from_utf8(person.output().unwrap().stdout).unwrap();
    assert!(ran.ends_with("exit code 0 and the terminal is as before\n"), "{ran}");
    let keys = ran.lines().filter(|line| matches!(line.trim(), "f" | "h" | "^C"));
    assert_eq!(keys.count(), 0, "{ran}");
}

#[test]
fn it_ends_quietly_when_nobody_reads_it() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(STEADFAST).args(["demo", "outage", "--port", "0"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(1), String::new()));
}

#[test]
fn a_port_that_is_taken_matters_only_where_it_is_asked_for() {
    let demo = Demo::start(&[]);
    assert_ne!(demo.address(), "127.0.0.1:8080");
    let taken = demo.address().rsplit(':').next().unwrap().to_owned();
    let ran = steadfast(["demo", "outage", "--port", &taken], &[]);
    assert!(ran.code == Some(2) && ran.err.contains("cannot listen on 127.0.0.1:"), "{ran:?}");
    for (wrong, said) in [(["--traffic", "2/m"], "2/s"), (["--port", "70000"], "--port")] {
        let ran = steadfast(["demo", "outage"].into_iter().chain(wrong), &[]);
        assert!(ran.code == Some(2) && ran.out.is_empty() && ran.err.contains(said), "{ran:?}");
    }
    let ran = steadfast(["demo", "outage"], &[("HTTP_PROXY", "http://127.0.0.1:9")]);
    assert!(ran.code == Some(2) && ran.err.contains("NO_PROXY"), "{ran:?}");
}
