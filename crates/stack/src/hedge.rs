//! The file's pairing of tiers for hedged calls.

use super::{Config, Hedge, HedgeAfter, HedgeSettings, Share, Tier};

/// A tier's hedge: its second calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HedgePlan {
    pub(super) after: HedgeAfter,
    pub(super) extra: Share,
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
        let HedgeSettings { after, to, extra } =
            HedgeSettings { after: own.after.or(file.after), to: own.to.or(file.to), extra: own.extra.or(file.extra) };
        let is_next = |other: &Tier| other.provider.is_model() && other.service_level() == tier.service_level();
        let to = match to {
            Some(name) => self.tiers.iter().position(|other| other.name == name)?,
            None => (at + 1..self.tiers.len()).find(|place| is_next(&self.tiers[*place])).unwrap_or(at),
        };
        Some(HedgePlan { after: after.unwrap_or(HedgeAfter::Quantile(0.95)), extra: extra.unwrap_or(Share(0.05)), to })
    }
}
