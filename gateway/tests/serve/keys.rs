//! The file of keys, as it changes.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::Duration,
};

use super::{
    HELLO, STEADFAST, Served,
    reload::{File, saying, within},
};

/// A key, and the line of its entry in the file.
pub(super) fn made(name: &str) -> (String, String) {
    let made = Command::new(STEADFAST).args(["key", name]).output().unwrap();
    let made = String::from_utf8(made.stdout).unwrap();
    let key = made.lines().map(str::trim).find(|line| line.starts_with("sk-steadfast-")).unwrap();
    (key.to_owned(), made.split("keys:\n").nth(1).unwrap().to_owned())
}

pub(super) fn status(served: &Served, key: &str) -> String {
    let mut answer = String::new();
    let headers = format!("x-api-key: {key}\r\nconnection: close\r\n");
    served.send("/v1/messages", &headers, HELLO).read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_file_of_keys_that_changes_is_read_again_and_a_wrong_one_is_said_once() {
    let file = File::new("keys", &saying("word"));
    let ((one, first), (two, second)) = (made("one"), made("two"));
    let keys = file.0.with_file_name("keys.yaml");
    fs::write(&keys, format!("keys:\n{first}")).unwrap();
    let served = Served::start(&["--config", file.0.to_str().unwrap(), "--keys", keys.to_str().unwrap()]);
    assert_eq!((status(&served, &one), status(&served, &two)), ("200".into(), "401".into()));
    fs::write(&keys, format!("keys:\n{first}{second}    budget: {{ usd: 0, period: day }}\n")).unwrap();
    within(Duration::from_secs(10), "the change was not seen", || status(&served, &two) == "429");
    assert_eq!(status(&served, &one), "200");
    let mut metrics = String::new();
    let mut stream = TcpStream::connect(&served.address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut metrics).unwrap();
    assert!(metrics.contains("cap=\"key two\""), "{metrics}");
    fs::write(&keys, "keys: [").unwrap();
    thread::sleep(Duration::from_millis(800));
    assert_eq!(status(&served, &one), "200", "a file that is wrong changes nothing");
    fs::write(&keys, format!("keys:\n{second}")).unwrap();
    within(Duration::from_secs(10), "the change was not seen", || status(&served, &one) == "401");
    served.terminate();
    let (good, said) = served.end();
    assert!(good && said.matches("the keys stay as they were").count() == 1, "{said}");
    assert_eq!(said.matches("the keys were read again").count(), 2, "{said}");
    assert!(said.contains("key=\"two\"") && said.contains("cap=\"key two\""), "{said}");
    assert!(!said.contains(&one) && !said.contains(&two), "{said}");
}

#[test]
fn the_entry_of_a_new_key_is_yaml_whatever_its_name() {
    for name in ["bell\u{7}", "", " "] {
        assert_eq!(Command::new(STEADFAST).args(["key", name]).output().unwrap().status.code(), Some(2));
    }
    // Combining marks, and what cannot be seen: a string of Rust has other escapes than one of YAML.
    for name in ["team: search", "e\u{301}quipe \"a\"\\b", "joined\u{200d}"] {
        let (_, entry) = made(name);
        let file = File::new("made", &saying("word"));
        let keys = file.0.with_file_name("keys.yaml");
        fs::write(&keys, format!("keys:\n{entry}")).unwrap();
        let served = Served::start(&["--config", file.0.to_str().unwrap(), "--keys", keys.to_str().unwrap()]);
        assert!(served.greeting.contains("listens"));
    }
}
