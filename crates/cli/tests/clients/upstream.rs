//! The protocols of simulated providers behind the gateway.

use std::fmt;

use steadfast_simulator::SimulatedServer;

/// The protocol of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Responses,
    Messages,
    Chat,
    Gemini,
}

impl Upstream {
    pub(crate) const ALL: [Self; 4] = [Self::Responses, Self::Messages, Self::Chat, Self::Gemini];

    /// Returns a deployment of a tier at a server, with a name of the model of its own.
    pub(crate) fn deployment(self, name: &str, server: &SimulatedServer, model: &str, more: &str) -> String {
        let url = server.base_url();
        let path = if matches!(self, Self::Responses | Self::Chat) { "/v1" } else { "" };
        format!("{{ name: {name}, base_url: '{url}{path}', model: {model}{more} }}")
    }

    /// Returns the lines of a tier in the file. `more` are further settings, with a comma before each.
    pub(crate) fn tier(self, name: &str, server: &SimulatedServer, model: &str, more: &str) -> String {
        let url = server.base_url();
        let provider = match self {
            Self::Responses => format!("provider: openai, api: responses, base_url: '{url}/v1'"),
            Self::Chat => format!("provider: openai, api: chat, base_url: '{url}/v1'"),
            Self::Messages => format!("provider: anthropic, base_url: '{url}'"),
            Self::Gemini => format!("provider: gemini, base_url: '{url}'"),
        };
        format!("  - {{ name: {name}, {provider}, model: {model}{more} }}\n")
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Chat => "chat",
            Self::Gemini => "gemini",
        })
    }
}
