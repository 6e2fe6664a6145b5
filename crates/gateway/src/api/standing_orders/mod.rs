//! Orders by hand that hold at all gateways of a durable store, until they are taken back.
//!
//! An order is carried out where it is given, and then written to the store's registry, whose log says who gave it.
//! Every gateway asks for changes each second, and sees to it that what stands is so: at its start, and after a reload
//! that brings a tier back or changes it. Of two orders about one thing the later one stands. While the store is away
//! an order holds where it was given, and is written once the store is back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use steadfast::{
    InvalidConfig,
    store::{StoreError, StoreErrorKind, StoreWatch},
};
use steadfast_stack::StackHandle;
use steadfast_stores::registry::{EntryKind, RegistryEdit, RegistryEntry, RegistryOutcome, RegistryStore};
use tokio::time::{Instant, sleep, timeout};

use crate::lock::lock;

/// An order by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum StandingOrder {
    /// Forces a tier's or a deployment's circuit.
    Circuit { tier: Box<str>, force: Force },
    /// Drains a tier or a deployment.
    Drain { tier: Box<str> },
    /// Pins a level, of a feature if it names one.
    Level { feature: Option<Box<str>>, level: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Force {
    Open,
    Close,
}

impl StandingOrder {
    /// Returns the name of what it is about: two orders of one name replace each other.
    fn name(&self) -> Arc<str> {
        match self {
            Self::Circuit { tier, .. } => format!("circuit {tier}"),
            Self::Drain { tier } => format!("drain {tier}"),
            Self::Level { feature: None, .. } => "level".to_owned(),
            Self::Level { feature: Some(feature), .. } => format!("level {feature}"),
        }
        .into()
    }

    /// Carries it out, or ends it. Returns whether that is a change.
    ///
    /// # Errors
    ///
    /// No tier has its name.
    pub(crate) fn set(&self, stack: &StackHandle, holds: bool) -> Result<bool, InvalidConfig> {
        match self {
            Self::Circuit { tier, .. } if !holds => stack.release(tier),
            Self::Circuit { tier, force: Force::Open } => stack.force_open(tier),
            Self::Circuit { tier, force: Force::Close } => stack.force_close(tier),
            Self::Drain { tier } if holds => stack.drain(tier),
            Self::Drain { tier } => stack.undrain(tier),
            Self::Level { feature, level } => {
                let level = holds.then_some(*level);
                Ok(match feature {
                    None => stack.pin_level(level),
                    Some(feature) => stack.pin_feature_level(&**feature, level),
                })
            }
        }
    }
}

/// An order in the store.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    order: StandingOrder,
    by: Box<str>,
}

/// The orders that hold at all gateways.
#[derive(Debug)]
pub(crate) struct StandingOrders {
    store: Arc<dyn RegistryStore>,
    stack: StackHandle,
    watch: StoreWatch,
    known: Mutex<Known>,
    /// Locked during a turn.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// The revision of the last change that is known; `None` until the store was read.
    revision: Option<u64>,
    standing: BTreeMap<Arc<str>, Standing>,
    /// The orders that the store does not have yet.
    unsent: BTreeMap<Arc<str>, Unsent>,
}

/// An order of the store.
#[derive(Debug)]
struct Standing {
    revision: u64,
    /// `None` for one that this version does not understand.
    document: Option<Document>,
}

/// An order that the store does not have yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unsent {
    order: StandingOrder,
    holds: bool,
    by: Box<str>,
}

/// The interval at which a gateway asks for changes.
const TURN: Duration = Duration::from_secs(1);
/// The time for the store's answer.
const SILENCE: Duration = Duration::from_secs(2);
/// The changes of one question.
const PAGE: usize = 1000;
/// The times that others may be faster with an order about the same thing.
const TRIES: usize = 8;

impl StandingOrders {
    /// Creates the orders of a store, which the first [turn](Self::turn) reads.
    pub(crate) fn new(store: Arc<dyn RegistryStore>, stack: StackHandle) -> Self {
        let watch = StoreWatch::new("orders");
        watch.set_events(stack.events());
        Self { store, stack, watch, known: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Returns whether the store answers and has all orders that were given here, so that they reach the others.
    pub(crate) fn is_stored(&self) -> bool {
        let known = lock(&self.known);
        self.watch.trouble().is_none() && known.revision.is_some() && known.unsent.is_empty()
    }

    /// Returns the store.
    pub(crate) fn store(&self) -> Arc<dyn RegistryStore> {
        self.store.clone()
    }

    /// Returns whether an order about this stands in the store.
    pub(crate) fn has(&self, order: &StandingOrder) -> bool {
        lock(&self.known).standing.contains_key(&order.name())
    }

    /// Returns the names of the orders that stand and hold nothing here: of tiers that this configuration lacks, or of
    /// a later version.
    pub(crate) fn idle(&self) -> Vec<String> {
        let known = lock(&self.known);
        let is_idle = |standing: &Standing| match standing.document.as_ref().map(|document| &document.order) {
            Some(StandingOrder::Circuit { tier, .. } | StandingOrder::Drain { tier }) => {
                self.stack.circuit(tier).is_none()
            }
            Some(StandingOrder::Level { .. }) => false,
            None => true,
        };
        known.standing.iter().filter(|(_, it)| is_idle(it)).map(|(name, _)| name.to_string()).collect()
    }

    /// Has the store know an order that an operator gave here, or took back. A store that is away gets it later.
    pub(crate) async fn give(&self, by: &str, order: StandingOrder, holds: bool) {
        lock(&self.known).unsent.insert(order.name(), Unsent { order, holds, by: by.into() });
        self.turn().await;
    }

    /// Follows the store for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        loop {
            sleep(TURN).await;
            self.turn().await;
        }
    }

    /// Writes what the store does not have yet, and takes over what others changed.
    pub(crate) async fn turn(&self) {
        let _turn = self.turn.lock().await;
        let silent = || StoreError::new(StoreErrorKind::Unavailable, "orders by hand: no answer in time");
        match timeout(SILENCE, self.exchange()).await.unwrap_or_else(|_| Err(silent())) {
            Ok(()) => self.watch.record_success(Instant::now()),
            Err(error) => self.watch.record_failure(error.kind(), &error, Instant::now()),
        }
        self.carry_out();
    }

    async fn exchange(&self) -> Result<(), StoreError> {
        self.read().await?;
        for _ in 0..TRIES {
            let Some((name, unsent, edit)) = lock(&self.known).next() else { return Ok(()) };
            let is_sent = match edit {
                None => true,
                Some(edit) => matches!(self.store.apply(&unsent.by, vec![edit]).await?, RegistryOutcome::Applied(_)),
            };
            if is_sent {
                let mut known = lock(&self.known);
                // A later one about the same may have come meanwhile.
                if known.unsent.get(&name) == Some(&unsent) {
                    known.unsent.remove(&name);
                }
            }
            self.read().await?;
        }
        Ok(())
    }

    /// Takes over what others changed.
    async fn read(&self) -> Result<(), StoreError> {
        let revision = lock(&self.known).revision;
        if let Some(mut after) = revision {
            loop {
                let later = self.store.changes(after, PAGE).await?;
                // An older copy of the store is read whole.
                if later.latest < after {
                    break;
                }
                let Some(last) = later.changes.last() else { return Ok(()) };
                after = last.revision;
                let mut known = lock(&self.known);
                for change in later.changes.into_iter().filter(|change| change.kind == EntryKind::Order) {
                    let entry = change.after.map(|document| Standing::new(&change.name, &document, change.revision));
                    known.replace(&self.stack.acting_as(&*change.actor), change.name, entry);
                }
                known.revision = Some(after);
            }
        }
        let snapshot = self.store.read(EntryKind::Order).await?;
        let mut known = lock(&self.known);
        let gone = known.standing.keys().filter(|name| snapshot.entries.iter().all(|entry| entry.name != **name));
        for name in gone.cloned().collect::<Vec<_>>() {
            known.replace(&self.stack, name, None);
        }
        for RegistryEntry { name, document, revision, .. } in snapshot.entries {
            let standing = Standing::new(&name, &document, revision);
            known.replace(&self.stack, name, Some(standing));
        }
        known.revision = Some(snapshot.revision);
        Ok(())
    }

    /// Carries out what stands and is not so: at the start, after a reload.
    fn carry_out(&self) {
        let known = lock(&self.known);
        let standing = known.standing.iter().filter(|(name, _)| !known.unsent.contains_key(*name));
        for Document { order, by } in standing.filter_map(|(_, standing)| standing.document.as_ref()) {
            // A tier that this configuration does not have may come back.
            let _ = order.set(&self.stack.acting_as(&**by), true);
        }
    }
}

impl Known {
    /// Returns an order that the store does not have, with the change that it needs; `None` if it needs none.
    fn next(&self) -> Option<(Arc<str>, Unsent, Option<RegistryEdit>)> {
        let (name, unsent) = self.unsent.first_key_value()?;
        Some((name.clone(), unsent.clone(), self.edit(name.clone(), unsent)))
    }

    fn edit(&self, name: Arc<str>, unsent: &Unsent) -> Option<RegistryEdit> {
        let standing = self.standing.get(&name);
        let is_known = match standing {
            None => !unsent.holds,
            Some(standing) => {
                unsent.holds && standing.document.as_ref().is_some_and(|known| known.order == unsent.order)
            }
        };
        let document = || {
            let document = Document { order: unsent.order.clone(), by: unsent.by.clone() };
            serde_json::to_string(&document).expect("names and numbers").into()
        };
        (!is_known).then(|| RegistryEdit {
            kind: EntryKind::Order,
            name,
            action: if unsent.holds { "order" } else { "take back" }.into(),
            replaces: standing.map(|standing| standing.revision),
            document: unsent.holds.then(document),
        })
    }

    /// Takes an order over, or ends one that was taken back, unless a later one of this gateway is on its way.
    fn replace(&mut self, stack: &StackHandle, name: Arc<str>, standing: Option<Standing>) {
        let is_overruled = self.unsent.contains_key(&name);
        let Some(standing) = standing else {
            let gone = self.standing.remove(&name).and_then(|gone| gone.document);
            if let Some(Document { order, .. }) = gone.filter(|_| !is_overruled) {
                // Its tier may be gone too.
                let _ = order.set(stack, false);
            }
            return;
        };
        self.standing.insert(name, standing);
    }
}

impl Standing {
    fn new(name: &str, document: &str, revision: u64) -> Self {
        let document = match serde_json::from_str::<Document>(document) {
            Ok(document) if *document.order.name() == *name => Some(document),
            _ => {
                tracing::warn!(
                    order = name,
                    "this version cannot read an order by hand of the store, which does not hold here"
                );
                None
            }
        };
        Self { revision, document }
    }
}

#[cfg(test)]
mod tests;
