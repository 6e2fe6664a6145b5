//! The ids and the encrypted content of a simulated account, which no other account accepts.

use steadfast_internal::fnv::{OFFSET_BASIS, fnv1a};

/// An account, as its seals show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account(u64);

/// The digits of a mark.
const MARK: usize = 16;

/// The beginning of a real provider's encrypted content.
const SEALED: &str = "gAAAAAB";

impl Account {
    pub(crate) fn named(name: &str) -> Self {
        Self(fnv1a(OFFSET_BASIS, name))
    }

    /// Returns an id whose maker [`made`](Self::made) recognises.
    pub(crate) fn id(self, number: &str) -> String {
        format!("{number}{}", self.mark(number))
    }

    /// Returns an id of what the account does not keep: no other account gives it, and this one does not recognise it.
    pub(crate) fn passing_id(self, number: &str) -> String {
        format!("{number}{}", self.mark(&format!("{number} passing")))
    }

    /// Returns true if this account made the id, with or without a prefix such as `resp_`.
    pub(crate) fn made(self, id: &str) -> bool {
        let id = id.rsplit_once('_').map_or(id, |(_, id)| id);
        let ends = id.len().checked_sub(MARK).and_then(|at| id.split_at_checked(at));
        ends.is_some_and(|(number, mark)| !number.is_empty() && mark == self.mark(number))
    }

    /// Returns encrypted content.
    pub(crate) fn seal(self, number: &str) -> String {
        format!("{SEALED}{}", self.id(number))
    }

    /// Returns true if this account sealed the content.
    pub(crate) fn sealed(self, content: &str) -> bool {
        content.strip_prefix(SEALED).is_some_and(|id| self.made(id))
    }

    fn mark(self, number: &str) -> String {
        format!("{:016x}", fnv1a(self.0, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_knows_its_own_ids_and_seals_alone() {
        let (here, there) = (Account::named("here"), Account::named("there"));
        let (id, sealed) = (format!("resp_{}", here.id("000001")), here.seal("000001"));
        assert!(here.made(&id) && here.sealed(&sealed));
        assert!(!there.made(&id) && !there.sealed(&sealed));
        assert!(!here.made(&here.passing_id("000001")) && here.passing_id("000001") != there.passing_id("000001"));
        for other in ["", "resp_", "resp_123", "resp_é00000000000000000", &id[..id.len() - 1]] {
            assert!(!here.made(other), "{other}");
        }
        assert!(!here.sealed(&id) && !here.sealed("gAAAAAB"));
    }
}
