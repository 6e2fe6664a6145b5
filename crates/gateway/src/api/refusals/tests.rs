use std::num::NonZeroU32;

use steadfast::{ErrorKind, LlmError};
use steadfast_oidc::TokenError;

use super::*;
use crate::api::keys::Denial;

fn unknown(key: &str) -> Subject {
    (Why::Refusal(RefusalReason::KeyUnknown, RefusalScope::Key), Who::Unknown(KeyHash::of(key)))
}

#[test]
fn each_key_and_reason_has_a_line_in_ten_seconds_and_a_flood_of_keys_has_few() {
    let (mut lines, start) = (Lines::default(), Instant::now());
    let of = |name: &str| (Why::Refusal(RefusalReason::RequestsPerMinute, RefusalScope::Key), Who::Key(name.into()));
    assert_eq!((lines.next(of("a"), start), lines.next(of("a"), start)), (Some(0), None));
    assert_eq!(lines.next(of("b"), start), Some(0), "another key has its own");
    assert_eq!(lines.next(of("a"), start + SPAN), Some(1));
    let written = (0..100_000).filter(|key| lines.next(unknown(&key.to_string()), start).is_some()).count();
    assert_eq!(written, 2 * UNKNOWN_LINES as usize, "those with room, and those without");
    assert!(lines.limits.len() <= MOST_LIMITS);
    let later = start + 3 * SPAN;
    assert_eq!(lines.next(of("c"), later), Some(0), "what is over makes room");
}

/// Every kind of failure, by callers with a key and without.
#[tokio::test(start_paused = true)]
async fn each_key_and_kind_of_failure_has_ten_lines_in_ten_seconds() {
    let refusals = Refusals::default();
    for key in [None, Some("one"), Some("two")] {
        let key = || key.map(Arc::<str>::from);
        for kind in ErrorKind::ALL {
            let written = (0..50_000).filter(|_| refusals.next_failure_line(*kind, key()).is_some()).count();
            assert_eq!(written, 10, "{kind}");
        }
        if let Some(key) = key() {
            let written = (0..50_000).filter(|_| refusals.next_order_line(key.clone()).is_some()).count();
            assert_eq!(written, 10);
        }
    }
    tokio::time::advance(SPAN).await;
    assert_eq!(refusals.next_failure_line(ErrorKind::InvalidRequest, None), Some(49_990));
}

#[test]
fn every_refusal_has_its_series() {
    let wait = Duration::from_secs(1);
    let number = NonZeroU32::MIN;
    let denials = [
        Denial::NoKey,
        Denial::UnknownKey(KeyHash::of("k")),
        Denial::Expired("one".into()),
        Denial::Paused("one".into()),
        Denial::KeysAway,
        Denial::Token(TokenError::Expired),
        Denial::Token(TokenError::Signature),
        Denial::NoLimits,
        Denial::Feature(["chat".into()].into()),
        Denial::Model(["gpt".into()].into()),
        Denial::Origin,
        Denial::Host,
        Denial::NotAdmin("/admin/tiers".into()),
        Denial::NotReviewer("/handoff/tasks".into()),
        Denial::Objects,
        Denial::NotPassed("/v1/dreams".into()),
        Denial::Rate(wait, number),
        Denial::Tokens(Some(wait), Some(number)),
        Denial::InFlight(Some(number)),
        Denial::Team("search".into(), Denial::Rate(wait, number).into()),
        Denial::Team("search".into(), Denial::Tokens(Some(wait), Some(number)).into()),
        Denial::Team("search".into(), Denial::InFlight(Some(number)).into()),
    ];
    let refusals = Refusals::default();
    for denied in &denials {
        refusals.report(&Refusal::of_denial(denied), None, "sf-0", StatusCode::FORBIDDEN);
    }
    let text = refusals.metrics(7);
    let counts = text.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    assert_eq!(counts.sum::<u64>(), denials.len() as u64 + 7, "{text}");
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), SERIES.len());
    assert!(text.contains(r#"{reason="connections",scope="gateway"} 7"#), "{text}");
}

#[test]
fn a_providers_failure_is_no_refusal() {
    for kind in ErrorKind::ALL {
        let error = LlmError::new(*kind, "it failed");
        assert_eq!(Refusal::of(&error, OwnTime::Unset), None, "{kind}");
    }
}
