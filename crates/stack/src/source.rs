//! The text of a configuration, for the lines that errors show.

use std::{ops::Range, path::PathBuf};

use super::{
    error::Problem,
    tree::{Node, Place, Value},
};

/// The widest line that is shown in full, in characters.
const WIDE: usize = 160;

pub(super) struct Source {
    file: Option<PathBuf>,
    text: String,
    /// The byte ranges that may be secrets, in order.
    secrets: Vec<Range<usize>>,
}

impl Source {
    pub(super) fn new(file: Option<PathBuf>, text: String) -> Self {
        let secrets = secret_spans(&text);
        Self { file, text, secrets }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Collects from the tree the ranges that must not be shown.
    pub(super) fn hide_secrets_of(&mut self, tree: &Node) {
        collect(tree, false, &mut self.secrets);
        self.secrets.sort_by_key(|range| range.start);
    }

    /// Returns whether the value at this place may be a secret.
    pub(super) fn may_be_secret(&self, place: &Place) -> bool {
        match place {
            Place::Text(range) => {
                self.secrets.iter().any(|secret| secret.start < range.end && range.start < secret.end)
            }
            Place::Variable(name) => may_be_secret(name),
        }
    }

    /// Creates a problem at this place.
    pub(super) fn problem(&self, place: Option<&Place>, message: impl Into<String>) -> Problem {
        let mut problem = Problem::of_file(self.file.clone(), redacted(&message.into()));
        match place {
            Some(Place::Text(range)) => self.locate(range, &mut problem),
            Some(Place::Variable(name)) => {
                problem.file = None;
                problem.variable = Some(name.to_string());
            }
            None => {}
        }
        problem
    }

    fn locate(&self, range: &Range<usize>, problem: &mut Problem) {
        let text = self.text.as_str();
        let boundary = |mut at: usize| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        // A problem of the whole text, or of its missing end, is shown at the last line with content.
        let start = boundary(range.start.min(text.trim_end().len()));
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[begin..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let end = begin + line.len();
        let start = start.min(end);
        problem.line = text[..begin].matches('\n').count() + 1;
        problem.column = text[begin..start].chars().count() + 1;
        // A very long line is cut to the neighbourhood of the mark.
        let from = boundary(begin.max(start.saturating_sub(4 * WIDE)));
        let to = boundary(end.min(start + 4 * WIDE));
        let stop = boundary(range.end.clamp(start, to));
        let stop = start + text[start..stop].trim_end().len();
        let shown = self.redacted(from, &text[from..to]);
        let (at, end) = (shown.column(start - from), shown.column(stop - from));
        // The snippet surrounds the mark if the line is long.
        let skip = if shown.text.chars().count() > WIDE { at.saturating_sub(WIDE / 2) } else { 0 };
        problem.snippet = shown.text.chars().skip(skip).take(WIDE).collect();
        let room = (skip + WIDE).saturating_sub(at).max(1);
        problem.mark = (at - skip, end.saturating_sub(at).clamp(1, room));
    }

    /// Returns a line with its secrets replaced.
    fn redacted(&self, begin: usize, line: &str) -> RedactedLine {
        let mut shown = RedactedLine { text: String::with_capacity(line.len()), pieces: Vec::new() };
        let mut done = 0;
        for secret in &self.secrets {
            let within = |byte: usize| byte.clamp(begin, begin + line.len()) - begin;
            let (start, end) = (within(secret.start).max(done), within(secret.end));
            if start < end && line.is_char_boundary(start) && line.is_char_boundary(end) {
                shown.push(&line[done..start], done);
                shown.pieces.push((start, shown.text.chars().count(), REDACTED.len()));
                shown.text.push_str(REDACTED);
                done = end;
            }
        }
        shown.push(&line[done..], done);
        shown
    }
}

/// The replacement for a secret.
pub(super) const REDACTED: &str = "***";

/// A line as displayed, with the column of each of its bytes.
struct RedactedLine {
    text: String,
    /// For each character or replaced secret: its first byte in the line, its column here, and its width here.
    pieces: Vec<(usize, usize, usize)>,
}

impl RedactedLine {
    fn push(&mut self, part: &str, from: usize) {
        let column = self.text.chars().count();
        self.pieces.extend(part.char_indices().enumerate().map(|(n, (byte, _))| (from + byte, column + n, 1)));
        self.text.push_str(part);
    }

    fn column(&self, byte: usize) -> usize {
        match self.pieces.iter().find(|(start, ..)| *start >= byte) {
            Some((_, column, _)) => *column,
            None => self.pieces.last().map_or(0, |(_, column, width)| column + width),
        }
    }
}

/// Returns a message without what is a secret wherever it stands: a URL's user and password, and keys.
pub(super) fn redacted(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut done = 0;
    for place in obvious_secrets(message) {
        if place.start >= done {
            shown.push_str(&message[done..place.start]);
            shown.push_str(REDACTED);
            done = place.end;
        }
    }
    shown.push_str(&message[done..]);
    shown
}

/// Returns the places of secrets that are known by themselves, in order: a URL's user and password, and words that
/// begin as keys do.
fn obvious_secrets(text: &str) -> Vec<Range<usize>> {
    const MARKS: [&str; 18] = [
        "sk-",
        "sk_",
        "pk-",
        "rk_",
        "xai-",
        "AIza",
        "AKIA",
        "ASIA",
        "xox",
        "ghp_",
        "gho_",
        "github_pat_",
        "glpat-",
        "gsk_",
        "hf_",
        "pplx-",
        "whsec_",
        "eyJ",
    ];
    let mut places = Vec::new();
    let mut at = 0;
    for token in text.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')) {
        if has_plain_escape(token) {
            places.push(at..at + token.trim_end().len());
        } else if let Some(end) = token.rfind('@') {
            let begin = token[..end].find("://").map(|scheme| scheme + "://".len());
            let user = &token[begin.unwrap_or(0)..end];
            if !user.is_empty() && (begin.is_some() || user.contains(':')) {
                places.push(at + begin.unwrap_or(0)..at + end);
            }
        }
        let mut word = at;
        for part in token.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))) {
            if part.len() > 8 && MARKS.iter().any(|mark| part.starts_with(mark)) {
                let trimmed = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                places.push(word..word + trimmed.len());
            }
            word += part.len();
        }
        at += token.len();
    }
    places.sort_by_key(|place| place.start);
    places
}

/// Returns whether a token spells a letter or a mark of ASCII as an escape, as nobody does but to hide it.
fn has_plain_escape(token: &str) -> bool {
    token.split('\\').skip(1).any(|escape| {
        let length = match escape.as_bytes().first() {
            Some(b'x') => 2,
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => return false,
        };
        let code = escape.get(1..=length).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        code.is_some_and(|code| (0x21..0x7f).contains(&code))
    })
}

/// Returns whether the value of a key may be a secret.
fn may_be_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // `key` alone is the name of a caller's key in a budget; tokens are a model's unit.
    key != "key"
        && ["key", "secret", "password", "authorization", "credential", "bearer", "headers", "webhook"]
            .iter()
            .any(|word| key.contains(word))
        || key.ends_with("token")
        || key == "env"
}

/// Collects the places of all texts under such keys.
fn collect(node: &Node, secret: bool, places: &mut Vec<Range<usize>>) {
    match (&node.value, &node.place) {
        (Value::Text(text), Place::Text(range)) if secret && !is_reference(text) => places.push(range.clone()),
        // Escapes of the format may hide it in the text.
        (Value::Text(text), Place::Text(range)) if !obvious_secrets(text).is_empty() => places.push(range.clone()),
        (Value::Integer(_) | Value::Float(_), Place::Text(range)) if secret => places.push(range.clone()),
        (Value::List(items), _) => items.iter().for_each(|item| collect(item, secret, places)),
        (Value::Map(entries), _) => {
            for entry in entries {
                if let (Place::Text(range), false) = (&entry.key_place, obvious_secrets(&entry.key).is_empty()) {
                    places.push(range.clone());
                }
                // A webhook's address is its secret; its other settings are not.
                let webhooks = entry.key.to_ascii_lowercase().contains("webhook");
                let harmless = matches!(entry.key.as_str(), "format" | "rules") || is_shown(&entry.key);
                let secret = !harmless && (secret || may_be_secret(&entry.key) || webhooks);
                collect(&entry.value, secret, places);
            }
        }
        _ => {}
    }
}

/// Returns whether a key of a credential names its source and holds no secret.
fn is_shown(key: &str) -> bool {
    matches!(
        key,
        "profile"
            | "web_identity"
            | "role"
            | "token_file"
            | "service_account"
            | "authorized_user"
            | "external_account"
            | "tenant"
            | "client_id"
            | "managed_identity"
    )
}

fn is_reference(text: &str) -> bool {
    text.starts_with("${") && text.ends_with('}') && !text.contains(":-")
}

/// Finds possible secrets by the text alone, for a text that cannot be parsed: the rest of a line after a telling key,
/// and words with the prefix of a provider's key.
fn secret_spans(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut begin = 0;
    // True if the previous line ended with a telling key.
    let mut pending = false;
    for line in text.split_inclusive('\n') {
        if std::mem::take(&mut pending) {
            places.push(begin + line.len() - line.trim_start().len()..begin + line.trim_end().len());
        }
        let mut at = 0;
        while let Some(sign) = line[at..].find([':', '=']).map(|sign| at + sign) {
            let key = line[at..sign].trim_end_matches([' ', '"', '\'']);
            let key =
                key.rsplit(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))).next().unwrap_or(key);
            at = sign + 1;
            if !may_be_secret(key) {
                continue;
            }
            let rest = line[at..].trim_start_matches([' ', '"', '\'']);
            let start = at + line[at..].len() - rest.len();
            let end = start + rest.find(['"', '\'', ',', '}', ']', '\n', '\r', '#']).unwrap_or(rest.len());
            pending = rest.trim().is_empty() && !matches!(key, "headers" | "webhooks" | "env");
            if !rest.starts_with(['$', '{', '[']) && start < end {
                places.push(begin + start..begin + end);
            }
            at = end.max(at);
        }
        begin += line.len();
    }
    places.extend(obvious_secrets(text));
    places.sort_by_key(|range| range.start);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    fn shown(text: &str, word: &str) -> Problem {
        let at = text.find(word).unwrap();
        Source::new(None, text.to_owned()).problem(Some(&Place::Text(at..at + word.len())), "wrong")
    }

    #[test]
    fn the_mark_is_under_the_word() {
        for (text, word, line, column, mark) in [
            ("a: b", "b", 1, 4, (3, 1)),
            ("x\n\ta: bcd\n", "bcd", 2, 5, (4, 3)),
            ("é: \"ü\", b: 日本", "日本", 1, 12, (11, 2)),
            ("a: b\r\nc: dd\r\n", "dd", 2, 4, (3, 2)),
            ("a: b\r\nc: dd\r\n", "\nc", 1, 5, (4, 1)),
        ] {
            let problem = shown(text, word);
            assert_eq!((problem.line, problem.column, problem.mark), (line, column, mark), "{text}");
        }
        let long = format!("a: [{}, wrong, {}]", "x, ".repeat(300), "y, ".repeat(300));
        let problem = shown(&long, "wrong");
        assert_eq!(problem.column, 907);
        let (at, length) = problem.mark;
        assert_eq!(problem.snippet.chars().skip(at).take(length).collect::<String>(), "wrong");
        assert!(problem.snippet.chars().count() <= WIDE);
    }

    #[test]
    fn what_may_be_a_secret_is_hidden_in_a_text_that_cannot_be_read() {
        for text in [
            "api_key: hidden-123 }",
            "{\"apiKey\": \"hidden-123\", broken",
            "api_key = hidden-123",
            "authorization: Bearer hidden-123",
            "a: { my_token: 'hidden-123', b: [ }",
            "api_key:\n  hidden-123: [",
            "OPENAI_API_KEY=hidden-123",
            "password : \"hidden-123",
        ] {
            let problem = shown(text, "hidden");
            assert!(!problem.to_string().contains("hidden"), "{problem}");
            assert!(problem.to_string().contains("***"), "{problem}");
        }
        for text in ["x: sk-hidden-12345678", "- [AIzahidden12345, b"] {
            assert!(!shown(text, "hidden").snippet.contains("hidden"), "{text}");
        }
        for text in
            ["max_output_tokens: 4096", "tokens_per_minute: 90000", "key: research", "api_key: ${OPENAI_API_KEY}"]
        {
            assert_eq!(shown(text, text).snippet, text);
        }
    }

    #[test]
    fn a_value_that_may_be_a_secret_is_not_repeated() {
        for text in [
            "tiers: [{ name: a, provider: simulated, headers: hidden }]",
            "tiers: [{ name: a, provider: simulated, headers: { x: [hidden] } }]",
            "alerts: { webhooks: https://example.com/hidden }",
            "alerts: { webhooks: [https://example.com/hidden] }",
            "tiers: [{ name: a, provider: '${KEY}' }]",
            "tiers: [{ name: a, provider: simulated, level: '${KEY}' }]",
            "timeout: ${KEY}",
        ] {
            let environment = [("KEY", "hidden"), ("STEADFAST__ALERTS__WEBHOOKS", "hidden")].into_iter().collect();
            let error = super::super::Loader::new().environment(environment).text(text, Format::Yaml).unwrap_err();
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }

    /// Each form of a secret in each place of a file that is wrong there: none is in what an operator reads.
    #[test]
    fn no_secret_is_printed_whatever_its_form_and_its_place() {
        const SECRET: &str = "Hidden0123456789";
        let forms = [
            format!("https://user:{SECRET}@example.com/v1"),
            format!("https://{SECRET}@example.com/v1"),
            format!("https://user:a/{SECRET}@example.com/v1"),
            format!("postgress://user:{SECRET}@db.example/steadfast"),
            format!("redis://:{SECRET}@cache.example"),
            format!("user:{SECRET}@example.com"),
            format!("sk-ant-{SECRET}"),
            format!("AIza{SECRET}"),
            format!("whsec_{SECRET}"),
            format!("eyJ{SECRET}.{SECRET}.{SECRET}"),
        ];
        let places = [
            "tiers: [{ name: a, provider: compatible, model: m, base_url: SECRET }]",
            "tiers: [{ name: a, provider: SECRET }]",
            "tiers: [{ name: a, provider: simulated, level: SECRET }]",
            "tiers: [{ name: a, provider: simulated, SECRET: 1 }]",
            "tiers: [{ name: a, provider: simulated, nobody_knows: SECRET }]",
            "tiers: [{ name: a, provider: simulated, api_kye: SECRET }]",
            "tiers: [{ name: SECRET, provider: simulated }, { name: SECRET, provider: simulated }]",
            "stores: { durable: SECRET }\ntiers: [{ name: a, provider: simulated }]",
            "stores: { shared: SECRET }\ntiers: [{ name: a, provider: simulated }]",
            "timeout: SECRET",
            "handoff: { callbacks: { secret: SECRET, hosts: [SECRET] } }",
            "handoff: { notify: { url: SECRET, link: [] } }",
            "alerts: { webhooks: [{ url: SECRET, nobody: SECRET }] }",
            "gateway: { keys: SECRET, max_body: SECRET, cors: [SECRET] }",
            "models: { m: [SECRET] }\ntiers: [{ name: a, provider: simulated }]",
            "listen: SECRET",
            "pasword: SECRET",
            "SECRET",
            "a: [ SECRET",
        ];
        let spellings: [fn(&str) -> String; 4] = [
            str::to_owned,
            |form| format!("'{form}'"),
            |form| format!("\"{form}\""),
            |form| format!("\"{}\"", form.replace('@', "\\x40").replace('-', "\\u002d").replace('_', "\\x5f")),
        ];
        let mut cells = 0;
        for form in &forms {
            for place in places {
                for spell in spellings {
                    let text = place.replace("SECRET", &spell(form));
                    let read = super::super::Loader::new().environment(Default::default()).text(&text, Format::Yaml);
                    let Err(error) = read else { continue };
                    for shown in [error.to_string(), format!("{error:?}")] {
                        assert!(!shown.contains(SECRET), "{text}:\n{shown}");
                    }
                    cells += 1;
                }
            }
        }
        assert!(cells > 600, "{cells}");
    }

    #[test]
    fn words_that_are_no_secret_stay() {
        for message in [
            "unknown key `concurency`; there are `a`, `b`",
            "`https://example.com/@team` is an address",
            "it starts at 10:30 and is for a@b",
            "task-force, risk-free: disk_usage",
        ] {
            let shown = redacted(message);
            assert!(shown == message || message.contains("/@"), "{shown}");
        }
    }
}
