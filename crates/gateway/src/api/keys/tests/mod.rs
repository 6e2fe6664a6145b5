use std::num::NonZeroU32;

use http::{HeaderMap, HeaderValue};

use std::{path::PathBuf, sync::atomic::AtomicU64, time::Duration};

use tokio::time::Instant;

use super::*;

mod in_store;
mod tokens;
mod torn;

struct Temporary(PathBuf);

impl Temporary {
    /// Two tests may give one name at the same time.
    fn new(name: &str, text: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(format!("steadfast-keys-{name}-{process}-{number}.yaml"));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Keys {
    /// Returns the key of a secret that may call.
    fn find(&self, shown: &str) -> Option<Arc<Key>> {
        self.current.load().find(&Sha256::digest(shown).into(), wall_clock::since_1970()).ok().flatten().cloned()
    }
}

fn hash(key: &str) -> String {
    virtual_key::hash_of(key)
}

fn entry(name: &str, key: &str, more: &str) -> String {
    format!("  - {{ name: {name}, hash: '{}'{more} }}\n", hash(key))
}

fn shown(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn a_caller_is_known_by_either_header() {
    let text = format!("keys:\n{}{}", entry("one", "sk-one", ""), entry("two", "sk-two", ""));
    let file = Temporary::new("either", &text);
    let keys = Keys::load(&file.0).ok().unwrap();
    let name =
        |pairs: &[(&'static str, &'static str)]| keys.authenticate(&shown(pairs), None).map(|key| key.name.to_string());
    assert_eq!(name(&[("authorization", "Bearer sk-one")]), Ok("one".to_owned()));
    assert_eq!(name(&[("authorization", "bearer  sk-one ")]), Ok("one".to_owned()));
    assert_eq!(name(&[("x-api-key", "sk-two")]), Ok("two".to_owned()));
    assert_eq!(name(&[("authorization", "Bearer another"), ("x-api-key", "sk-two")]), Ok("two".to_owned()));
    assert_eq!(name(&[("x-goog-api-key", "sk-two")]), Ok("two".to_owned()));
    assert_eq!(name(&[("api-key", "sk-two")]), Ok("two".to_owned()));
    let in_query = |key| keys.authenticate(&HeaderMap::new(), Some(key)).map(|key| key.name.to_string());
    assert_eq!(
        (in_query("sk-one"), in_query("sk-")),
        (Ok("one".to_owned()), Err(Denial::UnknownKey(KeyHash::of("sk-"))))
    );
    assert_eq!(name(&[]), Err(Denial::NoKey));
    assert_eq!(name(&[("authorization", "Bearer ")]), Err(Denial::NoKey));
    assert_eq!(name(&[("x-api-key", "sk-on")]), Err(Denial::UnknownKey(KeyHash::of("sk-on"))));
    assert_eq!(name(&[("authorization", "Basic sk-one")]), Err(Denial::NoKey));
    // The hash is no key.
    assert_eq!(keys.find(&hash("sk-one")).map(|key| key.name.to_string()), None);
    assert!(!format!("{keys:?} {:?}", keys.find("sk-one")).contains("sk-"));
}

#[test]
fn a_key_is_for_its_features_and_models() {
    let more = ", features: [search, chat], models: [gpt-4o, 'claude-*']";
    let file = Temporary::new("for", &format!("keys:\n{}", entry("one", "sk-one", more)));
    let key = Keys::load(&file.0).ok().unwrap().find("sk-one").unwrap();
    assert_eq!(key.feature(None), Ok(Some("search".into())));
    assert_eq!(key.feature(Some("chat".into())), Ok(Some("chat".into())));
    assert_eq!(key.feature(Some("other".into())), Err(Denial::Feature(["search".into(), "chat".into()].into())));
    for (model, may) in [("gpt-4o", true), ("claude-x", true), ("gpt-4o-mini", false), ("claude", false)] {
        assert_eq!(key.model(Some(model)).is_ok(), may, "{model}");
    }
    assert_eq!(key.model(None), Err(Denial::Model(["gpt-4o".into(), "claude-*".into()].into())));
}

#[tokio::test(start_paused = true)]
async fn a_reload_brings_new_keys_and_keeps_rates_and_a_wrong_file_changes_nothing() {
    let limited = entry("one", "sk-one", ", requests_per_minute: 1");
    let file = Temporary::new("reload", &format!("keys:\n{limited}"));
    let keys = Keys::load(&file.0).ok().unwrap();
    assert_eq!(keys.find("sk-one").unwrap().admit(Instant::now()), Ok(()));
    std::fs::write(&file.0, format!("keys:\n{limited}{}", entry("two", "sk-two", ""))).unwrap();
    keys.reload();
    assert!(keys.find("sk-two").is_some());
    let denied = Err(Denial::Rate(Duration::from_secs(60), NonZeroU32::MIN));
    assert_eq!(keys.find("sk-one").unwrap().admit(Instant::now()), denied);
    std::fs::write(&file.0, "keys: [").unwrap();
    keys.reload();
    assert!(keys.find("sk-two").is_some());
}

#[test]
fn an_expired_key_is_refused_and_another_beside_it_is_not() {
    let (over, not_over) = (", expires: 2020-01-01", ", expires: 9999-12-31");
    let text = format!("keys:\n{}{}", entry("one", "sk-one", over), entry("two", "sk-two", not_over));
    let file = Temporary::new("expired", &text);
    let keys = Keys::load(&file.0).ok().unwrap();
    let caller =
        |pairs: &[(&'static str, &'static str)]| keys.authenticate(&shown(pairs), None).map(|key| key.name.to_string());
    assert_eq!(caller(&[("x-api-key", "sk-one")]), Err(Denial::Expired("one".into())));
    assert_eq!(caller(&[("x-api-key", "sk-two")]), Ok("two".to_owned()));
    assert_eq!(
        caller(&[("authorization", "Bearer sk-one"), ("x-api-key", "another")]),
        Err(Denial::Expired("one".into()))
    );
    assert_eq!(caller(&[("authorization", "Bearer sk-one"), ("x-api-key", "sk-two")]), Ok("two".to_owned()));
}

#[test]
fn the_example_is_a_file_of_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/keys.yaml");
    let records = file::read(&path, &file::contents(&path)).unwrap().records.into_iter().map(Arc::new);
    let keys = KeySet::new(records, &KeySet::default()).list;
    let [search, operations, support] = &keys[..] else { panic!("{keys:?}") };
    assert!(
        search.own.calls.is_some()
            && search.own.levels()[0].is_some()
            && search.record.entry.expires.is_some()
            && operations.is_admin()
    );
    assert!(support.is_reviewer() && !support.is_admin() && operations.is_reviewer() && !search.is_reviewer());
    let budgets = caps(keys.iter().map(|key| &key.record));
    assert_eq!(
        (&*budgets[0].name, budgets[0].key.as_deref(), budgets.len()),
        ("key team-search", Some("team-search"), 1)
    );
}

/// A document is read as the entry of the file is: no name turns into a number or a `false` on the way.
#[test]
fn an_entry_and_its_document_are_one_key() {
    let more = ", team: no, features: [n, 1], models: ['claude-*', 2027-01-01], requests_per_minute: 5, \
        tokens_per_minute: 6, concurrency: 7, budget: { usd: 0.5, period: week, \
        at_cap: { step_down: 3 }, warn_at: [80%] }, expires: 2027-02-03, admin: true, handoff: true, objects: all, pass_through: true, paused: true";
    let several = format!(
        "  - {{ name: two, hashes: [{{ hash: '{}', until: '2027-01-01T00:00:00Z' }}, {{ hash: '{}' }}], objects: false, \
         budget: {{ usd: 1, period: month, at_cap: warn }} }}\n",
        hash("sk-b"),
        hash("sk-c")
    );
    let file = Temporary::new("document", &format!("keys:\n{}{several}", entry("on", "sk-a", more)));
    let records = file::read(&file.0, &file::contents(&file.0)).unwrap().records;
    let documents = key_documents(&file.0).unwrap();
    for (record, document) in records.iter().zip(documents) {
        let again = stored::record(&serde_json::Value::from(document).to_string()).unwrap();
        assert!(again.is_within(record) && record.is_within(&again), "{record:?} {again:?}");
        assert_eq!((&again.hashes, &again.entry.team), (&record.hashes, &record.entry.team));
    }
}

#[test]
fn a_file_that_is_wrong_says_where() {
    let twice = format!("keys:\n{}{}", entry("one", "sk-one", ""), entry("two", "sk-one", ""));
    for (text, says) in [
        ("keys: []", "has no key"),
        ("keys: [{ name: one, hash: 'sha256:12' }]", "64 hexadecimal"),
        ("keys: [{ name: one, hash: x, featurs: [] }]", "featurs"),
        (&twice, "`two` is a duplicate"),
        (&format!("keys:\n{}", entry("one", "k", ", requests_per_minute: 0")), "requests_per_minute"),
        (&format!("keys:\n{}", entry("one", "k", ", features: []")), "empty list of features"),
        (&format!("keys:\n{}", entry("one", "k", ", models: []")), "empty list of models"),
        (&format!("keys:\n{}", entry("' '", "k", "")), "a key needs a name"),
        (&format!("keys:\n{}", entry("one", "k", ", expires: 2027-02-30")), "`2027-02-30` is not a date"),
        (&format!("keys:\n{}", entry("one", "k", ", budget: { usd: -1, period: day }")), "0 or more, not -1"),
        (&format!("keys:\n{}", entry("one", "k", ", budget: { usd: 1, period: year }")), "unknown variant"),
        (&format!("keys:\n{}", entry("one", "k", ", budget: { usd: 1 }")), "missing field"),
        (&format!("keys:\n{}", entry("one", "k", ", budget: { usd: 1, period: day, warn_at: [0%] }")), "above 0"),
    ] {
        let file = Temporary::new("wrong", text);
        let wrong =
            file::read(&file.0, &file::contents(&file.0)).err().map(|wrong| wrong.to_string()).unwrap_or_default();
        assert!(wrong.contains(says) || says == "requests_per_minute" && !wrong.is_empty(), "{text}: {wrong}");
    }
    // A key in the place of its hash, or under a name of its own, is not repeated.
    for text in [
        "keys:\n  - name: one\n    key: sk-secret",
        "keys: [{ name: one, hash: sk-secret }]",
        "keys: [{ name: one, hash: sk-secret, budgt: 1 }]",
        "keys: [{ name: one, hash: sk-secret",
        "keys: [{ name: one, expires: sk-secret }]",
        "keys: [{ name: one, admin: sk-secret }]",
        "keys: [{ name: one, budget: { usd: sk-secret } }]",
        "keys: [{ name: one, budget: { usd: 1, period: sk-secret } }]",
    ] {
        let wrong = file::read(Path::new("k"), &Ok(text.to_owned())).err().map(|wrong| wrong.to_string());
        assert!(wrong.as_ref().is_some_and(|wrong| !wrong.contains("secret")), "{wrong:?}");
    }
    let word = "keys: [{ name: one, task-force: 1 }]".to_owned();
    let wrong = file::read(Path::new("k"), &Ok(word)).err().map(|wrong| wrong.to_string()).unwrap();
    assert!(wrong.starts_with("k: unknown field `task-force`") && wrong.ends_with("line 1, column 21"), "{wrong}");
    let nowhere = Path::new("/nowhere/keys.yaml");
    assert!(file::read(nowhere, &file::contents(nowhere)).is_err());
}
