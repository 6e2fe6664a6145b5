//! The handoff of a configuration: its desk, and the tiers that hand requests to people.

use std::{fmt, sync::Arc};

use super::{context::StackContext, durable_store::DurableStore, stores::OpenStores};
use crate::{self as config, Config, ConfigError, Environment, Problem, Provider};
use steadfast::InvalidConfig;
use steadfast_handoff::{Callbacks, Desk, Handoff, Notify, TaskLimits, TaskStore, WebhookSecret};

/// A configuration's handoff settings, with the secret resolved and the addresses checked.
#[derive(Clone)]
pub(crate) struct HandoffPlan {
    settings: config::Handoff,
    secrets: Vec<Arc<str>>,
    notify: Option<Notify>,
    callbacks: Option<Callbacks>,
}

impl fmt::Debug for HandoffPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandoffPlan").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl HandoffPlan {
    /// Creates the plan; `None` if no tier hands requests over and no durable queue exists.
    ///
    /// # Errors
    ///
    /// No store outlives the process, a secret is missing, or an address is invalid.
    pub(crate) fn new(
        config: &Config,
        context: &StackContext,
        environment: &Environment,
    ) -> Result<Option<Self>, ConfigError> {
        let hands_over = config.tiers.iter().any(|tier| tier.provider == Provider::Handoff);
        let has_store = config.stores.durable.is_some() || context.tasks.is_some();
        let queues = config.queues() && has_store;
        if !hands_over && !queues {
            return Ok(None);
        }
        let mut settings = config.handoff.clone().unwrap_or_default();
        if queues {
            // Only a redrive answers queued requests.
            settings.redrive.get_or_insert_default();
        }
        // That of all hosts first.
        let secrets = settings.callbacks.iter().flat_map(|callbacks| {
            let own =
                callbacks.secrets.iter().map(|(host, secret)| (format!("handoff.callbacks.secrets.{host}"), secret));
            [("handoff.callbacks.secret".to_owned(), &callbacks.secret)].into_iter().chain(own)
        });
        let secrets = secrets.map(|(field, reference)| {
            let name = reference.name();
            let missing = || ConfigError::new(vec![Problem::not_set(&field, &[name], "")]);
            environment.secret(name).map(Arc::from).ok_or_else(missing)
        });
        let secrets = secrets.collect::<Result<Vec<Arc<str>>, ConfigError>>()?;
        if !has_store {
            let problem = "handing requests to people needs a store that outlives the process: name one with \
                           `stores: { durable: sqlite:steadfast.db }`";
            return Err(InvalidConfig::new("stores.durable", problem).into());
        }
        let notify = settings.notify.as_ref().map(notification).transpose()?;
        let callbacks = settings.callbacks.as_ref().map(|settings| outgoing(settings, &secrets)).transpose()?;
        Ok(Some(Self { settings, secrets, notify, callbacks }))
    }

    fn desk(&self, desk: Desk) -> Desk {
        let config::Handoff { wait: _, ttl, keep, limits, visibility, notify: _, callbacks: _, redrive: _ } =
            &self.settings;
        let mut desk = desk.without_settings();
        if let Some(time) = visibility {
            desk = desk.visibility(time.0);
        }
        if let Some(time) = ttl {
            desk = desk.ttl(time.0);
        }
        if let Some(time) = keep {
            desk = desk.keep(time.0);
        }
        if let Some(limits) = limits {
            desk = desk.limits(task_limits(*limits));
        }
        if let Some(notify) = &self.notify {
            desk = desk.notify(notify.clone());
        }
        match &self.callbacks {
            Some(callbacks) => desk.callbacks(callbacks.clone()),
            None => desk,
        }
    }
}

/// Returns the message that a waiting task sends to people.
fn notification(settings: &config::HandoffNotify) -> Result<Notify, InvalidConfig> {
    let config::HandoffNotify { url, preview, link } = settings;
    let notify = Notify::slack(url).map_err(at("handoff.notify.url"))?;
    let notify = notify.preview(preview.unwrap_or(true));
    Ok(match link {
        Some(link) => notify.link(link.as_str()),
        None => notify,
    })
}

/// Returns the calls that report answers to the tasks' callers.
fn outgoing(settings: &config::HandoffCallbacks, secrets: &[Arc<str>]) -> Result<Callbacks, InvalidConfig> {
    let secret_at = |at: usize, field| {
        let secret = secrets.get(at).map_or("", |secret| &**secret);
        WebhookSecret::new(secret).map_err(self::at(field))
    };
    let config::HandoffCallbacks { secret: _, url, hosts, secrets: named } = settings;
    let mut callbacks = Callbacks::new(secret_at(0, "handoff.callbacks.secret")?);
    if let Some(url) = url {
        callbacks = callbacks.url(url).map_err(at("handoff.callbacks.url"))?;
    }
    for host in hosts {
        let allowed = match named.keys().position(|named| named == host) {
            Some(place) => callbacks.host_with_secret(host, secret_at(place + 1, "handoff.callbacks.secrets")?),
            None => callbacks.host(host),
        };
        callbacks = allowed.map_err(at("handoff.callbacks.hosts"))?;
    }
    Ok(callbacks)
}

/// Returns a function that gives an error the name of its field in the file.
fn at(field: &'static str) -> impl Fn(InvalidConfig) -> InvalidConfig {
    move |error| InvalidConfig::new(field, error.problem().to_owned())
}

fn task_limits(settings: config::HandoffLimits) -> TaskLimits {
    let usual = TaskLimits::default();
    let config::HandoffLimits { tasks, bytes, tasks_per_caller, bytes_per_caller } = settings;
    let (tasks, bytes) = (tasks.unwrap_or(usual.tasks), bytes.map_or(usual.bytes, |size| size.0));
    usual
        .tasks(tasks)
        .bytes(bytes)
        .tasks_per_caller(tasks_per_caller.unwrap_or(usual.tasks_per_caller).min(tasks))
        .bytes_per_caller(bytes_per_caller.map_or(usual.bytes_per_caller, |size| size.0).min(bytes))
}

/// The handoff of an active configuration.
#[derive(Clone)]
pub(crate) struct HandoffState {
    plan: HandoffPlan,
    pub(crate) desk: Desk,
    location: TaskLocation,
}

/// The store of the tasks.
#[derive(Clone)]
enum TaskLocation {
    /// The store that the stack's builder received.
    Given(Arc<dyn TaskStore>),
    Durable(DurableStore),
}

impl TaskLocation {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Given(one), Self::Given(other)) => Arc::ptr_eq(one, other),
            (Self::Durable(one), Self::Durable(other)) => one.is(other),
            _ => false,
        }
    }

    fn store(&self) -> Arc<dyn TaskStore> {
        match self {
            Self::Given(store) => store.clone(),
            Self::Durable(durable) => durable.tasks(),
        }
    }
}

impl HandoffState {
    /// Opens the desk. Callers that wait at an earlier desk over the same store wait at this one.
    pub(crate) fn new(plan: HandoffPlan, stores: &OpenStores, context: &StackContext, before: Option<&Self>) -> Self {
        let given = context.tasks.clone().map(TaskLocation::Given);
        let location = given.or_else(|| stores.durable.clone().map(TaskLocation::Durable));
        let location = location.expect("a plan with a handoff has a store");
        let known = before.filter(|before| before.location.is(&location));
        let desk = known.map_or_else(|| Desk::over(location.store()), |known| known.desk.clone());
        let desk = plan.desk(desk.events(&context.events));
        Self { plan, desk, location }
    }

    /// Creates a tier of people, with this text until a person has answered.
    pub(crate) fn tier(&self, text: Option<&str>) -> Handoff {
        let mut leaf = Handoff::new(&self.desk);
        if let Some(wait) = self.plan.settings.wait {
            leaf = leaf.wait_up_to(wait.0);
        }
        if let Some(text) = text {
            leaf = leaf.pending_text(text);
        }
        leaf
    }

    /// Creates the leaf that stores requests queued in vain, and reports them with this text.
    pub(crate) fn queue(&self, text: &str) -> Handoff {
        Handoff::new(&self.desk).pending_text(text)
    }

    /// Returns the settings of the redrive; `None` if it waits for orders.
    pub(crate) fn redrive(&self) -> Option<config::HandoffRedrive> {
        self.plan.settings.redrive
    }
}

impl fmt::Debug for HandoffState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandoffState").field("desk", &self.desk).finish_non_exhaustive()
    }
}

/// Equal if a tier of one may serve in place of a tier of the other.
impl PartialEq for HandoffState {
    fn eq(&self, other: &Self) -> bool {
        self.location.is(&other.location)
            && (&self.plan.settings, &self.plan.secrets) == (&other.plan.settings, &other.plan.secrets)
    }
}
