//! Bodies of Amazon Bedrock: its binary event stream, InvokeModel's streams and Converse, each to and from Messages.
//!
//! Bedrock has three surfaces for one model. Messages itself needs nothing of this module. `InvokeModel` has the bodies
//! of Messages, and its streams in [AWS's binary framing](event_stream): [`invoke::sse`] takes them out of it.
//! `Converse` is an API of its own for the models of all vendors: [`converse`] writes its requests and reads its
//! answers.
//!
//! The functions know no transport. They serve a client of one's own as well: what they return is Messages, which
//! `codec` reads.
//!
//! Sources: "Amazon Bedrock API Reference" (`InvokeModelWithResponseStream`, `Converse`, `ConverseStream`), and "Event
//! Stream Specification" of Smithy.

pub mod converse;
pub mod event_stream;
mod exception;
pub mod invoke;
mod messages_stream;
