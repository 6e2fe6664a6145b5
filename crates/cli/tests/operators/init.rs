//! `steadfast init`: a first configuration, which `steadfast check` likes, from the keys that are there.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::common::{Folder, Ran, STEADFAST, steadfast};

const SECRET: &str = "sk-of-the-provider";
const KEYS: [(&str, &str); 3] =
    [("ANTHROPIC_API_KEY", "claude"), ("OPENAI_API_KEY", "gpt"), ("GOOGLE_API_KEY", "gemini")];

/// Answers the questions at a terminal of their own. Returns what stood there.
fn at_a_terminal(arguments: &[&str], keys: &[(&str, &str)], answers: &str) -> Ran {
    const TERMINAL: &str = "import os, pty, sys\n\
                            child, terminal = pty.fork()\n\
                            if child == 0: os.execv(sys.argv[1], sys.argv[1:])\n\
                            os.write(terminal, sys.stdin.buffer.read())\n\
                            while True:\n    \
                                try: said = os.read(terminal, 4096)\n    \
                                except OSError: break\n    \
                                if not said: break\n    \
                                os.write(1, said)\n\
                            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n";
    let mut python = Command::new("python3");
    python.args(["-c", TERMINAL, STEADFAST, "init"]).args(arguments).env_clear();
    python.env("PATH", std::env::var_os("PATH").unwrap()).envs(keys.iter().copied());
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The file is one that `check` likes, with and without its keys.
fn is_liked(file: &str, keys: &[(&str, &str)]) {
    let text = fs::read_to_string(file).unwrap();
    for (arguments, environment) in [(&["check", file, "--offline"][..], &[][..]), (&["check", file], keys)] {
        let ran = steadfast(arguments.iter().copied(), environment);
        assert!(ran.code == Some(0) && ran.out.contains("no mistake found"), "{}{}\n{text}", ran.out, ran.err);
        assert_eq!(ran.err, "", "{text}");
    }
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn every_subset_of_keys_gives_a_file_that_check_likes() {
    let folder = Folder::new("init");
    let file = folder.path("steadfast.yaml");
    let file = file.to_str().unwrap();
    for subset in 1_u32..1 << KEYS.len() {
        let there: Vec<_> = (0..KEYS.len()).filter(|at| subset >> at & 1 == 1).map(|at| KEYS[at]).collect();
        let keys: Vec<_> = there.iter().map(|(name, _)| (*name, SECRET)).collect();
        let ran = steadfast(["init", "--force", "--out", file], &keys);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{keys:?}");
        let tiers: Vec<&str> = there.iter().map(|(_, tier)| *tier).collect();
        assert!(ran.out.contains(&tiers.join(", then ")) && !ran.out.contains(SECRET), "{}", ran.out);
        is_liked(file, &keys);
        let lines = fs::read_to_string(file).unwrap().lines().count();
        assert!(lines <= 12, "{lines} lines of {} keys", there.len());
    }
}

#[test]
fn answers_at_a_terminal_choose_the_models_their_order_and_a_budget() {
    let folder = Folder::new("init-asked");
    let path = folder.path("own file.yaml");
    let file = path.to_str().unwrap();
    let keys = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"].map(|name| (name, SECRET));
    let ran = at_a_terminal(&["--out", file], &keys, "1 3\n9\n3 1\n20\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for words in
        ["2  OPENAI_API_KEY: gpt-5.2", "Use which of them? [all]", "order? [1 3]", "from 1 to 3", "[none]", "$20 a day"]
    {
        assert!(ran.out.contains(words), "{words}: {ran:?}");
    }
    assert!(!ran.out.contains(SECRET), "{ran:?}");
    let text = fs::read_to_string(&path).unwrap();
    let tiers: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("  - { name: ")?.split(',').next()).collect();
    assert_eq!(tiers, ["gemini", "claude", "haiku"]);
    assert!(text.contains("usd: 20, period: day"), "{text}");
    // The count outlives a process, whatever folder it runs in.
    assert!(text.contains(&format!("sqlite:{}", folder.path("steadfast.db").display())), "{text}");
    is_liked(file, &keys);
}

#[test]
fn without_a_terminal_or_with_yes_nobody_is_asked() {
    let folder = Folder::new("init-yes");
    let keys = [("OPENAI_API_KEY", SECRET), ("ANTHROPIC_API_KEY", SECRET)];
    let [one, other] = ["one.yaml", "other.yaml"].map(|name| folder.path(name));
    let ran = steadfast(["init", "--out", one.to_str().unwrap()], &keys);
    assert!(ran.code == Some(0) && ran.err.is_empty(), "{ran:?}");
    let asked = at_a_terminal(&["--yes", "--out", other.to_str().unwrap()], &keys, "");
    assert!(asked.code == Some(0) && !asked.out.contains('?'), "{asked:?}");
    assert_eq!(fs::read(one).unwrap(), fs::read(other).unwrap());
}

#[test]
fn a_file_that_is_there_stays_and_no_key_and_no_answer_write_none() {
    let folder = Folder::new("init-there");
    let path = folder.file("steadfast.yaml", "mine");
    let file = path.to_str().unwrap();
    let keys = [("OPENAI_API_KEY", SECRET)];
    let ran = steadfast(["init", "--out", file], &keys);
    assert!(ran.code == Some(2) && ran.err.contains("--force") && ran.err.contains("--out"), "{ran:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(steadfast(["init", "--force", "--out", file], &keys).code, Some(0));
    assert!(fs::read_to_string(&path).unwrap().contains("gpt-5.2"));

    let new = folder.path("new.yaml");
    let file = new.to_str().unwrap();
    for keys in [&[][..], &[("OPENAI_API_KEY", " ")]] {
        let ran = steadfast(["init", "--out", file], keys);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        KEYS.iter().for_each(|(name, _)| assert!(ran.err.contains(name), "{name}: {ran:?}"));
    }
    // Ctrl-D.
    let ran = at_a_terminal(&["--out", file], &keys, "\u{4}");
    assert!(ran.code == Some(2) && ran.out.contains("is not written"), "{ran:?}");
    assert!(!new.exists());
    let ran = steadfast(["init", "--out", "/nowhere/at/all.yaml"], &keys);
    assert!(ran.code == Some(2) && ran.err.contains("cannot write"), "{ran:?}");
}
