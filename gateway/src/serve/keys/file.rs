use std::{collections::HashSet, fs, num::NonZeroU32, path::Path, sync::Arc};

use serde::Deserialize;

use super::{Key, rate::Rate};

/// What may stand in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Box<str>,
    hash: String,
    features: Option<Vec<Box<str>>>,
    models: Option<Vec<Box<str>>>,
    requests_per_minute: Option<NonZeroU32>,
    #[serde(default)]
    admin: bool,
}

/// The keys of a file; a rate that is as it was goes on as it was.
///
/// # Errors
///
/// What is wrong, with the place.
pub(super) fn read(path: &Path, before: &[Arc<Key>]) -> Result<Vec<Arc<Key>>, Wrong> {
    let wrong = |problem: String| Wrong(format!("error: {}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file: File = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if file.keys.is_empty() {
        return Err(wrong("it has no key: nobody could call".to_owned()));
    }
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    let mut keys = Vec::with_capacity(file.keys.len());
    for entry in file.keys {
        let name = &entry.name;
        let hash = digest(&entry.hash)
            .ok_or_else(|| wrong(format!("the hash of `{name}` must be `sha256:` and 64 hexadecimal digits")))?;
        if entry.features.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong(format!("`{name}` has an empty list of features: leave it out to allow any")));
        }
        if !names.insert(name.clone()) || !hashes.insert(hash) {
            return Err(wrong(format!("`{name}` is there twice, by its name or by its key")));
        }
        let rate = entry.requests_per_minute.map(|per_minute| {
            let old = before.iter().find(|key| key.name == *name).and_then(|key| key.rate.clone());
            old.filter(|rate| rate.per_minute == per_minute).unwrap_or_else(|| Arc::new(Rate::new(per_minute)))
        });
        let Entry { name, features, models, admin, .. } = entry;
        keys.push(Arc::new(Key { name, hash, features, models, rate, admin }));
    }
    Ok(keys)
}

/// What is wrong with a file of keys.
pub(super) struct Wrong(String);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Wrong> for crate::exit::Failure {
    fn from(wrong: Wrong) -> Self {
        Self::Config(wrong.0)
    }
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
