//! Messages that distinguish failures with one code or type, from servers of this protocol, beside those of the
//! [table](crate::sentences).

use crate::sentences::KnownMessage;

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
