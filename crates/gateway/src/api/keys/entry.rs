//! The entry of a key, as the file of keys, the registry and `/admin/keys` write it.

use std::{fmt, num::NonZeroU32, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use steadfast_internal::{
    hex,
    wall_clock::{parse_rfc3339, rfc3339},
};
use steadfast_stack::{self as config, Config};

use super::{VirtualKey, budget::Budget, expiry::Expiry};

/// The entry of a key. `N` is the form of the names in its lists, which may have their places.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyEntry<N = Box<str>> {
    pub(super) name: Box<str>,
    hash: Option<String>,
    #[serde(default)]
    hashes: Vec<HashEntry>,
    pub(super) team: Option<Box<str>>,
    pub(super) features: Option<Vec<N>>,
    pub(super) models: Option<Vec<N>>,
    pub(super) requests_per_minute: Option<NonZeroU32>,
    pub(super) tokens_per_minute: Option<NonZeroU32>,
    pub(super) concurrency: Option<NonZeroU32>,
    pub(super) budget: Option<Budget>,
    pub(super) expires: Option<Expiry>,
    #[serde(default)]
    pub(super) admin: bool,
    #[serde(default)]
    pub(super) handoff: bool,
    #[serde(default)]
    pub(super) objects: ObjectRight,
    /// True if it may ask for paths that the gateway does not know.
    #[serde(default)]
    pub(super) pass_through: bool,
    #[serde(default)]
    pub(super) paused: bool,
}

/// One of several hashes of a key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct HashEntry {
    hash: String,
    until: Option<String>,
}

/// The hash of a secret that a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SecretHash {
    pub(super) digest: [u8; 32],
    /// The time since 1970 at which it ends.
    pub(super) until: Option<Duration>,
}

/// The objects of the account that a key may name, such as files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(crate) enum ObjectRight {
    /// None: the paths of objects are closed.
    None,
    /// The objects that it has made.
    #[default]
    Own,
    /// All.
    All,
}

impl<'de> Deserialize<'de> for ObjectRight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rights;

        impl Visitor<'_> for Rights {
            type Value = ObjectRight;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`false` for no objects, `own` for those of the key, or `all`")
            }

            fn visit_bool<E: de::Error>(self, is_own: bool) -> Result<ObjectRight, E> {
                Ok(if is_own { ObjectRight::Own } else { ObjectRight::None })
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ObjectRight, E> {
                match word {
                    "own" => Ok(ObjectRight::Own),
                    "all" => Ok(ObjectRight::All),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(Rights)
    }
}

/// The record of a key: an entry that is right, whose hashes are read and in one place.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KeyRecord {
    pub(super) entry: KeyEntry,
    pub(super) hashes: Vec<SecretHash>,
}

impl SecretHash {
    fn document(&self) -> Value {
        let hash = format!("sha256:{}", hex::encode(&self.digest));
        match self.until {
            Some(until) => json!({ "hash": hash, "until": rfc3339(until) }),
            None => json!({ "hash": hash }),
        }
    }
}

impl<N> KeyEntry<N> {
    /// Returns the entry with its names in another form.
    pub(super) fn map_names<M>(self, form: impl Fn(N) -> M + Copy) -> KeyEntry<M> {
        let names = |list: Option<Vec<N>>| list.map(|list| list.into_iter().map(form).collect());
        KeyEntry {
            features: names(self.features),
            models: names(self.models),
            name: self.name,
            hash: self.hash,
            hashes: self.hashes,
            team: self.team,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            concurrency: self.concurrency,
            budget: self.budget,
            expires: self.expires,
            admin: self.admin,
            handoff: self.handoff,
            objects: self.objects,
            pass_through: self.pass_through,
            paused: self.paused,
        }
    }
}

impl KeyEntry {
    /// Returns the record of a key.
    ///
    /// # Errors
    ///
    /// The entry is wrong, in the way that the text says.
    pub(super) fn record(self) -> Result<KeyRecord, String> {
        self.check()?;
        let name = &self.name;
        let written = self.hash.iter().map(|hash| (hash, None));
        let written = written.chain(self.hashes.iter().map(|one| (&one.hash, one.until.as_deref())));
        let hashes = written.map(|(hash, until)| {
            let digest = digest(hash)
                .ok_or_else(|| format!("the hash of `{name}` must be `sha256:` and 64 hexadecimal digits"))?;
            let end = |until| {
                parse_rfc3339(until).ok_or_else(|| {
                    format!("`{name}` has a hash whose `until` is no time; write it as 2027-01-31T12:00:00Z")
                })
            };
            Ok(SecretHash { digest, until: until.map(end).transpose()? })
        });
        let hashes = hashes.collect::<Result<Vec<_>, String>>()?;
        if hashes.is_empty() {
            return Err(format!("`{name}` has no hash: missing field `hash`"));
        }
        Ok(KeyRecord { entry: Self { hash: None, hashes: Vec::new(), ..self }, hashes })
    }

    /// Checks all but the hashes.
    ///
    /// # Errors
    ///
    /// The entry is wrong, in the way that the text says.
    pub(super) fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if name.trim().is_empty() {
            return Err("a key needs a name".to_owned());
        }
        if self.team.as_ref().is_some_and(|team| team.trim().is_empty()) {
            return Err(format!("`{name}` has an empty `team`: leave it out, or give the team's name"));
        }
        for (what, list) in [("features", &self.features), ("models", &self.models)] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                return Err(format!("`{name}` has an empty list of {what}: leave it out to allow any"));
            }
        }
        if let Some(problem) = self.budget.as_ref().and_then(Budget::problem) {
            return Err(format!("the budget of `{name}`: {problem}"));
        }
        Ok(())
    }
}

impl KeyRecord {
    /// Returns the cap of its budget in the stack, if it has one.
    pub(super) fn cap(&self) -> Option<config::Budget> {
        Some(self.entry.budget.as_ref()?.cap(&self.entry.name))
    }

    /// Puts another secret first. The earlier ones go on until the overlap ends, or they do.
    pub(super) fn rotate(&mut self, secret: &VirtualKey, now: Duration, overlap: Duration) {
        let end = now.saturating_add(overlap);
        for hash in &mut self.hashes {
            hash.until = Some(hash.until.map_or(end, |until| until.min(end)));
        }
        self.hashes.retain(|hash| hash.until.is_some_and(|until| until > now));
        self.hashes.insert(0, SecretHash { digest: Sha256::digest(secret.secret()).into(), until: None });
    }

    /// Returns the entry as a document of the registry.
    pub(super) fn document(&self) -> Map<String, Value> {
        // No rest: a new field belongs into the document.
        let KeyEntry {
            name,
            hash: _,
            hashes: _,
            team,
            features,
            models,
            requests_per_minute,
            tokens_per_minute,
            concurrency,
            budget,
            expires,
            admin,
            handoff,
            objects,
            pass_through,
            paused,
        } = &self.entry;
        let objects = match objects {
            ObjectRight::None => json!(false),
            ObjectRight::Own => Value::Null,
            ObjectRight::All => json!("all"),
        };
        let right = |right: &bool| json!(right.then_some(true));
        let fields = [
            ("name", json!(name)),
            ("hashes", self.hashes.iter().map(SecretHash::document).collect()),
            ("team", json!(team)),
            ("features", json!(features)),
            ("models", json!(models)),
            ("requests_per_minute", json!(requests_per_minute)),
            ("tokens_per_minute", json!(tokens_per_minute)),
            ("concurrency", json!(concurrency)),
            ("budget", json!(budget.as_ref().map(Budget::document))),
            ("expires", json!(expires.map(Expiry::day))),
            ("admin", right(admin)),
            ("handoff", right(handoff)),
            ("objects", objects),
            ("pass_through", right(pass_through)),
            ("paused", right(paused)),
        ];
        fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Returns a sentence for each name of a feature or a model that the configuration does not have.
    pub(super) fn unknown_names(&self, config: &Config) -> Vec<String> {
        let names = |list: &Option<Vec<Box<str>>>, problem: fn(&Config, &str) -> Option<String>| {
            list.iter().flatten().filter_map(|name| problem(config, name)).collect::<Vec<_>>()
        };
        let mut problems = names(&self.entry.features, Config::feature_name_problem);
        problems.extend(names(&self.entry.models, Config::model_name_problem));
        problems
    }

    /// Returns whether another key allows all that this one does.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        // No rest: a new field is a right or a limit, and belongs here.
        let KeyEntry {
            name: _,
            hash: _,
            hashes: _,
            team: _,
            features,
            models,
            requests_per_minute,
            tokens_per_minute,
            concurrency,
            budget,
            expires,
            admin,
            handoff,
            objects,
            pass_through,
            paused,
        } = &self.entry;
        let others = &other.entry;
        let names = |own: &Option<Vec<Box<str>>>, others: &Option<Vec<Box<str>>>| match (own, others) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(others)) => own.iter().all(|name| others.iter().any(|other| covers(other, name))),
        };
        let lasts = |own: &SecretHash| {
            let known = other.hashes.iter().find(|other| other.digest == own.digest);
            known.is_some_and(|known| is_at_most(own.until, known.until, |own, other| own <= other))
        };
        self.hashes.iter().all(lasts)
            && names(features, &others.features)
            && names(models, &others.models)
            && is_at_most(*requests_per_minute, others.requests_per_minute, |own, other| own <= other)
            && is_at_most(*tokens_per_minute, others.tokens_per_minute, |own, other| own <= other)
            && is_at_most(*concurrency, others.concurrency, |own, other| own <= other)
            && is_at_most(budget.as_ref(), others.budget.as_ref(), Budget::is_within)
            && is_at_most(*expires, others.expires, |own, other| own.at <= other.at)
            && *admin <= others.admin
            && *handoff <= others.handoff
            && *objects <= others.objects
            && *pass_through <= others.pass_through
            && *paused >= others.paused
    }
}

/// Returns whether a name or a pattern matches all that another does.
pub(super) fn covers(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

/// Returns whether a limit, of which there may be none, is at most another.
fn is_at_most<T>(own: Option<T>, other: Option<T>, at_most: impl FnOnce(T, T) -> bool) -> bool {
    match (own, other) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(own), Some(other)) => at_most(own, other),
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
