//! A configuration's alerts, checked.

use std::{collections::BTreeMap, sync::Arc};

use super::context::StackContext;
use crate::{self as config, ConfigError, Environment, Problem, WebhookFormat, WebhookTemplate};
use steadfast::InvalidConfig;
use steadfast_subscribers::alerts::{Origin, Rules, Severity, Template, Webhook};

/// A configuration's alerts, with their secrets resolved.
pub(crate) struct AlertPlan {
    pub(crate) rules: Rules,
    pub(crate) origin: Origin,
    pub(crate) webhooks: Vec<WebhookPlan>,
}

/// A webhook of the file.
pub(crate) struct WebhookPlan {
    /// The settings that it was built from: a reload keeps the active webhook if they are unchanged.
    settings: config::Webhook,
    template: Option<Template>,
    authorization: Option<Arc<str>>,
    pub(crate) webhook: Webhook,
}

impl AlertPlan {
    /// Builds the plan, and adds its errors to the problems.
    pub(crate) fn new(
        config: &config::Config,
        context: &StackContext,
        environment: &Environment,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let settings = &config.alerts;
        if let Some(problem) = settings.source_problem() {
            problems.push(InvalidConfig::new("alerts.source", problem).into());
        }
        let instance = context.instance(config.listen, environment);
        let origin = match &settings.source {
            Some(source) => Origin::new(source.as_str(), instance),
            None => Origin::of(instance),
        };
        let rules = Rules::try_from(&settings.rules).unwrap_or_else(|error| {
            let field = format!("alerts.rules.{}", error.field());
            problems.push(InvalidConfig::new(field, error.problem().to_owned()).into());
            Rules::none()
        });
        let (mut webhooks, templates) = (Vec::new(), &settings.templates);
        for (place, settings) in settings.webhooks.iter().enumerate() {
            match WebhookPlan::new(settings, place, templates, context, environment) {
                Ok(plan) => webhooks.push(plan),
                Err(error) => problems.extend_from_slice(error.problems()),
            }
        }
        Self { rules, origin, webhooks }
    }
}

impl WebhookPlan {
    fn new(
        settings: &config::Webhook,
        place: usize,
        templates: &BTreeMap<String, WebhookTemplate>,
        context: &StackContext,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let name = format!("alerts.webhooks.{place}");
        let wrong = |field: &str, error: &InvalidConfig| {
            InvalidConfig::new(format!("{name}.{field}"), error.problem().to_owned())
        };
        let template = match &settings.template {
            None => None,
            Some(named) => {
                let missing = || InvalidConfig::new("template", format!("no template is named `{named}`"));
                let body = templates.get(named).ok_or_else(missing).map(|template| template.body().clone());
                Some(body.and_then(Template::new).map_err(|error| wrong("template", &error))?)
            }
        };
        let webhook = match (&template, settings.format.unwrap_or_default()) {
            (Some(template), _) => Webhook::template(&settings.url, template.clone()),
            (None, WebhookFormat::Slack) => Webhook::slack(&settings.url),
            (None, WebhookFormat::Json) => Webhook::json(&settings.url),
        };
        let mut webhook = webhook.map_err(|error| wrong("url", &error))?.transport(context.transport());
        if let Some(severities) = &settings.severities {
            webhook = webhook.severities(severities.iter().copied().map(Severity::from));
        }
        webhook = webhook.resolved(settings.resolved.unwrap_or(true));
        let authorization = match &settings.authorization {
            None => None,
            Some(key) => Some(secret(&format!("{name}.authorization"), key.name(), environment)?),
        };
        if let Some(value) = &authorization {
            webhook = webhook.authorization(value).map_err(|error| wrong("authorization", &error))?;
        }
        if let Some(seed) = context.seed(&name) {
            webhook = webhook.seed(seed);
        }
        Ok(Self { settings: settings.clone(), template, authorization, webhook })
    }

    /// Returns whether a webhook of one may serve in place of a webhook of the other.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.settings == other.settings && self.template == other.template && self.authorization == other.authorization
    }
}

/// Returns the secret of this field from the environment.
fn secret(field: &str, variable: &str, environment: &Environment) -> Result<Arc<str>, ConfigError> {
    let missing = || ConfigError::new(vec![Problem::not_set(field, &[variable], "")]);
    environment.secret(variable).map(Into::into).ok_or_else(missing)
}
