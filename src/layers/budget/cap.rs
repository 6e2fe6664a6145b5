use std::{collections::HashMap, fmt, sync::Arc};

use super::Period;
use crate::prices::Usd;

/// A limit on spending in a period, and the action at the limit.
///
/// A request counts if it matches each of feature, key and team that is set. With none set, all requests count. To cap
/// one tier, put a layer around that tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Cap {
    pub(super) name: Arc<str>,
    pub(super) limit: Usd,
    pub(super) period: Period,
    pub(super) feature: Option<Arc<str>>,
    pub(super) key: Keys,
    pub(super) team: Option<Arc<str>>,
    pub(super) among: Option<KeyGroup>,
    pub(super) at_cap: AtCap,
    /// In percent, in rising order.
    pub(super) warn_at: Arc<[u8]>,
}

/// The keys for which a function is true. Clones are the same group.
#[derive(Clone)]
pub struct KeyGroup(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl KeyGroup {
    /// Creates a group. The function is asked with each request, so that keys may come and go.
    pub fn new(has: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(has))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        (self.0)(key)
    }
}

impl PartialEq for KeyGroup {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyGroup").finish_non_exhaustive()
    }
}

/// The keys whose requests a cap counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    All,
    One(Arc<str>),
    Each,
}

/// The caps of a layer, one of each name.
#[derive(Clone, Debug, Default)]
pub(super) struct CapSet {
    pub(super) list: Vec<Cap>,
    pub(super) of_name: HashMap<Arc<str>, usize>,
}

impl CapSet {
    /// Adds a cap, or replaces the one of the same name.
    pub(super) fn set(&mut self, cap: Cap) {
        match self.of_name.get(&cap.name) {
            Some(place) => self.list[*place] = cap,
            None => {
                self.of_name.insert(cap.name.clone(), self.list.len());
                self.list.push(cap);
            }
        }
    }
}

/// The action for a request that does not fit into a cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtCap {
    /// Sends an event, and nothing else: the request goes on, and counts.
    Warn,
    /// Restricts the request to tiers of this [level](crate::layers::fallback::Tier::level) or a worse one, in a
    /// `Fallback` further in. The request counts.
    StepDown(u8),
    /// Refuses the request with [`ErrorKind::Budget`](crate::ErrorKind::Budget). At a tier's cap, the next tier
    /// serves.
    #[default]
    Refuse,
}

/// The default of [`Cap::warn_at`].
const WARN_AT: [u8; 2] = [80, 100];
/// The number of shares that can be reported in one period: each has a bit.
const SHARES: usize = 32;

impl Cap {
    /// Creates a cap of this amount in each period. A limit of zero admits nothing; more than 72 million dollars
    /// counts as that.
    pub fn new(name: impl Into<Arc<str>>, limit: Usd, period: Period) -> Self {
        Self {
            name: name.into(),
            limit,
            period,
            feature: None,
            key: Keys::All,
            team: None,
            among: None,
            at_cap: AtCap::default(),
            warn_at: WARN_AT.into(),
        }
    }

    /// Counts only this feature's requests. Default: every feature's.
    #[must_use]
    pub fn feature(mut self, feature: impl Into<Arc<str>>) -> Self {
        self.feature = Some(feature.into());
        self
    }

    /// Counts the requests of this [key](super::BudgetKey) alone. Default: every key's, and those without one.
    #[must_use]
    pub fn key(mut self, name: impl Into<Arc<str>>) -> Self {
        self.key = Keys::One(name.into());
        self
    }

    /// Counts only the requests of this [team](crate::request::Team). Default: every team's, and those without one.
    #[must_use]
    pub fn team(mut self, name: impl Into<Arc<str>>) -> Self {
        self.team = Some(name.into());
        self
    }

    /// Gives each [key](super::BudgetKey) the whole limit for itself; errors and events call it `name (key)`. Requests
    /// without a key are not counted. Default: all keys share it.
    #[must_use]
    pub fn each_key(mut self) -> Self {
        self.key = Keys::Each;
        self
    }

    /// Counts only the requests of these keys. Default: every key's.
    #[doc(hidden)]
    #[must_use]
    pub fn among(mut self, group: KeyGroup) -> Self {
        self.among = Some(group);
        self
    }

    /// Sets the action for a request that does not fit. Default: [`AtCap::Refuse`].
    #[must_use]
    pub fn at_cap(mut self, at_cap: AtCap) -> Self {
        self.at_cap = at_cap;
        self
    }

    /// Sets the shares of the limit, in percent, at which a
    /// [`BudgetReached`](crate::Event::BudgetReached) is sent, once in each period; the first 32 count. Default: 80 and
    /// 100.
    #[must_use]
    pub fn warn_at(mut self, percents: impl IntoIterator<Item = u8>) -> Self {
        let mut percents: Vec<u8> = percents.into_iter().collect();
        percents.sort_unstable();
        percents.dedup();
        percents.truncate(SHARES);
        self.warn_at = percents.into();
        self
    }
}
