//! The log, where nobody reads it and where somebody does.

use super::{
    HELLO,
    common::serve::{Serve, Served},
};

/// Asks what cannot be answered. The log says a line of some length of it, at the level that is asked for here.
fn breaks(served: &Served, times: usize) {
    for _ in 0..times {
        assert_eq!(served.ask("POST /v1/chat/completions", "", r#"{"model":"m","messages":"none"}"#).status, 400);
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let served = Serve::simulated().args(["--log", "debug"]).log_unread().start();
    // Some 200 bytes each: many times what a pipe holds.
    breaks(&served, 3000);
    assert!(served.ask("POST /v1/messages", "", HELLO).body.contains("message_stop"));
    // It ends all the same.
    let said = served.stop().err;
    assert!(said.contains("no answer"), "{said}");
}

#[test]
fn what_was_logged_before_an_end_in_good_order_is_all_there() {
    let served = Serve::simulated().start();
    breaks(&served, 200);
    let said = served.stop().err;
    assert_eq!(said.matches("no answer request=").count(), 200);
    assert!(said.trim_end().ends_with("stopped"), "{said}");
}
