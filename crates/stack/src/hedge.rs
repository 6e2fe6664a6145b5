//! The file's pairing of tiers for hedged calls.

use super::{Config, Hedge, HedgeSettings, Tier};

/// A tier's hedge: its second calls.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HedgePlan {
    /// The settings, none of which is missing but `to`.
    pub(super) settings: HedgeSettings,
    /// The index of the tier that second calls go to; the tier's own index if it is called once more.
    pub(super) to: usize,
}

impl Config {
    /// Returns the hedge of the tier at this index; `None` if it has none.
    pub(super) fn hedge_plan(&self, at: usize) -> Option<HedgePlan> {
        // A tier without a model takes no time and would win every race.
        let tier = self.tiers.get(at).filter(|tier| tier.provider.is_model())?;
        let file = match &self.hedge {
            Some(Hedge::On(settings)) => Some(settings),
            Some(Hedge::Off) | None => None,
        };
        let own = match &tier.hedge {
            Some(Hedge::Off) => return None,
            Some(Hedge::On(settings)) => settings.clone(),
            // Hedging is off unless the file or the tier asks for it.
            None => file.cloned()?,
        };
        let file = file.cloned().unwrap_or_default();
        let mut settings = own.or(file).or(HedgeSettings::usual());
        let is_next = |other: &Tier| other.provider.is_model() && other.service_level() == tier.service_level();
        let to = match settings.to.take() {
            Some(name) => self.tiers.iter().position(|other| other.name == name)?,
            None => (at + 1..self.tiers.len()).find(|place| is_next(&self.tiers[*place])).unwrap_or(at),
        };
        Some(HedgePlan { settings, to })
    }
}
