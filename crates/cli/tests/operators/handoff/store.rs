//! The command on a store of its own, without a gateway.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use steadfast::{Chat, LlmRequest, chat::Message};
use steadfast_handoff::{Desk, Handoff, TaskId};
use steadfast_stores::sqlite::Sqlite;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

use crate::common::{Folder, Ran, STEADFAST, steadfast};

/// A prompt with characters that must not reach a terminal.
const ASKED: &str = "May I?\u{1b}[2J\u{9b}2J\u{202e}";

struct Store {
    name: String,
    desk: Desk,
    runtime: Runtime,
    folder: Folder,
}

impl Store {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let file = folder.file("tasks.db", "");
        let desk = Desk::new(Sqlite::open(&file).unwrap());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { name: format!("sqlite:{}", file.display()), desk, runtime, folder }
    }

    /// A task, as the leaf makes it.
    fn task(&self, feature: &str) -> TaskId {
        let chat = Chat::new([Message::user(ASKED)]).system("be kind");
        let asked = Handoff::new(&self.desk).oneshot(LlmRequest::from(chat).with_feature(feature));
        self.runtime.block_on(asked).unwrap().task_id().unwrap().parse().unwrap()
    }

    fn run(&self, words: &[&str]) -> Ran {
        let place = ["handoff", "--store", &self.name];
        steadfast(place.into_iter().chain(words.iter().copied()), &[("USER", "ana")])
    }

    fn done(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?}: {}", ran.out);
        ran.out
    }

    fn json(&self, words: &[&str]) -> Value {
        let text = self.done(&[words, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Returns the error of a refused order.
    fn refused(&self, words: &[&str], code: i32) -> String {
        let ran = self.run(words);
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{words:?}: {}", ran.err);
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
        ran.err
    }
}

#[test]
fn a_task_is_found_claimed_given_back_and_answered_from_a_terminal() {
    let store = Store::new("handoff-store");
    assert_eq!(store.done(&["list"]), "no tasks\n");
    let (first, second) = (store.task("chat").to_string(), store.task("a & b").to_string());
    let listed = store.done(&["list", "--oldest"]);
    let lines: Vec<&str> = listed.lines().collect();
    // Tasks of one millisecond have no order but their ids'.
    let (oldest, newest) = if first < second { (&first, &second) } else { (&second, &first) };
    assert!(lines[0].starts_with("task") && lines[1].starts_with(oldest) && lines[2].starts_with(newest), "{listed}");
    let line = lines.iter().find(|line| line.starts_with(&first)).unwrap();
    assert!(line.contains("chat") && line.contains("May I?"), "{listed}");
    assert_eq!(lines[3], "in all: 2 waiting");
    assert_eq!(store.json(&["list", "--feature", "a & b"])["tasks"][0]["id"], second);
    let page = store.json(&["list", "--limit", "1", "--oldest"]);
    let next = page["next"].as_str().unwrap();
    assert_eq!(store.json(&["list", "--oldest", "--after", next])["tasks"][0]["id"], **newest);

    assert!(store.done(&["claim", &first]).contains("claimed by ana until "));
    assert!(store.refused(&["claim", &first, "--as", "ben"], 1).contains("is claimed by ana until "));
    assert!(store.refused(&["answer", &first, "no", "--as", "ben"], 1).contains("is claimed by ana until "));
    assert_eq!(store.json(&["list", "--state", "claimed"])["tasks"][0]["claim"]["by"]["name"], "ana");
    assert_eq!(store.done(&["release", &first]), format!("{first} is given back.\n"));
    assert!(store.refused(&["release", &first], 1).contains("you hold no claim"));
    store.done(&["claim", &first, "--as", "ben"]);
    assert_eq!(store.done(&["answer", &first, "You may.", "--force"]), format!("{first} is answered.\n"));
    assert!(store.refused(&["answer", &first, "You may not."], 1).contains("was answered by ana"));
    let shown = store.done(&["show", &first]);
    for words in [
        "feature: chat",
        "why: order",
        "[system]\n| be kind\n",
        "[user]\n| May I?",
        "what ana answered, ",
        "\n| You may.\n",
    ] {
        assert!(shown.contains(words), "no {words:?} in: {shown}");
    }
    assert!(store.done(&["redrive", &second]).starts_with("A model is asked again for 1 task,"));
    assert_eq!(store.json(&["redrive", "--all"])["asked"], 1);
}

#[cfg(feature = "postgres")]
#[test]
fn a_task_in_a_database_is_answered_there() {
    use steadfast_stores::postgres::Postgres;

    let Ok(url) = std::env::var("STEADFAST_TEST_POSTGRES") else {
        println!("skipped: STEADFAST_TEST_POSTGRES names no database");
        return;
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // The database is everybody's, the feature this test's own.
    let feature = format!("handoff-{}", std::process::id());
    let task = runtime.block_on(async {
        let desk = Desk::new(Postgres::connect(&url).await.unwrap());
        let request = LlmRequest::prompt(ASKED).with_feature(feature.as_str());
        Handoff::new(&desk).oneshot(request).await.unwrap().task_id().unwrap().to_owned()
    });
    let run = |words: &[&str]| {
        let environment = [("STEADFAST_STORE", &*url), ("STEADFAST_AS", "ana")];
        steadfast(["handoff"].into_iter().chain(words.iter().copied()), &environment)
    };
    let listed = run(&["list", "--feature", &feature]);
    assert!(listed.code == Some(0) && listed.out.contains(&task), "{}{}", listed.out, listed.err);
    assert_eq!(run(&["claim", &task]).code, Some(0));
    assert_eq!(run(&["claim", &task, "--as", "ben"]).code, Some(1));
    assert_eq!(run(&["answer", &task, "You may."]).code, Some(0));
    let again = run(&["answer", &task, "You may not."]);
    assert!(again.code == Some(1) && again.err.contains("was answered by ana"), "{}", again.err);
    let nowhere = steadfast(["handoff", "list"], &[("STEADFAST_STORE", "postgres://ana:secret@127.0.0.1:1/d")]);
    assert!(nowhere.code == Some(1) && !nowhere.err.contains("secret"), "{:?} {}", nowhere.code, nowhere.err);
}

#[test]
fn an_answer_comes_as_an_argument_from_a_file_or_from_standard_input() {
    let store = Store::new("handoff-answers");
    let file = store.folder.file("answer.txt", "from a\nfile\n");
    let task = store.task("chat").to_string();
    store.done(&["answer", &task, "--file", file.to_str().unwrap()]);
    assert_eq!(store.json(&["show", &task])["output"], "from a\nfile");

    let task = store.task("chat").to_string();
    let mut command = Command::new(STEADFAST)
        .args(["handoff", "--store", &store.name, "answer", &task, "-", "--as", "ana"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    command.stdin.take().unwrap().write_all(b"from a pipe\n").unwrap();
    assert!(command.wait().unwrap().success());
    assert_eq!(store.json(&["show", &task])["output"], "from a pipe");

    let task = store.task("chat").to_string();
    let long = store.folder.file("long.txt", &"x".repeat((1 << 20) + 1));
    assert!(store.refused(&["answer", &task, "--file", long.to_str().unwrap()], 2).contains("1048576 bytes at most"));
    assert!(store.refused(&["answer", &task, "  "], 2).contains("the answer is empty"));
    assert!(store.refused(&["answer", &task, "--file", "/no/such/file"], 2).contains("cannot open"));
    assert_eq!(store.json(&["show", &task])["state"], "waiting");
}

#[test]
fn a_tasks_prompt_cannot_send_commands_to_the_terminal() {
    let store = Store::new("handoff-terminal");
    let task = store.task("chat").to_string();
    for words in [&["list"][..], &["show", &task], &["show", &task, "--json"], &["list", "--json"]] {
        let out = store.done(words);
        assert!(out.contains("May I?"), "{out}");
        let commands = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!out.contains(commands), "{words:?}: {out:?}");
    }
}

#[test]
fn a_wrong_task_or_store_name_is_an_error_and_creates_no_file() {
    let store = Store::new("handoff-wrong");
    let none = "task_00000000000000000000000007";
    for words in [&["show", none][..], &["claim", none], &["release", none], &["answer", none, "x"], &["redrive", none]]
    {
        assert!(store.refused(words, 1).contains("unknown task"), "{words:?}");
    }
    assert!(store.refused(&["show", "task_7"], 2).contains("not a task's id"));
    assert!(store.refused(&["list", "--state", "gone"], 2).contains("waiting, claimed"));
    assert!(store.refused(&["list", "--limit", "0"], 2).contains("1..=1000"));
    assert_eq!(store.run(&["redrive"]).code, Some(2));

    let missing = store.folder.path("missing.db");
    let of = |place: &[&str]| steadfast(["handoff"].into_iter().chain(place.iter().copied()).chain(["list"]), &[]);
    let ran = of(&["--store", &format!("sqlite:{}", missing.display())]);
    assert!(ran.code == Some(2) && ran.err.contains("no such file"), "{}", ran.err);
    assert!(!missing.exists());
    let text = store.folder.file("text.db", &"no database ".repeat(500));
    assert_eq!(of(&["--store", &format!("sqlite:{}", text.display())]).code, Some(2));
    let ran = of(&["--store", "mysql://ana:secret@h/d"]);
    assert!(ran.code == Some(2) && !ran.err.contains("secret"), "{}", ran.err);
    assert_eq!(of(&["--store", &store.name, "--url", "http://127.0.0.1:1"]).code, Some(2));
    let ran = of(&["--url", "http://127.0.0.1:1"]);
    assert!(ran.code == Some(2) && ran.err.contains("STEADFAST_HANDOFF_KEY"), "{}", ran.err);
    let ran = steadfast(["handoff", "list", "--url", "http://127.0.0.1:1"], &[("STEADFAST_HANDOFF_KEY", "k")]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    // A store has no names of its own.
    let task = store.task("chat").to_string();
    let ran = steadfast(["handoff", "claim", &task], &[("STEADFAST_STORE", &store.name)]);
    assert!(ran.code == Some(2) && ran.err.contains("--as NAME"), "{}", ran.err);
}

#[test]
fn tasks_are_forgotten_from_a_terminal_one_or_all_of_a_caller_or_a_session() {
    let store = Store::new("handoff-forget");
    let (first, second) = (store.task("chat").to_string(), store.task("chat").to_string());
    assert_eq!(store.done(&["forget", &first]), "1 task is forgotten.\n");
    assert!(store.refused(&["show", &first], 1).contains("unknown task"));
    assert!(store.refused(&["forget", &first], 1).contains("unknown task"));
    assert_eq!(store.done(&["forget", "--session", "s-1"]), "0 tasks are forgotten.\n");
    assert_eq!(store.json(&["forget", "--tenant", "ada"])["forgotten"], 0);
    assert!(store.refused(&["forget"], 2).contains("<TASK>"));
    assert!(store.refused(&["forget", &second, "--tenant", "ada"], 2).contains("cannot be used with"));
    assert!(store.done(&["show", &second]).contains("waiting"), "nothing else is gone");
}
