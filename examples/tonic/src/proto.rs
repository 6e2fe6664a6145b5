//! The protocol. For a client in another language it reads:
//!
//! ```proto
//! syntax = "proto3";
//! package steadfast.example;
//!
//! service Llm {
//!   rpc Ask(Question) returns (Answer);
//!   rpc AskStream(Question) returns (stream Piece);
//! }
//! message Question { string prompt = 1; }
//! message Answer { string text = 1; string served_by = 2; bool degraded = 3; }
//! message Piece { string text = 1; bool restart = 2; }
//! ```
#![allow(unreachable_pub, unused_qualifications, reason = "the generated modules are public, and spell every path out")]

/// What is asked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Question {
    #[prost(string, tag = "1")]
    pub prompt: String,
}

/// A whole answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    #[prost(string, tag = "1")]
    pub text: String,
    /// Which tier answered, and after how many attempts.
    #[prost(string, tag = "2")]
    pub served_by: String,
    /// Whether it is less than what was asked for: a canned answer, or a smaller model's.
    #[prost(bool, tag = "3")]
    pub degraded: bool,
}

/// A piece of an answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Piece {
    #[prost(string, tag = "1")]
    pub text: String,
    /// Another model begins anew: what came before is to be thrown away.
    #[prost(bool, tag = "2")]
    pub restart: bool,
}

include!(concat!(env!("OUT_DIR"), "/steadfast.example.Llm.rs"));
