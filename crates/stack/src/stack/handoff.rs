//! The handoff of a configuration: its desk, the tiers that hand requests to people, and the background work.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio::{sync::Notify as Wake, task::AbortHandle, time::Instant};

use super::{
    Shared, StackContext, StackHandle, reloads,
    service::ReloadingService,
    stores::{DurableStore, OpenStores},
};
use crate::{self as config, Config, ConfigError, Environment, Problem, Provider};
use steadfast::{
    CircuitBreakerHandle, InvalidConfig,
    events::{self, CircuitState},
};
use steadfast_handoff::{
    Callbacks, Deliveries, DeliveriesHandle, Desk, Handoff, Notify, Redrive, RedriveHandle, TaskLimits, TaskStore,
    WebhookSecret,
};

/// A configuration's handoff settings, with the secret resolved and the addresses checked.
#[derive(Clone)]
pub(super) struct HandoffPlan {
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
    pub(super) fn new(
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
        let settings = &self.settings;
        let mut desk = desk.without_settings();
        if let Some(time) = settings.visibility {
            desk = desk.visibility(time.0);
        }
        if let Some(time) = settings.ttl {
            desk = desk.ttl(time.0);
        }
        if let Some(time) = settings.keep {
            desk = desk.keep(time.0);
        }
        if let Some(limits) = settings.limits {
            desk = desk.limits(task_limits(limits));
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
    let notify = Notify::slack(&settings.url).map_err(at("handoff.notify.url"))?;
    let notify = notify.preview(settings.preview.unwrap_or(true));
    Ok(match &settings.link {
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
    let mut callbacks = Callbacks::new(secret_at(0, "handoff.callbacks.secret")?);
    if let Some(url) = &settings.url {
        callbacks = callbacks.url(url).map_err(at("handoff.callbacks.url"))?;
    }
    for host in &settings.hosts {
        let allowed = match settings.secrets.keys().position(|named| named == host) {
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
    let (tasks, bytes) = (settings.tasks.unwrap_or(usual.tasks), settings.bytes.map_or(usual.bytes, |size| size.0));
    usual
        .tasks(tasks)
        .bytes(bytes)
        .tasks_per_caller(settings.tasks_per_caller.unwrap_or(usual.tasks_per_caller).min(tasks))
        .bytes_per_caller(settings.bytes_per_caller.map_or(usual.bytes_per_caller, |size| size.0).min(bytes))
}

/// The handoff of an active configuration.
#[derive(Clone)]
pub(super) struct HandoffState {
    plan: HandoffPlan,
    pub(super) desk: Desk,
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
    pub(super) fn new(plan: HandoffPlan, stores: &OpenStores, context: &StackContext, before: Option<&Self>) -> Self {
        let given = context.tasks.clone().map(TaskLocation::Given);
        let location = given.or_else(|| stores.durable.clone().map(TaskLocation::Durable));
        let location = location.expect("a plan with a handoff has a store");
        let known = before.filter(|before| before.location.is(&location));
        let desk = known.map_or_else(|| Desk::over(location.store()), |known| known.desk.clone());
        let desk = plan.desk(desk.events(&context.events));
        Self { plan, desk, location }
    }

    /// Creates a tier of people, with this text until a person has answered.
    pub(super) fn tier(&self, text: Option<&str>) -> Handoff {
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
    pub(super) fn queue(&self, text: &str) -> Handoff {
        Handoff::new(&self.desk).pending_text(text)
    }

    fn begin(&self, shared: &Arc<Shared>) -> (DeliveriesHandle, RedriveHandle) {
        let context = &shared.context;
        let deliveries = Deliveries::new(&self.desk).transport(context.transport());
        let deliveries = match context.seed("handoff") {
            Some(seed) => deliveries.seed(seed),
            None => deliveries,
        };
        let weak = Arc::downgrade(shared);
        // Uses the whole stack, so that limits and caps apply to redrives too; people and fixed texts do not count as
        // answers.
        let mut redrive = Redrive::new(&self.desk, ReloadingService::new(shared.clone()))
            .events(&context.events)
            .gate(move || any_model_admits(&weak));
        redrive = match self.plan.settings.redrive {
            None => redrive.only_when_ordered(),
            Some(settings) => {
                if let Some(tasks) = settings.per_second {
                    redrive = redrive.per_second(tasks);
                }
                if let Some(tasks) = settings.at_once {
                    redrive = redrive.at_once(tasks as usize);
                }
                if let Some(time) = settings.every {
                    redrive = redrive.every(time.0);
                }
                match settings.timeout {
                    Some(time) => redrive.timeout(time.0),
                    None => redrive,
                }
            }
        };
        (deliveries.start(), redrive.start())
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

/// Returns whether any model's circuit admits calls, even as its due probe: without callers, a task is that call.
fn any_model_admits(shared: &Weak<Shared>) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    let current = shared.current.load();
    let models: Vec<&str> =
        current.config.tiers.iter().filter(|tier| tier.provider.is_model()).map(|tier| tier.name.as_str()).collect();
    let admits = |circuit: &CircuitBreakerHandle| {
        // The clock is read after the circuit's state, which is therefore not newer than this reading.
        circuit.state() != CircuitState::Open || circuit.earliest_probe().is_some_and(|at| at <= Instant::now())
    };
    current.circuits().any(|(name, circuit)| models.contains(&&*name) && admits(&circuit))
}

impl StackHandle {
    /// Returns the desk at which people answer tasks; `None` if no tier's provider is `handoff`. Look it up again
    /// after a reload.
    pub fn desk(&self) -> Option<Desk> {
        self.shared.current.load().handoff.as_ref().map(|handoff| handoff.desk.clone())
    }

    /// Starts the handoff's background work until the [`HandoffTask`] is dropped: notifying people, calling callers
    /// back, redriving tasks and removing old ones, according to the configuration's `handoff`. It follows reloads,
    /// and does nothing if no tier's provider is `handoff`.
    ///
    /// Call this once per process: several processes share the work.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn hand_over(&self) -> HandoffTask {
        let (shared, reloaded) = (self.shared.clone(), Arc::new(Wake::new()));
        let wake = reloaded.clone();
        let subscription = reloads::on_reload(self.events(), move || wake.notify_one());
        let task = tokio::spawn(async move {
            let mut at_work: Option<(HandoffState, (DeliveriesHandle, RedriveHandle))> = None;
            loop {
                let handoff = shared.current.load().handoff.clone();
                if at_work.as_ref().map(|(before, _)| before) != handoff.as_ref() {
                    // The previous work ends first.
                    drop(at_work.take());
                    at_work = handoff.map(|handoff| {
                        let begun = handoff.begin(&shared);
                        (handoff, begun)
                    });
                }
                reloaded.notified().await;
            }
        });
        HandoffTask { task: task.abort_handle(), _subscription: subscription }
    }
}

/// The handoff's background work: see [`StackHandle::hand_over`].
#[must_use = "it ends when this is dropped"]
pub struct HandoffTask {
    task: AbortHandle,
    _subscription: events::Subscription,
}

impl Drop for HandoffTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for HandoffTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandoffTask").finish_non_exhaustive()
    }
}
