//! Names of OpenTelemetry's conventions.

/// Returns the conventions' name of a provider, where it differs from this crate's.
pub(super) fn provider(ours: &str) -> Option<&'static str> {
    Some(match ours {
        "gemini" => "gcp.gemini",
        "vertex" => "gcp.vertex_ai",
        "mistral" => "mistral_ai",
        "azure" => "azure.ai.openai",
        "bedrock" => "aws.bedrock",
        "xai" => "x_ai",
        "moonshot" => "moonshot_ai",
        _ => return None,
    })
}
