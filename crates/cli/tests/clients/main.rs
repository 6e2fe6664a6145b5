//! Promises to clients: the SDKs, popular clients and a browser before the real binary, through every fault.

#[path = "../common/mod.rs"]
pub mod common;

mod browser;
mod claude_code;
mod codex;
mod conformance;
mod faults;
mod gemini_cli;
mod http_llm;
mod ladder;
mod large_forms;
mod nested;
mod objects;
mod open_responses;
mod open_responses_suite;
mod recorded_calls;
mod recorded_ingress;
mod run;
mod sdk;
mod service;
mod two_keys;
mod upstream;
