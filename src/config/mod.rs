//! The whole stack in one file. Feature `config`.

mod environment;
mod error;
mod schema;
mod stack;

pub use self::{
    environment::Environment,
    error::{ConfigError, Problem},
    schema::*,
    stack::{Reload, Stack, StackBuilder, StackHandle, TierInfo},
};
