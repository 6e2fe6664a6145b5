//! The rows that are known to be worse than nothing.

/// Each as the situation, the end of the clients' names, and why. A row that is well leaves the list.
pub(crate) const KNOWN: &[(&str, &str, &str)] =
    &[("calls-429", "plain", REPEATS), ("calls-503", "plain", REPEATS), ("calls-529", "plain", REPEATS)];

/// The rows that are well on some days only.
pub(crate) const BY_CHANCE: &[(&str, &str, &str)] = &[
    (
        "calls-429",
        "gemini",
        "alone it waits for no `Retry-After`; the three attempts of its first request wait for two",
    ),
    ("network-refused-6s-one-tier", "", PROBE),
    ("network-reset-6s-one-tier", "", PROBE),
    ("network-refused-15s", "gemini", WAIT),
    ("network-reset-15s", "gemini", WAIT),
    ("network-refused-60s", "gemini", WAIT),
    ("network-reset-60s", "gemini", WAIT),
    ("a-hundred-repeats-failing-for-three-seconds", "plain", PROBE),
    (
        "one-of-three-replicas-stops",
        "gemini",
        "an idle connection is closed as a request is on its way, which these do not repeat",
    ),
    ("lasting-429", "", WAIT),
    ("lasting-429-readme", "", WAIT),
    ("lasting-503", "", WAIT),
    ("lasting-503-readme", "", WAIT),
];

const REPEATS: &str = "it numbers no repeat and comes on a new connection, as somebody else may: one call more than the \
                       three of its first request";
const WAIT: &str = "who obeys two of our `Retry-After` hears too late: up to 10 s each, and the attempts before";
const PROBE: &str =
    "one more probe is due up to a second after the provider is back, and the others are refused until then";
