//! `steadfast check`: what is wrong with a configuration, and what it would do.

mod live;

use std::{io::Write as _, path::PathBuf};

use clap::Args;
use steadfast::config::{Config, Environment, Tier};

use crate::{Failure, table::Table};

/// Checks a configuration and says what it would do.
#[derive(Args)]
pub(crate) struct Check {
    /// The configuration: YAML, TOML or JSON, a Claude-Code-style settings.json, or a list of providers
    file: PathBuf,
    /// Make one tiny call to each provider: is the key there, is it reachable, does the model exist, how fast is it
    #[arg(long)]
    live: bool,
}

impl Check {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = Config::from_path(&self.file)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}: {} tiers, no mistake found\n", self.file.display(), config.tiers.len())?;
        let environment = Environment::process();
        let mut tiers = Table::new(["tier", "provider", "model", "key"]);
        for tier in &config.tiers {
            tiers.row([
                tier.name.clone(),
                tier.provider.name().to_owned(),
                tier.model.clone().unwrap_or_else(|| "-".to_owned()),
                key(tier, &environment),
            ]);
        }
        writeln!(out, "{tiers}\n{}", config.explain())?;
        let models = config.explain_models();
        if !models.is_empty() {
            writeln!(out, "What the models take, by which requests are translated:\n\n{models}")?;
        }
        if self.live {
            let checked = live::check(&config).await;
            writeln!(out, "\n{}", live::table(&checked))?;
            let failed = checked.iter().filter(|tier| !tier.works()).count();
            if failed > 0 {
                let message = format!("{failed} of {} tiers did not answer", checked.len());
                return Err(Failure::Models(message));
            }
        }
        Ok(())
    }
}

/// Where a tier's key is, and whether it is there; never the key.
fn key(tier: &Tier, environment: &Environment) -> String {
    let variables = tier.key_variables();
    let set = |name: &&&str| environment.get(name).is_some_and(|value| !value.trim().is_empty());
    match (variables.iter().find(set), variables.as_slice()) {
        (_, []) => "none needed".to_owned(),
        (Some(name), _) => format!("{name}, set"),
        (None, names) => format!("{}, NOT SET", names.join(" or ")),
    }
}
