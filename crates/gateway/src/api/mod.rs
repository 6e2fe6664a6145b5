//! The gateway's HTTP API: what each path does.
//!
//! A request's way: [`routes`] → [`reception`] (key, rate, options, record) → [`chat`], [`lane`] or [`objects`] (body,
//! service, then a whole answer, a [`stream`], or a [`refusal`]). [`paths`] has the names of all paths, [`records`]
//! keeps what happened to a request, and [`observe`] reports on all of them. Operators use [`admin`], reviewers use
//! [`handoff`].
//!
//! Nothing here knows of sockets: [`routes::Routes`] is the [`http::Handler`](crate::http::Handler) of the connections.
//!
//! The gateway fetches nothing for a caller but the answer. A picture or document at a web address goes on as it is to
//! providers that take addresses; where a provider wants the bytes, the gateway refuses it or leaves it to another
//! tier. No setting changes that: a prompt would reach into the gateway's own network by it.

mod admin;
mod admission;
mod body_error;
mod body_kind;
mod body_reader;
mod cache;
mod call;
mod catalog;
mod chat;
mod client;
mod connection;
mod conversation;
mod cors;
mod door;
mod failure;
mod form;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handoff;
mod heads;
mod html;
mod http_llm;
mod inbound;
mod json_array;
mod keys;
mod lane;
mod large_body;
mod layers;
mod limit_heads;
mod local_names;
mod mark;
mod model_names;
mod models;
mod named_models;
mod notice;
mod objects;
pub(crate) mod observe;
mod own_key;
mod ownership;
mod panic;
pub(crate) mod paths;
pub(crate) mod protection;
mod query;
mod reception;
mod records;
mod refusal;
mod refusals;
mod repeats;
mod request_options;
mod routes;
mod service;
mod socket;
pub(crate) mod standing_orders;
mod state;
mod stored_responses;
mod stream;
mod token_counts;
mod unknown_paths;
mod upload;

#[cfg(test)]
pub(crate) use self::socket::Session;
pub(crate) use self::{
    catalog::Catalog,
    keys::Keys,
    routes::{Routes, router},
    state::GatewayState,
};
pub use self::{
    http_llm::{HttpLlm, HttpLlmFuture, HttpLlmLayer},
    keys::{VirtualKey, key_documents, make_key},
    observe::LogFormat,
    service::{Gateway, GatewayBuilder, ResponseBody, ResponseFuture},
};
