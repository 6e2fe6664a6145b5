//! The handoff of a configuration: its desk, the tiers that hand requests to people, and the background work.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio::{sync::Notify as Wake, task::AbortHandle, time::Instant};

use super::{
    Shared, StackContext, StackHandle,
    service::ReloadingService,
    stores::{DurableStore, OpenStores},
};
use crate::{self as config, Config, Environment, Problem, Provider};
use steadfast::{
    CircuitBreakerHandle, Event, InvalidConfig,
    events::{self, CircuitState},
};
use steadfast_handoff::{
    Callbacks, Deliveries, DeliveriesHandle, Desk, Handoff, Notify, Redrive, RedriveHandle, TaskLimits, TaskStore,
    WebhookSecret,
};

/// A configuration's handoff settings, with the secret resolved.
#[derive(Clone)]
pub(super) struct HandoffPlan {
    settings: config::Handoff,
    secret: Option<Arc<str>>,
}

impl fmt::Debug for HandoffPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandoffPlan").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl HandoffPlan {
    /// Creates the plan; `None` if no tier hands requests over and no durable queue exists. Errors are added to the
    /// problems.
    pub(super) fn new(
        config: &Config,
        context: &StackContext,
        environment: &Environment,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let hands_over = config.tiers.iter().any(|tier| tier.provider == Provider::Handoff);
        let queues = config.queues() && (config.stores.durable.is_some() || context.tasks.is_some());
        if !hands_over && !queues {
            return None;
        }
        let mut settings = config.handoff.clone().unwrap_or_default();
        if queues {
            // Only a redrive answers queued requests.
            settings.redrive.get_or_insert_default();
        }
        let secret = settings.callbacks.as_ref().and_then(|callbacks| {
            let name = callbacks.secret.name();
            let value = environment.secret(name);
            if value.is_none() {
                problems.push(Problem::not_set("handoff.callbacks.secret", &[name], ""));
            }
            value.map(Into::into)
        });
        Some(Self { settings, secret })
    }

    fn desk(&self, desk: Desk) -> Result<Desk, InvalidConfig> {
        let settings = &self.settings;
        let wrong =
            |field: &'static str| move |error: InvalidConfig| InvalidConfig::new(field, error.problem().to_owned());
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
        if let Some(notify) = &settings.notify {
            let mut outgoing = Notify::slack(&notify.url).map_err(wrong("handoff.notify.url"))?;
            outgoing = outgoing.preview(notify.preview.unwrap_or(true));
            if let Some(link) = &notify.link {
                outgoing = outgoing.link(link.as_str());
            }
            desk = desk.notify(outgoing);
        }
        if let (Some(callbacks), Some(secret)) = (&settings.callbacks, &self.secret) {
            let secret = WebhookSecret::new(secret).map_err(wrong("handoff.callbacks.secret"))?;
            let mut outgoing = Callbacks::new(secret);
            if let Some(url) = &callbacks.url {
                outgoing = outgoing.url(url).map_err(wrong("handoff.callbacks.url"))?;
            }
            for host in &callbacks.hosts {
                outgoing = outgoing.host(host).map_err(wrong("handoff.callbacks.hosts"))?;
            }
            desk = desk.callbacks(outgoing);
        }
        Ok(desk)
    }
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
    pub(super) fn new(
        plan: HandoffPlan,
        stores: &OpenStores,
        context: &StackContext,
        before: Option<&Self>,
    ) -> Result<Self, InvalidConfig> {
        let given = context.tasks.clone().map(TaskLocation::Given);
        let location = given.or_else(|| stores.durable.clone().map(TaskLocation::Durable)).ok_or_else(|| {
            let problem = "handing requests to people needs a store that outlives the process: name one with \
                           `stores: { durable: sqlite:steadfast.db }`";
            InvalidConfig::new("stores.durable", problem)
        })?;
        let known = before.filter(|before| before.location.is(&location));
        let desk = known.map_or_else(|| Desk::over(location.store()), |known| known.desk.clone());
        let desk = plan.desk(desk.events(&context.events))?;
        Ok(Self { plan, desk, location })
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
            && (&self.plan.settings, &self.plan.secret) == (&other.plan.settings, &other.plan.secret)
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
        let following = self.events().follow_only(ReloadListener::wanted, ReloadListener(wake));
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
        HandoffTask { task: task.abort_handle(), _following: following }
    }
}

/// Wakes the task after a reload.
struct ReloadListener(Arc<Wake>);

impl ReloadListener {
    fn wanted(event: &Event) -> bool {
        matches!(event, Event::Reloaded { .. })
    }
}

impl events::Subscriber for ReloadListener {
    fn event(&mut self, _: &Event) {
        self.0.notify_one();
    }

    fn lost(&mut self, _: u64) {
        // A reload may have been among the lost events.
        self.0.notify_one();
    }
}

/// The handoff's background work: see [`StackHandle::hand_over`].
#[must_use = "it ends when this is dropped"]
pub struct HandoffTask {
    task: AbortHandle,
    _following: events::Following,
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
