//! Promises of the wire: recorded traffic, translation, bytes of strangers, and the cost of each.

#[path = "../common/recordings.rs"]
mod recordings;

mod acceptance;
mod around_the_client;
mod call_ids;
mod converse_server;
mod costs;
mod fidelity;
mod fuzz;
mod linear;
mod openapi;
mod recorded;
mod refused_parameters;
mod refused_parts;
mod responses_requests;
mod sealed_reasoning;
mod simulator;
mod statuses;
mod thoughts;
mod translation;
mod used_tokens;
mod validation;
