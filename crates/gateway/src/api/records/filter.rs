//! The filter of a list of records.

use http::Uri;

use super::{Outcome, RecordState};
use crate::api::query;

/// The number of records in a list where the query does not say it.
const USUAL: usize = 100;

/// The records that a query asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RecordFilter {
    pub(crate) limit: usize,
    pub(crate) key: Option<String>,
    feature: Option<String>,
    tier: Option<String>,
    outcome: Option<Outcome>,
}

impl RecordFilter {
    /// The parameters of a query.
    pub(crate) const PARAMETERS: [&str; 5] = ["key", "feature", "tier", "outcome", "limit"];

    /// Reads a query.
    ///
    /// # Errors
    ///
    /// A parameter is unknown, or its value is none; the text names it.
    pub(crate) fn of(uri: &Uri) -> Result<Self, String> {
        let mut filter = Self { limit: USUAL, key: None, feature: None, tier: None, outcome: None };
        for [name, value] in query::parameters(uri, &Self::PARAMETERS)? {
            match &*name {
                "key" => filter.key = Some(value),
                "feature" => filter.feature = Some(value),
                "tier" => filter.tier = Some(value),
                "outcome" => filter.outcome = Some(outcome(&value)?),
                _ => filter.limit = query::limit(&value)?,
            }
        }
        Ok(filter)
    }

    /// Returns whether a record is wanted. A tier is that of the answer, or one that was tried before.
    pub(super) fn wants(&self, state: &RecordState) -> bool {
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        let tried = |tier: &String| state.steps.iter().any(|step| step.tier.as_deref() == Some(tier));
        is(&self.key, state.key.as_deref())
            && is(&self.feature, state.feature.as_deref())
            && self.outcome.is_none_or(|outcome| outcome == state.outcome)
            && self.tier.as_ref().is_none_or(|tier| state.tier.as_deref() == Some(tier) || tried(tier))
    }
}

fn outcome(name: &str) -> Result<Outcome, String> {
    let found = Outcome::ALL.into_iter().find(|outcome| outcome.name() == name);
    found.ok_or_else(|| format!("`outcome` is one of {}", Outcome::ALL.map(Outcome::name).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<RecordFilter, String> {
        RecordFilter::of(&format!("/requests?{query}").parse().unwrap())
    }

    #[test]
    fn a_query_says_which_records() {
        let asked = of("key=team%26a&tier=a%2Fb+c&outcome=failed&limit=7&feature=").unwrap();
        let wanted = RecordFilter {
            limit: 7,
            key: Some("team&a".to_owned()),
            feature: None,
            tier: Some("a/b c".to_owned()),
            outcome: Some(Outcome::Failed),
        };
        assert_eq!(asked, wanted);
        assert_eq!(of("").unwrap().limit, USUAL);
        for outcome in Outcome::ALL {
            assert_eq!(of(&format!("outcome={}", outcome.name())).unwrap().outcome, Some(outcome));
        }
    }

    #[test]
    fn what_is_no_filter_is_not_passed_over() {
        for (query, words) in [
            ("outcome=gone", "running, answered, failed"),
            ("limit=0", "1 to 1000"),
            ("limit=1001", "1 to 1000"),
            ("limit=x", "1 to 1000"),
            ("kee=team", "unknown parameter `kee`; the parameters are key, feature, tier, outcome, limit"),
            ("key=%zz", "%"),
        ] {
            let problem = of(query).unwrap_err();
            assert!(problem.contains(words), "{query}: {problem}");
        }
        assert!(of(&format!("key={}", "x".repeat(257))).unwrap_err().contains("longer"));
    }
}
