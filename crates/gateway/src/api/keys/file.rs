use std::{collections::HashSet, fmt, fs, io::Read as _, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use steadfast_stack::{Config, EndMark};

use super::entry::{KeyEntry, KeyRecord};
use crate::error::ServeError;

/// The file of keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Spanned<Entry>>,
}

/// An entry whose names have their places.
type Entry = KeyEntry<Spanned<Box<str>>>;

/// The file's content, or the reason that it cannot be read.
pub(super) type Contents = Result<String, String>;

pub(super) fn contents(path: &Path) -> Contents {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err("it is longer than 64 MiB".to_owned());
    }
    Ok(text)
}

/// The longest file: half a million keys of 128 bytes.
const MAX_BYTES: u64 = 64 << 20;

/// The keys of a text.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) records: Vec<KeyRecord>,
    pub(super) mark: EndMark,
    /// True if the last entry may be the beginning of a longer one: neither a brace nor the file's mark ends it.
    pub(super) is_open: bool,
}

/// Reads the keys of a file, of which there is one at least.
///
/// # Errors
///
/// The file is wrong; the error has the place.
pub(super) fn read(path: &Path, text: &Contents) -> Result<Reading, KeyFileError> {
    let reading = read_any(path, text)?;
    if reading.records.is_empty() {
        return Err(KeyFileError::new(path, "the file has no key, so no one could call"));
    }
    Ok(reading)
}

/// Reads the keys of a file, of which there may be none.
///
/// # Errors
///
/// The file is wrong; the error has the place.
pub(super) fn read_any(path: &Path, text: &Contents) -> Result<Reading, KeyFileError> {
    let wrong = |problem: String| KeyFileError::new(path, problem);
    let (file, mark) = parsed(path, text)?;
    let begins_with_brace = |entry: &Spanned<Entry>| {
        let (line, column) = (entry.referenced.line(), entry.referenced.column());
        let line = text.as_deref().unwrap_or_default().lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
        line.chars().nth(usize::try_from(column).ok()?.checked_sub(1)?)
    };
    let is_open = mark == EndMark::Absent && file.keys.last().and_then(begins_with_brace) != Some('{');
    let (mut names, mut digests) = (HashSet::new(), HashSet::new());
    let record = |entry: Spanned<Entry>| {
        let record = entry.value.map_names(|name| name.value).record().map_err(wrong)?;
        let name = &record.entry.name;
        let is_new = names.insert(name.clone()) && record.hashes.iter().all(|hash| digests.insert(hash.digest));
        match is_new {
            true => Ok(record),
            false => Err(wrong(format!("`{name}` is a duplicate: its name or its hash occurs twice"))),
        }
    };
    let records = file.keys.into_iter().map(record).collect::<Result<_, _>>()?;
    Ok(Reading { records, mark, is_open })
}

/// Returns the keys of a file as the documents of `POST /admin/keys`.
///
/// # Errors
///
/// The file is wrong; the error says where.
#[doc(hidden)]
pub fn key_documents(path: &Path) -> Result<Vec<Map<String, Value>>, ServeError> {
    let reading = read(path, &contents(path))?;
    Ok(reading.records.iter().map(KeyRecord::document).collect())
}

fn parsed(path: &Path, text: &Contents) -> Result<(File, EndMark), KeyFileError> {
    let wrong = |problem: String| KeyFileError::new(path, problem);
    let text = text.as_ref().map_err(|problem| wrong(format!("the file of keys cannot be read: {problem}")))?;
    let mark = EndMark::of(text).map_err(|error| wrong(error.to_string()))?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES, max_events: 2 * MAX_NODES },
    };
    // Without the surrounding lines: a key may stand there by mistake, and the log gets this error.
    let file = serde_saphyr::from_str_with_options(text, options);
    let file = file.map_err(|error: serde_saphyr::Error| wrong(concealed(&error.without_snippet().to_string())))?;
    Ok((file, mark))
}

/// The most values of a file: [`MAX_BYTES`] has no more.
const MAX_NODES: usize = 32 << 20;

/// Returns each name of a key's features and models that the configuration does not have, with its place. A file that
/// cannot be read has none.
pub(super) fn unknown_names(path: &Path, text: &Contents, config: &Config) -> Vec<KeyFileError> {
    let mut problems = Vec::new();
    for entry in parsed(path, text).map(|(file, _)| file.keys).unwrap_or_default() {
        let entry = entry.value;
        type Problem = fn(&Config, &str) -> Option<String>;
        let lists: [(_, Problem); 2] =
            [(&entry.features, Config::feature_name_problem), (&entry.models, Config::model_name_problem)];
        for (names, problem) in lists {
            for name in names.iter().flatten() {
                let Some(problem) = problem(config, &name.value) else { continue };
                let (line, column) = (name.referenced.line(), name.referenced.column());
                let place = format!("{}:{line}:{column}", path.display());
                problems.push(KeyFileError(format!("{place}: the key `{}`: {problem}", entry.name)));
            }
        }
    }
    problems
}

/// An error in a file of keys.
#[derive(Debug)]
pub(super) struct KeyFileError(String);

impl KeyFileError {
    pub(super) fn new(path: &Path, problem: impl fmt::Display) -> Self {
        Self(format!("{}: {problem}", path.display()))
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<KeyFileError> for ServeError {
    fn from(error: KeyFileError) -> Self {
        Self::Invalid(error.0)
    }
}

/// Hides what may be a key in a message.
pub(super) fn concealed(message: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut words = message.split("sk-");
    let mut concealed = words.next().unwrap_or_default().to_owned();
    for word in words {
        // `task-force` has no key.
        let begins = !concealed.ends_with(is_part);
        concealed.push_str(if begins { "sk-***" } else { "sk-" });
        concealed.push_str(if begins { word.trim_start_matches(is_part) } else { word });
    }
    concealed
}
