//! The written table of the parts of a request that a door does not take.
//!
//! Sources, read in November 2026:
//!
//! - AWS: "Anthropic Claude Messages API" in the user guide of Amazon Bedrock, which lists the values of
//!   `anthropic_beta`; the list of fields of `InvokeModel` there; coder/aibridge #221 and #226 for the fields that
//!   Bedrock refuses.
//! - Google: "Request predictions with Claude models" of Vertex AI; anthropics/claude-code #12429 and #34802,
//!   vercel/ai #10981 and BerriAI/litellm #19984 for values that it refuses.
//! - Microsoft: "Deploy and use Claude models in Microsoft Foundry".
//! - Anthropic: "Claude on cloud platforms" and the page of each feature, for the places that have it. "Prompt caching"
//!   says that the top-level `cache_control` is not at Bedrock and Vertex AI (UKGovernmentBEIS/inspect_ai #3851);
//!   "Tool search tool" has the name of its beta there.
//!
//! A value of `anthropic-beta` that the table does not have is left out at AWS and Google, which refuse a request for
//! one value that they do not know. Foundry gets every value but those that it is known to refuse. A value that the
//! leaf itself sends ([`HttpLeaf::header`](crate::http::HttpLeaf::header)) is the operator's choice and not
//! filtered.
//!
//! A tool that runs at the provider is left out in the same way at AWS and Google. AWS: "Input tag 'web_search_20250305'
//! found using 'type' does not match any of the expected tags: 'bash_20250124', 'custom', 'memory_20250818',
//! 'text_editor_20250124'"; Anthropic's pages "Web search tool" and "Tool search tool" name the doors that run these.

/// A door at which Claude is served, as far as it takes other parts of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaudeDoor {
    /// `InvokeModel` and Converse.
    Invoke,
    /// Native Messages of Bedrock.
    Mantle,
    Vertex,
    Foundry,
}

/// A door's answer to a value of `anthropic-beta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beta {
    Taken,
    /// The door has the feature under another name.
    Renamed(&'static str),
    Refused,
}

/// The values of `anthropic-beta` with the doors that take them: Invoke, Mantle, Vertex, Foundry.
const BETAS: &[(&str, [bool; 4])] = &[
    ("claude-code-20250219", [false, true, false, true]),
    ("compact-2026-01-12", [true, true, true, false]),
    ("compact-2026-09-04", [false, false, true, true]),
    ("computer-use-2024-10-22", [true, true, true, true]),
    ("computer-use-2025-01-24", [true, true, true, true]),
    ("computer-use-2025-11-24", [true, true, true, true]),
    ("context-1m-2025-08-07", [true, true, true, true]),
    ("context-management-2025-06-27", [true, true, true, true]),
    ("dangerous-tool-use-2026-09-03", [true, true, true, true]),
    ("dev-full-thinking-2025-05-14", [true, true, false, true]),
    ("effort-2025-11-24", [true, true, false, true]),
    ("fine-grained-tool-streaming-2025-05-14", [true, true, false, false]),
    ("interleaved-thinking-2025-05-14", [true, true, true, true]),
    ("mid-conversation-output-config-2026-07-01", [true, true, false, true]),
    ("mid-conversation-tool-changes-2026-07-01", [true, true, false, true]),
    ("output-128k-2025-02-19", [true, true, false, false]),
    ("per-turn-control-2026-07-01", [false, true, true, true]),
    ("structured-outputs-2025-11-13", [false, true, false, true]),
    ("thinking-binding-controls-2026-08-01", [true, true, true, false]),
    ("thinking-display-updates-2026-08-18", [true, true, true, true]),
    ("token-efficient-tools-2025-02-19", [true, true, false, false]),
    ("tool-examples-2025-10-29", [true, true, false, true]),
    ("tool-search-tool-2025-10-19", [true, true, true, true]),
    ("web-search-2025-03-05", [false, true, true, true]),
    // Known to be refused everywhere but at Anthropic's own API.
    ("advisor-tool-2026-03-01", [false, false, false, false]),
    ("fast-mode-2026-02-01", [false, false, false, false]),
    ("oauth-2025-04-20", [false, false, false, false]),
];

/// Advanced tool use is a name for several features, of which AWS and Google have the search for tools.
const ADVANCED_TOOLS: (&str, &str) = ("advanced-tool-use-2025-11-20", "tool-search-tool-2025-10-19");

/// Returns a door's answer to a value of `anthropic-beta`.
pub(super) fn beta(door: ClaudeDoor, value: &str) -> Beta {
    if value == ADVANCED_TOOLS.0 && door != ClaudeDoor::Foundry {
        return Beta::Renamed(ADVANCED_TOOLS.1);
    }
    let row = BETAS.iter().find(|(known, _)| *known == value);
    let is_taken = row.map_or(door == ClaudeDoor::Foundry, |(_, taken)| taken[door as usize]);
    if is_taken { Beta::Taken } else { Beta::Refused }
}

/// The fields of a Messages request that some doors refuse, with those doors and the reason.
const FIELDS: &[(&str, &[ClaudeDoor], &str)] = {
    use ClaudeDoor::{Foundry, Invoke, Mantle, Vertex};
    &[
        ("cache_control", &[Invoke, Mantle, Vertex], "only Anthropic and Foundry place cache points by themselves"),
        ("service_tier", &[Invoke, Mantle, Vertex], "it names a tier of Anthropic's own capacity"),
        ("metadata", &[Invoke], "Bedrock refuses it"),
        ("mcp_servers", &[Invoke, Mantle, Vertex], "the door connects to no MCP servers"),
        ("container", &[Invoke, Mantle, Vertex], "the door runs no code"),
        ("inference_geo", &[Invoke, Mantle, Vertex, Foundry], "the door's own region decides"),
        ("fallbacks", &[Invoke, Mantle, Vertex], "the door asks no other model by itself"),
        ("fallback_credit_token", &[Invoke, Mantle, Vertex], "it is a credit at Anthropic"),
        ("billing_policy", &[Invoke, Mantle, Vertex], "the door sends its own bills"),
        ("diagnostics", &[Invoke, Mantle, Vertex], "the door explains no misses of its cache"),
        ("thread", &[Invoke, Mantle, Vertex], "the door keeps no conversation"),
        ("speed", &[Invoke, Mantle, Vertex, Foundry], "only Anthropic's own API has a fast mode"),
    ]
};

/// Returns the fields that a door refuses, with the reasons.
pub(super) fn refused_fields(door: ClaudeDoor) -> impl Iterator<Item = (&'static str, &'static str)> {
    FIELDS.iter().filter(move |(_, doors, _)| doors.contains(&door)).map(|(name, _, reason)| (*name, *reason))
}

/// The fields without which a request would be another one, with the doors that refuse them, and the names of their
/// rules with the reasons.
const NEEDED: &[(&str, &[ClaudeDoor], &str, &str)] = {
    use ClaudeDoor::{Invoke, Mantle, Vertex};
    &[
        ("thread", &[Invoke, Mantle, Vertex], "state", "the conversation's state is at another provider"),
        ("compaction", &[Invoke, Mantle], "compaction", "the door summarizes no conversation"),
    ]
};

/// Returns the fields for which a door must refuse a request, each with the name of its rule and the reason.
pub(super) fn needed_fields(door: ClaudeDoor) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let here = NEEDED.iter().filter(move |(_, doors, ..)| doors.contains(&door));
    here.map(|(name, _, rule, reason)| (*name, *rule, *reason))
}

/// A tool that Anthropic runs, and that a cloud runs too.
struct HostedTool {
    /// Its type in the list of tools.
    kind: &'static str,
    /// Its name, in a call.
    name: &'static str,
    /// The type of the block with its result.
    result: &'static str,
    doors: &'static [ClaudeDoor],
}

/// Every other one runs at Foundry alone, which runs them all.
const HOSTED: &[HostedTool] = {
    use ClaudeDoor::{Invoke, Mantle, Vertex};
    &[
        HostedTool {
            kind: "tool_search_tool_bm25_20251119",
            name: "tool_search_tool_bm25",
            result: "tool_search_tool_result",
            doors: &[Invoke, Mantle, Vertex],
        },
        HostedTool {
            kind: "tool_search_tool_regex_20251119",
            name: "tool_search_tool_regex",
            result: "tool_search_tool_result",
            doors: &[Invoke, Mantle, Vertex],
        },
        HostedTool {
            kind: "web_search_20250305",
            name: "web_search",
            result: "web_search_tool_result",
            doors: &[Vertex],
        },
    ]
};

fn hosts(door: ClaudeDoor, is: impl Fn(&HostedTool) -> bool) -> bool {
    door == ClaudeDoor::Foundry || HOSTED.iter().any(|tool| is(tool) && tool.doors.contains(&door))
}

/// Returns true if a door runs a tool of this type. Some have a name without a date too.
pub(super) fn runs(door: ClaudeDoor, kind: &str) -> bool {
    hosts(door, |tool| kind == tool.kind || kind == tool.name)
}

/// Returns true if a door takes a call of this tool in the history.
pub(super) fn takes_call(door: ClaudeDoor, name: &str) -> bool {
    hosts(door, |tool| name == tool.name)
}

/// Returns true if a door takes this block of a tool's result in the history.
pub(super) fn takes_result(door: ClaudeDoor, kind: &str) -> bool {
    hosts(door, |tool| kind == tool.result)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The refusals of the issues that the module names.
    #[test]
    fn values_that_doors_have_refused_are_left_out() {
        for (door, value) in [
            (ClaudeDoor::Vertex, "effort-2025-11-24"),
            (ClaudeDoor::Vertex, "structured-outputs-2025-11-13"),
            (ClaudeDoor::Vertex, "prompt-caching-scope-2026-01-05"),
            (ClaudeDoor::Vertex, "code-execution-2025-05-22"),
            (ClaudeDoor::Vertex, "adaptive-thinking-2026-01-28"),
            (ClaudeDoor::Invoke, "adaptive-thinking-2026-01-28"),
            (ClaudeDoor::Invoke, "prompt-caching-scope-2026-01-05"),
            (ClaudeDoor::Invoke, "claude-code-20250219"),
            (ClaudeDoor::Mantle, "files-api-2025-04-14"),
        ] {
            assert_eq!(beta(door, value), Beta::Refused, "{door:?} {value}");
        }
    }

    /// AWS's user guide names the first five, Google's documentation the sixth.
    #[test]
    fn values_that_doors_document_are_taken() {
        for value in [
            "computer-use-2025-01-24",
            "token-efficient-tools-2025-02-19",
            "interleaved-thinking-2025-05-14",
            "output-128k-2025-02-19",
            "context-management-2025-06-27",
        ] {
            assert_eq!(beta(ClaudeDoor::Invoke, value), Beta::Taken, "{value}");
        }
        assert_eq!(beta(ClaudeDoor::Vertex, "context-1m-2025-08-07"), Beta::Taken);
        assert_eq!(beta(ClaudeDoor::Foundry, "a-value-of-tomorrow-2027-01-01"), Beta::Taken);
        let renamed = Beta::Renamed("tool-search-tool-2025-10-19");
        assert_eq!(beta(ClaudeDoor::Invoke, "advanced-tool-use-2025-11-20"), renamed);
        assert_eq!(beta(ClaudeDoor::Foundry, "advanced-tool-use-2025-11-20"), Beta::Taken);
    }

    #[test]
    fn each_value_stands_in_the_table_once() {
        for (at, (value, _)) in BETAS.iter().enumerate() {
            assert!(BETAS[at + 1..].iter().all(|(other, _)| other != value), "{value}");
        }
    }
}
