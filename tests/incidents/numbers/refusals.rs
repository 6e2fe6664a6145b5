//! Refusals of servers, each in the words of its vendor, in what other servers put around it, in every dialect, whole
//! and within a stream.

use serde_json::{Value, json};
use steadfast::{ErrorKind, LlmRequest};
use tower::ServiceExt;

use super::{
    echoes::{Provider, leaf},
    full,
};

use ErrorKind::{ContentPolicy, ContextLength, InvalidRequest, NotFound, QuotaExhausted};
use Provider::{Anthropic as A, Compatible as C, Gemini as G, OpenAi as O};

/// Sentences, each with the status under which its server says it. The sources are in `sentences/servers.md`.
const SAID: &[(ErrorKind, u16, &str, &str)] = &[
    (
        ContextLength,
        400,
        "OpenAI",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130102 tokens. Please reduce the length of the messages.",
    ),
    (
        ContextLength,
        400,
        "OpenAI",
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
    ),
    (
        ContextLength,
        400,
        "OpenAI",
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 283121 tokens. Please reduce the length of the messages.",
    ),
    (
        ContextLength,
        400,
        "OpenAI",
        "This model's maximum context length is 4097 tokens, however you requested 4231 tokens (3975 in your prompt; 256 for the completion). Please reduce your prompt; or completion length.",
    ),
    (
        ContextLength,
        400,
        "vLLM",
        "This model's maximum context length is 32768 tokens. However, you requested 33077 tokens (1077 in the messages, 32000 in the completion). Please reduce the length of the messages or completion. None",
    ),
    (
        ContextLength,
        400,
        "vLLM",
        "This model's maximum context length is 8192 tokens. However, you requested 4096 output tokens and your prompt contains at least 4097 input tokens, for a total of at least 8193 tokens. Please reduce the length of the input prompt or the number of requested output tokens.",
    ),
    (ContextLength, 400, "Anthropic", "prompt is too long: 213462 tokens > 200000 maximum"),
    (
        ContextLength,
        400,
        "Anthropic",
        "input length and `max_tokens` exceed context limit: 179413 + 32768 > 200000, decrease input length or `max_tokens` and try again",
    ),
    (
        ContextLength,
        400,
        "LM Studio",
        "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 13055>= n_ctx: 4096). Try to load the model with a larger context length, or provide a shorter input.",
    ),
    (
        ContextLength,
        400,
        "LM Studio",
        "Trying to keep the first 111490 tokens when context the overflows. However, the model is loaded with context length of only 32768 tokens, which is not enough. Try to load the model with a larger context length, or provide a shorter input",
    ),
    (ContextLength, 400, "LM Studio", "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)"),
    (
        ContextLength,
        422,
        "TGI",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192. Given: 6204 `inputs` tokens and 2047 `max_new_tokens`",
    ),
    (ContextLength, 422, "TGI", "Input validation error: `inputs` must have less than 1024 tokens. Given: 1872"),
    (
        ContextLength,
        400,
        "SGLang",
        "The input (91023 tokens) is longer than the model's context length (32768 tokens).",
    ),
    (
        ContextLength,
        400,
        "SGLang",
        "Requested token count exceeds the model's maximum context length of 131072 tokens. You requested a total of 140000 tokens: 130000 tokens from the input messages and 10000 tokens for the completion. Please reduce the number of tokens in the input messages or the completion to fit within the limit.",
    ),
    (
        ContextLength,
        400,
        "Kimi",
        "Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)",
    ),
    (ContextLength, 400, "Copilot", "prompt token count of 138898 exceeds the limit of 64000"),
    (ContextLength, 400, "MiniMax", "invalid params, context window exceeds limit (2013)"),
    (ContextLength, 400, "Zhipu", "Prompt exceeds max length"),
    (
        ContextLength,
        400,
        "Qwen",
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 983616]",
    ),
    (ContextLength, 400, "SiliconFlow", "length of prompt_tokens (68957) must be less than max_seq_len (65536)."),
    (ContextLength, 400, "SiliconFlow", "max_total_tokens (33589) must be less than or equal to max_seq_len (32768)"),
    (
        ContextLength,
        400,
        "Cerebras",
        "Please reduce the length of the messages or completion. Current length is 69553 while limit is 65536",
    ),
    (ContextLength, 400, "Fireworks", "The prompt is too long: 140211, model maximum context length: 131071"),
    (ContextLength, 400, "Ollama", "prompt too long; exceeded max context length by 4242 tokens"),
    (ContextLength, 400, "llama.cpp", "the request exceeds the available context size, try increasing it"),
    (ContextLength, 400, "Poolside", "Input length 265330 exceeds the maximum allowed input length of 262144 tokens."),
    (
        ContextLength,
        400,
        "Amazon Bedrock",
        "The model returned the following errors: prompt is too long: 200049 tokens > 200000 maximum",
    ),
    (ContextLength, 400, "Amazon Bedrock", "The maximum tokens you requested exceeds the model limit of 32768"),
    (
        ContextLength,
        400,
        "OpenRouter",
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 140001 tokens (139001 of text input, 1000 in the output). Please reduce the length of either one, or use the \"middle-out\" transform to compress your prompt automatically.",
    ),
    (
        ContextLength,
        400,
        "Gemini",
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
    ),
    (ContextLength, 400, "xAI", "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
    (
        QuotaExhausted,
        400,
        "Anthropic",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
    ),
    (QuotaExhausted, 400, "Qwen", "Access denied, please make sure your account is in good standing."),
    (
        QuotaExhausted,
        412,
        "Fireworks",
        "Account acme is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices. Please go to https://fireworks.ai/account/billing for more information.",
    ),
    (
        QuotaExhausted,
        401,
        "OpenRouter",
        "Key limit exceeded (monthly limit). Manage it using https://openrouter.ai/settings/keys",
    ),
    (QuotaExhausted, 401, "SiliconFlow", "Sorry, your account balance is insufficient"),
    (
        QuotaExhausted,
        403,
        "Kimi",
        "You've reached your usage limit for this billing cycle. Your quota will be refreshed in the next cycle. To continue now, purchase extra usage or upgrade your plan: https://www.kimi.com/code/#pricing",
    ),
    (
        QuotaExhausted,
        403,
        "Volcengine",
        "The request failed because your account has an overdue balance. Request ID: 021752",
    ),
    (QuotaExhausted, 400, "LiteLLM", "Budget has been exceeded! Current cost: 0.0010747, Max budget: 0.0"),
    (
        QuotaExhausted,
        400,
        "Ollama",
        "this model uses extra usage only (not included plan usage) and your extra usage balance is empty, add extra usage or turn on auto-reload: https://ollama.com/settings",
    ),
    (NotFound, 400, "Codex", "The 'gpt-5.1-codex' model is not supported when using Codex with a ChatGPT account."),
    (NotFound, 400, "CLIProxyAPI", "unknown provider for model gpt-5.1-codex-max-xhigh"),
    (
        NotFound,
        400,
        "LiteLLM",
        "Invalid model name passed in model=gpt-9. Call `/v1/models` to view available models for your key.",
    ),
    (
        NotFound,
        400,
        "LM Studio",
        "No models loaded. Please load a model in the developer page or use the 'lms load' command.",
    ),
    (NotFound, 400, "SiliconFlow", "Model does not exist. Please check it carefully."),
    (NotFound, 400, "Copilot", "The requested model is not supported."),
    (NotFound, 400, "gateways", "The requested model is not available for this API key"),
    (NotFound, 400, "MiniMax", "invalid params, unknown model 'abab9' (2013)"),
    (NotFound, 400, "OCI", "Model meta.llama-3.1-70b-instruct 1.0.0 is retired"),
    (
        NotFound,
        400,
        "Together",
        "Unable to access non-serverless model zai-org/GLM-5.1. Please visit https://api.together.ai/models/zai-org/GLM-5.1 to create and start a new dedicated endpoint for the model.",
    ),
    (NotFound, 400, "Amazon Bedrock", "The provided model identifier is invalid."),
    (
        NotFound,
        400,
        "Amazon Bedrock",
        "Invocation of model ID anthropic.claude-x with on-demand throughput isn’t supported. Retry your request with the ID or ARN of an inference profile that contains this model.",
    ),
    (
        ContentPolicy,
        400,
        "Qwen",
        "<400> InternalError.Algo.DataInspectionFailed: Input data may contain inappropriate content.",
    ),
    (ContentPolicy, 451, "StepFun", "The content you provided or machine outputted is blocked."),
    (ContentPolicy, 400, "MiniMax", "input new_sensitive (1026)"),
    (ContentPolicy, 400, "DeepSeek", "Content Exists Risk"),
    (
        ContentPolicy,
        400,
        "Zhipu",
        "系统检测到输入或生成内容可能包含不安全或敏感内容，请您避免输入易产生敏感内容的提示语，感谢您的配合。",
    ),
    (ContentPolicy, 400, "Bedrock through LiteLLM", "Violated guardrail policy"),
    (
        ContentPolicy,
        400,
        "Vertex AI",
        "The prompt could not be submitted. Your prompt contains sensitive words that violate Google's Responsible AI practices. Try rephrasing the prompt. If you think this was an error, send feedback. Support codes: 39322892",
    ),
];

/// Codes, each in the body of its server.
fn coded() -> Vec<(ErrorKind, u16, Value)> {
    let open = |kind: &str, code: Value| json!({"error": {"message": "no", "type": kind, "param": null, "code": code}});
    vec![
        (ContextLength, 400, open("invalid_request_error", json!("context_length_exceeded"))),
        (ContextLength, 400, json!({"error": {"message": "no", "code": "model_max_prompt_tokens_exceeded"}})),
        (ContextLength, 400, json!({"error": {"code": "1261", "message": "no"}})),
        (QuotaExhausted, 403, open("new_api_error", json!("insufficient_user_quota"))),
        (QuotaExhausted, 400, json!({"code": "Arrearage", "message": "no", "request_id": "8af5"})),
        (QuotaExhausted, 401, json!({"code": 30001, "message": "no", "data": null})),
        (QuotaExhausted, 429, open("budget_exceeded", json!("429"))),
        (
            QuotaExhausted,
            429,
            json!({"error": {"type": "usage_limit_reached", "message": "no", "resets_in_seconds": 9000}}),
        ),
        (QuotaExhausted, 403, json!({"error": {"code": "AccountOverdueError", "message": "no", "type": "Forbidden"}})),
        (QuotaExhausted, 200, json!({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}})),
        (
            NotFound,
            401,
            json!({"error": {"message": "no", "type": "key_model_access_denied", "param": "model", "code": "401"}}),
        ),
        (NotFound, 400, json!({"code": 20012, "message": "no", "data": null})),
        (
            NotFound,
            400,
            json!({"detail": "The 'gpt-5.3-codex' model is not supported when using Codex with a ChatGPT account."}),
        ),
        (ContentPolicy, 500, open("new_api_error", json!("sensitive_words_detected"))),
        (ContentPolicy, 400, open("data_inspection_failed", json!("data_inspection_failed"))),
        (ContentPolicy, 451, json!({"error": {"message": "no", "type": "censorship_blocked"}})),
        (
            ContentPolicy,
            400,
            json!({"error": {"code": "SensitiveContentDetected.Violence", "message": "no", "type": "BadRequest"}}),
        ),
        (ContentPolicy, 400, json!({"error": {"code": "1301", "message": "no"}})),
        (ContentPolicy, 200, json!({"base_resp": {"status_code": 1026, "status_msg": "no"}})),
        (ContentPolicy, 200, json!({"base_resp": {"status_code": 1027, "status_msg": "no"}})),
    ]
}

fn python(text: &str) -> String {
    match (text.contains('\''), text.contains('"')) {
        (true, false) => format!("\"{text}\""),
        _ => format!("'{}'", text.replace('\'', "\\'")),
    }
}

type Wrapping = (&'static str, fn(&str) -> String);

/// The words that servers on the way put around a message.
const WRAPPINGS: &[Wrapping] = &[
    ("as it is", str::to_owned),
    ("new-api", |said| format!("{said} (request id: 20260128150407123456789Ab)")),
    ("new-api behind new-api", |said| format!("{said} (request id: 2026a) (request id: 2026b)")),
    ("LiteLLM", |said| format!("litellm.BadRequestError: OpenAIException - {said}")),
    ("LiteLLM, of a group", |said| {
        format!(
            "litellm.BadRequestError: OpenAIException - {said}. Received Model Group=fast\nAvailable Model Group Fallbacks=None"
        )
    }),
    ("LiteLLM, of a length", |said| {
        format!(
            "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: Hosted_vllmException - {said}\nmodel=m. context_window_fallbacks=None. fallbacks=None.\n\nSet 'context_window_fallback' - https://docs.litellm.ai/docs/routing#fallbacks"
        )
    }),
    ("LiteLLM, of Vertex AI", |said| format!("litellm.BadRequestError: VertexAIException BadRequestError - {said}")),
    ("upstream", |said| format!("upstream error: {said}")),
    ("a status", |said| format!("HTTP 400: {said}")),
    ("Zen", |said| {
        format!("Error from provider (Console Go): Upstream request failed: [invalid_request_error] {said}")
    }),
    ("a body in Python", |said| {
        format!(
            "Error code: 400 - {{'error': {{'message': {}, 'type': 'invalid_request_error', 'param': None, 'code': None}}}}",
            python(said)
        )
    }),
    ("a body in JSON", |said| json!({"error": {"message": said, "type": "invalid_request_error"}}).to_string()),
    ("a body behind words", |said| {
        format!("upstream error: {} (request id: 2026)", json!({"error": {"message": said}}))
    }),
    ("LiteLLM, of bytes", |said| {
        let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": said}}).to_string();
        format!(
            "litellm.BadRequestError: AnthropicException - b{}. Received Model Group=m\nAvailable Model Group Fallbacks=None",
            python(&body.replace('\\', "\\\\"))
        )
    }),
    ("two gateways", |said| {
        let inner = json!({"error": {"message": format!("{said} (request id: 2026)"), "type": "new_api_error"}});
        format!("litellm.BadRequestError: OpenAIException - Error code: 400 - {inner}")
    }),
];

/// The bodies in which a server of a dialect tells this.
fn bodies(provider: Provider, status: u16, message: &str) -> Vec<Value> {
    let raw = json!({"error": {"message": message, "type": "invalid_request_error"}}).to_string();
    let routed = |raw: &str| json!({"error": {"message": "Provider returned error", "code": status, "metadata": {"raw": raw, "provider_name": "x"}}});
    match provider {
        A => vec![json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}})],
        G => vec![json!({"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}})],
        O => vec![json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}})],
        C => vec![
            json!({"error": {"message": message, "code": status}}),
            json!({"error": {"message": message, "type": "None", "param": "None", "code": status.to_string()}}),
            json!({"object": "error", "message": message, "type": "BadRequestError", "param": null, "code": status}),
            json!({"error": message}),
            json!({"detail": message}),
            json!({"detail": {"error": message}}),
            json!({"error": {"error": {"message": message}}}),
            routed(&raw),
            routed(message),
        ],
    }
}

async fn told(provider: Provider, status: u16, body: &Value) -> ErrorKind {
    let leaf = leaf(provider, status, "application/json", body.to_string());
    leaf.oneshot(LlmRequest::prompt("hello")).await.expect_err("a failure").kind()
}

/// The kind of an error that comes as the first event of a stream.
async fn streamed(provider: Provider, body: &Value) -> ErrorKind {
    let name = if matches!(provider, A) { "event: error\n" } else { "" };
    let leaf = leaf(provider, 200, "text/event-stream", format!("{name}data: {body}\n\n"));
    match leaf.oneshot(LlmRequest::prompt("hello").with_stream(true)).await {
        Err(error) => error.kind(),
        Ok(answer) => answer.collect().await.expect_err("a failure").kind(),
    }
}

/// The statuses of a sentence in a dialect whose own 401 and 403 are the key's.
fn status_in(provider: Provider, status: u16) -> u16 {
    match provider {
        C | O => status,
        A | G => 400,
    }
}

/// Returns whether a plain run leaves out the row at this place.
fn is_left_out(place: usize) -> bool {
    !full() && !place.is_multiple_of(7)
}

#[tokio::test(start_paused = true)]
async fn a_servers_sentence_counts_whatever_gateways_put_around_it_in_every_dialect() {
    let (mut wrong, mut rows, mut place) = (Vec::new(), 0, 0);
    for (kind, status, server, said) in SAID {
        for (wrapping, wrap) in WRAPPINGS {
            for provider in [A, O, C, G] {
                let status = status_in(provider, *status);
                for body in bodies(provider, status, &wrap(said)) {
                    place += 1;
                    if is_left_out(place) {
                        continue;
                    }
                    let whole = told(provider, status, &body).await;
                    rows += 1;
                    if whole != *kind {
                        wrong.push(format!("{server}, {wrapping}, {provider:?} {status}: {whole}, not {kind}: {body}"));
                    }
                    // A server that streams tells an error by the shape of its own.
                    if body.get("error").is_some() {
                        let within = streamed(provider, &body).await;
                        rows += 1;
                        if within != *kind {
                            wrong.push(format!(
                                "{server}, {wrapping}, {provider:?} streamed: {within}, not {kind}: {body}"
                            ));
                        }
                    }
                }
            }
        }
    }
    println!("{rows} rows");
    assert!(wrong.is_empty(), "{} of {rows}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(rows > if full() { 10_000 } else { 2_000 });
}

#[tokio::test(start_paused = true)]
async fn a_servers_code_counts_in_every_protocol_that_others_speak() {
    let mut wrong = Vec::new();
    for (kind, status, body) in coded() {
        for provider in [C, O] {
            let found = told(provider, status, &body).await;
            if found != kind {
                wrong.push(format!("{provider:?} {status}: {found}, not {kind}: {body}"));
            }
            // The same behind a gateway that answers 500.
            let message = format!("Error code: {status} - {body}");
            let found = told(provider, 500, &json!({"error": {"message": message, "type": "server_error"}})).await;
            if status != 200 && found != kind {
                wrong.push(format!("{provider:?} behind a 500: {found}, not {kind}: {body}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The forms in which a provider repeats a caller's words around a server's sentence, or behind one's beginning.
const QUOTED: &[&str] = &[
    "Invalid value: '{}'",
    "messages.0.content: {}",
    "Unknown text: {}",
    "Could not parse the message: {}",
    "{}: Extra inputs are not permitted",
    "The text '{}' is not valid here",
    "{} is no known field",
    "tools.0.description: {}",
    "400 messages.0.content: {}",
    "Error from provider: messages.0.content: {}",
    "messages.0.FooError: {}",
    "upstream error: Unknown text: {}",
];

#[tokio::test(start_paused = true)]
async fn a_sentence_that_a_provider_repeats_from_a_prompt_is_none_whatever_is_around_it() {
    let (mut wrong, mut place) = (Vec::new(), 0);
    for (_, _, server, said) in SAID {
        for quoted in QUOTED {
            for (wrapping, wrap) in WRAPPINGS {
                // The caller's words may be wrapped, and so may the refusal that has them.
                for message in [wrap(&quoted.replace("{}", said)), quoted.replace("{}", &wrap(said))] {
                    for provider in [A, O, C, G] {
                        place += 1;
                        if is_left_out(place) {
                            continue;
                        }
                        let body = &bodies(provider, 400, &message)[0];
                        let found = told(provider, 400, body).await;
                        if found != InvalidRequest {
                            wrong.push(format!("{server}, {wrapping}, {provider:?}: {found}: {body}"));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}
