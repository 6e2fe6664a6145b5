//! Answers that are given again: what counts as the same, for how long, to whom, and what becomes of those who ask at
//! the same time.

mod cost;
mod file;
mod flights;
mod kept;
mod outages;
pub(crate) mod provider;
mod same;
mod similar;
mod streams;
