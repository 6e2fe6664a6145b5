//! `steadfast check`: the mistakes and the effects of a configuration.

mod live;

use std::{io::Write as _, path::PathBuf};

use clap::Args;
use steadfast::providers::servers::KnownServer;
use steadfast_gateway::{check_keys, check_self_calls, listen_address};
use steadfast_stack::{Config, Deployment, Environment, Loader, MissingKey, Stack, Tier, TierDoor};

use crate::{Failure, table::Table, terminal::on_a_line};

/// Checks a configuration and explains its effects
///
/// Exit code: 0; 1 if --live finds a tier that does not answer; 2 if a file is wrong (the configuration's, or that of
/// the callers' keys), or if `serve` would refuse to start because a key is not set.
#[derive(Args)]
pub(crate) struct Check {
    /// The configuration: YAML, TOML or JSON, a Claude-Code-style settings.json, or a list of providers
    file: PathBuf,
    /// Make one tiny call to each provider to check its key, its model and its latency
    #[arg(long)]
    live: bool,
    /// Check the files alone, without the providers' keys
    #[arg(long, conflicts_with = "live")]
    offline: bool,
    /// The file of the callers' keys, checked too [default: the configuration's]
    #[arg(long, value_name = "FILE", env = "STEADFAST_KEYS")]
    keys: Option<PathBuf>,
}

impl Check {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let loader = if self.offline { Loader::new().without_secrets() } else { Loader::new() };
        let config = loader.path(&self.file)?;
        let environment = Environment::process();
        let problem = self.problem(&config, &environment).err();
        let mut out = std::io::stdout().lock();
        let found = match &problem {
            None => "no mistake found",
            // The last lines say it: the error alone is on standard error.
            Some(_) => "and a mistake, which the last lines say",
        };
        writeln!(out, "{}: {} tiers, {found}\n", self.file.display(), config.tiers.len())?;
        let missing = config.missing_keys(&environment);
        let mut tiers = Table::new(["tier", "provider", "model", "server", "key"]);
        for tier in config.tiers.iter().flat_map(Tier::endpoints) {
            tiers.row([
                tier.name.clone(),
                tier.provider.name().to_owned(),
                tier.model.clone().unwrap_or_else(|| "-".to_owned()),
                server(&tier, &environment),
                key(&tier, &environment, &missing),
            ]);
        }
        writeln!(out, "{tiers}")?;
        if config.tiers.iter().any(|tier| tier.deployments.is_some()) {
            writeln!(out, "{}", deployments(&config))?;
        }
        if config.has_doors() {
            writeln!(out, "{}", doors(&config, &environment))?;
        }
        writeln!(out, "{}", config.explain())?;
        let models = config.explain_models();
        if !models.is_empty() {
            writeln!(out, "What the models take, by which requests are translated:\n\n{models}")?;
        }
        let checked = if self.live { Some(live::check(&config).await) } else { None };
        if let Some(checked) = &checked {
            writeln!(out, "\n{}", live::table(checked))?;
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
        if let Some(checked) = checked {
            let failed = checked.iter().filter(|tier| !tier.works()).count();
            if failed > 0 {
                let message = format!("{failed} of {} tiers did not answer", checked.len());
                return Err(Failure::Models(message));
            }
        }
        Ok(())
    }

    /// Checks what `serve` needs beside a right file: the callers' keys, and what the environment has.
    ///
    /// # Errors
    ///
    /// The error with which `serve` would end; or a name in the keys that `serve` would warn of.
    fn problem(&self, config: &Config, environment: &Environment) -> Result<(), Failure> {
        let budgets = check_keys(&self.file, config, self.keys.as_deref())?;
        if self.offline {
            return Ok(());
        }
        if let Err(error) = Stack::builder().check_with_budgets(config, &budgets) {
            let hint = "`steadfast check --offline` checks a file without its keys";
            return Err(Failure::Config(format!("{error}\n\n{hint}")));
        }
        Ok(check_self_calls(config, environment, listen_address(config))?)
    }
}

/// Returns a table of the doors: the cloud of each tier, the model's id there, and the source of the credentials.
fn doors(config: &Config, environment: &Environment) -> Table {
    let mut table = Table::new(["tier", "door", "id", "the same model as", "credential"]);
    for TierDoor { tier, door, id, model, credential, .. } in config.doors(environment) {
        let model = model.unwrap_or_else(|| "not known".to_owned());
        table.row([tier, door, id, model, on_a_line(&credential)]);
    }
    table
}

/// Returns a table of how the load of each tier would spread over its deployments, while all of them serve.
fn deployments(config: &Config) -> Table {
    let mut table =
        Table::new(["deployment", "of the requests", "zone", "requests a minute", "tokens a minute", "in flight"]);
    for tier in &config.tiers {
        let list = tier.deployments.as_deref().unwrap_or_default();
        let weight = |own: &Deployment| own.weight.unwrap_or(1.0);
        let whole: f64 = list.iter().map(weight).sum();
        for (own, name) in list.iter().zip(tier.deployment_names()) {
            let limit = |limit: Option<u64>| limit.map_or_else(|| "as its answers say".to_owned(), |it| it.to_string());
            table.row([
                format!("{}/{}", tier.name, on_a_line(&name)),
                format!("{:.1} %", 100.0 * weight(own) / whole),
                own.zone.as_deref().map_or_else(|| "-".to_owned(), on_a_line),
                limit(own.requests_per_minute),
                limit(own.tokens_per_minute),
                own.max_in_flight.map_or_else(|| "any number".to_owned(), |most| most.to_string()),
            ]);
        }
    }
    table
}

/// Returns the server of a tier's requests, and the variable that sets it if the file does not.
fn server(tier: &Tier, environment: &Environment) -> String {
    let own = || match tier.at {
        Some(at) => at.name().to_owned(),
        None => tier.provider.host().unwrap_or("-").to_owned(),
    };
    tier.server(environment).map_or_else(own, |server| {
        // Some URLs have a key in the query or before the host.
        let url = server.url.split(['?', '#']).next().unwrap_or_default();
        let url = if url.contains('@') { "not shown".to_owned() } else { on_a_line(url) };
        match server.variable {
            Some(variable) => format!("{url} ({variable})"),
            None => url,
        }
    })
}

/// Returns the source of a tier's key, and whether it is set; never the key.
fn key(tier: &Tier, environment: &Environment, missing: &[MissingKey]) -> String {
    if tier.at.is_some() && tier.api_key.is_none() {
        return "a credential, below".to_owned();
    }
    let variables = tier.key_variables();
    let set = |name: &&&str| environment.get(name).is_some_and(|value| !value.trim().is_empty());
    let is_missing = missing.iter().any(|key| key.tier.as_ref() == Some(&tier.name));
    match (variables.iter().find(set), variables.as_slice(), tier.provider.host()) {
        (_, [], Some(own)) => {
            let server = tier.base_url.as_deref().and_then(KnownServer::at);
            let usual = server.and_then(|server| server.key_variables.first()).map(|name| format!(": ${{{name}}}"));
            format!("none sent: the server is not {own}; `api_key{}` names one", usual.unwrap_or_default())
        }
        (_, [], None) => "none needed".to_owned(),
        (Some(name), ..) if environment.get(name).is_some_and(in_quotes) => format!("{name}, set, IN QUOTES"),
        (Some(name), ..) => format!("{name}, set"),
        (None, names, _) if is_missing => format!("{}, NOT SET", names.join(" or ")),
        (None, names, _) => format!("{}, not set: none is sent", names.join(" or ")),
    }
}

/// Returns whether a value has quotes of its own: a file of variables without a shell keeps them, and providers refuse
/// the key.
fn in_quotes(value: impl AsRef<str>) -> bool {
    let value = value.as_ref().trim();
    ['"', '\''].into_iter().any(|quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote))
}
