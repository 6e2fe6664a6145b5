//! The cost of each team's answers.

use std::sync::Arc;

use metrics::Counter;

use super::{
    series::{Name, Names, Registry, SeriesOf},
    table,
};
use steadfast::{events::RequestEnded, prices::Usd};

/// More teams or models than these are `other`: a person sets both, but for models that callers name.
const MOST_TEAMS: u16 = 64;
const MOST_MODELS: u16 = 64;

/// The series of all teams.
#[derive(Debug)]
pub(super) struct Teams {
    registry: Registry,
    teams: Names,
    models: Names,
    costs: SeriesOf<(Name, Name), Counter>,
}

impl Teams {
    pub(super) fn new(registry: Registry) -> Self {
        let (teams, models) = (Names::new(MOST_TEAMS), Names::new(MOST_MODELS));
        Self { registry, teams, models, costs: SeriesOf::default() }
    }

    /// Records what an answer to a team cost, by the model that answered.
    pub(super) fn record(&mut self, team: &Arc<str>, cost: Usd, request: &RequestEnded) {
        let model = request.served_model.as_ref().or(request.model.as_ref());
        let (team, model) = (self.teams.name(Some(team)), self.models.name(model));
        let texts = || [self.teams.text(team), self.models.text(model)];
        let count = || self.registry.counter(&table::TEAM_COST, texts());
        self.costs.entry((team, model)).or_insert_with(count).increment(cost.nanos());
    }
}
