//! The guide: how to begin, what to decide, and what not to hope for.
//!
//! | | |
//! |---|---|
//! | [`getting_started`] | a first stack, an outage, your own HTTP client, a client of your own, what a status means |
//! | [`choosing_an_order`] | the layers' promises, their usual order, and the meaning of every other one |
//! | [`streams`] | the beginning of an answer, interrupted streams, limits of time |
//! | [`degradation`] | service below the best: smaller models, kept answers, people |
//! | [`load_balancing`] | several keys, regions or servers of one model behind one tier |
//! | [`the_same_model_elsewhere`] | one model at its maker, AWS, Azure and Vertex, and the credentials for them |
//! | [`hedging_and_shadow_traffic`] | a second call against the slowest answers, and a copy to compare another model |
//! | [`beside_conversations`] | embeddings within one vector space, rankings, speech, pictures |
//! | [`testing`] | an outage of hours in your own tests, in milliseconds |
//! | [`rehearsing_an_outage`] | drills: an outage replayed against your own configuration |
//! | [`claude_code`], [`codex`], [`gemini_cli`] | five minutes: one command, and an outage to try |
//! | [`editors_and_agents`], [`frameworks`] | the same for aider, OpenCode and Cline; for LangChain, the Agents SDK and the AI SDK |
//! | [`axum_service`], [`tonic_service`] | the same for a service of your own, with the stack inside |
//! | [`operating_the_gateway`] | the four pages on the gateway: [`gateway_start`], [`gateway_keys`], [`gateway_observation`], [`gateway_operation`] |
//! | [`gateway_reference`] | every header, path, line of the log, metric and field of the status |
//! | [`other_clients`] | clients with a base URL and nothing else: a port or a socket of the same program |
//! | [`what_failover_cannot_fix`] | the limits of a second provider, and its worth |
//! | [`comparison`] | incidents replayed, other libraries and gateways, costs |
//! | [`known_gaps`] | limits that we know of |
//! | [`from_a_retry_loop`] | in place of a loop written by hand |
//! | [`from_tower_resilience`] | the same patterns, layer by layer, and where they differ |
//! | [`from_litellm`] | its configuration, keys, headers and metrics in these words |
//!
//! The tests compile and run all code here. Its providers are simulated and its clock is paused: it needs no key and
//! takes no time. Your provider stands in the place of [`Simulated`](steadfast::providers::Simulated).

pub mod axum_service {
    #![doc = include_str!("axum_service.md")]
}
pub mod beside_conversations {
    #![doc = include_str!("beside_conversations.md")]
}
pub mod choosing_an_order {
    #![doc = include_str!("choosing_an_order.md")]
}
pub mod claude_code {
    #![doc = include_str!("claude_code.md")]
}
pub mod codex {
    #![doc = include_str!("codex.md")]
}
pub mod comparison {
    #![doc = include_str!("comparison.md")]
}
pub mod degradation {
    #![doc = include_str!("degradation.md")]
}
pub mod editors_and_agents {
    #![doc = include_str!("editors_and_agents.md")]
}
pub mod frameworks {
    #![doc = include_str!("frameworks.md")]
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
pub mod gateway_keys {
    #![doc = include_str!("gateway_keys.md")]
}
pub mod gateway_observation {
    #![doc = include_str!("gateway_observation.md")]
}
pub mod gateway_operation {
    #![doc = include_str!("gateway_operation.md")]
}
pub mod gateway_reference {
    #![doc = include_str!("gateway_reference.md")]
}
pub mod gateway_start {
    #![doc = include_str!("gateway_start.md")]
}
pub mod gemini_cli {
    #![doc = include_str!("gemini_cli.md")]
}
pub mod getting_started {
    #![doc = include_str!("getting_started.md")]
}
pub mod hedging_and_shadow_traffic {
    #![doc = include_str!("hedging_and_shadow_traffic.md")]
}
pub mod known_gaps {
    #![doc = include_str!("known_gaps.md")]
}
pub mod load_balancing {
    #![doc = include_str!("load_balancing.md")]
}
pub mod operating_the_gateway {
    #![doc = include_str!("operating_the_gateway.md")]
}
pub mod other_clients {
    #![doc = include_str!("other_clients.md")]
}
pub mod rehearsing_an_outage {
    #![doc = include_str!("rehearsing_an_outage.md")]
}
pub mod streams {
    #![doc = include_str!("streams.md")]
}
pub mod testing {
    #![doc = include_str!("testing.md")]
}
pub mod the_same_model_elsewhere {
    #![doc = include_str!("the_same_model_elsewhere.md")]
}
pub mod tonic_service {
    #![doc = include_str!("tonic_service.md")]
}
pub mod what_failover_cannot_fix {
    #![doc = include_str!("what_failover_cannot_fix.md")]
}
