//! Keys in a store: two replicas share one registry, which may be away.

use serde_json::{Value, json};
use steadfast::Events;
use steadfast_stack::{Format, Stack};
use steadfast_stores::registry::{EntryKind, MemoryRegistry, RegistryEdit, RegistryOutcome, RegistryStore as _};

use super::*;
use crate::tests::registry::Registry;

/// The keys of a replica over a registry.
fn keys_of(registry: &Registry) -> Keys {
    Keys::none().with_store(Arc::new(registry.clone()), None, &Events::default())
}

fn document(value: Value) -> Document {
    let Value::Object(document) = value else { panic!("{value}") };
    document
}

fn caller(keys: &Keys, secret: &str) -> Result<String, Denial> {
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_str(secret).unwrap());
    keys.authenticate(&headers, None).map(|key| key.name.to_string())
}

fn unknown(secret: &str) -> Result<String, Denial> {
    Err(Denial::UnknownKey(KeyHash::of(secret)))
}

/// Each order holds at once where it is given, and after one turn at the other replica.
#[tokio::test(start_paused = true)]
async fn an_order_holds_at_every_replica_after_one_turn() {
    let registry = Registry::default();
    let (one, other) = (keys_of(&registry), keys_of(&registry));
    one.begin().await.unwrap();
    other.begin().await.unwrap();
    let made = one.create("ann", document(json!({ "name": "ci", "team": "search", "concurrency": 2 }))).await.unwrap();
    let first = made.secret.secret().to_owned();
    assert_eq!((caller(&one, &first), caller(&other, &first)), (Ok("ci".to_owned()), unknown(&first)));
    other.turn().await.unwrap();
    let key = other.find(&first).unwrap();
    assert_eq!((key.team.as_deref(), key.record.entry.concurrency.map(NonZeroU32::get)), (Some("search"), Some(2)));

    // A merge patch changes what it names, and takes away what is null.
    let patch = json!({ "models": ["m-*"], "team": null, "budget": { "usd": 5, "period": "day" } });
    other.change("bob", "ci", &document(patch)).await.unwrap();
    one.turn().await.unwrap();
    let key = one.find(&first).unwrap();
    assert_eq!((key.team.as_deref(), key.record.entry.concurrency.map(NonZeroU32::get)), (None, Some(2)));
    assert!(key.model(Some("m-1")).is_ok() && key.model(Some("n")).is_err() && one.budgets().len() == 1);

    other.change("bob", "ci", &document(json!({ "paused": true }))).await.unwrap();
    one.turn().await.unwrap();
    assert_eq!(caller(&one, &first), Err(Denial::Paused("ci".into())));
    one.change("ann", "ci", &document(json!({ "paused": false }))).await.unwrap();
    let second = one.rotate("ann", "ci", Duration::from_secs(3600)).await.unwrap();
    let second = second.secret.secret().to_owned();
    other.turn().await.unwrap();
    for keys in [&one, &other] {
        assert_eq!((caller(keys, &first), caller(keys, &second)), (Ok("ci".to_owned()), Ok("ci".to_owned())));
        // The earlier one ends with the overlap.
        let (current, digest) = (keys.current.load(), |secret: &str| Sha256::digest(secret).into());
        let later = wall_clock::since_1970() + Duration::from_secs(3601);
        assert!(current.find(&digest(&first), later).is_err() && current.find(&digest(&second), later).is_ok());
    }
    let third = other.rotate("bob", "ci", Duration::ZERO).await.unwrap().secret.secret().to_owned();
    one.turn().await.unwrap();
    assert_eq!((caller(&one, &first), caller(&one, &second)), (unknown(&first), unknown(&second)));
    assert_eq!(caller(&one, &third), Ok("ci".to_owned()));
    one.remove("ann", "ci").await.unwrap();
    other.turn().await.unwrap();
    assert_eq!((caller(&one, &third), caller(&other, &third)), (unknown(&third), unknown(&third)));
    assert!(other.budgets().is_empty());

    let log = history(Some(Arc::new(registry.clone())), None, None, 100).await.unwrap();
    let told: Vec<_> = log.iter().rev().map(|change| (&*change.actor, &*change.action, &*change.name)).collect();
    let expected = [
        ("ann", "create", "ci"),
        ("bob", "limit", "ci"),
        ("bob", "pause", "ci"),
        ("ann", "resume", "ci"),
        ("ann", "rotate", "ci"),
        ("bob", "rotate", "ci"),
        ("ann", "remove", "ci"),
    ];
    assert_eq!(told, expected);
    let words = format!("{log:?}");
    assert!([&first, &second, &third].into_iter().all(|secret| !words.contains(&**secret)), "{words}");
}

#[tokio::test(start_paused = true)]
async fn orders_that_cannot_be_are_refused_by_name() {
    let registry = Registry::default();
    let in_file = format!("keys:\n{}", entry("filed", "sk-filed", ""));
    let file = Temporary::new("orders", &in_file);
    let keys = Keys::load(&file.0).ok().unwrap().with_store(Arc::new(registry.clone()), None, &Events::default());
    keys.begin().await.unwrap();
    keys.create("ann", document(json!({ "name": "ci" }))).await.unwrap();
    for (order, says) in [
        (json!({ "name": "ci" }), "there is a key `ci` already"),
        (json!({ "name": "filed" }), "is in the file of keys"),
        (json!({}), "missing field `name`"),
        (json!({ "name": " " }), "a key needs a name"),
        (json!({ "name": "a\nb" }), "characters that can be seen"),
        (json!({ "name": "n".repeat(201) }), "at most 200 bytes"),
        (json!({ "name": "x", "hash": hash("sk-x") }), "leave `hash` and `hashes` out"),
        (json!({ "name": "x", "modles": [] }), "unknown field `modles`"),
        (json!({ "name": "x", "models": [] }), "empty list of models"),
        (json!({ "name": "x", "concurrency": 0 }), "nonzero u32"),
        (json!({ "name": "x", "budget": { "usd": -1, "period": "day" } }), "0 or more, not -1"),
        (
            json!({ "name": "x", "budget": { "usd": 1, "period": "day", "currency": "EUR" } }),
            "unknown field `currency`",
        ),
        (json!({ "name": "x", "expires": "sk-secret-1" }), "sk-***"),
        (json!({ "name": "x", "team": "t".repeat(70_000) }), "at most 64 KiB"),
    ] {
        let refused = keys.create("ann", document(order.clone())).await.unwrap_err().to_string();
        assert!(refused.contains(says) && !refused.contains("secret-1"), "{order}: {refused}");
    }
    for (name, patch, says) in [
        ("gone", json!({ "paused": true }), "there is no key `gone`"),
        ("filed", json!({ "paused": true }), "is in the file of keys"),
        ("ci", json!({ "name": "other" }), "keeps its name"),
        ("ci", json!({ "hashes": [] }), "change by a rotation"),
        ("ci", json!({ "budget": { "usd": 1 } }), "missing field `period`"),
    ] {
        let refused = keys.change("ann", name, &document(patch.clone())).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{name} {patch}: {refused}");
    }
    let overlap = keys.rotate("ann", "ci", Duration::from_secs(400 * 86_400)).await.unwrap_err().to_string();
    assert!(overlap.contains("at most 366 days"));
    let imported = |name: &str, secret: &str| document(json!({ "name": name, "hash": hash(secret) }));
    for (documents, says) in [
        (vec![imported("a", "sk-a"), imported("b", "sk-a")], "the hash of `b` occurs twice"),
        (vec![imported("a", "sk-a"), imported("a", "sk-b")], "there is a key `a` already"),
        (vec![imported("a", "sk-filed")], "another key has a hash of `a`"),
        (vec![document(json!({ "name": "a" }))], "missing field `hash`"),
    ] {
        let refused = keys.import("ann", documents).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    assert_eq!(keys.import("ann", vec![imported("a", "sk-a"), imported("b", "sk-b")]).await.unwrap(), 2);
    assert_eq!((caller(&keys, "sk-a"), caller(&keys, "sk-b")), (Ok("a".to_owned()), Ok("b".to_owned())));
    // Nothing of what was refused is there.
    assert_eq!(keys.current.load().list.len(), 4);
    registry.is_away.store(true, Relaxed);
    let refused = keys.create("ann", document(json!({ "name": "late" }))).await.unwrap_err().to_string();
    assert!(refused.contains("the store of keys failed"), "{refused}");
    let alone = Keys::load(&file.0).ok().unwrap();
    let refused = alone.create("ann", document(json!({ "name": "ci" }))).await.unwrap_err().to_string();
    assert!(refused.contains("keys: { store: durable }"), "{refused}");
}

/// Ten rotations at each of two replicas at once: each secret that was shown works.
#[tokio::test(start_paused = true)]
async fn rotations_at_once_lose_no_secret() {
    let registry = Registry::default();
    let replicas = [Arc::new(keys_of(&registry)), Arc::new(keys_of(&registry))];
    let first = replicas[0].create("ann", document(json!({ "name": "ci" }))).await.unwrap();
    let rotating = (0..20).map(|number| {
        let keys = replicas[number % 2].clone();
        tokio::spawn(async move {
            loop {
                match keys.rotate("ann", "ci", Duration::from_secs(3600)).await {
                    Ok(made) => return made.secret.secret().to_owned(),
                    Err(KeyOrderError::Busy(_)) => tokio::task::yield_now().await,
                    Err(problem) => panic!("{problem}"),
                }
            }
        })
    });
    let rotating: Vec<_> = rotating.collect();
    let mut secrets = vec![first.secret.secret().to_owned()];
    for rotation in rotating {
        secrets.push(rotation.await.unwrap());
    }
    for keys in &replicas {
        keys.turn().await.unwrap();
        for secret in &secrets {
            assert_eq!(caller(keys, secret), Ok("ci".to_owned()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_or_silent_takes_no_key_away() {
    let registry = Registry::default();
    let keys = Arc::new(keys_of(&registry));
    let made = keys.create("ann", document(json!({ "name": "ci" }))).await.unwrap();
    let secret = made.secret.secret();
    let following = tokio::spawn(keys.clone().follow());
    for fault in [&registry.is_away, &registry.is_silent] {
        fault.store(true, Relaxed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(caller(&keys, secret), Ok("ci".to_owned()));
        assert!(!keys.troubles().is_empty());
        fault.store(false, Relaxed);
        // A paused key is refused within two seconds of the store's return.
        let other = keys_of(&registry);
        other.change("ann", "ci", &document(json!({ "paused": true }))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(caller(&keys, secret), Err(Denial::Paused("ci".into())));
        other.change("ann", "ci", &document(json!({ "paused": false }))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((caller(&keys, secret), !keys.troubles().is_empty()), (Ok("ci".to_owned()), false));
    }
    // One question a second, whatever callers and guesses ask.
    let before = registry.questions.load(Relaxed);
    for number in 0..1000 {
        let _ = caller(&keys, &format!("guess-{number}"));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = registry.questions.load(Relaxed) - before;
    assert!((9..=11).contains(&asked), "{asked}");
    following.abort();
}

/// Returns the copy, once its writer has put this key there. Each turn looks whether there is something to write.
async fn copied(keys: &Keys, folder: &Path, key: &str) -> String {
    loop {
        keys.turn().await.unwrap();
        match std::fs::read_to_string(folder.join("keys.json")) {
            Ok(text) if text.contains(key) => return text,
            _ => tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap(),
        }
    }
}

/// A start while the store is away: without a copy callers hear to try again, with one they are served.
#[tokio::test(start_paused = true)]
async fn a_start_without_the_store_goes_by_the_copy() {
    let registry = Registry::default();
    let folder = std::env::temp_dir().join(format!("steadfast-key-copy-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let with_copy = || Keys::none().with_store(Arc::new(registry.clone()), Some(folder.clone()), &Events::default());
    let first = with_copy();
    let secret = first.create("ann", document(json!({ "name": "ci" }))).await.unwrap().secret.secret().to_owned();
    let text = copied(&first, &folder, "ci").await;
    registry.is_away.store(true, Relaxed);
    let without = keys_of(&registry);
    without.begin().await.unwrap();
    assert_eq!((caller(&without, &secret), without.is_unread()), (Err(Denial::KeysAway), true));
    let served = with_copy();
    served.begin().await.unwrap();
    assert_eq!((caller(&served, &secret), caller(&served, "guess")), (Ok("ci".to_owned()), unknown("guess")));
    assert!(!text.contains(&secret) && text.contains("sha256:"), "{text}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(folder.join("keys.json")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    registry.is_away.store(false, Relaxed);
    for keys in [&without, &served] {
        keys.turn().await.unwrap();
        assert_eq!(caller(keys, &secret), Ok("ci".to_owned()));
    }
    // A copy that is broken is none.
    registry.is_away.store(true, Relaxed);
    let torn = folder.join("torn");
    std::fs::create_dir_all(&torn).unwrap();
    std::fs::write(torn.join("keys.json"), &text[..text.len() / 2]).unwrap();
    let broken = Keys::none().with_store(Arc::new(registry.clone()), Some(torn), &Events::default());
    broken.begin().await.unwrap();
    assert_eq!(caller(&broken, &secret), Err(Denial::KeysAway));
    // A writer may still be at work.
    let _ = std::fs::remove_dir_all(folder);
}

/// An older copy of the store has fewer changes; a document of a later version, or of nobody, is passed over.
#[tokio::test(start_paused = true)]
async fn what_the_store_has_counts_whatever_was_known() {
    let registry = Registry::default();
    let keys = keys_of(&registry);
    let old = keys.create("ann", document(json!({ "name": "old" }))).await.unwrap().secret.secret().to_owned();
    let backup = MemoryRegistry::new();
    let inner = lock(&registry.inner).clone();
    let edits = inner.read(EntryKind::Key).await.unwrap().entries.into_iter().map(|entry| RegistryEdit {
        kind: entry.kind,
        name: entry.name,
        action: "create".into(),
        replaces: None,
        document: Some(entry.document),
    });
    backup.apply("ann", edits.collect()).await.unwrap();
    let new = keys.create("ann", document(json!({ "name": "new" }))).await.unwrap().secret.secret().to_owned();
    *lock(&registry.inner) = backup.clone();
    keys.turn().await.unwrap();
    assert_eq!((caller(&keys, &old), caller(&keys, &new)), (Ok("old".to_owned()), unknown(&new)));

    let odd = |name: &str, document: Value| RegistryEdit {
        kind: EntryKind::Key,
        name: name.into(),
        action: "create".into(),
        replaces: None,
        document: Some(document.to_string().into()),
    };
    let team = RegistryEdit { kind: EntryKind::Order, ..odd("search", json!({})) };
    let later = odd("later", json!({ "name": "later", "hash": hash("sk-later"), "of_a_later_version": 1 }));
    let renamed = odd("renamed", json!({ "name": "another", "hash": hash("sk-renamed") }));
    let twice = odd("twice", json!({ "name": "twice", "hash": hash(&old) }));
    backup.apply("ann", vec![later, renamed, twice, team]).await.unwrap();
    keys.turn().await.unwrap();
    assert_eq!(caller(&keys, &old), Ok("old".to_owned()), "of two keys with a hash the first by name has it");
    for secret in ["sk-later", "sk-renamed"] {
        assert_eq!(caller(&keys, secret), unknown(secret));
    }
}

/// A file beside the store comes first, and a stored key of its name or hash counts again once the file lets it go.
#[tokio::test(start_paused = true)]
async fn a_file_and_a_store_that_disagree_go_by_the_file() {
    let registry = Registry::default();
    let file = Temporary::new("disagree", &format!("keys:\n{}", entry("other", "sk-other", "")));
    let keys = Keys::load(&file.0).ok().unwrap().with_store(Arc::new(registry.clone()), None, &Events::default());
    let import = |name: &str, secret: &str| document(json!({ "name": name, "hash": hash(secret) }));
    keys.import("ann", vec![import("ci", "sk-ci"), import("same", "sk-same")]).await.unwrap();
    assert_eq!((caller(&keys, "sk-ci"), caller(&keys, "sk-other")), (Ok("ci".to_owned()), Ok("other".to_owned())));
    let filed = [entry("ci", "sk-filed", ""), entry("another", "sk-same", "")].concat();
    std::fs::write(&file.0, format!("keys:\n{filed}...\n")).unwrap();
    keys.reload();
    assert_eq!((caller(&keys, "sk-ci"), caller(&keys, "sk-filed")), (unknown("sk-ci"), Ok("ci".to_owned())));
    assert_eq!(caller(&keys, "sk-same"), Ok("another".to_owned()));
    std::fs::write(&file.0, format!("keys:\n{}...\n", entry("other", "sk-other", ""))).unwrap();
    keys.reload();
    assert_eq!((caller(&keys, "sk-ci"), caller(&keys, "sk-same")), (Ok("ci".to_owned()), Ok("same".to_owned())));
}

/// A stack with one level, whose answers cost a dollar.
fn stack() -> Stack {
    let text = "tiers: [{ name: main, provider: simulated, model: m }]\nprices: { m: { input: 0, output: 1000 } }\n";
    let config = Config::from_str(text, Format::Yaml).unwrap();
    let leaf = steadfast::provider_fn(|_| async {
        let mut message = steadfast::chat::Message::assistant("hello");
        message.usage = Some(steadfast::chat::Usage::new(0, 1000));
        Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("simulated", "m"))
    });
    Stack::builder().leaf("main", leaf).build(config).unwrap()
}

/// Puts a document into the store that no order would have written.
async fn put(registry: &Registry, name: &str, more: Value) {
    let mut document = json!({ "name": name, "hash": hash(&format!("sk-{name}")) });
    document.as_object_mut().unwrap().extend(self::document(more));
    let (kind, action, document) = (EntryKind::Key, "create".into(), Some(document.to_string().into()));
    let edit = RegistryEdit { kind, name: name.into(), action, replaces: None, document };
    let inner = lock(&registry.inner).clone();
    assert!(matches!(inner.apply("ann", vec![edit]).await, Ok(RegistryOutcome::Applied(_))));
}

/// A key whose budget the stack cannot keep does not count, and no other key's amounts begin anew with each change.
#[tokio::test(start_paused = true)]
async fn one_budget_that_cannot_be_kept_is_nobody_elses() {
    let (registry, stack) = (Registry::default(), stack());
    put(&registry, "odd", json!({ "budget": { "usd": 1, "period": "day", "at_cap": { "step_down": 3 } } })).await;
    put(&registry, "ci", json!({ "budget": { "usd": 5, "period": "day" } })).await;
    let keys = keys_of(&registry).with_budgets_in(stack.handle()).ok().unwrap();
    keys.begin().await.unwrap();
    assert_eq!((caller(&keys, "sk-ci"), caller(&keys, "sk-odd")), (Ok("ci".to_owned()), unknown("sk-odd")));
    let problem = |keys: &Keys, name: &str| keys.report_on(name).unwrap()["problem"].clone();
    assert!(problem(&keys, "odd").as_str().unwrap().contains("no tier has level 3"), "{}", problem(&keys, "odd"));
    assert!(problem(&keys, "ci").is_null() && keys.report()["keys"].as_array().unwrap().len() == 2);
    let service = Mutex::new(stack.service());
    call(keys.find("sk-ci"), &service, LlmRequest::prompt("hello")).await.unwrap();
    let spent = || stack.handle().spend_of_key("ci", None)[0].spent.dollars();
    assert!((spent() - 1.0).abs() < 1e-9, "{}", spent());
    keys.create("ann", document(json!({ "name": "third", "budget": { "usd": 1, "period": "day" } }))).await.unwrap();
    keys.change("ann", "ci", &document(json!({ "concurrency": 2 }))).await.unwrap();
    assert!((spent() - 1.0).abs() < 1e-9, "{}", spent());
    assert_eq!(stack.handle().spend_of_key("third", None).len(), 1);
    let refused = keys.change("ann", "ci", &document(json!({ "budget": { "at_cap": { "step_down": 3 } } }))).await;
    assert!(refused.unwrap_err().to_string().contains("no tier has level 3"));
    // An order that nobody's budget is in the way of is carried out, and told as what it is.
    keys.change("ann", "odd", &document(json!({ "paused": true }))).await.unwrap();
    let told = keys.report_on_stored("odd").unwrap();
    assert!(told["paused"] == true && told["problem"].is_string(), "{told}");
    keys.change("ann", "odd", &document(json!({ "paused": null }))).await.unwrap();
    // It counts once the configuration has what it needs.
    let more = "tiers: [{ name: main, provider: simulated, model: m }, { name: worse, provider: simulated, model: m, level: 3 }]\n\
        prices: { m: { input: 0, output: 1000 } }\n";
    stack.handle().reload(Config::from_str(more, Format::Yaml).unwrap()).unwrap();
    keys.follow_configuration();
    assert_eq!((caller(&keys, "sk-odd"), problem(&keys, "odd")), (Ok("odd".to_owned()), Value::Null));
    assert!((spent() - 1.0).abs() < 1e-9, "{}", spent());
}

/// Nothing that the configuration has lost is in the way of a pause, a rotation or a removal; nor is a file with a key
/// of the same name, once the store has one.
#[tokio::test(start_paused = true)]
async fn a_key_that_leaked_can_always_be_taken_back() {
    let (registry, stack) = (Registry::default(), stack());
    put(&registry, "ci", json!({ "models": ["gone"], "budget": { "usd": 5, "period": "day" } })).await;
    let file = Temporary::new("leaked", &format!("keys:\n{}", entry("shadowed", "sk-filed", "")));
    put(&registry, "shadowed", json!({})).await;
    let keys = Keys::load_beside_others(&file.0).ok().unwrap();
    let keys = keys.with_store(Arc::new(registry.clone()), None, &Events::default());
    let keys = keys.with_budgets_in(stack.handle()).ok().unwrap();
    keys.begin().await.unwrap();
    keys.change("ann", "ci", &document(json!({ "paused": true }))).await.unwrap();
    keys.change("ann", "ci", &document(json!({ "paused": false }))).await.unwrap();
    keys.rotate("ann", "ci", Duration::ZERO).await.unwrap();
    assert_eq!(caller(&keys, "sk-ci"), unknown("sk-ci"));
    let refused = keys.change("ann", "ci", &document(json!({ "models": ["gone", "m"] }))).await.unwrap_err();
    assert!(refused.to_string().contains("gone"), "{refused}");
    // An order for it tells of the store's, and a question of the one that counts.
    keys.change("ann", "shadowed", &document(json!({ "paused": true }))).await.unwrap();
    let (told, counts) = (keys.report_on_stored("shadowed").unwrap(), keys.report_on("shadowed").unwrap());
    assert_eq!((&told["paused"], &told["stored"], &counts["paused"]), (&true.into(), &true.into(), &false.into()));
    assert!(told["problem"].as_str().unwrap().contains("another key") && counts["problem"].is_null(), "{told}");
    keys.remove("ann", "shadowed").await.unwrap();
    std::fs::write(&file.0, "keys: []\n...\n").unwrap();
    keys.reload();
    assert_eq!(
        (caller(&keys, "sk-filed"), caller(&keys, "sk-shadowed")),
        (unknown("sk-filed"), unknown("sk-shadowed"))
    );
    assert!(Keys::load(&file.0).is_err(), "alone such a file is wrong");
}

/// An order that was carried out holds where it was given, though the store is away at once.
#[tokio::test(start_paused = true)]
async fn an_order_holds_though_the_store_leaves_after_it() {
    let registry = Registry::default();
    let keys = keys_of(&registry);
    let secret = keys.create("ann", document(json!({ "name": "ci" }))).await.unwrap().secret.secret().to_owned();
    registry.leaves_after_orders.store(true, Relaxed);
    keys.change("ann", "ci", &document(json!({ "paused": true }))).await.unwrap();
    assert_eq!(caller(&keys, &secret), Err(Denial::Paused("ci".into())));
    assert_eq!(keys.report_on("ci").unwrap()["paused"], true);
    assert!(keys.turn().await.is_err());
    registry.leaves_after_orders.store(false, Relaxed);
    registry.is_away.store(false, Relaxed);
    // A caller that leaves in the middle of a question takes nothing of it along: the next one asks it again.
    keys.reload();
    registry.is_silent.store(true, Relaxed);
    assert!(tokio::time::timeout(Duration::from_secs(1), keys.turn()).await.is_err());
    registry.is_silent.store(false, Relaxed);
    *lock(&registry.inner) = MemoryRegistry::new();
    put(&registry, "one", json!({})).await;
    put(&registry, "two", json!({})).await;
    keys.turn().await.unwrap();
    assert_eq!((caller(&keys, "sk-one"), caller(&keys, &secret)), (Ok("one".to_owned()), unknown(&secret)));
}
