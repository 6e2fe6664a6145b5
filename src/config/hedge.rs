//! Which tier is hedged with which, as the file says.

use super::{Config, Hedge, HedgeAfter, HedgeSettings, Share, Tier};

/// The second calls of a tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HedgePlan {
    pub(super) after: HedgeAfter,
    pub(super) extra: Share,
    /// The place of the tier that they go to; the tier's own, where it is called once more.
    pub(super) to: usize,
}

impl Config {
    /// The second calls of the tier in this place; `None` where it has none.
    pub(super) fn hedge_plan(&self, at: usize) -> Option<HedgePlan> {
        // Any other would win each time: it takes no model's time.
        let tier = self.tiers.get(at).filter(|tier| tier.provider.is_model())?;
        let file = match &self.hedge {
            Some(Hedge::On(settings)) => Some(settings),
            Some(Hedge::Off) | None => None,
        };
        let own = match &tier.hedge {
            Some(Hedge::Off) => return None,
            Some(Hedge::On(settings)) => settings.clone(),
            // What is not said for the file or the tier is not done.
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
