//! The rule of shares against a model: a list of all that was asked, granted and given back.

use proptest::prelude::*;

use super::{Level, Verdict};
use crate::internal::shares::{SPAN, Shares};
use std::{sync::Arc, time::Duration};

/// A step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// This key asks for an amount, and would keep it for so many seconds.
    Ask(usize, u64, u64),
    Wait(u64),
}

const KEYS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..KEYS, 1..30u64, 1..300u64).prop_map(|(key, amount, keeps)| Step::Ask(key, amount, keeps)),
        2 => (0..KEYS, 1..4u64, 1..20u64).prop_map(|(key, amount, keeps)| Step::Ask(key, amount, keeps)),
        1 => (1..40u64).prop_map(Step::Wait),
        1 => (60..400u64).prop_map(Step::Wait),
    ]
}

/// An amount that was granted to a key, and the end of its time.
struct Grant {
    key: usize,
    amount: u64,
    until: u64,
}

/// A key's wish: what it held and asked for together, at a time; `None` when it gave something back.
struct Wish {
    key: usize,
    at: u64,
    amount: Option<u64>,
}

struct Model {
    limit: u64,
    now: u64,
    grants: Vec<Grant>,
    wishes: Vec<Wish>,
}

impl Model {
    fn held(&self, key: usize) -> u64 {
        self.grants.iter().filter(|grant| grant.key == key).map(|grant| grant.amount).sum()
    }

    fn used(&self) -> u64 {
        (0..KEYS).map(|key| self.held(key)).sum()
    }

    /// Returns the keys that surely want something: they hold it, or asked within this time.
    fn known(&self, within: u64) -> Vec<usize> {
        let is_recent = |wish: &&Wish| wish.at + within >= self.now && wish.amount.is_some();
        (0..KEYS)
            .filter(|key| self.held(*key) > 0 || self.wishes.iter().filter(is_recent).any(|wish| wish.key == *key))
            .collect()
    }

    /// Returns these, and the keys that gave something back within this time.
    fn perhaps_known(&self, within: u64) -> Vec<usize> {
        let is_recent = |wish: &&Wish| wish.at + within >= self.now;
        (0..KEYS)
            .filter(|key| self.held(*key) > 0 || self.wishes.iter().filter(is_recent).any(|wish| wish.key == *key))
            .collect()
    }

    /// Returns the most that a key held and asked for within this time, and at least what it holds.
    fn wish(&self, key: usize, within: u64) -> u64 {
        let mine = self.wishes.iter().filter(|wish| wish.key == key && wish.at + within >= self.now);
        mine.filter_map(|wish| wish.amount).max().unwrap_or(0).max(self.held(key))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_kept_from_its_share_and_nothing_lies_idle_but_what_others_want(
        limit in 8..200u64,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let shares = Shares::new();
        let names: Vec<Arc<str>> = (0..KEYS).map(|key| format!("key {key}").into()).collect();
        let span = SPAN.as_secs();
        let mut model = Model { limit, now: 0, grants: Vec::new(), wishes: Vec::new() };
        for step in steps {
            let (key, amount, keeps) = match step {
                Step::Wait(seconds) => {
                    model.now += seconds;
                    let now = model.now;
                    let (over, kept) = model.grants.into_iter().partition(|grant| grant.until <= now);
                    model.grants = kept;
                    for Grant { key, amount, .. } in over {
                        shares.give(&names[key], amount);
                        model.wishes.push(Wish { key, at: now, amount: None });
                    }
                    continue;
                }
                Step::Ask(key, amount, keeps) => (key, amount, keeps),
            };
            let (held, used) = (model.held(key), model.used());
            prop_assert_eq!(shares.held(&names[key]), held);
            model.wishes.push(Wish { key, at: model.now, amount: Some((held + amount).min(limit)) });
            let level = || Level { limit, used };
            let grant = || if used + amount <= limit { Ok(()) } else { Err(()) };
            let verdict = shares.take(&names[key], amount, Duration::from_secs(model.now), level, grant);
            let free = limit.saturating_sub(used + amount);
            let fits = used + amount <= limit;
            let but_itself = |keys: Vec<usize>| keys.into_iter().filter(|other| *other != key).collect::<Vec<_>>();
            let (known, perhaps) = (but_itself(model.known(span - 1)), but_itself(model.perhaps_known(2 * span)));
            // The share by those who may be known, and by those who surely are.
            let (many, few) = (perhaps.len() as u64 + 1, known.len() as u64 + 1);
            match verdict {
                Verdict::Granted(()) => {
                    prop_assert!(fits, "never more than there is");
                    let beyond = held + amount > (model.limit / few).max(1);
                    if beyond {
                        // An amount that another was refused, or has lately used, stays free for it within its share.
                        for other in known {
                            let wants = model.wish(other, span - 1).min(model.limit / many);
                            let lacks = wants.saturating_sub(model.held(other));
                            prop_assert!(lacks <= free, "key {other} wants {lacks} more, and {free} are left");
                        }
                    }
                    model.grants.push(Grant { key, amount, until: model.now + keeps });
                }
                Verdict::Full(()) => prop_assert!(!fits, "what fits is not refused as full"),
                Verdict::OverShare => {
                    prop_assert!(!perhaps.is_empty(), "a key that is alone may take everything");
                    prop_assert!(held + amount > (model.limit / many).max(1), "nobody is kept from its share");
                    let wants = |other: &usize| {
                        let wish = (2 * model.wish(*other, 2 * span)).min((model.limit / few).max(1));
                        wish.saturating_sub(model.held(*other))
                    };
                    let wanted: u64 = perhaps.iter().map(wants).sum();
                    let spare = if held > 0 { model.limit.div_ceil(4) } else { 0 };
                    prop_assert!(!fits || free < spare.max(wanted), "{free} lie idle, and others want {wanted}");
                }
            }
        }
        for Grant { key, amount, .. } in model.grants {
            shares.give(&names[key], amount);
        }
        for name in &names {
            prop_assert_eq!(shares.held(name), 0);
        }
    }
}

#[test]
fn what_a_rate_gives_back_counts_for_each_key_at_its_share_of_the_pace() {
    // Ten units in a second, a hundred at once.
    let shares = Shares::of_rate(10.0);
    let [one, two]: [Arc<str>; 2] = ["one".into(), "two".into()];
    let take = |key: &Arc<str>, amount, seconds, used| {
        shares.take(key, amount, Duration::from_secs(seconds), || Level { limit: 100, used }, || Ok::<_, ()>(()))
    };
    assert_eq!(take(&one, 60, 0, 0), Verdict::Granted(()));
    assert_eq!(take(&one, 40, 3, 30), Verdict::Granted(()), "thirty have come back");
    assert_eq!(shares.held("one"), 70);
    assert_eq!(take(&two, 20, 3, 70), Verdict::Granted(()));
    // Two keys: five a second each. The bucket has 90 in use, and then 40.
    assert_eq!(take(&one, 20, 8, 40), Verdict::Granted(()), "the other may want 40 more, and 40 are left");
    assert_eq!(shares.held("one"), 60, "45 of its 70 would be left, but no more than 40 can be");
    assert_eq!(take(&one, 10, 8, 60), Verdict::OverShare);
    assert_eq!(take(&two, 30, 8, 60), Verdict::Granted(()), "within its share");
}

#[test]
fn keys_beyond_those_that_can_be_told_apart_are_served_all_the_same() {
    let shares = Shares::new();
    let level = || Level { limit: 1 << 40, used: 0 };
    for key in 0..20_000 {
        let key: Arc<str> = format!("{key}").into();
        assert_eq!(shares.take(&key, 1, Duration::ZERO, level, || Ok::<_, ()>(())), Verdict::Granted(()));
        shares.give(&key, 1);
    }
    assert_eq!(shares.held("7"), 0);
}
