//! A file of keys that is read while it is written: at every byte, in every layout.

use std::num::NonZeroU32;

use tokio::time::{advance, sleep};

use super::*;
use crate::api::keys::file_keys::REST;

/// The rights of a key, as a caller meets them: each number is more where the key may more.
#[derive(Clone, Debug, PartialEq)]
struct Rights(Vec<f64>);

const NO_LIMIT: f64 = 1e12;

/// The models and features that a caller tries, the beginnings of those in the files among them.
const NAMES: [&str; 9] = ["gpt-4o-mini", "gpt-4o", "gpt-4", "claude-x", "claude-", "cheap-1", "c", "chat", "summary"];

impl Rights {
    /// Returns the rights that nobody has.
    fn none() -> Self {
        Self(vec![-1.0; 2 * NAMES.len() + 6])
    }

    fn of(key: Option<Arc<Key>>) -> Self {
        let Some(key) = key else { return Self::none() };
        let limit = |limit: Option<NonZeroU32>| limit.map_or(NO_LIMIT, |limit| limit.get().into());
        let entry = &key.record.entry;
        let budgets = caps([&key.record]);
        let models = NAMES.iter().map(|name| f64::from(key.model(Some(name)).is_ok()));
        let features = NAMES.iter().map(|name| f64::from(key.feature(Some((*name).into())).is_ok()));
        let numbers = [
            limit(key.record.entry.requests_per_minute),
            limit(entry.concurrency),
            limit(entry.tokens_per_minute),
            budgets.first().map_or(NO_LIMIT, |budget| budget.usd),
            f64::from(entry.admin),
            f64::from(entry.handoff),
        ];
        Self(models.chain(features).chain(numbers).collect())
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| own <= other)
    }
}

/// An entry whose `hash` stands at a place among its fields.
#[derive(Clone, Copy, Debug)]
enum Place {
    First,
    Middle,
    Last,
}

#[derive(Clone, Copy, Debug)]
enum Layout {
    Block(Place),
    Flow,
    Json,
}

const LAYOUTS: [Layout; 5] =
    [Layout::Block(Place::First), Layout::Block(Place::Middle), Layout::Block(Place::Last), Layout::Flow, Layout::Json];

/// The fields of an entry, one on each line; some take several.
fn fields(key: &str, more: &[&str], place: Place) -> Vec<String> {
    let mut fields: Vec<String> = more.iter().map(|field| (*field).to_owned()).collect();
    let at = match place {
        Place::First => 0,
        Place::Middle => fields.len() / 2,
        Place::Last => fields.len(),
    };
    fields.insert(at, format!("hash: '{}'", hash(key)));
    fields
}

fn entry(layout: Layout, name: &str, key: &str, more: &[&str]) -> String {
    match layout {
        Layout::Block(place) => {
            let lines = fields(key, more, place).join("\n").replace('\n', "\n    ");
            format!("  - name: {name}\n    {lines}\n")
        }
        Layout::Flow | Layout::Json => {
            let more: Vec<&str> = more.iter().copied().filter(|field| !field.contains(['\n', '#'])).collect();
            format!("  - {{ name: {name}, {} }}\n", fields(key, &more, Place::First).join(", "))
        }
    }
}

fn file(layout: Layout, entries: &[(&str, &str, &[&str])]) -> String {
    let entries: Vec<String> = entries.iter().map(|(name, key, more)| entry(layout, name, key, more)).collect();
    match layout {
        Layout::Json => {
            let items: Vec<&str> = entries.iter().map(|entry| entry.trim().trim_start_matches("- ")).collect();
            format!("{{ keys: [\n{}\n] }}\n", items.join(",\n"))
        }
        _ => format!("# The callers.\nkeys:\n{}", entries.join("\n")),
    }
}

const LIMITED: [&str; 10] = [
    "models: [gpt-4o-mini, 'claude-*']",
    "features:\n  - chat",
    "requests_per_minute: 600",
    "tokens_per_minute: 20000",
    "concurrency: 20",
    "budget: { usd: 5e-1, period: day }",
    "expires: 2099-01-01",
    "admin: false",
    "handoff: false",
    "# its end",
];
const EXPIRED: [&str; 3] = ["concurrency: 7", "models: [cheap-1]", "expires: 2020-01-01"];
const WIDE: [&str; 1] = ["admin: true"];
const NARROWER: [&str; 3] = ["models: [gpt-4o]", "requests_per_minute: 5", "budget: { usd: 1, period: day }"];
const KEYS: [&str; 3] = ["sk-a", "sk-b", "sk-c"];

/// The files before and after: unchanged, with a key more, with narrower and with wider keys, in another order.
fn changes(layout: Layout) -> Vec<(String, String)> {
    let of = |entries: &[(&str, &str, &[&str])]| file(layout, entries);
    let (a, b, c) = (("a", KEYS[0], &WIDE[..]), ("b", KEYS[1], &LIMITED[..]), ("c", KEYS[2], &EXPIRED[..]));
    vec![
        (of(&[a, b, c]), of(&[a, b, c])),
        (of(&[a]), of(&[a, b, c])),
        (of(&[a, b]), of(&[a, c, b])),
        (of(&[a, ("b", KEYS[1], &[])]), of(&[a, b])),
        (of(&[a, b]), of(&[("a", KEYS[0], &NARROWER), ("b", KEYS[1], &WIDE)])),
        (of(&[("a", KEYS[0], &NARROWER), b]), of(&[b, a])),
        (of(&[a, b]), of(&[("b", KEYS[0], &LIMITED), ("a", KEYS[1], &EXPIRED)])),
        (of(&[a, c]), of(&[a, ("c", KEYS[1], &LIMITED)])),
    ]
}

fn rights(keys: &Keys) -> [Rights; 3] {
    KEYS.map(|key| Rights::of(keys.find(key)))
}

fn whole(text: &str) -> [Rights; 3] {
    let file = Temporary::new("torn-whole", text);
    rights(&Keys::load(&file.0).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// The bytes from one cut to the next: a prime, so that cuts fall everywhere. With `STEADFAST_SCALE=full` it is one.
fn step() -> usize {
    if std::env::var("STEADFAST_SCALE").is_ok_and(|scale| scale == "full") { 1 } else { 7 }
}

/// Each mark, at the end of both files.
const MARKS: [&str; 2] = ["", "...\n"];

#[tokio::test(start_paused = true)]
async fn a_file_of_keys_that_is_cut_at_any_byte_gives_no_key_more_than_the_whole_one_or_the_one_before() {
    let mut cells = 0;
    for layout in LAYOUTS {
        for (before, after) in changes(layout) {
            for mark in MARKS {
                let (before, after) = (format!("{before}{mark}"), format!("{after}{mark}"));
                let (may_before, may_after) = (whole(&before), whole(&after));
                let path = Temporary::new("torn", &before);
                let keys = Keys::load(&path.0).ok().unwrap();
                let assert_no_more = |keys: &Keys, at: usize| {
                    for ((key, now), (before, now_whole)) in
                        KEYS.iter().zip(rights(keys)).zip(may_before.iter().zip(&may_after))
                    {
                        assert!(
                            now.is_within(before) || now.is_within(now_whole),
                            "{layout:?}, {key}: {now:?}, cut at {at}:\n{}\nbefore:\n{before:?}",
                            &after[..at]
                        );
                    }
                };
                // A slow writer, whose pieces are read one by one.
                for end in (0..after.len()).step_by(step()).filter(|end| after.is_char_boundary(*end)) {
                    std::fs::write(&path.0, &after[..end]).unwrap();
                    keys.reload();
                    assert_no_more(&keys, end);
                    cells += 1;
                }
                std::fs::write(&path.0, &after).unwrap();
                keys.reload();
                assert_no_more(&keys, after.len());
                advance(REST).await;
                keys.look(false);
                assert_eq!(rights(&keys), may_after, "{layout:?}: the whole file counts in the end:\n{after}");
                // A fast writer, cut off at one byte. The mark's part is the next test's.
                for end in (0..after.len()).rev().filter(|end| mark.is_empty() && end % (3 * step()) == 0) {
                    std::fs::write(&path.0, &before).unwrap();
                    let keys = Keys::load(&path.0).ok().unwrap();
                    std::fs::write(&path.0, &after[..end]).unwrap();
                    keys.reload();
                    assert_no_more(&keys, end);
                    cells += 1;
                }
            }
        }
    }
    assert!(cells > 30_000 / step(), "{cells}");
}

/// A cut entry is none under an end mark or with `hash` last, however long the writer pauses.
#[tokio::test(start_paused = true)]
async fn an_entry_with_its_hash_last_or_a_file_with_an_end_mark_may_rest_for_ever() {
    for (layout, mark) in [(Layout::Block(Place::Last), ""), (Layout::Block(Place::First), "...\n")] {
        for (before, after) in changes(layout).into_iter().skip(1).step_by(2) {
            let (before, after) = (format!("{before}{mark}"), format!("{after}{mark}"));
            let (may_before, may_after) = (whole(&before), whole(&after));
            for end in (0..after.len()).step_by(step()) {
                let path = Temporary::new("rest", &before);
                let keys = Keys::load(&path.0).ok().unwrap();
                std::fs::write(&path.0, &after[..end]).unwrap();
                keys.look(false);
                advance(10 * REST).await;
                keys.look(false);
                for (now, (before, whole)) in rights(&keys).iter().zip(may_before.iter().zip(&may_after)) {
                    assert!(
                        now.is_within(before) || now.is_within(whole),
                        "{layout:?}, cut at {end}:\n{}",
                        &after[..end]
                    );
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_last_entry_counts_once_the_file_has_rested_and_one_that_allows_less_at_once() {
    let hash_first = Layout::Block(Place::First);
    let one = ("a", KEYS[0], &WIDE[..]);
    let path = Temporary::new("new", &file(hash_first, &[one]));
    let keys = Keys::load(&path.0).ok().unwrap();
    std::fs::write(&path.0, file(hash_first, &[one, ("b", KEYS[1], &LIMITED)])).unwrap();
    keys.look(false);
    assert!(keys.find(KEYS[0]).is_some() && keys.find(KEYS[1]).is_none());
    let readings = keys.readings();
    advance(REST - Duration::from_millis(1)).await;
    keys.look(false);
    assert!(keys.find(KEYS[1]).is_none());
    assert!(keys.readings() > readings, "the watch is asked to look again");
    advance(Duration::from_millis(1)).await;
    keys.look(false);
    assert!(keys.find(KEYS[1]).is_some_and(|key| key.is_for_some_models()));
    // Taken out, and narrower: at once.
    std::fs::write(&path.0, file(hash_first, &[("a", KEYS[0], &NARROWER)])).unwrap();
    keys.look(false);
    assert!(keys.find(KEYS[1]).is_none() && keys.find(KEYS[0]).is_some_and(|key| !key.is_admin()));
    // A brace or a mark ends the last entry.
    for text in [file(Layout::Flow, &[one]), format!("{}...\n", file(hash_first, &[one]))] {
        std::fs::write(&path.0, file(hash_first, &[("a", KEYS[0], &NARROWER), ("d", "sk-d", &NARROWER)])).unwrap();
        keys.look(false);
        std::fs::write(&path.0, text).unwrap();
        keys.look(false);
        assert!(keys.find(KEYS[0]).is_some_and(|key| key.is_admin()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_checksum_that_is_wrong_and_a_mark_that_is_gone_change_nothing() {
    let text = file(Layout::Block(Place::First), &[("a", KEYS[0], &WIDE)]);
    let sum: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    let sealed = format!("{text}... # sha256:{sum}\n");
    let path = Temporary::new("sum", &sealed);
    let keys = Keys::load(&path.0).ok().unwrap();
    for wrong in [text.clone(), format!("{text}...\n"), sealed.replace("admin: true", "admin: false")] {
        std::fs::write(&path.0, wrong).unwrap();
        keys.look(false);
        advance(10 * REST).await;
        keys.look(false);
        assert!(keys.find(KEYS[0]).is_some_and(|key| key.is_admin()));
    }
}

/// SIGHUP reads a state of the file that is taken back before the watch has looked.
#[tokio::test(start_paused = true)]
async fn a_state_that_only_an_order_has_read_is_left_with_the_next_look_of_the_watch() {
    let flow = |keys: &[(&str, &str, &[&str])]| file(Layout::Flow, keys);
    let (without, with) = (flow(&[("a", KEYS[0], &[])]), flow(&[("a", KEYS[0], &[]), ("b", KEYS[1], &[])]));
    let path = Temporary::new("sighup", &without);
    let keys = Arc::new(Keys::load(&path.0).ok().unwrap());
    let _watch = keys.watch().unwrap();
    // The first look of the watch is behind it.
    sleep(Duration::from_millis(300)).await;
    for pause in [0, 20, 90, 150] {
        std::fs::write(&path.0, &with).unwrap();
        keys.reload();
        assert!(keys.find(KEYS[1]).is_some());
        sleep(Duration::from_millis(pause)).await;
        std::fs::write(&path.0, &without).unwrap();
        let gone = async {
            while keys.find(KEYS[1]).is_some() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the last state is read");
    }
}

/// A link to another folder, of whose changes the system tells nothing.
#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_link_into_another_folder_is_followed() {
    let folder = std::env::temp_dir().join(format!("steadfast-keys-link-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let flow = |keys: &[(&str, &str, &[&str])]| file(Layout::Flow, keys);
    let target = Temporary::new("linked", &flow(&[("a", KEYS[0], &[]), ("b", KEYS[1], &[])]));
    let link = folder.join("keys.yaml");
    std::os::unix::fs::symlink(&target.0, &link).unwrap();
    let keys = Arc::new(Keys::load(&link).ok().unwrap());
    let _watch = keys.watch().unwrap();
    sleep(Duration::from_millis(300)).await;
    std::fs::write(&target.0, flow(&[("a", KEYS[0], &[])])).unwrap();
    let gone = async {
        while keys.find(KEYS[1]).is_some() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let followed = tokio::time::timeout(Duration::from_secs(60), gone).await;
    std::fs::remove_dir_all(&folder).unwrap();
    followed.expect("contents are compared without a notice too");
}

/// Counts the comparisons, and no time.
#[test]
fn a_key_is_found_among_twenty_thousand_with_the_work_of_ten() {
    for count in [10, 20_000] {
        let entries: Vec<String> =
            (0..count).map(|n| format!("  - {{ name: k{n}, hash: '{}' }}\n", hash(&format!("sk-{n}")))).collect();
        let file = Temporary::new(&format!("many-{count}"), &format!("keys:\n{}", entries.concat()));
        let keys = Keys::load(&file.0).ok().unwrap();
        let current = keys.current.load();
        let compared = |shown: &str| current.candidates(&Sha256::digest(shown).into()).len();
        assert_eq!(current.list.len(), count);
        assert!((0..count).all(|n| compared(&format!("sk-{n}")) == 1));
        assert!((0..1000).all(|n| compared(&format!("guess-{n}")) == 0));
        assert_eq!(keys.find("sk-7").map(|key| key.name.to_string()).as_deref(), Some("k7"));
    }
}

/// Keys with the first eight bytes of their hashes in common are two all the same.
#[test]
fn hashes_with_a_common_beginning_are_told_apart() {
    let common = "00112233445566778899".to_owned();
    let entry = |n: u8| format!("  - {{ name: k{n}, hash: 'sha256:{common}{:0>44}' }}\n", n);
    let file = Temporary::new("common", &format!("keys:\n{}{}", entry(1), entry(2)));
    let keys = Keys::load(&file.0).ok().unwrap();
    let current = keys.current.load();
    for key in &current.list {
        let mut digest = key.record.hashes[0].digest;
        assert_eq!(current.owner(&digest).map(|found| &*found.name), Some(&*key.name));
        digest[31] ^= 0x40;
        assert!(current.owner(&digest).is_none());
    }
}
