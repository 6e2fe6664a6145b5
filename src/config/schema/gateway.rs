use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Size, Span};
use crate::WireLimits;

/// What the gateway allows its callers, and how long it waits for whom. A stack in an application has no use for it.
///
/// Pictures and documents at web addresses are never fetched on a caller's behalf, and there is no setting for it: they go on
/// as they are to providers that take addresses, and are refused, or left to another tier, where one wants the bytes.
///
/// A reload changes what is said so of; the rest holds from the next start on, and the log says when a reload would have
/// changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// The file with the keys of those who may call, from the folder of this file; the file of keys itself is followed.
    /// `--keys` and `STEADFAST_KEYS` are stronger. Default: nobody needs a key.
    pub keys: Option<PathBuf>,
    /// How long open streams may go on when the gateway is asked to stop. `--grace` is stronger. A reload changes it.
    /// Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub grace: Option<Span>,
    /// How many connections may be open at once; who comes after is turned away with 503. Default: 20,000.
    #[schemars(extend("default" = 20_000), range(min = 1))]
    pub connections: Option<u32>,
    /// The largest request body, up to 1 GiB: what is announced as larger is not read. A reload changes it. Default:
    /// 32 MiB, as Anthropic has it.
    #[schemars(extend("default" = "32MiB"))]
    pub max_body: Option<Size>,
    /// The largest request head, from 8 KiB to 1 MiB. Default: 64 KiB.
    #[schemars(extend("default" = "64KiB"))]
    pub max_head: Option<Size>,
    /// How long a caller may take to send a request's head, and how long a connection may idle between two requests.
    /// Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub head_timeout: Option<Span>,
    /// How long a caller may take to send a request's body, with a second more for each 32 KiB of it. A reload changes it.
    /// Default: 30 s.
    #[schemars(extend("default" = "30s"))]
    pub body_timeout: Option<Span>,
    /// The longest pause of a caller within a request's body. A reload changes it. Default: 10 s.
    #[schemars(extend("default" = "10s"))]
    pub body_idle_timeout: Option<Span>,
    /// How long a caller may leave an answer unread before its connection is closed. Default: 60 s.
    #[schemars(extend("default" = "60s"))]
    pub unread_timeout: Option<Span>,
    /// How long the caller of a stream waits without a sign of life. Until then an error has a status of its own; from then
    /// on the stream has begun with status 200, and an error comes inside it. A reload changes it. Default: 10 s.
    #[schemars(extend("default" = "10s"))]
    pub first_sign: Option<Span>,
    /// How long a stream may be silent before a keep-alive is put in. A reload changes it. Default: 10 s.
    #[schemars(extend("default" = "10s"))]
    pub keep_alive: Option<Span>,
    /// Whether answers that a provider made, or that were kept, are marked in their body too where they are less than what was asked
    /// for, or were handed to people: a field `steadfast` beside their own, in a stream in its first event. Those that are put
    /// together here always are, where they are whole. A reload changes it. Default: no, so that a provider's bytes go on as
    /// they are, and headers say it.
    #[schemars(extend("default" = false))]
    pub mark_degraded: Option<bool>,
    /// How many decision records are kept for `GET /requests`, up to 1,000,000. Default: 1,024.
    #[schemars(extend("default" = 1024), range(min = 1, max = 1_000_000))]
    pub records: Option<u32>,
    /// The memory that all callers together may take: half of it for the bodies of requests, a quarter for connections and the
    /// streams on them (32 KiB each), a quarter for kept answers, idempotency keys and decision records. A body takes three times its bytes, for
    /// what decoding makes of them. A request that finds no room is refused with 503 and `Retry-After`; a key may take as much of
    /// the room as it leaves free, and bodies over 64 KiB three quarters. It is at least eight times `max_body`. Default: a quarter of the machine's or the
    /// container's memory, or what the other settings need if that is more.
    pub memory: Option<Size>,
    /// The most that a request may hold for it to be translated or counted; who sends more is told which limit it is with
    /// 413. What is forwarded to a provider of its own dialect is not taken apart, and has none of these limits. A reload
    /// changes them.
    pub limits: GatewayLimits,
}

/// How much a request may hold for it to be taken apart. The defaults are well above what clients of today send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayLimits {
    /// Messages. Default: 10,000.
    #[schemars(extend("default" = 10_000), range(min = 1))]
    pub messages: Option<u32>,
    /// Parts of all messages together: texts, pictures, calls of tools, their results and what is in these. Default: 50,000.
    #[schemars(extend("default" = 50_000), range(min = 1))]
    pub parts: Option<u32>,
    /// Tools. Default: 5,000.
    #[schemars(extend("default" = 5_000), range(min = 1))]
    pub tools: Option<u32>,
    /// Calls of tools in all messages together. Default: 10,000.
    #[schemars(extend("default" = 10_000), range(min = 1))]
    pub tool_calls: Option<u32>,
    /// JSON values, each list, object, text and number counted as one. Default: 1,000,000.
    #[schemars(extend("default" = 1_000_000), range(min = 1))]
    pub nodes: Option<u32>,
    /// How deep JSON may be nested, up to 120. Default: 100.
    #[schemars(extend("default" = 100), range(min = 1, max = 120))]
    pub depth: Option<u32>,
    /// JSON values of one schema that must be rewritten for another provider. Default: 20,000.
    #[schemars(extend("default" = 20_000), range(min = 1))]
    pub schema_nodes: Option<u32>,
}

impl GatewayLimits {
    /// Returns the limits that requests are held to: what is said here, and the defaults for the rest.
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
