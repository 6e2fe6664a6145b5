//! The rows of the tables.

use super::{Contestant, Measured, haproxy, litellm, liter_llm, nginx, onwards, portkey, steadfast, tensorzero};

pub const DIRECT: &str = "direct";
pub const NGINX: &str = "nginx";
pub const LITELLM: &str = "LiteLLM";
pub const PORTKEY: &str = "Portkey";
pub const STEADFAST: &str = "steadfast";
pub const TRANSLATED: &str = "steadfast, translated";

/// All, in the order of the tables.
pub const ALL: [Contestant; 25] = [
    Contestant::new(DIRECT, "no gateway", None).measured(Measured::Up),
    Contestant::new(NGINX, "proxy_pass, one worker", Some(nginx::gateway)),
    Contestant::new("haproxy", "one thread, a failed request once more at the other server", Some(haproxy::gateway)),
    Contestant::new(STEADFAST, "OpenAI's dialect on both sides, one worker thread", Some(steadfast::gateway)),
    Contestant::new("steadfast, Anthropic", "Anthropic's dialect on both sides", Some(steadfast::anthropic))
        .measured(Measured::Up),
    Contestant::new(
        TRANSLATED,
        "Anthropic's dialect for the caller, OpenAI's to the provider",
        Some(steadfast::translated),
    )
    .measured(Measured::Up)
    .beside(STEADFAST),
    Contestant::new(
        "steadfast, translated back",
        "OpenAI's dialect for the caller, Anthropic's to the provider",
        Some(steadfast::translated_back),
    )
    .measured(Measured::Up)
    .beside(STEADFAST),
    Contestant::new("steadfast, Responses", "OpenAI's Responses on both sides", Some(steadfast::responses))
        .measured(Measured::Up),
    Contestant::new(
        "steadfast, Responses to Messages",
        "Responses for the caller, Anthropic's dialect to the provider",
        Some(steadfast::responses_to_messages),
    )
    .measured(Measured::Instructions),
    Contestant::new(
        "steadfast, Responses to Chat",
        "Responses for the caller, OpenAI's Chat Completions to the provider",
        Some(steadfast::responses_to_chat),
    )
    .measured(Measured::Instructions),
    Contestant::new(
        "steadfast, Responses to Gemini",
        "Responses for the caller, Gemini's dialect to the provider",
        Some(steadfast::responses_to_gemini),
    )
    .measured(Measured::Instructions),
    Contestant::new(
        "steadfast, Messages to Responses",
        "Anthropic's dialect for the caller, Responses to the provider",
        Some(steadfast::messages_to_responses),
    )
    .measured(Measured::Instructions),
    Contestant::new(
        "steadfast, Chat to Responses",
        "OpenAI's Chat Completions for the caller, Responses to the provider",
        Some(steadfast::chat_to_responses),
    )
    .measured(Measured::Instructions),
    Contestant::new(
        "steadfast, embeddings",
        "the vectors of 64 texts, half a megabyte in base64, through the lane",
        Some(steadfast::embeddings),
    )
    .measured(Measured::Answers),
    Contestant::new("onwards", "its gateway, one worker thread", Some(onwards::gateway)),
    Contestant::new("liter-llm", "its proxy", Some(liter_llm::gateway)),
    Contestant::new("TensorZero", "the gateway of its Python package, no database", Some(tensorzero::gateway)),
    Contestant::new(PORTKEY, "Node, one process", Some(portkey::gateway)).measured(Measured::Once),
    Contestant::new(LITELLM, "its proxy, one worker", Some(litellm::gateway)).measured(Measured::Once),
    Contestant::new(
        "LiteLLM, Rust",
        "its proxy with its Rust core for Messages: Anthropic's dialect on both sides",
        Some(litellm::rust),
    )
    .measured(Measured::Once),
    Contestant::new(
        "liter-llm, translated back",
        "OpenAI's dialect for the caller, Anthropic's to the provider",
        Some(liter_llm::translated_back),
    )
    .measured(Measured::Sixteen)
    .beside("liter-llm"),
    Contestant::new(
        "TensorZero, translated back",
        "OpenAI's dialect for the caller, Anthropic's to the provider",
        Some(tensorzero::translated_back),
    )
    .measured(Measured::Sixteen)
    .beside("TensorZero"),
    Contestant::new(
        "Portkey, translated back",
        "OpenAI's dialect for the caller, Anthropic's to the provider",
        Some(portkey::translated_back),
    )
    .measured(Measured::Sixteen)
    .beside(PORTKEY),
    Contestant::new(
        "LiteLLM, translated",
        "Anthropic's dialect for the caller, OpenAI's to the provider",
        Some(litellm::translated),
    )
    .measured(Measured::Sixteen)
    .beside(LITELLM),
    Contestant::new(
        "LiteLLM, translated back",
        "OpenAI's dialect for the caller, Anthropic's to the provider",
        Some(litellm::translated_back),
    )
    .measured(Measured::Sixteen)
    .beside(LITELLM),
];
