//! Rust's source as the reference reads it: constants, structs, enums and macros of the log, with their documentation.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// A file's own code, without its tests.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// The top of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Returns the files of a folder, in order.
pub(super) fn sources(folder: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
                sources.push(Source { path, text: code });
            }
        }
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

/// A constant with its documentation.
pub(super) struct Constant {
    pub(super) name: String,
    pub(super) docs: String,
    pub(super) of_type: String,
    /// The texts in its value.
    pub(super) texts: Vec<String>,
}

impl Source {
    pub(super) fn constants(&self) -> Vec<Constant> {
        let found = self.text.match_indices("const ").filter_map(|(at, word)| {
            let begins = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
            let before = self.text[begins..at].trim();
            let (head, value) = self.text[at + word.len()..].split_once('=')?;
            let is_item = before.is_empty() || before.starts_with("pub");
            let (name, of_type) = head.split_once(':').filter(|_| is_item)?;
            let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            let value = &value[..value.find(";\n")?];
            is_name.then(|| Constant {
                name: name.to_owned(),
                docs: docs_before(&self.text, begins),
                of_type: of_type.trim().to_owned(),
                texts: texts(value).into_iter().map(|range| value[range].to_owned()).collect(),
            })
        });
        found.collect()
    }

    /// Returns the fields of a struct, each with its documentation and type.
    pub(super) fn fields(&self, name: &str) -> Option<Vec<(String, String, String)>> {
        let block = self.block(&format!("struct {name} {{"))?;
        let mut fields = Vec::new();
        let mut docs = String::new();
        for line in block.lines().map(str::trim) {
            if let Some(doc) = line.strip_prefix("///") {
                docs = format!("{docs} {}", doc.trim());
            } else if let Some((name, of_type)) = line.trim_end_matches(',').split_once(": ") {
                let name =
                    name.trim_start_matches("pub ").trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
                fields.push((name.to_owned(), of_type.to_owned(), plain(docs.trim())));
                docs.clear();
            }
        }
        Some(fields)
    }

    /// Returns the names of an enum's variants as its JSON has them.
    pub(super) fn variants(&self, name: &str) -> Option<Vec<String>> {
        let block = self.block(&format!("enum {name} {{"))?;
        let lines = block.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with('#'));
        let names = lines.filter_map(|line| line.strip_suffix(',').map(snake));
        Some(names.collect())
    }

    fn block(&self, head: &str) -> Option<&str> {
        let begin = self.text.find(head)? + head.len();
        let end = self.text[begin..].find("\n}")?;
        Some(&self.text[begin..begin + end])
    }

    /// Returns each macro that writes a line of the log, with its arguments.
    pub(super) fn log_lines(&self) -> Vec<(String, Vec<String>)> {
        let code = without_comments(&self.text);
        let mut lines = Vec::new();
        for (at, _) in code.match_indices("!(") {
            let begins = code[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
            let name = &code[begins..at];
            let is_log = ["error", "warn", "info", "debug", "trace", "event"].contains(&name)
                && code[..begins].ends_with("tracing::")
                || name == "line";
            if is_log && let Some(arguments) = arguments(&code[at + 2..]) {
                lines.push((name.to_owned(), arguments));
            }
        }
        lines
    }
}

fn docs_before(text: &str, at: usize) -> String {
    let lines =
        text[..at].lines().rev().map(str::trim).take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let mut docs: Vec<&str> = lines.filter_map(|line| line.strip_prefix("///")).map(str::trim).collect();
    docs.reverse();
    plain(&docs.join(" "))
}

/// Returns documentation without the targets of its links.
fn plain(docs: &str) -> String {
    let mut text = String::new();
    let mut rest = docs;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        let Some((inside, after)) = after.split_once(']') else { return text + "[" + after };
        text.push_str(inside);
        rest = match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    text + rest
}

/// Returns the places of the string literals in code.
pub(super) fn texts(code: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut begun, mut escaped) = (None, false);
    for (at, c) in code.char_indices() {
        match (c, begun) {
            _ if escaped => escaped = false,
            ('\\', Some(_)) => escaped = true,
            ('"', Some(from)) => {
                found.push(from..at);
                begun = None;
            }
            ('"', None) if !code[..at].ends_with('\'') => begun = Some(at + 1),
            _ => {}
        }
    }
    found
}

fn without_comments(text: &str) -> String {
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    text.lines().filter(|line| !is_comment(line)).map(|line| format!("{line}\n")).collect()
}

/// Returns the arguments of a macro, up to its closing parenthesis.
fn arguments(code: &str) -> Option<Vec<String>> {
    let strings = texts(&code[..code.len().min(4000)]);
    let in_string = |at: usize| strings.iter().any(|range| range.contains(&at));
    let (mut depth, mut from, mut found) = (0_usize, 0, Vec::new());
    for (at, c) in code.char_indices().take_while(|(at, _)| *at < 4000) {
        match c {
            _ if in_string(at) => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                found.push(code[from..at].trim().to_owned());
                found.retain(|argument| !argument.is_empty());
                return Some(found);
            }
            ')' | ']' | '}' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                found.push(code[from..at].trim().to_owned());
                from = at + 1;
            }
            _ => {}
        }
    }
    None
}

/// Returns a variant's name as serde writes it.
fn snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// Returns a field's name in camelCase.
pub(super) fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let mut letters = part.chars();
        let head = letters.next().map(|c| c.to_ascii_uppercase());
        text + &head.into_iter().chain(letters).collect::<String>()
    })
}

#[test]
fn the_reader_of_source_sees_what_rust_sees() {
    let source = Source {
        path: PathBuf::new(),
        text: "/// Says a [`Thing`](x).\npub(crate) const NAME: &[&str] = &[\"a\", \"b\\\"c\"];\nline!(\n    if x { Level::WARN } else { Level::INFO },\n    \
               event = \"it\",\n    a = f(b, \"x, )\"),\n    %problem,\n);\ntracing::info!(count, \"keys reloaded\");\n"
            .to_owned(),
    };
    let constants = source.constants();
    assert_eq!((&*constants[0].docs, &*constants[0].of_type), ("Says a `Thing`.", "&[&str]"));
    assert_eq!(constants[0].texts, ["a", "b\\\"c"]);
    let lines = source.log_lines();
    assert_eq!(lines[0].1[1..], ["event = \"it\"", "a = f(b, \"x, )\")", "%problem"]);
    assert_eq!(lines[1], ("info".to_owned(), vec!["count".to_owned(), "\"keys reloaded\"".to_owned()]));
    assert_eq!((camel("in_flight"), snake("KeyRefused")), ("inFlight".to_owned(), "key_refused".to_owned()));
}
