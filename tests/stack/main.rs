//! Promises of a stack that a file describes: what the file says, reload, alerts, metrics, and drills.

#[path = "../common/mod.rs"]
mod common;

mod alerts;
mod chains;
mod clouds;
mod config;
mod deployment_faults;
mod deployments;
mod doors;
mod drill;
mod examples;
mod file;
mod import;
mod ladder;
mod metrics;
mod mirror;
mod openai_api;
mod operations;
mod recovery;
mod reload;
mod structured_output;
mod webhooks;
