//! The guide: how to begin, what to decide, and what not to hope for.
//!
//! | | |
//! |---|---|
//! | [`getting_started`] | a first stack, an outage, your own HTTP client, a client of your own, what a status means |
//! | [`choosing_an_order`] | what each layer means at its place, and what changes elsewhere |
//! | [`streams`] | when an answer has begun, and what to do when it breaks |
//! | [`lesser_answers`] | what is served when the best is not there: smaller models, kept answers, people |
//! | [`second_calls_and_shadow_traffic`] | asking twice: against the slowest answers, and to compare another model |
//! | [`testing`] | an outage of hours in your own tests, in milliseconds |
//! | [`rehearsing_an_outage`] | what your users would have seen, with your own configuration |
//! | [`operating_the_gateway`] | from a first look to a service that others rely on |
//! | [`what_failover_cannot_fix`] | what no second provider mends, and how much it does |
//! | [`from_a_retry_loop`] | in place of a loop written by hand |
//! | [`from_tower_resilience`] | the same patterns, layer by layer, and where they differ |
//! | [`from_litellm`] | its configuration, keys, headers and metrics in these words |
//!
//! All code here is compiled and run with the tests. Its providers are simulated and its time is paused, so that it needs no
//! key and takes no time; where it says [`Simulated`](crate::providers::Simulated), your provider stands.

pub mod choosing_an_order {
    #![doc = include_str!("choosing_an_order.md")]
}
pub mod from_a_retry_loop {
    #![doc = include_str!("from_a_retry_loop.md")]
}
pub mod from_litellm {
    #![doc = include_str!("from_litellm.md")]
}
pub mod from_tower_resilience {
    #![doc = include_str!("from_tower_resilience.md")]
}
pub mod getting_started {
    #![doc = include_str!("getting_started.md")]
}
pub mod lesser_answers {
    #![doc = include_str!("lesser_answers.md")]
}
pub mod operating_the_gateway {
    #![doc = include_str!("operating_the_gateway.md")]
}
pub mod rehearsing_an_outage {
    #![doc = include_str!("rehearsing_an_outage.md")]
}
pub mod second_calls_and_shadow_traffic {
    #![doc = include_str!("second_calls_and_shadow_traffic.md")]
}
pub mod streams {
    #![doc = include_str!("streams.md")]
}
pub mod testing {
    #![doc = include_str!("testing.md")]
}
pub mod what_failover_cannot_fix {
    #![doc = include_str!("what_failover_cannot_fix.md")]
}
