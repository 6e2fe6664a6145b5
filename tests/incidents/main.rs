//! Promises of numbers: recorded incidents, the twenty numbers, balancing, and simulation from seeds.

#[path = "../common/mod.rs"]
mod common;

mod balancing;
mod bursts;
mod evidence;
mod numbers;
mod outages;
mod simulation;
