//! The configuration changes while requests are under way.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{HELLO, Served};

const WHOLE: &str = r#"{"model":"m","messages":[{"role":"user","content":"a secret"}]}"#;

/// A configuration in a folder of its own, removed when this is dropped.
pub(super) struct File(pub(super) PathBuf);

impl File {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("steadfast-serve-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = Self(folder.join("steadfast.yaml"));
        file.write(text);
        file
    }

    pub(super) fn write(&self, text: &str) {
        // As editors do it, so that nobody reads half a file.
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }

    pub(super) fn serve(&self) -> Served {
        Served::start(&["--config", self.0.to_str().unwrap()])
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

pub(super) fn saying(words: &str) -> String {
    format!(
        "tiers: [{{ name: only, provider: simulated, model: m, simulated: {{ reply: {words}, latency: 1ms }} }}]\n\
         default_feature: {{ concurrency: 10000 }}\n"
    )
}

pub(super) fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < limit, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_the_file_says_is_served_and_so_is_what_it_says_next() {
    let file = File::new("change", &saying("first"));
    let served = file.serve();
    assert!(served.greeting.contains("tiers, in order: only"), "{}", served.greeting);
    let says = |word: &str| served.ask("/v1/chat/completions", WHOLE).contains(word);
    assert!(says("first"));
    file.write(&saying("second"));
    within(Duration::from_secs(10), "the change was not seen", || says("second"));
    file.write("tiers: [{ name: only, provider: nobody }]");
    thread::sleep(Duration::from_millis(600));
    assert!(says("second"), "a file that is wrong changes nothing");
    served.signal("-HUP");
    thread::sleep(Duration::from_millis(200));
    assert!(says("second"));
    served.terminate();
    let (good, said) = served.end();
    assert!(good && said.contains("event=\"reloaded\"") && said.contains("event=\"reload_refused\""), "{said}");
}

#[test]
fn a_file_that_is_wrong_is_refused_at_the_start() {
    let file = File::new("wrong", "tiers: [{ name: only, provider: nobody }]");
    let output = super::refused(&["--config", file.0.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("nobody"), "{said}");
}

#[test]
fn a_store_that_cannot_be_opened_is_said_at_the_start() {
    let file = File::new("store", &(saying("word") + "stores: { durable: 'sqlite:/no/such/folder/state.db' }\n"));
    let output = super::refused(&["--config", file.0.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("stores.durable") && said.contains("/no/such/folder/state.db"), "{said}");
}

#[test]
fn reloads_lose_no_request() {
    let file = File::new("many", &saying("word"));
    let served = file.serve();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = served.ask(
                        "/v1/chat/completions",
                        if asked.load(Ordering::Relaxed) % 2 == 0 { HELLO } else { WHOLE },
                    );
                    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("word"), "{answer}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for change in 0..30 {
            file.write(&saying(&format!("word{change}")));
            served.signal("-HUP");
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 200, "{asked:?}");
}
