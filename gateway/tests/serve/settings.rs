//! The gateway's settings in the configuration, and what a reload changes of them.

use std::{fs, io::Read, net::TcpStream, thread, time::Duration};

use super::{
    HELLO, Served,
    keys::{made, status},
    reload::{File, saying, within},
};

#[test]
fn settings_of_the_file_hold_and_follow_it_as_far_as_they_can() {
    let text = |gateway: &str| format!("{}gateway: {{ {gateway} }}\n", saying("word"));
    let file = File::new("settings", &text("max_body: 1KiB, connections: 4"));
    let served = file.serve();
    let long = HELLO.replace("a secret", &"long ".repeat(400));
    let answer = served.ask("/v1/messages", &long);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("1024 bytes"), "{answer}");
    // So many connections, and no more. The one before may not have left yet: then one of these was turned away too.
    let mut idle: Vec<TcpStream> = Vec::new();
    within(Duration::from_secs(10), "any number of connections is served", || {
        idle.push(TcpStream::connect(&served.address).unwrap());
        idle.len() >= 4 && turned_away(&served)
    });
    assert!(idle.len() < 10, "{}", idle.len());
    drop(idle);
    // Until it has seen that they left, it would turn away the next ones too.
    within(Duration::from_secs(10), "the places were not free again", || !turned_away(&served));

    file.write(&text("max_body: 1MiB, connections: 9, first_sign: 1s"));
    within(Duration::from_secs(10), "the change was not seen", || {
        served.ask("/v1/messages", &long).starts_with("HTTP/1.1 200")
    });
    file.write(&text("max_body: 1KiB, connections: 9"));
    within(Duration::from_secs(10), "the change was not seen", || {
        served.ask("/v1/messages", &long).starts_with("HTTP/1.1 413")
    });
    // A wrong file changes nothing.
    file.write(&text("max_body: 1MiB, connections: 0"));
    served.signal("-HUP");
    thread::sleep(Duration::from_millis(200));
    assert!(served.ask("/v1/messages", &long).starts_with("HTTP/1.1 413"));
    served.terminate();
    let (good, said) = served.end();
    assert!(good && said.contains("event=\"reload_refused\""), "{said}");
    let waits = "these settings hold from the next start on settings=\"gateway.connections\"";
    assert_eq!(said.matches(waits).count(), 1, "{said}");
}

/// Whether the server has no connection left.
fn turned_away(served: &Served) -> bool {
    let mut stream = TcpStream::connect(&served.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 503"
}

#[test]
fn the_file_of_keys_is_named_from_the_configurations_folder_and_the_option_is_stronger() {
    let ((one, first), (two, second)) = (made("one"), made("two"));
    let file = File::new("named", &format!("{}gateway: {{ keys: callers.yaml }}\n", saying("word")));
    fs::write(file.0.with_file_name("callers.yaml"), format!("keys:\n{first}")).unwrap();
    let other = file.0.with_file_name("others.yaml");
    fs::write(&other, format!("keys:\n{second}")).unwrap();
    // With keys, it may listen anywhere.
    let served = Served::start(&["--config", file.0.to_str().unwrap(), "--listen", "0.0.0.0:0"]);
    assert_eq!((status(&served, &one), status(&served, &two)), ("200".into(), "401".into()));
    drop(served);
    let served = Served::start(&["--config", file.0.to_str().unwrap(), "--keys", other.to_str().unwrap()]);
    assert_eq!((status(&served, &one), status(&served, &two)), ("401".into(), "200".into()));
}

#[test]
fn the_time_to_finish_is_the_files_and_the_option_is_stronger() {
    let slow = saying("word").replace("latency: 1ms", "latency: 2s");
    // The head goes out long before the answer.
    let file = File::new("grace", &format!("{slow}gateway: {{ grace: 0s, first_sign: 50ms }}\n"));
    for (arguments, whole) in [(&[][..], false), (&["--grace", "20"][..], true)] {
        let served = Served::start(&[&["--config", file.0.to_str().unwrap()], arguments].concat());
        let mut stream = served.send("/v1/messages", "anthropic-version: 2023-06-01\r\n", HELLO);
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        served.terminate();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.contains("event: message_stop"), whole, "{rest}");
    }
}
