//! Calls for embeddings: the lane's tiers stand in the places of the conversations'.

use super::outcome::{End, Outcome};
use crate::traffic::DrillRequest;
use steadfast::{
    Dialect, LlmBody, LlmRequest, LlmResponse, OpaqueCall,
    chat::{Message, Role, Usage},
    providers::simulated::Simulated,
};
use steadfast_stack::{
    CallKind, Config, ConfigError, Environment, Format, Lane, LanePool, Loader, Problem, StackBuilder, Tier,
};

/// The tiers of a drill whose configuration has none for embeddings.
const DEFAULT: &str = include_str!("../embeddings.yaml");
const PATH: &str = "/v1/embeddings";

/// The embeddings of a drill.
pub(super) struct Embeddings {
    /// The configuration with the lane's tiers as its tiers: those that the drill looks at.
    pub(super) places: Config,
    /// The configuration of the stack.
    pub(super) stack: Config,
    model: String,
    pool: LanePool,
    /// For each place, whether its vectors are of the space that is asked for.
    spaces: Vec<bool>,
}

impl Embeddings {
    /// # Errors
    ///
    /// None with the default tiers, and none with a configuration whose lane has a tier for embeddings.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let (mut stack, mut tiers) = (config.clone(), Self::tiers(config));
        if tiers.is_empty() {
            let own = Loader::new().environment(Environment::default()).text(DEFAULT, Format::Yaml)?;
            tiers = own.lane.unwrap_or_default().tiers;
        }
        stack.lane = Some(Lane { tiers: tiers.clone(), ..Lane::default() });
        let pool = |model: &str| stack.lane_pool(CallKind::Embeddings, Dialect::OpenAi, Some(model));
        let model = tiers.iter().find_map(|tier| tier.model.clone()).unwrap_or_default();
        let asked =
            pool(&model).map_err(|error| ConfigError::new(vec![Problem::of_file(None, error.message().to_owned())]))?;
        let is_asked =
            |named: Option<&String>| named.and_then(|model| pool(model).ok()).is_some_and(|own| own.name == asked.name);
        let spaces = tiers.iter().map(|tier| is_asked(tier.model.as_ref())).collect();
        let places = Config { tiers, ..stack.clone() };
        Ok(Self { places, stack, model, pool: asked, spaces })
    }

    /// Returns the tiers of a configuration that serve embeddings.
    fn tiers(config: &Config) -> Vec<Tier> {
        let pool = |model: &String| config.lane_pool(CallKind::Embeddings, Dialect::OpenAi, Some(model));
        let serves = |tier: &&Tier| tier.model.as_ref().is_some_and(|model| pool(model).is_ok());
        config.lane.iter().flat_map(|lane| &lane.tiers).filter(serves).cloned().collect()
    }

    /// Puts a simulated provider in the place of each that serves conversations: nobody calls them here.
    pub(super) fn replace_conversations(&self, builder: StackBuilder) -> StackBuilder {
        let conversations = self.stack.tiers.iter().filter(|tier| tier.provider.is_model()).flat_map(Tier::endpoints);
        conversations
            .fold(builder, |builder, tier| builder.leaf(tier.name.as_str(), Simulated::new(tier.name.as_str())))
    }

    /// Returns the call for a request.
    pub(super) fn request(&self, ask: &DrillRequest) -> LlmRequest {
        let body = format!(r#"{{"input":"text {}"}}"#, ask.number);
        let call = OpaqueCall::json(Dialect::OpenAi, PATH, body).expect("an object");
        let call = call.for_model(self.model.as_str()).with_pool(self.pool.name.clone());
        LlmRequest::from(call).with_feature(ask.feature.clone()).with_extension(ask.clone())
    }

    /// Counts a vector of another space as a loss.
    pub(super) fn judge(&self, outcome: &mut Outcome) {
        if let End::Answered { tier, .. } = outcome.end
            && !self.spaces[tier]
        {
            outcome.end = End::Lost { cut: false };
        }
    }
}

/// Returns an answer with vectors, of which nobody reads the numbers.
pub(super) fn answer() -> LlmResponse {
    let mut message = Message::new(Role::Assistant, Vec::new());
    message.usage = Some(Usage::new(8, 0));
    let vectors = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.6,0.8]}]}"#;
    LlmResponse::new(LlmBody::from_wire(Dialect::OpenAi, vectors.into(), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Drill, Scenario};

    fn without_lane() -> Config {
        Config::from_str("tiers: [{ name: chat, provider: simulated }]", Format::Yaml).unwrap()
    }

    #[test]
    fn while_the_provider_is_down_the_same_space_answers_and_no_other() {
        let drill = Drill::new(&without_lane()).unwrap();
        let report = drill.run(&[Scenario::named("embeddings-down").unwrap()]).unwrap();
        assert!(report.missed.is_empty(), "{:?}", report.missed);
        let of_it = &report.scenarios[0];
        let answered: Vec<_> =
            of_it.tiers.iter().map(|tier| (tier.name.as_str(), tier.attempts, tier.answered)).collect();
        let [("embeddings", _, own), ("other-space", 0, 0), ("embeddings-elsewhere", _, elsewhere)] = answered[..]
        else {
            panic!("{answered:?}");
        };
        assert_eq!((of_it.lost, of_it.requests), (0, own + elsewhere));
        // The faults last for 50 minutes of two hours.
        assert!(3 * elsewhere > of_it.requests && own > elsewhere, "{answered:?}");
        assert!(of_it.recovery_s.is_some_and(|seconds| seconds < 120.0), "{:?}", of_it.recovery_s);
    }

    #[test]
    fn a_vector_of_another_space_is_a_loss() {
        let embeddings = Embeddings::new(&without_lane()).unwrap();
        let of = |tier| {
            let end = End::Answered { tier, degraded: false, cost: 0.0 };
            let mut outcome = Outcome { first_token: None, deployment: None, end };
            embeddings.judge(&mut outcome);
            outcome.end
        };
        assert_eq!(of(1), End::Lost { cut: false });
        assert!([0, 2].into_iter().all(|place| of(place) == End::Answered { tier: place, degraded: false, cost: 0.0 }));
    }

    #[test]
    fn a_lane_of_the_configuration_is_the_one_that_is_drilled() {
        let text = "tiers: [{ name: chat, provider: simulated }]\nlane: { tiers: [{ name: rank, provider: openai, model: \
                    rerank-v3.5 }, { name: own, provider: openai, model: ours, space: ours/8 }] }";
        let config = Config::from_str(text, Format::Yaml).unwrap();
        let embeddings = Embeddings::new(&config).unwrap();
        let names: Vec<_> = embeddings.places.tiers.iter().map(|tier| tier.name.as_str()).collect();
        assert_eq!((names, embeddings.model.as_str()), (vec!["own"], "ours"));
    }
}
