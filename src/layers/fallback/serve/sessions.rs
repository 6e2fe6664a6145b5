//! The memory of sessions and their tiers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// The tier of each session, up to a capacity.
///
/// A session is a name that its tenant chose, so two tenants' sessions of one name are two. A full memory forgets the
/// least recently used session of the tenant that has the most. So no tenant makes the memory forget the sessions of
/// one with fewer.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    capacity: usize,
    count: usize,
    /// The number of uses so far.
    uses: u64,
    tenants: HashMap<Tenant, Known>,
    /// The tenants by the number of their sessions. Of equal ones, the last is the one with the oldest session.
    sizes: BTreeSet<(usize, Reverse<u64>, Tenant)>,
}

/// The owner of sessions; `None` for requests that belong to no tenant.
type Tenant = Option<Arc<str>>;

/// The sessions of one tenant.
#[derive(Debug, Default)]
struct Known {
    /// The tier of each, and the time of its last use.
    tiers: HashMap<Arc<str>, (Arc<str>, u64)>,
    by_use: BTreeMap<u64, Arc<str>>,
}

impl Known {
    /// Returns the place of the tenant among all.
    fn size(&self, tenant: &Tenant) -> (usize, Reverse<u64>, Tenant) {
        let oldest = self.by_use.first_key_value().map_or(0, |(used, _)| *used);
        (self.tiers.len(), Reverse(oldest), tenant.clone())
    }

    /// Sets the tier of a session, which becomes the latest. Returns true if it is new.
    fn set(&mut self, session: Arc<str>, tier: Arc<str>, used: u64) -> bool {
        let before = self.tiers.insert(session.clone(), (tier, used));
        if let Some((_, before)) = &before {
            self.by_use.remove(before);
        }
        self.by_use.insert(used, session);
        before.is_none()
    }
}

impl Sessions {
    /// Creates a memory of so many sessions.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Returns the tier of a session, which becomes the latest.
    pub(crate) fn get(&mut self, tenant: Option<&Arc<str>>, session: &str) -> Option<Arc<str>> {
        let tenant = tenant.cloned();
        let (session, (tier, _)) = self.tenants.get(&tenant)?.tiers.get_key_value(session)?;
        let (session, tier) = (session.clone(), tier.clone());
        self.insert(tenant, session, tier.clone());
        Some(tier)
    }

    /// Sets the tier of a session.
    pub(crate) fn insert(&mut self, tenant: Tenant, session: Arc<str>, tier: Arc<str>) {
        if self.capacity == 0 {
            return;
        }
        self.uses += 1;
        let known = self.tenants.entry(tenant.clone()).or_default();
        self.sizes.remove(&known.size(&tenant));
        self.count += usize::from(known.set(session, tier, self.uses));
        self.sizes.insert(known.size(&tenant));
        if self.count > self.capacity {
            self.forget_one();
        }
    }

    /// Forgets the least recently used session of the tenant with the most.
    fn forget_one(&mut self) {
        let Some((_, _, tenant)) = self.sizes.pop_last() else { return };
        let Some(known) = self.tenants.get_mut(&tenant) else { return };
        if let Some((_, session)) = known.by_use.pop_first() {
            known.tiers.remove(&session);
            self.count -= 1;
        }
        match known.tiers.is_empty() {
            true => _ = self.tenants.remove(&tenant),
            false => _ = self.sizes.insert(known.size(&tenant)),
        }
    }

    /// Returns a memory of this capacity with the sessions whose tier `is_kept`. The most recent ones stay.
    pub(crate) fn kept(&self, capacity: usize, is_kept: impl Fn(&str) -> bool) -> Self {
        let mut all: Vec<_> = self
            .tenants
            .iter()
            .flat_map(|(tenant, known)| {
                known.tiers.iter().map(move |(session, (tier, used))| (*used, tenant, session, tier))
            })
            .collect();
        all.sort_unstable_by_key(|(used, ..)| *used);
        let mut kept = Self::new(capacity);
        for (_, tenant, session, tier) in all.into_iter().filter(|(.., tier)| is_kept(tier)) {
            kept.insert(tenant.clone(), session.clone(), tier.clone());
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        (!name.is_empty()).then(|| name.into())
    }

    fn has(sessions: &mut Sessions, owner: &str, session: &str) -> bool {
        sessions.get(tenant(owner).as_ref(), session).is_some()
    }

    #[test]
    fn sessions_of_one_name_belong_to_their_tenants() {
        let mut sessions = Sessions::new(10);
        for (owner, tier) in [("one", "a"), ("two", "b"), ("", "c")] {
            sessions.insert(tenant(owner), "user-42".into(), tier.into());
        }
        for (owner, tier) in [("one", Some("a")), ("two", Some("b")), ("", Some("c")), ("three", None)] {
            assert_eq!(sessions.get(tenant(owner).as_ref(), "user-42").as_deref(), tier, "{owner}");
        }
    }

    /// The promise as a model: lists, searched in full.
    #[derive(Default)]
    struct Model(Vec<(String, String)>);

    impl Model {
        /// Uses a session, and forgets one of who has the most where there are too many.
        fn used(&mut self, capacity: usize, owner: &str, session: &str) {
            self.0.retain(|(other, name)| (other.as_str(), name.as_str()) != (owner, session));
            self.0.push((owner.to_owned(), session.to_owned()));
            if self.0.len() > capacity {
                let count = |owner: &str| self.0.iter().filter(|(other, _)| other == owner).count();
                let most = self.0.iter().map(|(owner, _)| count(owner)).max().unwrap_or_default();
                // The oldest of all that belong to one with that many.
                let oldest = self.0.iter().position(|(owner, _)| count(owner) == most).unwrap_or_default();
                self.0.remove(oldest);
            }
        }
    }

    #[test]
    fn a_full_memory_forgets_the_oldest_of_whoever_has_the_most() {
        let mut random = fastrand::Rng::with_seed(55);
        for capacity in [1, 2, 7, 40] {
            let (mut sessions, mut model) = (Sessions::new(capacity), Model::default());
            for _ in 0..2000 {
                let owner = ["", "one", "two", "flood"][random.usize(..4)];
                let names = if owner == "flood" { 100 } else { 8 };
                let session = format!("s{}", random.usize(..names));
                let is_known = model.0.iter().any(|(other, name)| other == owner && *name == session);
                if random.bool() && is_known {
                    assert!(has(&mut sessions, owner, &session));
                } else {
                    sessions.insert(tenant(owner), session.as_str().into(), "a".into());
                }
                model.used(capacity, owner, &session);
                assert_eq!(sessions.count, model.0.len());
                let known = |(owner, name): &(String, String)| {
                    sessions.tenants[&tenant(owner)].tiers.contains_key(name.as_str())
                };
                assert!(model.0.iter().all(known), "{:?}", model.0);
                assert_eq!(sessions.sizes.len(), sessions.tenants.len());
            }
        }
    }

    #[test]
    fn a_flood_of_one_tenants_sessions_pushes_out_no_session_of_another() {
        let mut sessions = Sessions::new(10_000);
        sessions.insert(tenant("one"), "user-42".into(), "a".into());
        for n in 0..50_000 {
            sessions.insert(tenant("two"), format!("s{n}").into(), "b".into());
        }
        assert_eq!(sessions.count, 10_000);
        assert!(has(&mut sessions, "one", "user-42"));
        assert!(has(&mut sessions, "two", "s49999") && !has(&mut sessions, "two", "s0"));
    }

    #[test]
    fn what_is_handed_on_keeps_the_most_recent_whose_tier_is_there() {
        let mut sessions = Sessions::new(10);
        for (n, tier) in ["a", "b", "a", "a"].into_iter().enumerate() {
            sessions.insert(None, format!("s{n}").into(), tier.into());
        }
        assert!(has(&mut sessions, "", "s0"));
        let mut kept = sessions.kept(2, |tier| tier == "a");
        assert_eq!([0, 1, 2, 3].map(|n| has(&mut kept, "", &format!("s{n}"))), [true, false, false, true]);
        let mut none = sessions.kept(0, |_| true);
        none.insert(None, "s9".into(), "a".into());
        assert!(!has(&mut none, "", "s0") && !has(&mut none, "", "s9"));
    }
}
