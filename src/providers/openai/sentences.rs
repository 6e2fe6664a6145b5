//! Messages that distinguish failures with one code or type, from servers of this protocol.

use crate::providers::sentences::KnownMessage;

pub(super) const CONTEXT: KnownMessage = KnownMessage {
    first: &[
        "this model's maximum context length is # tokens",
        "this model's maximum prompt length is # but the request contains # tokens",
        "this endpoint's maximum context length is # tokens",
        "the request exceeds the available context size",
        "request # tokens exceeds the available context size # tokens",
        "context size has been exceeded",
        "the context size has been exceeded",
        "prompt too long",
        "prompt is too long",
        "prompt is too long # tokens > #",
        "prompt is too long # tokens > # maximum",
        "prompt too long exceeded max context length by # tokens",
        "your input exceeds the context window of this model",
        "the decoder prompt length # is longer than the maximum model length of #",
        "the input # tokens is longer than the model's context length # tokens",
        "requested token count exceeds the model's maximum context length of # tokens",
        "prompt contains # tokens and # draft tokens too large for model with # maximum context length",
        "prompt contains # tokens too large for model with # maximum context length",
        "'max_tokens' or 'max_completion_tokens' is too large #",
        "please reduce the length of the messages or completion",
        "the input token count # exceeds the maximum number of tokens allowed #",
    ],
    then: &[
        "however you requested # tokens",
        "however you requested about # tokens",
        "however your messages resulted in # tokens",
        "however your request has # input tokens",
        "you requested a total of # tokens",
        "# tokens from the input messages and # tokens for the completion",
        "# in the messages # in the completion",
        "# in the messages # in the functions",
        "# in the messages # in the functions # in the completion",
        "# of text input # in the output",
        "# of text input # of tool input # in the output",
        "this model's maximum context length is # tokens and your request has # input tokens",
        "# > # - #",
        "please reduce the length of the messages",
        "please reduce the length of the messages or completion",
        "please reduce the length of the messages or functions",
        "please reduce the length of the messages functions or completion",
        "please reduce the length of the input messages",
        "please reduce the length of either one or use the \"middle-out\" transform to compress your prompt automatically",
        "please reduce the number of tokens in the input messages or the completion to fit within the limit",
        "please adjust your input and try again",
        "make sure that `max_model_len` is no smaller than the number of text tokens",
        "try increasing it",
        "ref @",
    ],
};

pub(super) const POLICY: KnownMessage = KnownMessage {
    first: &[
        "your request was rejected as a result of our safety system",
        "your request was rejected as a result of the safety system",
        "your request was rejected by the safety system",
        "the response was filtered due to the prompt triggering azure openai's content management policy",
        "the response was filtered due to the prompt triggering microsoft's content management policy",
        "output blocked by content filtering policy",
        "content exists risk",
        // xAI's, also through a router.
        "content violates usage guidelines",
    ],
    then: &[
        "team @",
        "api key id @",
        "model @",
        "failed check @",
        "your prompt may contain text that is not allowed by our safety system",
        "please modify your prompt and retry",
        "to learn more about our content filtering policies please read our documentation @",
    ],
};

pub(super) const BAD_KEY: KnownMessage = KnownMessage {
    first: &[
        "incorrect api key provided",
        "incorrect api key provided @",
        "invalid api key",
        "invalid api key provided",
        "api key not valid",
        "invalid token",
    ],
    then: &["you can find your api key at @", "you can obtain an api key from @", "please pass a valid api key"],
};

pub(super) const NO_MODEL: KnownMessage = KnownMessage {
    first: &[
        "model not found",
        "model not found @",
        "model not exist",
        "unknown model",
        "unknown model @",
        "invalid model",
        "invalid model @",
        "@ is not a valid model id",
        "the model @ does not exist",
        "the model @ does not exist or you do not have access to it",
        "the model @ does not exist or your team @ does not have access to it",
        "the model @ has been decommissioned and is no longer supported",
        "the model @ has been deprecated",
        "the requested model @ does not exist",
        "the requested model @ is not supported by any provider you have enabled",
        // DeepSeek's.
        "the supported api model names are @ but you passed @",
        "the supported api model names are @ or @ but you passed @",
        "the supported api model names are @ @ or @ but you passed @",
        "the supported api model names are @ @ @ or @ but you passed @",
    ],
    then: &[
        "please check the model code",
        "please refer to @ for a recommendation on which model to use instead",
        "learn more here @",
        "permitted models can be found in the documentation at @",
    ],
};

/// One request is over the limit of tokens in a minute.
pub(super) const OVER_TPM: KnownMessage = KnownMessage {
    first: &["request too large for @", "request too large for model @"],
    then: &[
        "in organization @",
        "service tier @",
        "on tokens per min",
        "on tokens per minute",
        "tpm",
        "limit # requested #",
        "the input or output tokens must be reduced in order to run successfully",
        "please reduce your message size and try again",
        "visit @ to learn more",
        "need more tokens",
        "need more tokens? upgrade to dev tier today at @",
    ],
};

/// Mistral's capacity.
pub(super) const TIER_CAPACITY: KnownMessage = KnownMessage {
    first: &["service tier capacity exceeded for this model", "service tier capacity has been exceeded"],
    then: &["for this model", "please try again later"],
};

pub(super) const OVERLOADED: KnownMessage = KnownMessage {
    first: &[
        "overloaded",
        "model overloaded",
        "model is overloaded",
        "the model is overloaded",
        "the server is overloaded",
        "the service is overloaded",
        "the engine is currently overloaded",
        "that model is currently overloaded with other requests",
        "the model is at capacity",
        "the model is currently at capacity due to high demand",
        "no capacity",
        "capacity exceeded",
        "service tier capacity exceeded for this model",
    ],
    then: &["please try again later", "please try again in a few minutes", "please retry shortly"],
};

/// A limit that a server reports without a name.
pub(super) const RATE: KnownMessage = KnownMessage {
    first: &[
        "rate limited",
        "rate limit exceeded",
        "rate limit reached",
        "rate limit reached for requests",
        "requests rate limit exceeded",
        "too many requests",
        "quota exceeded",
        "you exceeded your current quota",
    ],
    then: &[
        "please try again later",
        "please retry later",
        "please slow down",
        "please try again in @",
        "please retry in @",
        "please retry after # seconds",
    ],
};

pub(super) const ROUTER: KnownMessage = KnownMessage { first: &["provider returned error"], then: &[] };

/// Groq, Cerebras, and servers that check as they do.
pub(super) const FOREIGN_THOUGHTS: KnownMessage = KnownMessage {
    first: &[
        "@ for 'role:assistant' the following must be @ property @ is unsupported)]",
        "property @ is unsupported",
        "@ property @ is unsupported",
    ],
    then: &["@ property @ is unsupported"],
};

/// DeepSeek and Moonshot.
pub(super) const NO_THOUGHTS: KnownMessage = KnownMessage {
    first: &[
        "the `reasoning_content` in the thinking mode must be passed back to the api",
        "missing `reasoning_content` field in the assistant message at message index #",
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index #",
    ],
    then: &["for more information please refer to @", "please refer to @"],
};

/// Google's own server of this protocol, and Vertex AI's.
pub(super) const NO_SIGNATURE: KnownMessage = KnownMessage {
    first: &[
        "function call is missing a thought_signature in functioncall parts",
        "unable to submit request because function call @ in the # content block is missing a thought_signature",
    ],
    then: &[
        "this is required for tools to work correctly and missing thought_signature may lead to degraded model performance",
        "additional data function call @ position #",
        "please refer to @ for more details",
        "learn more @",
    ],
};
