//! Chains by the model that a caller names.

use std::sync::Arc;

/// The tiers in order for each name or pattern; 0 is the primary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Models(Vec<NamedModel>);

#[derive(Clone, Debug)]
pub(crate) struct NamedModel {
    pub(crate) pattern: Arc<str>,
    pub(crate) tiers: Arc<[usize]>,
}

impl Models {
    /// Replaces this pattern's tiers.
    pub(crate) fn set(&mut self, pattern: Arc<str>, tiers: Arc<[usize]>) {
        self.0.retain(|named| named.pattern != pattern);
        self.0.push(NamedModel { pattern, tiers });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &NamedModel> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a chain begins at this tier.
    pub(crate) fn begin_at(&self, tier: usize) -> bool {
        self.0.iter().any(|named| named.tiers.first() == Some(&tier))
    }

    /// Returns the entry that fits a model best.
    pub(crate) fn of(&self, model: &str) -> Option<&NamedModel> {
        let fitting = self.0.iter().filter_map(|named| Some((model_fit(&named.pattern, model)?, named)));
        fitting.max_by_key(|(fit, _)| *fit).map(|(_, named)| named)
    }
}

/// Returns how well a pattern fits a model: a name itself best of all, then the longest prefix. Returns `None` if
/// it does not fit.
pub fn model_fit(pattern: &str, model: &str) -> Option<usize> {
    match pattern.strip_suffix('*') {
        _ if pattern == model => Some(usize::MAX),
        Some(beginning) if model.starts_with(beginning) => Some(beginning.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_pattern_counts_whatever_their_order() {
        let patterns = ["*", "claude-*", "claude-haiku-*", "claude-haiku-4-5"];
        for turned in 0..patterns.len() {
            let mut models = Models::default();
            for at in 0..patterns.len() {
                let pattern = patterns[(at + turned) % patterns.len()];
                models.set(pattern.into(), [at].into());
            }
            let of = |model| models.of(model).map(|named| &*named.pattern);
            assert_eq!(of("claude-haiku-4-5"), Some("claude-haiku-4-5"));
            assert_eq!(of("claude-haiku-4-6"), Some("claude-haiku-*"));
            assert_eq!(of("claude-opus-4-1"), Some("claude-*"));
            assert_eq!((of("gpt-4o"), of("")), (Some("*"), Some("*")));
        }
        assert!(Models::default().of("gpt-4o").is_none() && model_fit("gpt-4", "gpt-4o").is_none());
    }
}
