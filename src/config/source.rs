//! The text of a configuration, for the lines that errors show.

use std::{ops::Range, path::PathBuf};

use super::{
    error::Problem,
    tree::{Node, Place, Value},
};

/// The widest line that is shown whole, in characters.
const WIDE: usize = 160;

pub(super) struct Source {
    file: Option<PathBuf>,
    text: String,
    /// The bytes that may be a secret, in order.
    secrets: Vec<Range<usize>>,
}

impl Source {
    pub(super) fn new(file: Option<PathBuf>, text: String) -> Self {
        let secrets = words_of_secrets(&text);
        Self { file, text, secrets }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Learns from the tree what must not be shown.
    pub(super) fn hide_secrets_of(&mut self, tree: &Node) {
        collect(tree, false, &mut self.secrets);
        self.secrets.sort_by_key(|range| range.start);
    }

    /// A problem at this place.
    pub(super) fn problem(&self, place: Option<&Place>, message: impl Into<String>) -> Problem {
        let mut problem = Problem::of_file(self.file.clone(), message);
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
        let text = &self.text;
        // What is said of the whole, or of what is missing at its end, is shown at the last line with something on it.
        let mut start = range.start.min(text.trim_end().len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[begin..].find('\n').map_or(text.len(), |at| begin + at);
        let line = text[begin..end].trim_end_matches('\r');
        problem.line = text[..begin].matches('\n').count() + 1;
        problem.column = text[begin..start].chars().count() + 1;
        let mut stop = range.end.clamp(start, begin + line.len());
        while !text.is_char_boundary(stop) {
            stop -= 1;
        }
        let stop = start + text[start..stop].trim_end().len();
        let shown = self.shown(begin, line);
        let (at, end) = (shown.column(start - begin), shown.column(stop - begin));
        // Around the mark, where the line is long.
        let skip = if shown.text.chars().count() > WIDE { at.saturating_sub(WIDE / 2) } else { 0 };
        problem.snippet = shown.text.chars().skip(skip).take(WIDE).collect();
        let room = (skip + WIDE).saturating_sub(at).max(1);
        problem.mark = (at - skip, end.saturating_sub(at).clamp(1, room));
    }

    /// A line with its secrets hidden.
    fn shown(&self, begin: usize, line: &str) -> Shown {
        let mut shown = Shown { text: String::with_capacity(line.len()), pieces: Vec::new() };
        let mut done = 0;
        for secret in &self.secrets {
            let within = |byte: usize| byte.clamp(begin, begin + line.len()) - begin;
            let (start, end) = (within(secret.start).max(done), within(secret.end));
            if start < end && line.is_char_boundary(start) && line.is_char_boundary(end) {
                shown.push(&line[done..start], done);
                shown.pieces.push((start, shown.text.chars().count(), HIDDEN.len()));
                shown.text.push_str(HIDDEN);
                done = end;
            }
        }
        shown.push(&line[done..], done);
        shown
    }
}

/// What is shown in place of a secret.
const HIDDEN: &str = "***";

/// A line as it is shown, and where in it each byte of the line has come to.
struct Shown {
    text: String,
    /// For each character or hidden piece: its first byte in the line, its column here, and its width here.
    pieces: Vec<(usize, usize, usize)>,
}

impl Shown {
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

/// Whether what stands under a key may be a secret.
fn may_be_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // `key` alone is the name of a caller's key in a budget; tokens are what models count.
    key != "key"
        && ["key", "secret", "password", "authorization", "credential", "bearer", "headers", "webhook"]
            .iter()
            .any(|word| key.contains(word))
        || key.ends_with("token")
        || key == "env"
}

/// The places of all texts under such keys.
fn collect(node: &Node, secret: bool, places: &mut Vec<Range<usize>>) {
    match (&node.value, &node.place) {
        (Value::Text(text), Place::Text(range)) if secret && !is_reference(text) => places.push(range.clone()),
        (Value::Integer(_) | Value::Float(_), Place::Text(range)) if secret => places.push(range.clone()),
        (Value::List(items), _) => items.iter().for_each(|item| collect(item, secret, places)),
        (Value::Map(entries), _) => {
            for entry in entries {
                // A webhook's address is its secret; what else it has is not.
                let webhooks = entry.key.to_ascii_lowercase().contains("webhook");
                let harmless = matches!(entry.key.as_str(), "format" | "rules");
                let secret = !harmless && (secret || may_be_secret(&entry.key) || webhooks);
                collect(&entry.value, secret, places);
            }
        }
        _ => {}
    }
}

fn is_reference(text: &str) -> bool {
    text.starts_with("${") && text.ends_with('}') && !text.contains(":-")
}

/// The same by the look of the text alone, for one that cannot be read as a tree: what follows a telling key on its
/// line, and words that begin as providers' keys do.
fn words_of_secrets(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
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
            if !rest.starts_with(['$', '{', '[']) && start < end {
                places.push(begin + start..begin + end);
            }
            at = end.max(at);
        }
        let mut word = 0;
        for part in line.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))) {
            if ["sk-", "AIza", "xox", "ghp_", "gsk_"].iter().any(|start| part.starts_with(start)) && part.len() > 8 {
                let trimmed = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                places.push(begin + word..begin + word + trimmed.len());
            }
            word += part.len();
        }
        begin += line.len();
    }
    places.sort_by_key(|range| range.start);
    places
}
