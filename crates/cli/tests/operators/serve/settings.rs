//! The gateway's settings in the configuration, and what a reload changes of them.

use std::{io::Read, net::TcpStream, time::Duration};

use super::{
    HELLO, SOON, begun,
    keys::status,
    reload::{refuses, saying},
    rest,
};
use crate::common::{
    key,
    serve::{Serve, Served},
    within,
};

#[test]
fn settings_of_the_file_hold_and_follow_it_as_far_as_they_can() {
    let text = |gateway: &str| format!("{}gateway: {{ {gateway} }}\n", saying("word"));
    let served = Serve::with(&text("max_body: 1KiB, connections: 4")).start();
    let long = HELLO.replace("a secret", &"long ".repeat(400));
    let asks = || served.ask("POST /v1/messages", "", &long);
    let answer = asks();
    assert!(answer.status == 413 && answer.body.contains("1024 bytes"), "{answer:?}");
    // So many connections, and no more. The one before may not have left yet: then one of these was turned away too.
    let mut idle: Vec<TcpStream> = Vec::new();
    within(SOON, "any number of connections is served", || {
        idle.push(TcpStream::connect(served.address()).unwrap());
        idle.len() >= 4 && turned_away(&served)
    });
    assert!(idle.len() < 10, "{}", idle.len());
    drop(idle);
    // Until it has seen that they left, it would turn away the next ones too.
    within(SOON, "the places were not free again", || !turned_away(&served));

    served.configure(&text("max_body: 1MiB, connections: 9, first_sign: 1s"));
    within(SOON, "the change was not seen", || asks().status == 200);
    served.configure(&text("max_body: 1KiB, connections: 9"));
    within(SOON, "the change was not seen", || asks().status == 413);
    // A wrong file changes nothing.
    served.configure(&text("max_body: 1MiB, connections: 0"));
    served.signal("-HUP");
    refuses(&served, 1);
    assert_eq!(asks().status, 413);
    let said = served.stop().err;
    let waits = "changed settings need a restart settings=\"gateway.connections\"";
    assert_eq!(said.matches(waits).count(), 1, "{said}");
}

#[test]
fn pages_of_listed_origins_may_read_and_call_from_a_reload_on() {
    const APP: &str = "https://app.example.com";
    let text = |cors: &str| format!("{}gateway: {{ cors: [{cors}] }}\n", saying("word"));
    let served = Serve::with(&text("")).start();
    let send = |request: &str| {
        served.ask(request, &format!("origin: {APP}\r\naccess-control-request-method: POST\r\n"), HELLO)
    };
    let allowed = |request: &str| send(request).header("access-control-allow-origin").map(str::to_owned);
    assert_eq!((allowed("GET /overview"), allowed("GET /status").as_deref()), (None, Some("*")));
    assert_eq!((send("OPTIONS /v1/messages").status, send("POST /v1/messages").status), (405, 403));

    served.configure(&text(&format!("'{APP}'")));
    within(SOON, "the change was not seen", || allowed("GET /overview").as_deref() == Some(APP));
    for request in ["GET /status", "GET /metrics", "GET /badge.js", "POST /v1/messages", "OPTIONS /v1/messages"] {
        assert_eq!((send(request).status, allowed(request).as_deref()), (200, Some(APP)), "{request}");
    }
    // Every origin is none.
    served.configure(&text("'*'"));
    refuses(&served, 1);
    assert_eq!(allowed("GET /overview").as_deref(), Some(APP));
}

/// Returns whether the server has no connection left.
fn turned_away(served: &Served) -> bool {
    let mut stream = TcpStream::connect(served.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 503"
}

#[test]
fn the_file_of_keys_is_named_from_the_configurations_folder_and_the_option_is_stronger() {
    let ((one, first), (two, second)) = (key("one"), key("two"));
    let named = || {
        let serve = Serve::with(&format!("{}gateway: {{ keys: callers.yaml }}\n", saying("word")));
        serve.folder.file("callers.yaml", &format!("keys:\n{first}"));
        serve
    };
    // With keys, it may listen anywhere.
    let served = named().listen("0.0.0.0:0").start();
    assert_eq!((status(&served, &one), status(&served, &two)), (200, 401));
    let served = named().keys(&second).start();
    assert_eq!((status(&served, &one), status(&served, &two)), (401, 200));
}

#[test]
fn the_time_to_finish_is_the_files_and_the_option_is_stronger() {
    let slow = saying("word").replace("latency: 1ms", "latency: 2s");
    // The head goes out long before the answer.
    let config = format!("{slow}gateway: {{ grace: 0s, first_sign: 50ms }}\n");
    for (arguments, whole) in [(&[][..], false), (&["--grace", "20"][..], true)] {
        let served = Serve::with(&config).args(arguments).start();
        let stream = begun(&served);
        served.signal("-TERM");
        let rest = rest(stream);
        assert_eq!(rest.contains("event: message_stop"), whole, "{rest}");
    }
}

#[test]
fn the_memory_follows_the_machine_where_only_processes_are_shown() {
    // The shipped unit says this.
    let unit = include_str!("../../../../../packaging/systemd/steadfast.service");
    assert!(unit.contains("\nProcSubset=pid\n"));
    let allowed = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", "mount -t proc -o subset=pid proc /proc && ! test -e /proc/meminfo"])
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to mount a /proc");
        return;
    }
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = text("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    // A quarter of the machine, and a quarter of that, holds so many connections at 32 KiB each.
    let room = machine.unwrap() * 1024 / 4 / 4 / (32 << 10);
    let config = format!("{}gateway: {{ connections: {} }}\n", saying("word"), room * 2);
    let said = Serve::with(&config).proc_of_processes().start().stop().err;
    let line = said.lines().find(|line| line.contains("`gateway.memory` has room for no more")).unwrap_or_default();
    let connections: u64 = line.split("connections=").nth(1).unwrap_or_default().trim().parse().unwrap_or_default();
    assert!(connections.abs_diff(room) <= 1, "{room} wanted: {said}");
}
