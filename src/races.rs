//! Races of several callers for one circuit or budget. `tests/races` runs them under loom, in every interleaving.

use crate::layers::{budget::races as budget, circuit_breaker::races as circuit, retry::races as retry};

macro_rules! named {
    ($($race:path),* $(,)?) => { &[$((stringify!($race), $race)),*] };
}

/// The races, by name. One panics where an interleaving breaks a promise.
pub const RACES: &[(&str, fn())] = named![
    budget::two_requests_never_share_the_room_for_one,
    budget::a_period_begins_with_nothing_whoever_is_settled_meanwhile,
    budget::a_period_turns_once,
    circuit::end_of_cooldown_admits_exactly_the_probes,
    circuit::dropped_probe_races_with_an_admission,
    circuit::late_outcome_races_with_the_trip,
    circuit::late_outcome_races_with_the_probe,
    circuit::failure_in_the_window_races_with_a_reset,
    retry::one_token_is_never_spent_twice,
    retry::a_dropped_reservation_comes_back_whole,
];
