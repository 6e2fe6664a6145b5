use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Oidc, Size, Span};
use steadfast::{
    Dialect, WireLimits,
    settings::{Either, short_or_block},
};

/// The source of the callers' keys: a file, or the durable store.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum KeySource {
    /// A file, which people write.
    File(PathBuf),
    /// The durable store, which `steadfast key` and `/admin/keys` write.
    Store(KeyRegistry),
}

/// The callers' keys in the durable store, which all replicas share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRegistry {
    /// The store: `durable`, that of `stores`.
    pub store: KeyStoreName,
    /// A file of keys beside the store, relative to this file's folder. A stored key with a name or a hash of the
    /// file's does not count. Default: none.
    pub file: Option<PathBuf>,
    /// The folder of a copy of the keys, on a local disk: a gateway that starts while the store is away serves by it.
    /// Default: the folder `keys` in `$STATE_DIRECTORY`, which systemd sets; without that, none.
    pub folder: Option<String>,
}

/// The name of a store that keeps callers' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyStoreName {
    /// The durable store.
    Durable,
}

impl KeySource {
    /// Returns the file of keys, if there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Store(KeyRegistry { file, .. }) => file.as_deref(),
        }
    }

    /// Returns the settings of the keys in the durable store, if they are there.
    pub fn registry(&self) -> Option<&KeyRegistry> {
        match self {
            Self::File(_) => None,
            Self::Store(registry) => Some(registry),
        }
    }
}

impl<'de> Deserialize<'de> for KeySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let forms = "the file of keys, or a store such as { store: durable }";
        Ok(match short_or_block(deserializer, forms)? {
            Either::Short(path) => Self::File(path),
            Either::Block(registry) => Self::Store(registry),
        })
    }
}

/// The gateway's limits for its callers, and its timeouts. A stack in an application does not use them.
///
/// The gateway never fetches pictures and documents at web addresses for a caller, and no setting changes that. It
/// passes addresses on to providers that accept them. If a provider requires the bytes, the gateway refuses the
/// request or leaves it to another tier.
///
/// A reload applies the settings that say so. The others apply from the next start, and the log notes if a reload
/// would have changed one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// The callers' keys: a file, relative to this file's folder, or the durable store. The gateway follows their
    /// changes. `--keys` and `STEADFAST_KEYS` take precedence over the file. Default: callers need no key.
    pub keys: Option<KeySource>,
    /// Callers with a token of an identity provider, beside those with keys. Default: none.
    pub oidc: Option<Oidc>,
    /// The limits of teams by name, above those of each of their keys and of their callers by token. A reload changes
    /// them. A cap on a team's spending stands under `budgets`. Default: none.
    pub teams: BTreeMap<String, TeamLimits>,
    /// The time for which open streams may continue at shutdown. `--grace` takes precedence. A reload changes it.
    /// Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub grace: Option<Span>,
    /// The most open connections; further ones are refused with 503. Default: 20,000.
    #[schemars(extend("default" = Gateway::CONNECTIONS), range(min = 1))]
    pub connections: Option<u32>,
    /// The largest request body, up to 1 GiB; a body announced as larger is not read. A reload changes it. Default: 32
    /// MiB, like Anthropic's.
    #[schemars(extend("default" = "32MiB"))]
    pub max_body: Option<Size>,
    /// The largest request head, from 8 KiB to 1 MiB. Default: 64 KiB.
    #[schemars(extend("default" = "64KiB"))]
    pub max_head: Option<Size>,
    /// The time for a caller to send a request's head, and for a connection to idle between two requests. Default: 30
    /// s.
    #[schemars(extend("default" = "30s"))]
    pub head_timeout: Option<Span>,
    /// The time for a caller to send a request's body, plus one second for each 32 KiB of it. A reload changes it.
    /// Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub body_timeout: Option<Span>,
    /// The longest pause within a request's body. A reload changes it. Default: 10 s.
    #[schemars(extend("default" = "10s"))]
    pub body_idle_timeout: Option<Span>,
    /// The longest time that a caller may leave an answer unread before its connection is closed. Default: 60 s.
    #[schemars(extend("default" = "60s"))]
    pub unread_timeout: Option<Span>,
    /// The longest time that the caller of a stream waits without a sign of life. Until then, an error has its own
    /// status; from then on the stream has begun with status 200, and an error comes inside it. A reload changes it.
    /// Default: 10 s.
    #[schemars(extend("default" = "10s"))]
    pub first_sign: Option<Span>,
    /// The longest silence of a stream before the gateway inserts a keep-alive. A reload changes it. Default: 10 s.
    #[schemars(extend("default" = "10s"))]
    pub keep_alive: Option<Span>,
    /// Marks degraded and handed-off answers in their body as well, if a provider made them or the cache kept them:
    /// with a field `steadfast` beside their own, in a stream's first event. Whole answers that the gateway itself
    /// assembles always carry the mark. A reload changes it. Default: no, so that a provider's bytes stay unchanged
    /// and only headers say it.
    #[schemars(extend("default" = false))]
    pub mark_degraded: Option<bool>,
    /// Tells the reader of a stream that another tier answers than the first one, and where another call goes on with
    /// it: in a comment, and in a field `steadfast` of the event behind it, since SDKs pass comments over. Google's
    /// protocol and sockets have the field alone. A reload changes it. Default: no; a request may ask for it with
    /// `x-steadfast-notices: 1`.
    #[schemars(extend("default" = false))]
    pub notices: Option<bool>,
    /// The origins whose web pages may call every path and read its answers, such as `https://app.example.com` and
    /// `http://localhost:5173`. Where callers have keys, such a page needs one too. Pages of every origin may read
    /// `/status` and load `/badge.js` without it. A reload changes it; browsers remember a permission for ten minutes.
    /// Default: none.
    pub cors: Vec<String>,
    /// The protocols whose requests wait for rate limits, as far as their deadline (`timeout`) allows: if every tier
    /// fails and the first was rate limited, the request starts over once one may work again. It is for clients that
    /// never repeat a 429 by themselves, as Codex. A reload changes it. Default: `[responses]`.
    #[schemars(extend("default" = ["responses"]))]
    pub wait_for_rate_limits: Option<Vec<Protocol>>,
    /// The number of decision records kept for `GET /requests`, up to 1,000,000. Default: 1,024.
    #[schemars(extend("default" = 1024), range(min = 1, max = 1_000_000))]
    pub records: Option<u32>,
    /// The memory for all callers together: half for request bodies and whole answers, a quarter for connections and
    /// their streams (32 KiB each), a quarter for cached answers, idempotency keys and decision records. A body counts
    /// three times its bytes, for its decoded form, and an answer twice. The gateway refuses a request that exceeds the
    /// memory with 503 and `Retry-After`; an answer waits for its memory first. A key may use as much of it as it
    /// leaves free, and bodies over 64 KiB three quarters. The minimum is eight times `max_body`. Default: a quarter of
    /// the machine's, container's or process's memory, or the other settings' total if that is more.
    pub memory: Option<Size>,
    /// The limits of a request that is translated or counted; a larger one is refused with 413, and the message names
    /// the limit. A request forwarded to a provider of its own dialect is not decoded, so these limits do not apply. A
    /// reload changes them.
    pub limits: GatewayLimits,
}

/// The limits of a team. Replicas with one `stores.shared` count them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeamLimits {
    /// Requests per minute. Default: no limit.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens per minute, of prompts and answers together. Default: no limit.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Requests at once. Default: no limit.
    pub concurrency: Option<NonZeroU32>,
}

/// A protocol of the gateway's callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Chat Completions.
    #[serde(rename = "openai")]
    OpenAi,
    /// OpenAI's Responses.
    Responses,
    /// Google's Gemini API.
    Gemini,
}

impl From<Protocol> for Dialect {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Anthropic => Self::Anthropic,
            Protocol::OpenAi => Self::OpenAi,
            Protocol::Responses => Self::Responses,
            Protocol::Gemini => Self::Gemini,
        }
    }
}

/// The limits of a request that is decoded. The defaults are well above what today's clients send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayLimits {
    /// Messages. Default: 10,000.
    #[schemars(extend("default" = 10_000), range(min = 1))]
    pub messages: Option<u32>,
    /// Parts of all messages together: texts, pictures, tool calls, their results and the parts of these. Default:
    /// 50,000.
    #[schemars(extend("default" = 50_000), range(min = 1))]
    pub parts: Option<u32>,
    /// Tools. Default: 5,000.
    #[schemars(extend("default" = 5_000), range(min = 1))]
    pub tools: Option<u32>,
    /// Tool calls in all messages together. Default: 10,000.
    #[schemars(extend("default" = 10_000), range(min = 1))]
    pub tool_calls: Option<u32>,
    /// JSON values; each list, object, text and number counts as one. Default: 1,000,000.
    #[schemars(extend("default" = 1_000_000), range(min = 1))]
    pub nodes: Option<u32>,
    /// The maximum nesting depth of JSON, up to 120. Default: 100.
    #[schemars(extend("default" = 100), range(min = 1, max = 120))]
    pub depth: Option<u32>,
    /// JSON values of one schema that is rewritten for another provider. Default: 20,000.
    #[schemars(extend("default" = 20_000), range(min = 1))]
    pub schema_nodes: Option<u32>,
}

impl Gateway {
    /// The default of `connections`.
    const CONNECTIONS: u32 = 20_000;

    /// Returns the most open connections.
    pub(crate) fn most_connections(&self) -> usize {
        self.connections.unwrap_or(Self::CONNECTIONS) as usize
    }
}

impl GatewayLimits {
    /// Returns the limits for requests: these settings, with defaults for the rest.
    pub fn wire(&self) -> WireLimits {
        let mut limits = WireLimits::default();
        let said = [
            (self.messages, WireLimits::messages as fn(WireLimits, u32) -> WireLimits),
            (self.parts, WireLimits::parts),
            (self.tools, WireLimits::tools),
            (self.tool_calls, WireLimits::tool_calls),
            (self.nodes, WireLimits::nodes),
            (self.depth, WireLimits::depth),
            (self.schema_nodes, WireLimits::schema_nodes),
        ];
        for (most, set) in said {
            limits = most.map_or(limits, |most| set(limits, most));
        }
        limits
    }
}
