//! The text of a configuration, for the lines that errors show.

use std::{ops::Range, path::PathBuf};

use super::{
    error::Problem,
    secrets::{REDACTED, may_be_secret, obvious_secrets, redacted, secret_spans},
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

#[cfg(test)]
mod tests;
