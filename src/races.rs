//! Races of several callers for one circuit or budget. `tests/races` runs them under loom, in every interleaving.

use crate::layers::{budget::races as budget, circuit_breaker::races as circuit, retry::races as retry};

/// The races, by name. One panics where an interleaving breaks a promise.
pub const RACES: &[(&str, fn())] = &[
    ("budget: two requests never share the room for one", budget::two_requests_never_share_the_room_for_one),
    (
        "budget: a period begins with nothing, whoever is settled meanwhile",
        budget::a_period_begins_with_nothing_whoever_is_settled_meanwhile,
    ),
    ("budget: a period turns once", budget::a_period_turns_once),
    ("circuit: the end of its cooldown admits exactly the probes", circuit::end_of_cooldown_admits_exactly_the_probes),
    ("circuit: a dropped probe races with an admission", circuit::dropped_probe_races_with_an_admission),
    ("circuit: a late outcome races with the trip", circuit::late_outcome_races_with_the_trip),
    ("circuit: a late outcome races with the probe", circuit::late_outcome_races_with_the_probe),
    ("circuit: a failure in the window races with a reset", circuit::failure_in_the_window_races_with_a_reset),
    ("retry budget: one token is never spent twice", retry::one_token_is_never_spent_twice),
    ("retry budget: a dropped reservation comes back whole", retry::a_dropped_reservation_comes_back_whole),
];
