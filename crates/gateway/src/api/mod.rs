//! The gateway's HTTP API: what each path does.
//!
//! A request's way: [`routes`] (paths) → [`pipeline`] (one for all protocols: [`inbound`], the service, then a whole
//! answer, a [`stream`], or a [`refusal`]). [`records`] keeps what happened to it, and [`observe`] reports on all
//! requests together. Operators use [`admin`], reviewers use [`handoff`].
//!
//! Nothing here knows of sockets: [`routes::Routes`] is the [`http::Handler`](crate::http::Handler) of the connections.
//!
//! The gateway fetches nothing for a caller but the answer. A picture or document at a web address goes on as it is to
//! providers that take addresses; where a provider wants the bytes, the gateway refuses it or leaves it to another
//! tier. No setting changes that: a prompt would reach into the gateway's own network by it.

mod addresses;
mod admin;
mod admission;
mod body_kind;
mod cache;
mod catalog;
mod conversation;
mod cors;
mod form;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gemini;
mod handoff;
mod html;
mod http_llm;
mod inbound;
mod keys;
mod lane;
mod layers;
mod local_names;
mod mark;
mod model_names;
mod named_models;
pub(crate) mod objects;
pub(crate) mod observe;
mod ownership;
mod panic;
mod pipeline;
pub(crate) mod protection;
mod query;
mod records;
mod refusal;
mod refusals;
mod repeats;
mod request_options;
mod routes;
mod service;
mod state;
mod stored_responses;
mod stream;
mod unknown_paths;
mod upload;

pub(crate) use self::{
    catalog::Catalog,
    keys::Keys,
    routes::{Routes, router},
    state::GatewayState,
};
pub use self::{
    http_llm::{HttpLlm, HttpLlmFuture, HttpLlmLayer},
    keys::VirtualKey,
    observe::LogFormat,
    service::{Gateway, GatewayBuilder, ResponseBody, ResponseFuture},
};
