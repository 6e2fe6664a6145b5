use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
    io::Read as _,
    num::NonZeroU32,
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use serde_saphyr::Spanned;
use steadfast_stack::{Config, EndMark};

use super::{
    budget::Budget,
    expiry::Expiry,
    key::{Key, ObjectRight},
    limits::KeyLimits,
    rate::Rate,
    set::KeySet,
};

/// The file of keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Box<str>,
    hash: String,
    team: Option<Box<str>>,
    features: Option<Vec<Spanned<Box<str>>>>,
    models: Option<Vec<Spanned<Box<str>>>>,
    requests_per_minute: Option<NonZeroU32>,
    tokens_per_minute: Option<NonZeroU32>,
    concurrency: Option<NonZeroU32>,
    budget: Option<Budget>,
    expires: Option<Expiry>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    handoff: bool,
    #[serde(default)]
    objects: ObjectRight,
    #[serde(default)]
    pass_through: bool,
}

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
    pub(super) keys: Vec<Arc<Key>>,
    pub(super) mark: EndMark,
    /// True if the last entry may be the beginning of a longer one: neither a brace nor the file's mark ends it.
    pub(super) is_open: bool,
}

/// Reads the keys of a file. An unchanged limit keeps its state.
///
/// # Errors
///
/// The file is wrong; the error has the place.
pub(super) fn read(path: &Path, text: &Contents, before: &KeySet) -> Result<Reading, KeyFileError> {
    let wrong = |problem: String| KeyFileError::new(path, problem);
    let (file, mark) = parsed(path, text)?;
    let of_name: HashMap<&str, &Arc<Key>> = before.list.iter().map(|key| (&*key.name, key)).collect();
    let begins_with_brace = |entry: &Spanned<Entry>| {
        let (line, column) = (entry.referenced.line(), entry.referenced.column());
        let line = text.as_deref().unwrap_or_default().lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
        line.chars().nth(usize::try_from(column).ok()?.checked_sub(1)?)
    };
    let is_open = mark == EndMark::Absent && file.keys.last().and_then(begins_with_brace) != Some('{');
    if file.keys.is_empty() {
        return Err(wrong("the file has no key, so no one could call".to_owned()));
    }
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    let mut keys = Vec::with_capacity(file.keys.len());
    for entry in file.keys.into_iter().map(|entry| entry.value) {
        let name = &entry.name;
        let hash = digest(&entry.hash)
            .ok_or_else(|| wrong(format!("the hash of `{name}` must be `sha256:` and 64 hexadecimal digits")))?;
        if name.trim().is_empty() {
            return Err(wrong("a key needs a name".to_owned()));
        }
        if entry.team.as_ref().is_some_and(|team| team.trim().is_empty()) {
            return Err(wrong(format!("`{name}` has an empty `team`: leave it out, or give the team's name")));
        }
        for (what, list) in [("features", &entry.features), ("models", &entry.models)] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                return Err(wrong(format!("`{name}` has an empty list of {what}: leave it out to allow any")));
            }
        }
        if let Some(problem) = entry.budget.as_ref().and_then(Budget::problem) {
            return Err(wrong(format!("the budget of `{name}`: {problem}")));
        }
        if !names.insert(name.clone()) || !hashes.insert(hash) {
            return Err(wrong(format!("`{name}` is a duplicate: its name or its hash occurs twice")));
        }
        let before = of_name.get(&**name).copied();
        let rate = entry.requests_per_minute.map(|per_minute| {
            let old = before.and_then(|key| key.rate.clone());
            old.filter(|rate| rate.per_minute == per_minute).unwrap_or_else(|| Arc::new(Rate::new(per_minute)))
        });
        let old = before.and_then(|key| key.limits.as_ref());
        let limits = KeyLimits::new(entry.concurrency, entry.tokens_per_minute, old);
        let memory = before.map(|key| key.memory.clone()).unwrap_or_default();
        let Entry { name, team, features, models, budget, expires, admin, handoff, objects, pass_through, .. } = entry;
        let (name, team) = (name.into(), team.map(Into::into));
        let [features, models] =
            [features, models].map(|list| list.map(|list| list.into_iter().map(|name| name.value).collect()));
        keys.push(Arc::new(Key {
            name,
            hash,
            team,
            features,
            models,
            rate,
            limits,
            budget,
            expires,
            admin,
            handoff,
            objects,
            pass_through,
            memory,
        }));
    }
    Ok(Reading { keys, mark, is_open })
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

impl From<KeyFileError> for crate::error::ServeError {
    fn from(error: KeyFileError) -> Self {
        Self::Invalid(error.0)
    }
}

/// Hides what may be a key in a message.
fn concealed(message: &str) -> String {
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

fn digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(hash)
}
