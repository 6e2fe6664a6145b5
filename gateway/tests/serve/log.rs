//! The log, where nobody reads it and where somebody does.

use std::{io::Read, thread, time::Duration};

use super::{HELLO, Served};

/// A request of which the log says a line of some length, at the level that is asked for here.
const BROKEN: &str = r#"{"model":"m","messages":"none"}"#;

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let served = Served::start(&["--log", "debug"]);
    // Some 200 bytes each: many times what a pipe holds.
    for _ in 0..3000 {
        assert!(served.ask("/v1/chat/completions", BROKEN).starts_with("HTTP/1.1 400"));
    }
    assert!(served.ask("/v1/messages", HELLO).contains("message_stop"));
    served.terminate();
    let mut served = served;
    let ended = (0..200).find_map(|_| {
        thread::sleep(Duration::from_millis(50));
        served.child.try_wait().unwrap()
    });
    assert!(ended.expect("it ends all the same").success());
    let mut said = String::new();
    served.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("no answer"), "{said}");
}

#[test]
fn what_was_logged_before_an_end_in_good_order_is_all_there() {
    let served = Served::start(&[]);
    for _ in 0..200 {
        served.ask("/v1/chat/completions", BROKEN);
    }
    served.terminate();
    let (good, said) = served.end();
    assert!(good);
    assert_eq!(said.matches("no answer request=").count(), 200);
    assert!(said.trim_end().ends_with("stopped"), "{said}");
}
