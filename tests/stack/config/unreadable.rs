use std::{env, fs, path::PathBuf};

use steadfast_stack::{ConfigError, Format, Loader};

use crate::config::load;

struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = env::temp_dir().join(format!("steadfast-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn error(&self) -> ConfigError {
        load(&self.0).unwrap_err()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let missing = load(&env::temp_dir().join("steadfast-no-such-file.yaml")).unwrap_err();
    assert!(missing.to_string().contains("there is no such file"), "{missing}");
    assert!(missing.to_string().contains("steadfast-no-such-file.yaml"), "{missing}");
    let folder = load(&env::temp_dir()).unwrap_err();
    assert!(folder.to_string().contains("a directory"), "{folder}");
    let file = Temporary::new("config.ini", b"[tiers]");
    assert!(file.error().to_string().contains(".yaml, .yml, .toml or .json"), "{}", file.error());
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    for suffix in ["yaml", "toml", "json"] {
        let huge = Temporary::new(&format!("huge.{suffix}"), &vec![b'#'; 10 * 1024 * 1024]);
        assert!(huge.error().to_string().contains("longer than 1 MiB"), "{}", huge.error());
    }
    let text = " ".repeat(1024 * 1024 + 1);
    assert!(Loader::new().text(&text, Format::Yaml).unwrap_err().to_string().contains("longer than 1 MiB"));
}

#[test]
fn bytes_that_are_no_text_are_told_their_place() {
    for suffix in ["yaml", "toml", "json"] {
        let file = Temporary::new(&format!("bytes.{suffix}"), b"# one\n# two \xff\xfe\n");
        let error = file.error();
        let problem = &error.problems()[0];
        assert_eq!((problem.line, problem.column), (2, 7), "{error}");
        assert!(problem.message.contains("not UTF-8"), "{error}");
    }
}

#[test]
fn hostile_texts_are_refused_and_never_panic() {
    let loader = Loader::new().environment([("A", "b")].into_iter().collect());
    let mut texts: Vec<String> = [
        "\0", "\u{feff}", "\u{feff}tiers: []", "- - - - -", "? ?", "&a *a", "a: &a [*a]", "<<: *x", "!!binary x", "%YAML 9.9",
        "tiers: !custom [x]", "{{{{", "[[", "]]", "'", "\"\\u", "tiers: |\n", "a: 1e999", "tiers: 99999999999999999999999",
        "timeout: 99999999999999999999d", "timeout: -1s", "timeout: 1e400s", "\u{202e}tiers: x", "tiers: [é, \"ü", "é: 日本",
        "{\"tiers\": [\"\\ud83d\\ude00\"]}", "tiers:\r\n  - name: x\r\n    provder: y\r\n", "a = 1\nb = [", "model: {}", "providers: {}",
        "providers: [1]", "model: { primaryModel: x, provider: simulated, failover: { retriesBeforeFailover: 65535, timeoutMs: 4294967295 } }",
        "tiers: [{name: a, provider: simulated, api_key: [sk-hidden-123456]}]",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push(format!("{}x", "a: {".repeat(3000)));
    texts.push("- ".repeat(3000));
    texts.push("a:\n".to_owned() + &" ".repeat(50_000) + "b: 1");
    texts.push((0..60).map(|n| format!("k{n}: 1\n")).collect());
    for text in &texts {
        for format in [Format::Yaml, Format::Toml, Format::Json] {
            if let Err(error) = loader.text(text, format) {
                let shown = error.to_string();
                assert!(!error.problems().is_empty());
                assert!(!shown.contains("hidden"), "{shown}");
                assert!(shown.lines().all(|line| line.chars().count() < 2_000), "{shown}");
            }
        }
    }
}

#[test]
fn a_long_text_is_told_in_short() {
    let filled = |head: &str, part: fn(usize) -> String, tail: &str| {
        let mut text = head.to_owned();
        for n in 0.. {
            let part = part(n);
            if text.len() + part.len() + tail.len() > 200 * 1024 {
                break;
            }
            text.push_str(&part);
        }
        text + tail
    };
    let main = "[[tiers]]\nname = \"main\"\nprovider = \"simulated\"\n";
    for text in [
        filled("", |n| format!("[[tiers]]\nname = \"t{n}\"\nprovider = \"canned\"\n"), ""),
        filled("", |n| format!("unknown_{n} = 1\n"), main),
        filled(main, |n| format!("[features.f{n}]\nconcurrency = \"x\"\n"), ""),
        filled(&format!("{main}[features.chat]\ntiers = ["), |_| "\"x\",".to_owned(), "]"),
        filled(&format!("{main}[features.chat]\ntiers = ["), |_| "\"main\",".to_owned(), "]"),
        filled(&format!("{main}[prices]\n"), |n| format!("m{n} = {{ input = -1, output = nan }}\n"), ""),
        filled("tiers = \"", |_| ":=:".to_owned(), "\""),
    ] {
        let error = Loader::new().text(&text, Format::Toml).unwrap_err();
        assert!(error.problems().len() <= 100);
        assert!(error.to_string().len() < 200_000);
    }
}

#[test]
fn every_cut_of_a_good_file_is_told_or_read() {
    let whole = fs::read_to_string(crate::config::folder("good").join("whole.yaml")).unwrap();
    let loader = Loader::new().environment(crate::config::environment());
    for end in (0..whole.len()).step_by(7).filter(|end| whole.is_char_boundary(*end)) {
        if let Err(error) = loader.text(&whole[..end], Format::Yaml) {
            let last = whole[..end].lines().count().max(1);
            assert!(error.problems().iter().all(|problem| (1..=last).contains(&problem.line)), "{end}: {error}");
        }
    }
}

#[test]
fn no_mutation_of_a_good_file_panics() {
    let mut rng = fastrand::Rng::with_seed(7);
    let loader = Loader::new().environment(crate::config::environment());
    for (suffix, format) in [("yaml", Format::Yaml), ("toml", Format::Toml), ("json", Format::Json)] {
        let whole = fs::read(crate::config::folder("good").join(format!("whole.{suffix}"))).unwrap();
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..rng.usize(1..8) {
                let at = rng.usize(0..bytes.len());
                match rng.u8(0..4) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, *rng.choice(b"{}[]:,-#&*!|>'\"\n\t $%@=0a").unwrap()),
                    2 => bytes[at] = rng.u8(..),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            let lines = text.lines().count().max(1);
            if let Err(error) = loader.text(&text, format) {
                assert!(error.problems().iter().all(|problem| (1..=lines).contains(&problem.line)), "{text}\n{error}");
            }
        }
    }
}
