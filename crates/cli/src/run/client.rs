//! The clients, and the variables and arguments by which each finds a gateway.

use std::{ffi::OsStr, path::Path, process::Command};

use serde_json::{Value, json};

/// A gateway, as a client is told of it.
pub(super) struct Address<'a> {
    /// The URL, without a slash at its end.
    pub(super) url: &'a str,
    /// The caller's key; `None` where the gateway has no keys.
    pub(super) key: Option<&'a str>,
    /// True if the gateway is on this machine, where no proxy leads.
    pub(super) is_local: bool,
}

/// A program that calls models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    ClaudeCode,
    Codex,
    GeminiCli,
    OpenCode,
    Aider,
    /// Any other, which may use any vendor's SDK.
    Other,
}

/// The value of a variable.
#[derive(Clone, Copy)]
enum Setting {
    Url,
    UrlWithVersion,
    Key,
    /// The variable is taken out: it would lead elsewhere.
    Nothing,
}

use Setting::{Key, Nothing, Url, UrlWithVersion};

/// The variables of Claude Code. A token asks for no login and no confirmation; a key beside it is a conflict.
const CLAUDE_CODE: &[(&str, Setting)] = &[
    ("ANTHROPIC_BASE_URL", Url),
    ("ANTHROPIC_AUTH_TOKEN", Key),
    ("ANTHROPIC_API_KEY", Nothing),
    ("CLAUDE_CODE_USE_BEDROCK", Nothing),
    ("CLAUDE_CODE_USE_VERTEX", Nothing),
    ("CLAUDE_CODE_USE_FOUNDRY", Nothing),
];

/// The variables of Anthropic's SDKs, and of LiteLLM.
const ANTHROPIC: &[(&str, Setting)] = &[
    ("ANTHROPIC_BASE_URL", Url),
    ("ANTHROPIC_API_BASE", Url),
    ("ANTHROPIC_API_KEY", Key),
    ("ANTHROPIC_AUTH_TOKEN", Nothing),
];

/// The variables of OpenAI's SDKs, and the older one that LiteLLM and many programs read.
const OPENAI: &[(&str, Setting)] =
    &[("OPENAI_BASE_URL", UrlWithVersion), ("OPENAI_API_BASE", UrlWithVersion), ("OPENAI_API_KEY", Key)];

/// The variables of Gemini CLI and Google's SDKs. `GOOGLE_API_KEY` takes precedence there.
const GEMINI: &[(&str, Setting)] = &[
    ("GOOGLE_GEMINI_BASE_URL", Url),
    ("GEMINI_API_KEY", Key),
    ("GOOGLE_API_KEY", Nothing),
    ("GOOGLE_GENAI_USE_VERTEXAI", Nothing),
    ("GOOGLE_GENAI_USE_GCA", Nothing),
];

/// The key for gateways without keys: clients ask for a login without one.
const NO_KEY: &str = "none-needed";
/// The variable of Codex's key.
const CODEX_KEY: &str = "STEADFAST_KEY";
/// The variable of settings that OpenCode puts above its files.
const OPEN_CODE: &str = "OPENCODE_CONFIG_CONTENT";
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

impl Client {
    /// Returns the client of this program, by its file's name.
    pub(super) fn of(program: &OsStr) -> Self {
        match Path::new(program).file_stem().and_then(OsStr::to_str) {
            Some("claude") => Self::ClaudeCode,
            Some("codex") => Self::Codex,
            Some("gemini") => Self::GeminiCli,
            Some("opencode") => Self::OpenCode,
            Some("aider") => Self::Aider,
            _ => Self::Other,
        }
    }

    /// Returns the command that installs it.
    pub(super) fn installation(self) -> Option<&'static str> {
        match self {
            Self::ClaudeCode => Some("npm install -g @anthropic-ai/claude-code"),
            Self::Codex => Some("npm install -g @openai/codex"),
            Self::GeminiCli => Some("npm install -g @google/gemini-cli"),
            Self::OpenCode => Some("npm install -g opencode-ai"),
            Self::Aider => Some("pip install aider-chat"),
            Self::Other => None,
        }
    }

    /// Returns the advice to who has seen it fail without a request.
    pub(super) fn advice(self) -> Option<&'static str> {
        (self == Self::GeminiCli)
            .then_some("Gemini CLI calls a gateway once its sign-in is the API key: `/auth`, \"Use Gemini API key\"")
    }

    /// Sets the variables and the first arguments of its command.
    pub(super) fn lead(self, command: &mut Command, to: &Address<'_>) {
        for (name, setting) in self.variables().iter().copied().flatten() {
            match setting {
                Url => command.env(name, to.url),
                UrlWithVersion => command.env(name, format!("{}/v1", to.url)),
                Key => command.env(name, to.key.unwrap_or(NO_KEY)),
                Nothing => command.env_remove(name),
            };
        }
        match self {
            Self::Codex => {
                let key = to.key.map(|_| format!(", env_key = \"{CODEX_KEY}\"")).unwrap_or_default();
                let provider = format!(
                    "model_providers.steadfast={{ name = \"steadfast\", base_url = \"{}/v1\", wire_api = \"responses\"{key} }}",
                    to.url
                );
                command.args(["-c", "model_provider=\"steadfast\"", "-c", &provider]);
                command.envs(to.key.map(|key| (CODEX_KEY, key)));
            }
            Self::OpenCode => {
                let before = std::env::var(OPEN_CODE).unwrap_or_default();
                command.env(OPEN_CODE, open_code(&before, to));
            }
            _ => {}
        }
        if to.is_local && PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|proxy| !proxy.is_empty())) {
            let [upper, lower] = ["NO_PROXY", "no_proxy"].map(|name| std::env::var(name).ok());
            let (upper, lower) = (upper.clone().or_else(|| lower.clone()), lower.or(upper));
            command.env("NO_PROXY", without_proxy(upper)).env("no_proxy", without_proxy(lower));
        }
    }

    fn variables(self) -> &'static [&'static [(&'static str, Setting)]] {
        match self {
            Self::ClaudeCode => &[CLAUDE_CODE],
            Self::GeminiCli => &[GEMINI],
            // Its Gemini models go to Google: LiteLLM leaves the model out of another base URL.
            Self::Aider => &[ANTHROPIC, OPENAI],
            Self::Codex | Self::OpenCode => &[],
            Self::Other => &[ANTHROPIC, OPENAI, GEMINI],
        }
    }
}

/// Returns OpenCode's settings: what was there, with the gateway as the server of three providers.
fn open_code(before: &str, to: &Address<'_>) -> String {
    let mut settings = serde_json::from_str(before).ok().filter(Value::is_object).unwrap_or_else(|| json!({}));
    for (provider, version) in [("anthropic", "v1"), ("openai", "v1"), ("google", "v1beta")] {
        for (name, value) in [("baseURL", format!("{}/{version}", to.url)), ("apiKey", to.key.unwrap_or(NO_KEY).into())]
        {
            let mut place = &mut settings;
            for field in ["provider", provider, "options"] {
                if !place[field].is_object() {
                    place[field] = json!({});
                }
                place = &mut place[field];
            }
            place[name] = value.into();
        }
    }
    settings.to_string()
}

/// Adds this machine to the hosts that are reached without a proxy.
fn without_proxy(before: Option<String>) -> String {
    const LOCAL: &str = "localhost,127.0.0.1,::1";
    match before.as_deref().map(str::trim) {
        None | Some("") => LOCAL.to_owned(),
        Some("*") => "*".to_owned(),
        Some(before) => format!("{before},{LOCAL}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_its_files_name() {
        for (program, client) in [
            ("claude", Client::ClaudeCode),
            ("/opt/bin/codex", Client::Codex),
            ("./gemini.js", Client::GeminiCli),
            ("opencode", Client::OpenCode),
            ("aider", Client::Aider),
            ("claude-code-router", Client::Other),
            ("python3", Client::Other),
            ("", Client::Other),
        ] {
            assert_eq!(Client::of(OsStr::new(program)), client, "{program}");
        }
    }

    #[test]
    fn settings_that_opencode_had_stay() {
        let to = Address { url: "http://127.0.0.1:9", key: Some("k"), is_local: true };
        for (before, model) in [
            (r#"{"model":"m","provider":{"openai":{"models":{"a":{}},"options":{"timeout":5,"baseURL":"x"}}}}"#, "m"),
            (r#"{"model":"m","provider":[]}"#, "m"),
            ("not json", ""),
            ("", ""),
        ] {
            let after: Value = serde_json::from_str(&open_code(before, &to)).unwrap();
            assert_eq!(after["model"].as_str().unwrap_or_default(), model);
            for (provider, url) in [
                ("anthropic", "http://127.0.0.1:9/v1"),
                ("openai", "http://127.0.0.1:9/v1"),
                ("google", "http://127.0.0.1:9/v1beta"),
            ] {
                let options = &after["provider"][provider]["options"];
                assert_eq!((&options["baseURL"], &options["apiKey"]), (&json!(url), &json!("k")));
            }
            assert_eq!(after["provider"]["openai"]["options"]["timeout"].is_null(), !before.contains("timeout"));
        }
    }

    #[test]
    fn this_machine_joins_the_hosts_without_a_proxy() {
        let is = |before: Option<&str>| without_proxy(before.map(str::to_owned));
        assert_eq!(is(None), is(Some(" ")));
        assert_eq!(is(Some("a.test")), "a.test,localhost,127.0.0.1,::1");
        assert_eq!(is(Some("*")), "*");
    }
}
