//! The people of a configuration: their desk, the tiers that hand requests to them, and what goes on in the background.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio::{sync::Notify as Wake, task::AbortHandle, time::Instant};

use super::{
    Makings, Shared, StackHandle,
    service::Following,
    stores::{Durable, Opened},
};
use crate::{
    CircuitBreakerHandle, Event, InvalidConfig,
    config::{self, Config, Environment, Problem, Provider},
    events::{self, CircuitState},
    handoff::{
        Callbacks, Deliveries, DeliveriesHandle, Desk, Handoff, Notify, Redrive, RedriveHandle, TaskLimits, TaskStore,
        WebhookSecret,
    },
};

/// What a configuration says of people, with the secret looked up.
#[derive(Clone)]
pub(super) struct PeoplePlan {
    said: config::Handoff,
    secret: Option<Arc<str>>,
}

impl fmt::Debug for PeoplePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeoplePlan").field("said", &self.said).finish_non_exhaustive()
    }
}

impl PeoplePlan {
    /// `None` where no tier hands anything to them, and nothing is queued where tasks are. What cannot be is added to the problems.
    pub(super) fn new(
        config: &Config,
        makings: &Makings,
        environment: &Environment,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let hands_over = config.tiers.iter().any(|tier| tier.provider == Provider::Handoff);
        let queues = config.queues() && (config.stores.durable.is_some() || makings.tasks.is_some());
        if !hands_over && !queues {
            return None;
        }
        let mut said = config.handoff.clone().unwrap_or_default();
        if queues {
            // Nobody else answers what is queued.
            said.redrive.get_or_insert_default();
        }
        let secret = said.callbacks.as_ref().and_then(|callbacks| {
            let name = callbacks.secret.name();
            let value = environment.secret(name);
            if value.is_none() {
                problems.push(Problem::not_set("handoff.callbacks.secret", &[name], ""));
            }
            value.map(Into::into)
        });
        Some(Self { said, secret })
    }

    fn desk(&self, desk: Desk) -> Result<Desk, InvalidConfig> {
        let said = &self.said;
        let wrong =
            |field: &'static str| move |error: InvalidConfig| InvalidConfig::new(field, error.problem().to_owned());
        let mut desk = desk.without_settings();
        if let Some(time) = said.visibility {
            desk = desk.visibility(time.0);
        }
        if let Some(time) = said.ttl {
            desk = desk.ttl(time.0);
        }
        if let Some(time) = said.keep {
            desk = desk.keep(time.0);
        }
        if let Some(limits) = said.limits {
            desk = desk.limits(task_limits(limits));
        }
        if let Some(notify) = &said.notify {
            let mut told = Notify::slack(&notify.url).map_err(wrong("handoff.notify.url"))?;
            told = told.preview(notify.preview.unwrap_or(true));
            if let Some(link) = &notify.link {
                told = told.link(link.as_str());
            }
            desk = desk.notify(told);
        }
        if let (Some(callbacks), Some(secret)) = (&said.callbacks, &self.secret) {
            let secret = WebhookSecret::new(secret).map_err(wrong("handoff.callbacks.secret"))?;
            let mut told = Callbacks::new(secret);
            if let Some(url) = &callbacks.url {
                told = told.url(url).map_err(wrong("handoff.callbacks.url"))?;
            }
            for host in &callbacks.hosts {
                told = told.host(host).map_err(wrong("handoff.callbacks.hosts"))?;
            }
            desk = desk.callbacks(told);
        }
        Ok(desk)
    }
}

fn task_limits(said: config::HandoffLimits) -> TaskLimits {
    let usual = TaskLimits::default();
    let (tasks, bytes) = (said.tasks.unwrap_or(usual.tasks), said.bytes.map_or(usual.bytes, |size| size.0));
    usual
        .tasks(tasks)
        .bytes(bytes)
        .tasks_per_caller(said.tasks_per_caller.unwrap_or(usual.tasks_per_caller).min(tasks))
        .bytes_per_caller(said.bytes_per_caller.map_or(usual.bytes_per_caller, |size| size.0).min(bytes))
}

/// The people of a configuration at work.
#[derive(Clone)]
pub(super) struct People {
    plan: PeoplePlan,
    pub(super) desk: Desk,
    place: Place,
}

/// Where the tasks are.
#[derive(Clone)]
enum Place {
    /// Where the stack's maker said.
    Given(Arc<dyn TaskStore>),
    Durable(Durable),
}

impl Place {
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

impl People {
    /// Those who wait at an earlier desk over the same store wait at this one.
    pub(super) fn new(
        plan: PeoplePlan,
        stores: &Opened,
        makings: &Makings,
        before: Option<&Self>,
    ) -> Result<Self, InvalidConfig> {
        let given = makings.tasks.clone().map(Place::Given);
        let place = given.or_else(|| stores.durable.clone().map(Place::Durable)).ok_or_else(|| {
            let problem = "requests are handed to people only where they outlive the process: name a store with \
                           `stores: { durable: sqlite:steadfast.db }`";
            InvalidConfig::new("stores.durable", problem)
        })?;
        let known = before.filter(|before| before.place.is(&place));
        let desk = known.map_or_else(|| Desk::over(place.store()), |known| known.desk.clone());
        let desk = plan.desk(desk.events(&makings.events))?;
        Ok(Self { plan, desk, place })
    }

    /// A tier of people, which says this while nobody has answered.
    pub(super) fn tier(&self, text: Option<&str>) -> Handoff {
        let mut leaf = Handoff::new(&self.desk);
        if let Some(wait) = self.plan.said.wait {
            leaf = leaf.wait_up_to(wait.0);
        }
        if let Some(text) = text {
            leaf = leaf.pending_text(text);
        }
        leaf
    }

    /// Where requests are written down that were queued in vain, which is told with this.
    pub(super) fn queue(&self, text: &str) -> Handoff {
        Handoff::new(&self.desk).pending_text(text)
    }

    fn begin(&self, shared: &Arc<Shared>) -> (DeliveriesHandle, RedriveHandle) {
        let makings = &shared.makings;
        let deliveries = Deliveries::new(&self.desk).transport(makings.transport());
        let deliveries = match makings.seed("handoff") {
            Some(seed) => deliveries.seed(seed),
            None => deliveries,
        };
        let weak = Arc::downgrade(shared);
        // The whole stack, so that limits and caps hold for these too; people and fixed sentences are no answer there.
        let mut redrive = Redrive::new(&self.desk, Following::new(shared.clone()))
            .events(&makings.events)
            .gate(move || may_work(&weak));
        redrive = match self.plan.said.redrive {
            None => redrive.only_when_ordered(),
            Some(said) => {
                if let Some(tasks) = said.per_second {
                    redrive = redrive.per_second(tasks);
                }
                if let Some(tasks) = said.at_once {
                    redrive = redrive.at_once(tasks as usize);
                }
                if let Some(time) = said.every {
                    redrive = redrive.every(time.0);
                }
                match said.timeout {
                    Some(time) => redrive.timeout(time.0),
                    None => redrive,
                }
            }
        };
        (deliveries.start(), redrive.start())
    }
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People").field("desk", &self.desk).finish_non_exhaustive()
    }
}

/// Whether a tier of this one is as good as a tier of the other.
impl PartialEq for People {
    fn eq(&self, other: &Self) -> bool {
        self.place.is(&other.place) && (&self.plan.said, &self.plan.secret) == (&other.plan.said, &other.plan.secret)
    }
}

/// Whether the circuit of any model lets calls through, be it as the probe for which it waits: where nobody calls, a task is that
/// call.
fn may_work(shared: &Weak<Shared>) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    let current = shared.current.load();
    let models: Vec<&str> =
        current.config.tiers.iter().filter(|tier| tier.provider.is_model()).map(|tier| tier.name.as_str()).collect();
    let admits = |circuit: &CircuitBreakerHandle| {
        // The clock is read after what a circuit says, which is no earlier than its own reading.
        circuit.state() != CircuitState::Open || circuit.earliest_probe().is_some_and(|at| at <= Instant::now())
    };
    current.circuits().any(|(name, circuit)| models.contains(&&*name) && admits(&circuit))
}

impl StackHandle {
    /// The desk where people answer what is handed to them; `None` where no tier's provider is `handoff`. After a
    /// reload, look it up again.
    pub fn desk(&self) -> Option<Desk> {
        self.shared.current.load().people.as_ref().map(|people| people.desk.clone())
    }

    /// Tells people of tasks, calls back who asked, gives tasks to models again and removes old ones, from now on and
    /// as the configuration's `handoff` says, in tasks of its own, until the [`HandingOver`] is dropped. It follows
    /// reloads, and does nothing where no tier's provider is `handoff`.
    ///
    /// Call it once for each process: more of them share the work.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn hand_over(&self) -> HandingOver {
        let (shared, reloaded) = (self.shared.clone(), Arc::new(Wake::new()));
        let heard = reloaded.clone();
        let following = self.events().follow_only(Reloads::wanted, Reloads(heard));
        let task = tokio::spawn(async move {
            let mut at_work: Option<(People, (DeliveriesHandle, RedriveHandle))> = None;
            loop {
                let people = shared.current.load().people.clone();
                if at_work.as_ref().map(|(before, _)| before) != people.as_ref() {
                    // The one before ends first.
                    drop(at_work.take());
                    at_work = people.map(|people| {
                        let begun = people.begin(&shared);
                        (people, begun)
                    });
                }
                reloaded.notified().await;
            }
        });
        HandingOver { task: task.abort_handle(), _following: following }
    }
}

/// Hears of reloads.
struct Reloads(Arc<Wake>);

impl Reloads {
    fn wanted(event: &Event) -> bool {
        matches!(event, Event::Reloaded { .. })
    }
}

impl events::Subscriber for Reloads {
    fn event(&mut self, _: &Event) {
        self.0.notify_one();
    }

    fn lost(&mut self, _: u64) {
        // One may have been among them.
        self.0.notify_one();
    }
}

/// What goes on in the background for people, at work: see [`StackHandle::hand_over`].
#[must_use = "it ends when this is dropped"]
pub struct HandingOver {
    task: AbortHandle,
    _following: events::Following,
}

impl Drop for HandingOver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for HandingOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandingOver").finish_non_exhaustive()
    }
}
