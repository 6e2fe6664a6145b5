//! Promises of numbers: recorded incidents, the twenty numbers, and simulation from seeds.

#[path = "../common/mod.rs"]
mod common;

mod numbers;
mod outages;
mod simulation;
