//! The pages beside the code: each command that they name is taken, each path is there, each module exists.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::common::steadfast;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The READMEs of the repository, the guide, and other files whose comments name modules.
fn pages() -> Vec<(PathBuf, String)> {
    let packages = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path().join("README.md"));
    let guide = fs::read_dir(root().join("crates/guide/src")).unwrap().map(|entry| entry.unwrap().path());
    let packages = packages.chain(guide.filter(|path| path.extension().is_some_and(|suffix| suffix == "md")));
    let others = ["README.md", "ops/README.md", "ops/prometheus-rules.yml", "packaging/README.md", "packaging/build"];
    let more = [
        "benches/gateway/README.md",
        "tests/README.md",
        "packaging/npm/steadfast/README.md",
        "packaging/pypi/README.md",
        "packaging/systemd/steadfast.service",
        "BENCHMARKS.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ];
    let mut paths: Vec<PathBuf> =
        packages.chain(others.into_iter().chain(more).map(|path| root().join(path))).collect();
    paths.retain(|path| path.exists());
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The packages of the workspace, by name, with their folders.
fn packages() -> BTreeMap<String, PathBuf> {
    let mut folders = ["", "examples", "examples/failover", "tests"].map(|folder| root().join(folder)).to_vec();
    folders.extend(fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path()));
    let manifest = |folder: PathBuf| {
        let text = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        let name = text.split("[package]\nname = \"").nth(1)?.split('"').next()?.to_owned();
        Some((name, folder))
    };
    folders.into_iter().filter_map(manifest).collect()
}

/// The commands of a page: lines of its shell blocks, and code in its sentences that begins like one.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut is_shell = None;
    for line in text.replace("\\\n", " ").lines() {
        match (line.strip_prefix("```"), is_shell) {
            (Some(language), None) => is_shell = Some(language.trim() == "sh"),
            (Some(_), Some(_)) => is_shell = None,
            (None, Some(true)) => lines.push(line.to_owned()),
            (None, Some(false)) => {}
            (None, None) => {
                let code = line.split('`').skip(1).step_by(2).filter(|code| code.contains(' '));
                lines.extend(code.map(str::to_owned));
            }
        }
    }
    lines.iter().flat_map(|line| simple_commands(line)).collect()
}

/// Returns the words of each command of a line, without its comment, its redirections and its variables.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::<String>::new(), String::new());
    let (mut quote, mut begun) = (None, false);
    for c in line.chars().chain([' ']) {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => (quote, begun) = (Some(c), true),
            ('#', None) if word.is_empty() => break,
            (c, None) if c.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (c, None) => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    for words in words.split(|word| ["&&", "|", ";"].contains(&word.as_str())) {
        let is_variable = |word: &&String| {
            word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        };
        let words =
            words.iter().skip_while(is_variable).take_while(|word| !word.trim_start_matches('2').starts_with('>'));
        all.push(words.cloned().collect());
    }
    all
}

/// The program takes these arguments; of placeholders, the help is enough.
fn takes(arguments: &[String]) -> Result<(), String> {
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).take_while(|word| !["..", "…"].contains(word)).collect();
    if arguments.first() == Some(&"help") || arguments.is_empty() {
        return Ok(());
    }
    // The arguments behind the dashes are a client's.
    let own = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    let ran = steadfast(arguments[..own].iter().copied().chain(["--help"]), &[]);
    if ran.code == Some(0) { Ok(()) } else { Err(ran.err) }
}

/// Returns the value of an option, which may be joined to it.
fn option<'a>(words: &'a [String], names: &[&str]) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| {
        let joined = names.iter().find_map(|name| word.strip_prefix(&format!("{name}=")));
        joined.or_else(|| if names.contains(&word.as_str()) { Some(words.get(at + 1)?.as_str()) } else { None })
    })
}

/// Returns the problem of a command of cargo.
fn cargo(words: &[String], page: &Path) -> Result<(), String> {
    let own = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let (of_cargo, of_program) = (&words[..own], words.get(own + 1..).unwrap_or_default());
    let packages = packages();
    let package = match option(of_cargo, &["-p", "--package"]) {
        Some(name) => packages.get(name).cloned().ok_or_else(|| format!("no package {name}"))?,
        // A test is run from the top; an example stands in a package's own folder too.
        None if option(of_cargo, &["--test"]).is_some() => root().to_owned(),
        None => match page.parent() {
            Some(folder) if folder.join("Cargo.toml").exists() => folder.to_owned(),
            _ => root().to_owned(),
        },
    };
    // A reader's own program has the clone where it likes.
    let path = option(of_cargo, &["--path"]).filter(|_| of_cargo[0] != "add");
    for path in [path, option(of_cargo, &["--manifest-path"])].into_iter().flatten() {
        let path = root().join(path);
        let is_manifest = path.is_file() && path.ends_with("Cargo.toml");
        if !is_manifest && !path.join("Cargo.toml").exists() {
            return Err(format!("no package at {}", path.display()));
        }
    }
    match words.first().map(String::as_str) {
        // Another project's package.
        Some("add") if of_cargo.get(1).is_some_and(|name| !name.starts_with("steadfast")) => {}
        Some("install" | "binstall" | "add") if option(of_cargo, &["--path", "--git"]).is_none() => {
            let name = of_cargo.get(1).filter(|name| packages.contains_key(*name));
            let name = name.ok_or_else(|| format!("no package {}", of_cargo[1..].join(" ")))?;
            if !fs::read_to_string(page).is_ok_and(|text| text.contains("Nothing is published yet")) {
                return Err(format!("{name} is not published: name --path or --git, or say so"));
            }
        }
        Some("run") if !of_program.is_empty() && option(of_cargo, &["--manifest-path", "--example"]).is_none() => {
            takes(of_program)?;
        }
        _ => {}
    }
    let text = fs::read_to_string(package.join("Cargo.toml")).unwrap_or_default();
    for (kind, folder) in [("--test", "tests"), ("--example", "examples"), ("--bench", "benches")] {
        let Some(name) = option(of_cargo, &[kind]) else { continue };
        let folders = [package.join(folder), root().join(folder), root().join("crates/adapters").join(folder)];
        let is_there =
            |folder: &PathBuf| folder.join(format!("{name}.rs")).exists() || folder.join(name).join("main.rs").exists();
        let is_own = kind != "--test" || package == root();
        let there = if is_own { folders.iter().any(is_there) } else { is_there(&folders[0]) };
        if !there && !text.contains(&format!("name = \"{name}\"")) {
            return Err(format!("{}: no {kind} {name}", package.display()));
        }
        // A filter names a test of it.
        let at = of_cargo.iter().position(|word| word == name).unwrap_or_default();
        if let Some(filter) = of_cargo.get(at + 1).filter(|word| kind == "--test" && !word.starts_with('-')) {
            let last = filter.rsplit("::").next().unwrap_or(filter);
            if !words_of(&package.join(folder)).iter().any(|word| word.starts_with(last)) {
                return Err(format!("no test {filter}"));
            }
        }
    }
    Ok(())
}

/// All words of a folder's Rust code, comments aside.
fn words_of(folder: &Path) -> Vec<String> {
    let mut words = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return words };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            words.extend(words_of(&path));
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            words.extend(words_in(&fs::read_to_string(path).unwrap()));
        }
    }
    words
}

fn words_in(code: &str) -> Vec<String> {
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')).map(str::to_owned).collect()
}

/// The words of a package's code: of its first file, and of all.
struct PackageWords {
    top: HashSet<String>,
    all: HashSet<String>,
}

impl PackageWords {
    /// Returns those of the package of this name, which are read once.
    fn of(package: &str) -> Option<Arc<Self>> {
        static READ: Mutex<BTreeMap<String, Arc<PackageWords>>> = Mutex::new(BTreeMap::new());
        let mut read = READ.lock().unwrap();
        if let Some(words) = read.get(package) {
            return Some(words.clone());
        }
        let folder = packages().get(package).cloned()?;
        let source = fs::read_to_string(folder.join("src/lib.rs")).unwrap_or_default();
        // The library names what is below it.
        let below: &[&str] =
            if package == "steadfast" { &["cache", "core", "dialects", "http", "simulated", "validate"] } else { &[] };
        let below = below.iter().map(|name| root().join("crates").join(name));
        let all = below.chain([folder]).flat_map(|folder| words_of(&folder.join("src"))).collect();
        let words = Arc::new(Self { top: words_in(&source).into_iter().collect(), all });
        read.insert(package.to_owned(), words.clone());
        Some(words)
    }
}

/// Returns the problem of a module's path, such as `steadfast_subscribers::metrics`.
fn module(path: &str) -> Result<(), String> {
    let mut segments = path.split("::").filter(|segment| !segment.is_empty());
    let package = segments.next().unwrap_or_default().replace('_', "-");
    let words = PackageWords::of(&package).ok_or_else(|| format!("no package {package}"))?;
    for (place, segment) in segments.enumerate() {
        let known = if place == 0 { &words.top } else { &words.all };
        if !known.contains(segment) {
            return Err(format!("{package} has no {segment}"));
        }
    }
    Ok(())
}

/// The top folders whose paths a page may name.
const FOLDERS: [&str; 10] = ["crates", "packaging", "ops", "examples", "docs", "tests", "benches", "fuzz", "ci", ".ci"];

/// The paths of the repository in a text: words with a slash that begin with one of its folders.
fn paths(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| c.is_whitespace() || "`()[]{},;\"'<>|".contains(c));
    let words = words.map(|word| word.trim_end_matches(['.', ':', '/'])).filter(|word| !word.contains(['*', '$', '#']));
    words
        .filter(|word| {
            let mut parts = word.split('/');
            parts.next().is_some_and(|first| FOLDERS.contains(&first))
                && parts.next().is_some_and(|next| !next.is_empty())
        })
        .collect()
}

#[test]
fn every_command_path_and_module_of_the_pages_is_there() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (page, text) in pages() {
        let name = page.strip_prefix(root()).unwrap_or(&page).display().to_string();
        let mut judge = |what: &str, found: Result<(), String>| {
            checked += 1;
            if let Err(problem) = found {
                wrong.push(format!("{name}: {what}: {problem}"));
            }
        };
        for words in commands(&text) {
            let Some(program) = words.first() else { continue };
            let (line, arguments) = (words.join(" "), &words[1..]);
            match program.as_str() {
                "cargo" => judge(&line, cargo(arguments, &page)),
                "steadfast" => judge(&line, takes(arguments)),
                "npx" if arguments.first().is_some_and(|word| word == "steadfast") => {
                    judge(&line, takes(&arguments[1..]))
                }
                // The arguments behind the image's name are the program's.
                "docker" if arguments.first().is_some_and(|word| word == "run") => {
                    let image = arguments.iter().rposition(|word| word == "steadfast").unwrap_or_default();
                    judge(&line, takes(&arguments[image + 1..]));
                }
                _ => {}
            }
        }
        for path in paths(&text) {
            // A test stands behind its file.
            let (path, test) = path.split_once("::").map_or((path, None), |(path, test)| (path, Some(test)));
            let files = [root().join(path), page.with_file_name(path)];
            let has_test = |file: &PathBuf| {
                test.is_none_or(|test| fs::read_to_string(file).is_ok_and(|code| code.contains(&format!("fn {test}("))))
            };
            let there = files.iter().any(|file| file.exists() && has_test(file));
            // A program's own files there are not.
            let made = path.ends_with(".json") && text.contains(&format!("--json {path}"));
            judge(path, if there || made { Ok(()) } else { Err("no such file".to_owned()) });
        }
        let modules = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let modules = modules.map(|word| word.trim_end_matches(':')).filter(|word| word.contains("::"));
        for path in modules.filter(|word| word.starts_with("steadfast::") || word.starts_with("steadfast_")) {
            judge(path, module(path));
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && file.contains(['/', '.']) && !file.contains("::") {
                judge(link, if page.with_file_name(file).exists() { Ok(()) } else { Err("no such file".to_owned()) });
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 100, "{checked}");
}

#[test]
fn a_wrong_command_path_or_module_is_seen() {
    let page = root().join("packaging/README.md");
    let words = |line: &str| simple_commands(line).remove(0);
    for (line, is_right) in [
        ("cargo install --path crates/cli", true),
        ("cargo install --path gateway", false),
        ("cargo install steadfast-cli", false),
        ("cargo test -p steadfast-cli --test operators packaging", true),
        ("cargo test -p steadfast-cli --test packaging", false),
        (&["cargo test -p steadfast-cli --test operators no", "such", "test"].join("_"), false),
        ("cargo run -- check examples/steadfast.yaml --offline", true),
        ("cargo run -- check --onffline", false),
    ] {
        assert_eq!(cargo(&words(line)[1..], &page).is_ok(), is_right, "{line}");
    }
    // A package that is named as one to be published is one of this workspace.
    for (line, is_right) in [("cargo install steadfast-cli", true), ("cargo install steadfast-gate", false)] {
        assert_eq!(cargo(&words(line)[1..], &root().join("README.md")).is_ok(), is_right, "{line}");
    }
    for (path, is_right) in [
        ("steadfast_subscribers::metrics::METRICS", true),
        ("steadfast::subscribers::metrics", false),
        ("steadfast::events::alerts", false),
        ("steadfast_guide::gateway_operation", true),
        ("steadfast::guide::gateway_operation", false),
    ] {
        assert_eq!(module(path).is_ok(), is_right, "{path}");
    }
    assert_eq!(
        paths("in `packaging/docker/Dockerfile`, then ops/x.json."),
        ["packaging/docker/Dockerfile", "ops/x.json"]
    );
    let read = simple_commands("A=b cargo run -- x 'a b' > out && steadfast man # or \"fish\"");
    assert_eq!(read, [vec!["cargo", "run", "--", "x", "a b"], vec!["steadfast", "man"]]);
}

/// `packaging/` builds all default features.
#[test]
fn what_is_shipped_has_every_feature_that_the_readme_names() {
    let manifest = fs::read_to_string(root().join("crates/cli/Cargo.toml")).unwrap();
    let default = manifest.lines().find_map(|line| line.strip_prefix("default = ")).unwrap();
    let default: Vec<String> = serde_json::from_str(default).unwrap();
    assert_eq!(default, ["otlp", "postgres", "redis"]);
    let readme = fs::read_to_string(root().join("crates/cli/README.md")).unwrap();
    let said = readme.lines().find(|line| line.starts_with("Features: ")).unwrap();
    assert!(default.iter().all(|feature| said.contains(&format!("`{feature}`"))), "{said}");
    let build = fs::read_to_string(root().join("packaging/build")).unwrap();
    let image = fs::read_to_string(root().join("packaging/docker/Dockerfile")).unwrap();
    assert!(![build, image].iter().any(|text| text.contains("--no-default-features")));
    // The unit's environment may name a collector.
    assert!(steadfast(["serve", "--otlp-endpoint", "http://127.0.0.1:1", "--help"], &[]).code == Some(0));
}
