//! Converse: Bedrock's own API for the models of all vendors, to and from Messages.
//!
//! [`request`] writes the body of a request, [`answer`] reads that of an answer, and [`sse`] that of `ConverseStream`.
//! They move values as they are spelled: a picture is copied once, from one body into the other.
//!
//! | Messages | Converse |
//! |---|---|
//! | `system`, `messages` | `system`, `messages`; turns of one role that follow one another become one |
//! | `cache_control` | a `cachePoint` behind the block, the tool, or the last turn |
//! | `thinking` and `redacted_thinking` blocks | `reasoningContent` with its signature, or `redactedContent` |
//! | `search_result` and `document` blocks | `searchResult`, `document` under a name in Converse's letters |
//! | `max_tokens`, `temperature`, `top_p`, `stop_sequences` | `inferenceConfig` |
//! | `tools`, `tool_choice` | `toolConfig`; Anthropic's own tools for its caller: `additionalModelRequestFields` |
//! | `output_config` | `outputConfig` |
//! | `metadata.user_id`, `service_tier: standard_only` | `requestMetadata`, `serviceTier` |
//! | `guardrailConfig`, `performanceConfig` and other fields of Converse's own | the same |
//! | `top_k`, `thinking`, and any other field | `additionalModelRequestFields` |
//!
//! Names of tools that Converse does not take go out under others, and [`Converted::tool_names`] has them for the
//! answer. Ids of calls are changed in the same way, each into one that is always the same for it.
//!
//! Notes name everything else. A request whose answer would be to another question is refused.

mod answer;
mod block;
mod content;
mod fields;
mod names;
mod notes;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod tools;
mod writer;

pub use self::{
    answer::{AnswerHead, answer},
    names::ToolNames,
    request::{Converted, request},
    stream::sse,
};
