//! `steadfast ask`: one prompt through the stack.

mod record;

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use steadfast::{Chat, Dialect, LlmError, LlmRequest, LlmResponse, StreamEvent, Wire, chat::Message};
use steadfast_stack::{Config, Format, Span, Stack, TierInfo};
use tower::ServiceExt as _;

use crate::{
    Failure,
    exit::say,
    terminal::{self, printable},
};

/// The stack without a configuration: it needs no key and no network.
const SIMULATED: &str = "\
tiers:
  - { name: primary, provider: simulated, model: simulated-large }
  - { name: backup, provider: simulated, model: simulated-small }
";

/// Answer one prompt through the stack, streamed to the terminal
#[derive(Args)]
pub(crate) struct Ask {
    /// The prompt; `-` reads it from standard input
    prompt: String,
    /// The configuration: YAML, TOML or JSON [default: simulated providers]
    #[arg(long, short, env = "STEADFAST_CONFIG")]
    config: Option<PathBuf>,
    /// The feature whose limits and tiers apply
    #[arg(long, short)]
    feature: Option<String>,
    /// A system prompt
    #[arg(long)]
    system: Option<String>,
    /// The longest answer, in tokens
    #[arg(long)]
    max_tokens: Option<u32>,
    /// Ask as a client of this protocol does, so that a tier of it gets the request as it is
    #[arg(long, value_enum)]
    dialect: Option<AskDialect>,
    /// The longest time to the first token, such as 20s
    #[arg(long, value_parser = span)]
    timeout: Option<Duration>,
    /// Print the attempts and their reasons afterwards
    #[arg(long)]
    explain: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The protocol of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AskDialect {
    /// Anthropic's Messages
    Anthropic,
    /// OpenAI's Chat Completions
    #[value(name = "openai")]
    OpenAi,
    /// OpenAI's Responses
    Responses,
    /// Google's Gemini API
    Gemini,
}

impl AskDialect {
    /// Returns a prompt as a client of the protocol sends it. The tier names the model.
    fn request(self, prompt: String, chat: &Chat) -> Result<LlmRequest, LlmError> {
        let (system, tokens) = (chat.system.as_deref(), chat.max_tokens);
        let user = json!({"role": "user", "content": prompt});
        let (dialect, fields) = match self {
            // Anthropic requires a limit.
            Self::Anthropic => {
                let tokens = tokens.unwrap_or(4096);
                (Dialect::Anthropic, json!({"max_tokens": tokens, "system": system, "messages": [user]}))
            }
            Self::OpenAi => {
                let system = system.map(|system| json!({"role": "system", "content": system}));
                let messages: Vec<Value> = system.into_iter().chain([user]).collect();
                (Dialect::OpenAi, json!({"max_completion_tokens": tokens, "messages": messages}))
            }
            Self::Responses => {
                let fields = json!({"max_output_tokens": tokens, "instructions": system, "input": prompt});
                (Dialect::Responses, fields)
            }
            Self::Gemini => {
                let config = tokens.map(|tokens| json!({"maxOutputTokens": tokens}));
                let system = system.map(|system| json!({"parts": [{"text": system}]}));
                let user = json!({"role": "user", "parts": [{"text": prompt}]});
                let fields = json!({"systemInstruction": system, "generationConfig": config, "contents": [user]});
                (Dialect::Gemini, fields)
            }
        };
        // Gemini's paths say whether to stream.
        let mut body = if self == Self::Gemini { json!({}) } else { json!({ "stream": chat.stream }) };
        for (name, value) in fields.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            body[name] = value.clone();
        }
        Ok(LlmRequest::from(Wire::new(dialect, body.to_string())?).with_stream(chat.stream))
    }
}

fn span(text: &str) -> Result<Duration, String> {
    text.parse::<Span>().map(|span| span.0).map_err(|error| error.to_string())
}

impl Ask {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let stack = match &self.config {
            Some(path) => Stack::from_path(path)?,
            None => {
                if !self.json && io::stderr().is_terminal() {
                    say(format_args!("no --config: simulated providers answer\n"));
                }
                Stack::from_config(Config::from_str(SIMULATED, Format::Yaml)?)?
            }
        };
        let request = self.request()?;
        let answered = stack.service().oneshot(request).await;
        if self.json {
            self.print_json(answered, &stack.handle().tiers()).await
        } else {
            self.print_text(answered).await
        }
    }

    fn request(&self) -> Result<LlmRequest, Failure> {
        let mut prompt = self.prompt.clone();
        if prompt == "-" {
            prompt.clear();
            io::stdin()
                .read_to_string(&mut prompt)
                .map_err(|error| Failure::usage(format_args!("cannot read the prompt: {error}")))?;
        }
        if prompt.trim().is_empty() {
            return Err(Failure::usage("the prompt is empty"));
        }
        let mut chat = Chat::new([Message::user(prompt.clone())]).stream(!self.json);
        chat.system = self.system.clone();
        chat.max_tokens = self.max_tokens;
        let mut request = match self.dialect {
            Some(dialect) => dialect.request(prompt, &chat)?,
            None => LlmRequest::from(chat),
        };
        if let Some(feature) = &self.feature {
            request = request.with_feature(feature.as_str());
        }
        if let Some(timeout) = self.timeout {
            request = request.with_timeout(timeout);
        }
        if self.explain {
            request = request.explain();
        }
        Ok(request)
    }

    /// Prints the answer as it arrives, and the explanation to standard error.
    async fn print_text(&self, answered: Result<LlmResponse, LlmError>) -> Result<(), Failure> {
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                if self.explain {
                    say(format_args!("{}", printable(&record::text(error.attempts()))));
                }
                return Err(error.into());
            }
        };
        let mut out = io::stdout().lock();
        let terminal = out.is_terminal();
        let mut broken = None;
        while let Some(frame) = response.body_mut().frame().await {
            match frame {
                Ok(frame) => {
                    for event in frame.events() {
                        match event {
                            StreamEvent::Text { text, .. } | StreamEvent::Refusal { text, .. } => {
                                out.write_all(if terminal { printable(text) } else { text.into() }.as_bytes())?;
                            }
                            // Printed text cannot be taken back, so a mark shows where the answer restarts.
                            StreamEvent::Restarted { .. } => writeln!(out, "\n[the answer broke; restarted:]")?,
                            _ => {}
                        }
                    }
                    out.flush()?;
                }
                Err(error) => broken = Some(error),
            }
        }
        writeln!(out)?;
        drop(out);
        if self.explain {
            let (steps, summary) = (record::text(response.attempts()), record::summary(&response));
            say(format_args!("{}{}\n", printable(&steps), printable(&summary)));
        }
        match broken {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Prints one object, for an answer or a failure.
    async fn print_json(&self, answered: Result<LlmResponse, LlmError>, tiers: &[TierInfo]) -> Result<(), Failure> {
        let mut object = json!({});
        let failed = match answered {
            Ok(response) => {
                record::served(&mut object, &response, tiers, self.explain);
                response.collect().await.map(|message| record::answer(&mut object, &message)).err()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = &failed {
            record::failed(&mut object, error, tiers, self.explain);
        }
        io::stdout().write_all(terminal::json(&object).as_bytes())?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}
