//! One model's ids at the clouds that serve it.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::Deserialize;

use super::snapshot;
use crate::{InvalidConfig, dated_file::dated_file, internal::quick_hash::QuickMap};

/// A place at which a model is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Door {
    /// The maker's own API.
    Own,
    /// AWS's endpoint `bedrock-mantle`.
    AwsMantle,
    /// AWS's endpoint `bedrock-runtime`.
    AwsRuntime,
    /// Azure, where the usual name of a deployment stands for the model.
    Azure,
    /// Vertex AI of Google Cloud.
    Vertex,
}

impl Door {
    /// All doors.
    pub const ALL: &[Self] = &[Self::Own, Self::AwsMantle, Self::AwsRuntime, Self::Azure, Self::Vertex];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Door {
    /// Writes the door's name for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "the maker's own API",
            Self::AwsMantle => "AWS (bedrock-mantle)",
            Self::AwsRuntime => "AWS (bedrock-runtime)",
            Self::Azure => "Azure",
            Self::Vertex => "Vertex",
        })
    }
}

/// The ids of one model. An unset id is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DoorIds {
    /// Further names at its maker, such as dated ones. The model's name is one without being listed.
    pub own: Vec<String>,
    /// The id at AWS's endpoint bedrock-mantle.
    pub mantle: Option<String>,
    /// The id at AWS's endpoint bedrock-runtime, without an inference profile.
    pub runtime: Option<String>,
    /// The inference profiles of that id: `us`, `eu`, `apac`, `jp`, `au`, `global`.
    pub profiles: Vec<String>,
    /// The id at Vertex.
    pub vertex: Option<String>,
    /// The usual name of its deployment at Azure.
    pub azure: Option<String>,
}

impl DoorIds {
    /// Returns the id at a door. A region chooses the inference profile at bedrock-runtime: its geography's, else
    /// `global`, else none.
    fn at<'a>(&'a self, name: &'a str, door: Door, region: Option<&str>) -> Option<Cow<'a, str>> {
        let known = |id: &'a Option<String>| id.as_deref().map(Cow::Borrowed);
        match door {
            Door::Own => Some(Cow::Borrowed(name)),
            Door::AwsMantle => known(&self.mantle),
            Door::Azure => known(&self.azure),
            Door::Vertex => known(&self.vertex),
            Door::AwsRuntime => {
                let runtime = self.runtime.as_deref()?;
                let near = region.map_or(&[][..], geographies).iter().chain(&["global"]);
                let mut profiles = near.filter(|near| self.profiles.iter().any(|known| known == **near));
                Some(profiles.next().map_or(Cow::Borrowed(runtime), |near| Cow::Owned(format!("{near}.{runtime}"))))
            }
        }
    }

    /// Returns all ids, those of inference profiles included.
    pub fn all(&self) -> impl Iterator<Item = String> {
        self.by_door().map(|(_, id)| id.into_owned())
    }

    /// Returns all ids with their doors.
    fn by_door(&self) -> impl Iterator<Item = (Door, Cow<'_, str>)> {
        let one = |door, id: &'_ Option<String>| id.clone().map(|id| (door, Cow::Owned(id)));
        let runtime = self.runtime.as_deref();
        let profiles = self
            .profiles
            .iter()
            .filter_map(move |profile| Some((Door::AwsRuntime, Cow::Owned(format!("{profile}.{}", runtime?)))));
        let own = self.own.iter().map(|id| (Door::Own, Cow::Borrowed(id.as_str())));
        own.chain(one(Door::AwsMantle, &self.mantle))
            .chain(one(Door::AwsRuntime, &self.runtime))
            .chain(profiles)
            .chain(one(Door::Vertex, &self.vertex))
            .chain(one(Door::Azure, &self.azure))
    }

    /// Returns the first impossible value, as its field and the problem.
    fn fault(&self) -> Option<(&'static str, &'static str)> {
        let is_id = |id: &str| !id.is_empty() && !id.contains(char::is_whitespace);
        let single =
            [("mantle", &self.mantle), ("runtime", &self.runtime), ("vertex", &self.vertex), ("azure", &self.azure)];
        let empty = single.iter().find(|(_, id)| id.as_deref().is_some_and(|id| !is_id(id)));
        if let Some((field, _)) = empty {
            return Some((field, "an id is empty or has a space"));
        }
        if !self.own.iter().all(|id| is_id(id)) {
            return Some(("own", "an id is empty or has a space"));
        }
        let is_profile = |name: &String| !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'-');
        if !self.profiles.iter().all(is_profile) {
            return Some(("profiles", "a profile is the part before the id, such as us, eu or global"));
        }
        (self.runtime.is_none() && !self.profiles.is_empty())
            .then_some(("profiles", "there is no id at bedrock-runtime for them; give `runtime`"))
    }
}

/// Returns the inference profiles that a region of AWS belongs to, the nearest first.
///
/// By <https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html>.
fn geographies(region: &str) -> &'static [&'static str] {
    match region {
        _ if region.starts_with("us-gov-") => &["us-gov"],
        _ if region.starts_with("us-") => &["us"],
        _ if region.starts_with("ca-") => &["ca", "us"],
        _ if region.starts_with("eu-") => &["eu"],
        "ap-northeast-1" | "ap-northeast-3" => &["jp", "apac"],
        "ap-southeast-2" | "ap-southeast-4" | "ap-southeast-6" => &["au", "apac"],
        _ if region.starts_with("ap-") => &["apac"],
        _ => &[],
    }
}

/// The ids of models at the clouds that serve them. Clones share the table until one is changed.
///
/// Anthropic's `claude-sonnet-4-5` is `us.anthropic.claude-sonnet-4-5-20250929-v1:0` at AWS and
/// `claude-sonnet-4-5@20250929` at Vertex. The table finds the model of an id, and the id of a model.
///
/// ```
/// use steadfast::models::{Door, ModelDoors};
///
/// let doors = ModelDoors::builtin();
/// let model = doors.model("eu.anthropic.claude-sonnet-4-5-20250929-v1:0");
/// assert_eq!(model, Some("claude-sonnet-4-5"));
/// assert_eq!(doors.id("claude-sonnet-4-5", Door::Vertex, None).unwrap(), "claude-sonnet-4-5@20250929");
/// let id = doors.id("claude-sonnet-4-5", Door::AwsRuntime, Some("ap-northeast-1")).unwrap();
/// assert_eq!(id, "jp.anthropic.claude-sonnet-4-5-20250929-v1:0");
/// ```
///
/// A look-up of a model allocates nothing.
#[derive(Clone)]
pub struct ModelDoors(Arc<Inner>);

#[derive(Clone, PartialEq)]
struct Inner {
    as_of: Option<Box<str>>,
    models: BTreeMap<Box<str>, DoorIds>,
    /// The model of each id, and the doors at which the id holds.
    ids: QuickMap<Box<str>, (Box<str>, u8)>,
}

dated_file!(ModelDoors from "doors.json", models: DoorIds);

impl ModelDoors {
    /// Returns the ids that come with the crate: `doors.json` in `steadfast-core`, with its date and its sources. Read
    /// once.
    pub fn builtin() -> Self {
        Self::builtin_ref().clone()
    }

    /// Reads ids in the form of the crate's own file:
    /// `{"as_of": "2026-11-22", "models": {"mine": {"mantle": "maker.mine", "vertex": "mine@1"}}}`. A row has the
    /// fields of [`DoorIds`].
    ///
    /// # Errors
    ///
    /// The text is not JSON, has an unknown key, or names one id for two models.
    pub fn from_json(json: &str) -> Result<Self, InvalidConfig> {
        let file: File = serde_json::from_str(json).map_err(|error| InvalidConfig::new("models", error.to_string()))?;
        let empty = Inner { as_of: file.as_of, models: BTreeMap::new(), ids: QuickMap::default() };
        file.models.into_iter().try_fold(Self(Arc::new(empty)), |table, (model, ids)| {
            let field = format!("models.{model}");
            table
                .with(model, ids)
                .map_err(|error| InvalidConfig::new(format!("{field}.{}", error.field()), error.problem().to_owned()))
        })
    }

    /// Sets a model's ids, in place of the table's ids of that model.
    ///
    /// # Errors
    ///
    /// An id belongs to another model already, or is empty; the error names the field.
    pub fn with(mut self, model: impl Into<Box<str>>, ids: DoorIds) -> Result<Self, InvalidConfig> {
        let model = model.into();
        if let Some((field, problem)) = ids.fault() {
            return Err(InvalidConfig::new(field, problem));
        }
        let inner = Arc::make_mut(&mut self.0);
        inner.ids.retain(|_, (known, _)| *known != model);
        let name = [(Door::Own, Cow::Borrowed(&*model))];
        for (door, id) in name.into_iter().chain(ids.by_door()) {
            let known = inner.ids.entry(Box::from(&*id)).or_insert_with(|| (model.clone(), 0));
            if known.0 != model {
                let field = match door {
                    Door::Own => "own",
                    Door::AwsMantle => "mantle",
                    Door::AwsRuntime => "runtime",
                    Door::Azure => "azure",
                    Door::Vertex => "vertex",
                };
                return Err(InvalidConfig::new(field, format!("`{id}` is an id of `{}` already", known.0)));
            }
            known.1 |= door.bit();
        }
        inner.models.insert(model, ids);
        Ok(self)
    }

    /// Returns the date of the ids.
    pub fn as_of(&self) -> Option<&str> {
        self.0.as_of.as_deref()
    }

    /// Returns the models, by name.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.0.models.keys().map(|name| &**name)
    }

    /// Returns the model that an id stands for at any door. A maker's name before a slash, a path before an inference
    /// profile, a profile that the table does not list and a snapshot's date make no difference.
    pub fn model(&self, id: &str) -> Option<&str> {
        let exact = |id: &str| self.0.ids.get(id).map(|(model, _)| &**model);
        let name = id.rsplit('/').next().unwrap_or(id);
        let name = name.strip_suffix("@default").unwrap_or(name);
        let without_profile = || {
            ["anthropic.", "openai."].iter().find_map(|maker| exact(&name[name.find(*maker).filter(|at| *at > 0)?..]))
        };
        exact(id).or_else(|| exact(name)).or_else(without_profile).or_else(|| {
            // A dated name of the maker, but no dated id of a cloud: those are listed.
            let base = snapshot::base(name).filter(|_| !name.contains('@'))?;
            exact(base).filter(|model| *model == base)
        })
    }

    /// Returns the id of a model at a door; the model by its name or by its id at any door. `region` is AWS's and
    /// chooses the inference profile: that of its geography, else `global`, else none. An id that holds at the door is
    /// returned as it is.
    pub fn id<'a>(&'a self, model: &'a str, door: Door, region: Option<&str>) -> Option<Cow<'a, str>> {
        if door != Door::Own && self.holds(model, door) {
            return Some(Cow::Borrowed(model));
        }
        let name = self.model(model)?;
        self.0.models.get(name)?.at(name, door, region)
    }

    /// Returns true if exactly this id is known to hold at a door.
    pub fn holds(&self, id: &str, door: Door) -> bool {
        self.0.ids.get(id).is_some_and(|(_, doors)| doors & door.bit() != 0)
    }
}

impl PartialEq for ModelDoors {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl fmt::Debug for ModelDoors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelDoors").field("as_of", &self.0.as_of).field("models", &self.0.models.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{models::FamilyTable, prices::PriceTable};

    const SONNET: &str = "anthropic.claude-sonnet-4-5-20250929-v1:0";

    #[test]
    fn every_id_leads_to_its_model_to_its_family_and_to_its_price() {
        let (doors, families, prices) = (ModelDoors::builtin(), FamilyTable::builtin(), PriceTable::builtin());
        assert!(doors.as_of().is_some_and(|day| day >= "2026-11-22"));
        for (model, ids) in &doors.0.models {
            assert!(!families.family(model).is_careful(), "{model}");
            for id in ids.all() {
                assert_eq!(doors.model(&id), Some(&**model), "{id}");
                assert!(families.family(&id).is(families.family(model)), "{id}: {}", families.family(&id).name());
                assert_eq!(prices.price(None, &id), prices.price(None, model), "{id}");
            }
        }
    }

    /// By the pages that the file names.
    #[test]
    fn an_id_follows_the_door_and_the_region() {
        let doors = ModelDoors::builtin();
        let runtime = |region: Option<&str>| doors.id("claude-sonnet-4-5", Door::AwsRuntime, region).unwrap();
        for (region, profile) in [
            ("us-east-1", "us."),
            ("ca-central-1", "us."),
            ("eu-central-1", "eu."),
            ("ap-northeast-1", "jp."),
            ("ap-southeast-2", "au."),
            ("ap-south-1", "global."),
            ("sa-east-1", "global."),
            ("me-south-1", "global."),
        ] {
            assert_eq!(runtime(Some(region)), format!("{profile}{SONNET}"), "{region}");
        }
        assert_eq!(runtime(None), format!("global.{SONNET}"));
        let id = |model, door, region| doors.id(model, door, region).map(Cow::into_owned);
        let some = |id: &str| Some(id.to_owned());
        assert_eq!(
            id("claude-3-haiku", Door::AwsRuntime, Some("ap-northeast-1")).unwrap(),
            format!("apac.{}", "anthropic.claude-3-haiku-20240307-v1:0")
        );
        assert_eq!(id("gpt-oss-120b", Door::AwsRuntime, Some("us-west-2")), some("openai.gpt-oss-120b-1:0"));
        assert_eq!(id("claude-haiku-4-5", Door::AwsMantle, Some("us-west-2")), some("anthropic.claude-haiku-4-5"));
        assert_eq!(id("claude-sonnet-4-5", Door::AwsMantle, None), None);
        assert_eq!(id("claude-sonnet-4-5-20250929", Door::Vertex, None), some("claude-sonnet-4-5@20250929"));
        assert_eq!(id("us.anthropic.claude-opus-4-7", Door::Vertex, None), some("claude-opus-4-7"));
        assert_eq!(id("anthropic.claude-opus-4-7", Door::AwsRuntime, None), some("anthropic.claude-opus-4-7"));
        assert_eq!(id("claude-sonnet-4-5@20250929", Door::Own, None), some("claude-sonnet-4-5"));
        assert_eq!(id("gpt-4o", Door::Azure, None), some("gpt-4o"));
        assert_eq!(id("gpt-4o", Door::Vertex, None), None);
        // As it is: the caller has chosen the profile.
        let chosen = format!("global.{SONNET}");
        assert_eq!(id(&chosen, Door::AwsRuntime, Some("us-east-1")), Some(chosen.clone()));
        assert_eq!(id(SONNET, Door::AwsRuntime, Some("us-east-1")), some(SONNET));
    }

    #[test]
    fn an_id_is_found_behind_paths_profiles_and_dates() {
        let doors = ModelDoors::builtin();
        for (id, model) in [
            ("anthropic/claude-sonnet-4-5", "claude-sonnet-4-5"),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-7",
                "claude-opus-4-7",
            ),
            ("in.anthropic.claude-opus-4-7", "claude-opus-4-7"),
            ("claude-opus-4-6@default", "claude-opus-4-6"),
            ("gpt-5.4-2026-03-05", "gpt-5.4"),
            ("openai.gpt-oss-20b", "gpt-oss-20b"),
        ] {
            assert_eq!(doors.model(id), Some(model), "{id}");
        }
        for id in ["", "/", "claude", "claude-sonnet-4-9", "us.anthropic.claude-sonnet-4-5", "anthropic.", "our-gpt-4o"]
        {
            assert_eq!(doors.model(id), None, "{id}");
        }
        assert!(doors.holds(SONNET, Door::AwsRuntime) && !doors.holds(SONNET, Door::Vertex));
        assert!(doors.holds("claude-opus-4-7", Door::Vertex) && doors.holds("claude-opus-4-7", Door::Own));
        let measured = allocation_counter::measure(|| {
            for id in ["claude-sonnet-4-5", SONNET, "in.anthropic.claude-opus-4-7", "unknown/model-x", ""] {
                std::hint::black_box(doors.model(id));
            }
        });
        assert_eq!(measured.count_total, 0);
    }

    #[test]
    fn ids_set_by_hand_go_over_the_table() {
        let ids = DoorIds { azure: Some("prod".to_owned()), vertex: Some("gpt@1".to_owned()), ..DoorIds::default() };
        let doors = ModelDoors::builtin().with("gpt-4o", ids).unwrap();
        assert_eq!((doors.model("prod"), doors.model("gpt@1")), (Some("gpt-4o"), Some("gpt-4o")));
        assert_eq!(doors.id("gpt-4o", Door::Azure, None).unwrap(), "prod");
        assert!(doors != ModelDoors::builtin() && ModelDoors::builtin() == ModelDoors::builtin());
        for (ids, field) in [
            (DoorIds { vertex: Some("claude-opus-5".to_owned()), ..DoorIds::default() }, "vertex"),
            (DoorIds { mantle: Some(" ".to_owned()), ..DoorIds::default() }, "mantle"),
            (DoorIds { own: vec![String::new()], ..DoorIds::default() }, "own"),
            (DoorIds { profiles: vec!["us".to_owned()], ..DoorIds::default() }, "profiles"),
        ] {
            assert_eq!(ModelDoors::builtin().with("mine", ids).unwrap_err().field(), field);
        }
        for (json, said) in [
            ("", "models"),
            (r#"{"models": {"a": {"vertx": "x"}}}"#, "vertx"),
            (
                r#"{"models": {"a": {"vertex": "x"}, "b": {"azure": "x"}}}"#,
                "models.b.azure: `x` is an id of `a` already",
            ),
        ] {
            let error = ModelDoors::from_json(json).unwrap_err().to_string();
            assert!(error.contains(said), "{json}: {error}");
        }
    }
}
