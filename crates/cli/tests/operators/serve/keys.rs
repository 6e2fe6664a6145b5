//! The file of keys, as it changes.

use std::fs;

use super::{HELLO, SOON, reload::saying};
use crate::common::{
    key,
    serve::{Serve, Served},
    steadfast, within,
};

/// Returns the status of an answer to this key.
pub(super) fn status(served: &Served, key: &str) -> u16 {
    served.ask("POST /v1/messages", &format!("x-api-key: {key}\r\n"), HELLO).status
}

#[test]
fn a_file_of_keys_that_changes_is_read_again_and_a_wrong_one_is_said_once() {
    let ((one, first), (two, second)) = (key("one"), key("two"));
    let served = Serve::with(&saying("word")).keys(&first).start();
    // In its place, as some editors do it.
    let change = |text: &str| fs::write(served.folder().path("keys.yaml"), format!("{text}...\n")).unwrap();
    assert_eq!((status(&served, &one), status(&served, &two)), (200, 401));
    change(&format!("keys:\n{first}{second}    budget: {{ usd: 0, period: day }}\n"));
    within(SOON, "the change was not seen", || status(&served, &two) == 429);
    assert_eq!(status(&served, &one), 200);
    let metrics = served.ask("GET /metrics", "", "").body;
    assert!(metrics.contains("cap=\"key two\""), "{metrics}");
    change("keys: [");
    within(SOON, "it is not read", || served.log().contains("keys not reloaded"));
    assert_eq!(status(&served, &one), 200, "a file that is wrong changes nothing");
    change(&format!("keys:\n{second}"));
    within(SOON, "the change was not seen", || status(&served, &one) == 401);
    let said = served.stop().err;
    assert_eq!(said.matches("keys not reloaded").count(), 1, "{said}");
    assert_eq!(said.matches("keys reloaded").count(), 2, "{said}");
    assert!(said.contains("keys reloaded count=2 added=\"two\"\n"), "{said}");
    assert!(said.contains("keys reloaded count=1 changed=\"two\" removed=\"one\"\n"), "{said}");
    assert!(said.contains("key=\"two\"") && said.contains("cap=\"key two\""), "{said}");
    assert!(!said.contains(&one) && !said.contains(&two), "{said}");
}

#[test]
fn a_wrong_name_is_said_at_a_reload_and_keeps_nobody_in() {
    let ((one, first), (two, second)) = (key("one"), key("two"));
    let config = format!("{}features: {{ chat: {{}}, search: {{}} }}\n", saying("word"));
    let served = Serve::with(&config).keys(&format!("{first}    features: [search]\n{second}")).start();
    assert_eq!((status(&served, &one), status(&served, &two)), (200, 200));
    // Another key's revocation counts although this one has a wrong name.
    served.folder().file("keys.yaml", &format!("keys:\n{first}    features: [serch]\n...\n"));
    within(SOON, "the key is not revoked", || status(&served, &two) == 401);
    within(SOON, "the name is not said", || served.log().contains("no feature `serch`; did you mean `search`?"));
    served.folder().file("keys.yaml", &format!("keys:\n{first}    features: [search]\n...\n"));
    within(SOON, "the change was not seen", || status(&served, &one) == 200);
    // So it is where the configuration no longer has what a key names.
    served.configure(&config.replace(", search: {}", ""));
    within(SOON, "the name is not said", || served.log().contains("no feature `search`; there are chat"));
}

#[test]
fn the_entry_of_a_new_key_is_yaml_whatever_its_name() {
    for name in ["bell\u{7}", "", " "] {
        assert_eq!(steadfast(["key", name], &[]).code, Some(2));
    }
    // Combining marks, and what cannot be seen: a string of Rust has other escapes than one of YAML.
    for name in ["team: search", "e\u{301}quipe \"a\"\\b", "joined\u{200d}"] {
        let served = Serve::with(&saying("word")).keys(&key(name).1).start();
        assert!(served.greeting().contains("listens"));
    }
}
