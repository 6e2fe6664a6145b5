//! Agents of the command line, as they are: a process for each call, with its own repeats.
//!
//! `STEADFAST_CLAUDE_CODE` and `STEADFAST_CODEX` name the programs; one that is not named does not take part. They have
//! no account, and ask nobody but the provider.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    process::Command,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Begun, Client, Extent, Following,
    common::Folder,
    plan::{Call, FIRST, Outcome},
    provider::SAID,
    situations::Situation,
    world::{Dialect, World},
};

/// An agent's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ClaudeCode,
    Codex,
}

/// An agent.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    kind: Kind,
    program: PathBuf,
}

/// The time of a first call, on a machine that is busy.
const FIRST_CALL: Duration = Duration::from_secs(60);

impl Agent {
    /// Returns the agents that are there.
    pub(crate) fn all() -> Vec<Self> {
        [(Kind::ClaudeCode, "STEADFAST_CLAUDE_CODE"), (Kind::Codex, "STEADFAST_CODEX")]
            .into_iter()
            .filter_map(|(kind, name)| Some(Self { kind, program: std::env::var_os(name)?.into() }))
            .collect()
    }

    /// Takes a turn; returns the agent's words where it does not end with the provider's.
    async fn turn(&self, target: &str, prompt: &str) -> Result<(), String> {
        let (home, work) = (Folder::new("agent-home"), Folder::new("agent-work"));
        let mut command = Command::new(&self.program);
        command
            .current_dir(work.path(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path(""))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        match self.kind {
            Kind::ClaudeCode => command
                .args(["--print", prompt, "--model", "claude-sonnet-4-5"])
                .env("ANTHROPIC_BASE_URL", target)
                .env("ANTHROPIC_API_KEY", "sk-of-the-caller")
                .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            Kind::Codex => {
                let provider = format!(
                    "model = \"gpt-5.5\"\nmodel_provider = \"provider\"\ncheck_for_update_on_startup = false\n\
                     [analytics]\nenabled = false\n[model_providers.provider]\nname = \"provider\"\n\
                     base_url = \"{target}/v1\"\nwire_api = \"responses\"\nenv_key = \"PROVIDER_KEY\"\n"
                );
                home.file("config.toml", &provider);
                command
                    .args([
                        "exec",
                        "--json",
                        "--skip-git-repo-check",
                        "--dangerously-bypass-approvals-and-sandbox",
                        prompt,
                    ])
                    .env("CODEX_HOME", home.path(""))
                    .env("PROVIDER_KEY", "sk-of-the-caller")
            }
        };
        let output = command.output().await.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        match output.status.success() && said.contains(SAID) {
            true => Ok(()),
            false => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)).trim().to_owned()),
        }
    }
}

impl Client for Agent {
    fn name(&self) -> String {
        match self.kind {
            Kind::ClaudeCode => "claude code".to_owned(),
            Kind::Codex => "codex".to_owned(),
        }
    }

    fn dialect(&self) -> Dialect {
        match self.kind {
            Kind::ClaudeCode => Dialect::Anthropic,
            Kind::Codex => Dialect::Openai,
        }
    }

    fn takes(&self, situation: &Situation, extent: Extent) -> bool {
        situation.is_for_agents && (!situation.is_long || extent == Extent::All)
    }

    fn follow<'a>(&'a self, world: &'a Arc<World>, situation: &'a Situation, begun: Begun) -> Following<'a> {
        Box::pin(async move {
            let first = timeout(FIRST_CALL, self.turn(&world.target, "hello")).await;
            let first = first.unwrap_or_else(|_| Err("it takes too long".to_owned()));
            begun();
            let calls = &situation.plan.calls;
            if let Err(error) = first {
                let error = format!("{FIRST} {error}");
                return vec![Outcome { served: false, seconds: 0.0, error }; calls.len()];
            }
            let mut turns = JoinSet::new();
            for (number, Call { at, prompt }) in calls.iter().cloned().enumerate() {
                let (agent, target, patience) = (self.clone(), world.target.clone(), situation.plan.patience());
                turns.spawn(async move {
                    sleep(Duration::from_secs_f64(at)).await;
                    let begun = Instant::now();
                    let turn = timeout(patience, agent.turn(&target, &prompt)).await;
                    let turn = turn.unwrap_or_else(|_| Err("the caller waits no longer".to_owned()));
                    let error = turn.as_ref().err().cloned().unwrap_or_default();
                    (number, Outcome { served: turn.is_ok(), seconds: begun.elapsed().as_secs_f64(), error })
                });
            }
            let mut outcomes = turns.join_all().await;
            outcomes.sort_by_key(|(number, _)| *number);
            outcomes.into_iter().map(|(_, outcome)| outcome).collect()
        })
    }
}
