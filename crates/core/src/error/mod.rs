//! The one error of the crate.

mod attempt;
mod chain;
mod convert;
mod display;
mod exchange;
mod expired_limit;
mod invalid_config;
mod kind;
mod known_words;
mod limit;
mod llm_error;
mod message;
mod network;
mod reader;
mod record;
mod sentences;

#[doc(hidden)]
pub use self::exchange::{NetworkFacts, OmittedParameter};
#[doc(hidden)]
pub use self::expired_limit::SHORT_WAIT;
#[doc(hidden)]
pub use self::llm_error::Evidence;
#[doc(hidden)]
pub use self::message::Rest;
#[doc(hidden)]
pub use self::reader::Told;
pub use self::{
    attempt::{Attempt, Next, Stop},
    expired_limit::{ExpiredLimit, Phase, TimeoutLimit},
    invalid_config::InvalidConfig,
    kind::ErrorKind,
    limit::ReachedLimit,
    llm_error::LlmError,
    message::ErrorMessage,
    reader::Reader,
};

#[cfg(test)]
mod tests;
