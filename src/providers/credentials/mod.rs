//! Credentials that refresh themselves: tokens, and the sources that they come from.

pub mod aws;
pub mod azure;
mod fetch;
pub mod google;
mod handle;
mod machine;
mod oauth;
mod refresh;
mod service;
#[allow(dead_code, reason = "the doors use it")]
pub(crate) mod sigv4;
mod source;
#[cfg(test)]
mod tests;
mod token;

pub use self::{handle::Credentials, machine::Machine, token::Token};
#[allow(unused_imports, reason = "the doors use them")]
pub(crate) use self::{
    source::{Source, SourceError, TokenFuture},
    token::{AwsKeys, Identity},
};
