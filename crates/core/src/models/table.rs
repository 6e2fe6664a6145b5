use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use serde::Deserialize;

use super::{Facts, Family};
use crate::{InvalidConfig, dated_file::dated_file, internal::quick_hash::QuickMap};

/// The families of models, by the models' names. Clones share the table until one is changed.
///
/// # Look-up
///
/// 1. The look-up ignores everything up to the last slash, a region and `anthropic.` or `openai.` before a name at AWS,
///    and `ft:` before the name of a fine-tuned model.
/// 2. It takes the longest name of the table that equals the rest, or that is followed in it by `-`, `@` or `:`. No
///    name stands for a later version: after `claude-opus-5` may come `-20260724`, but not `-6`.
/// 3. Otherwise it takes a careful row of the maker (`claude-`, `gpt-`, `gemini-` and others), or else the one for all.
///
/// A look-up allocates nothing if the name is in lower case and has no point in a Claude's version.
#[derive(Clone)]
pub struct FamilyTable(Arc<Inner>);

#[derive(Clone, PartialEq)]
struct Inner {
    as_of: Option<Box<str>>,
    models: QuickMap<Box<str>, Entry>,
    families: HashMap<Box<str>, Family>,
    unknown: Family,
}

#[derive(Clone, PartialEq)]
struct Entry {
    family: Family,
    /// True if the row stands for all names of a maker.
    careful: bool,
}

dated_file!(FamilyTable from "families.json", families: Row);

#[derive(Clone, Deserialize)]
struct Row {
    #[serde(default)]
    models: Vec<Box<str>>,
    #[serde(default)]
    careful: bool,
    #[serde(flatten)]
    facts: serde_json::Map<String, serde_json::Value>,
}

/// The row that supplies the unset fields of a family without `like`.
#[doc(hidden)]
pub const UNKNOWN: &str = "unknown";

impl FamilyTable {
    /// Returns the families that come with the crate, of Anthropic's, OpenAI's, Google's and compatible models:
    /// `families.json` in `steadfast-core`, with its date and its sources. Read once.
    pub fn builtin() -> Self {
        Self::builtin_ref().clone()
    }

    /// Reads families in the form of the crate's own file:
    /// `{"as_of": "2026-11-21", "families": {"mine": {"models": ["m-1"], "like": "unknown", "max_output": 4096}}}`. A
    /// row has the names of its `models`, the fields of [`Facts`], and `careful` if a name stands for all that begin
    /// with it.
    ///
    /// # Errors
    ///
    /// The text is not JSON, names an unknown field or family, or puts a model into two families; or a value makes no
    /// sense.
    pub fn from_json(json: &str) -> Result<Self, InvalidConfig> {
        let wrong = |field: String, problem: String| InvalidConfig::new(field, problem);
        let file: File = serde_json::from_str(json).map_err(|error| wrong("families".to_owned(), error.to_string()))?;
        let mut rows: BTreeMap<Box<str>, (Row, Facts)> = BTreeMap::new();
        for (name, row) in file.families {
            let facts: Facts = serde_json::from_value(serde_json::Value::Object(row.facts.clone()))
                .map_err(|error| wrong(format!("families.{name}"), error.to_string()))?;
            if let Some((field, problem)) = facts.fault() {
                return Err(wrong(format!("families.{name}.{field}"), problem.to_owned()));
            }
            rows.insert(name, (row, facts));
        }
        let base = rows.get(UNKNOWN).map(|(_, facts)| facts.clone()).unwrap_or_default();
        let unknown = Family { name: UNKNOWN.into(), careful: true, facts: Arc::new(base.clone()) };
        let mut inner = Inner { as_of: file.as_of, models: QuickMap::default(), families: HashMap::new(), unknown };
        for (name, (row, facts)) in &rows {
            let mut whole = facts.clone();
            let mut like = facts.like.as_deref();
            let mut steps = 0;
            while let Some(next) = like {
                let Some((_, facts)) = rows.get(next) else {
                    return Err(wrong(format!("families.{name}.like"), format!("unknown family `{next}`")));
                };
                steps += 1;
                if steps > rows.len() {
                    return Err(wrong(format!("families.{name}.like"), "it refers back to itself".to_owned()));
                }
                whole = whole.over(facts);
                like = facts.like.as_deref();
            }
            let facts = Arc::new(whole.over(&base));
            let family = Family { name: (&**name).into(), careful: false, facts };
            for model in &row.models {
                let careful = row.careful;
                let entry = Entry { family: Family { careful, ..family.clone() }, careful };
                if inner.models.insert(model.clone(), entry).is_some() {
                    return Err(wrong(format!("families.{name}.models"), format!("`{model}` is in two families")));
                }
            }
            inner.families.insert(name.clone(), family);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Sets the facts of a model. Unset fields are the table's for that name, or those of the family that it is
    /// [`like`](Facts::like).
    ///
    /// # Errors
    ///
    /// The table does not know the family in `like`, or a value makes no sense; the error names the field.
    pub fn with(mut self, model: impl Into<Box<str>>, facts: Facts) -> Result<Self, InvalidConfig> {
        let model = model.into();
        if let Some((field, problem)) = facts.fault() {
            return Err(InvalidConfig::new(field, problem));
        }
        let base = match facts.like.as_deref() {
            None => self.family(&model).clone(),
            Some(like) => match self.0.families.get(like) {
                Some(family) => family.clone(),
                None if !self.family(like).careful => self.family(like).clone(),
                None => {
                    return Err(InvalidConfig::new("like", format!("unknown family or model `{like}`")));
                }
            },
        };
        let name = if facts == Facts::default() { base.name.clone() } else { (&*model).into() };
        let family = Family { name, careful: false, facts: Arc::new(facts.over(&base.facts)) };
        Arc::make_mut(&mut self.0).models.insert(model, Entry { family, careful: false });
        Ok(self)
    }

    /// Returns the date of the facts.
    pub fn as_of(&self) -> Option<&str> {
        self.0.as_of.as_deref()
    }

    /// Returns the family of a model; a careful one if it is not known.
    pub fn family(&self, model: &str) -> &Family {
        if let Some(entry) = self.0.models.get(model).filter(|entry| !entry.careful) {
            return &entry.family;
        }
        let name = bare(model);
        self.longest(&name).unwrap_or(&self.0.unknown)
    }

    /// Returns all rows, by name.
    #[doc(hidden)]
    pub fn families(&self) -> Vec<&Family> {
        let mut families: Vec<&Family> = self.0.families.values().collect();
        families.sort_by_key(|family| family.name());
        families
    }

    /// Returns the family of the longest name with which `model` begins.
    fn longest(&self, model: &str) -> Option<&Family> {
        let mut end = model.len();
        loop {
            let rest = model[end..].trim_start_matches(['-', '@', ':']);
            if let Some(entry) = self.0.models.get(&model[..end])
                && (if entry.careful { !rest.is_empty() } else { !is_version(rest) })
            {
                return Some(&entry.family);
            }
            end = model[..end].rfind(['-', '@', ':'])?;
        }
    }
}

/// Returns true if the rest of a name makes it another version: a number of one or two digits.
fn is_version(rest: &str) -> bool {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let ends = rest[digits..].chars().next().is_none_or(|next| matches!(next, '-' | '.' | '@' | ':'));
    (1..=2).contains(&digits) && ends
}

/// Returns a model's name in the table's spelling, without the parts that say where it is served.
fn bare(model: &str) -> Cow<'_, str> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let name = ["anthropic.", "openai."].iter().find_map(|maker| Some(name.rsplit_once(maker)?.1)).unwrap_or(name);
    let has_points = name.contains("claude") && name.contains('.');
    if !has_points && !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    let lower = name.to_ascii_lowercase();
    Cow::Owned(if has_points { lower.replace('.', "-") } else { lower })
}

impl PartialEq for FamilyTable {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl fmt::Debug for FamilyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FamilyTable").field("as_of", &self.0.as_of).field("models", &self.0.models.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::Effort,
        models::{Budget, ForcedTools, ReasoningOff, Sampling},
    };

    fn family(model: &str) -> Family {
        FamilyTable::builtin_ref().family(model).clone()
    }

    #[test]
    fn the_crates_own_table_has_a_date_and_known_families() {
        let table = FamilyTable::builtin();
        assert!(table.as_of().is_some_and(|day| day >= "2026-11-21"));
        for model in [
            "claude-3-5-haiku-20241022",
            "claude-sonnet-4-5",
            "claude-opus-4-1",
            "claude-opus-4-5",
            "claude-opus-4-6",
            "claude-opus-4-7",
            "claude-opus-5-5",
            "claude-sonnet-5-5",
            "claude-haiku-5-5",
            "gpt-4o",
            "gpt-4o-mini",
            "gpt-4.1",
            "o1",
            "o3",
            "o4-mini",
            "gpt-5",
            "gpt-5.1",
            "gpt-5.2",
            "gpt-5.4",
            "gpt-5.6-terra",
            "gpt-6-sol",
            "gemini-2.0-flash",
            "gemini-2.5-flash",
            "gemini-2.5-pro",
            "gemini-3-pro-preview",
            "gemini-3.1-pro-preview",
            "gemini-3-flash-preview",
        ] {
            let family = table.family(model);
            assert!(!family.is_careful(), "{model}");
            assert!(family.max_output().is_some_and(|most| most >= 4096), "{model}");
            assert!(family.efforts().windows(2).all(|two| two[0] < two[1]), "{model}");
        }
    }

    #[test]
    fn a_snapshot_is_its_model_and_a_later_version_is_not() {
        for (name, model) in [
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
            ("global.anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
            ("anthropic.claude-opus-4-8", "claude-opus-4-8"),
            ("openai.gpt-oss-120b-1:0", "gpt-oss-120b"),
            ("openai.gpt-5.5", "gpt-5.5"),
            ("openrouter/anthropic/claude-opus-4.6", "claude-opus-4-6"),
            ("claude-3-7-sonnet-latest", "claude-3-7-sonnet"),
            ("claude-opus-4-20250514", "claude-opus-4"),
            ("GPT-4o-2024-08-06", "gpt-4o"),
            ("ft:gpt-4o-mini-2024-07-18:org::abc", "gpt-4o-mini"),
            ("gpt-4o:free", "gpt-4o"),
            ("o3-pro", "o3"),
            ("gpt-5-2025-08-07", "gpt-5"),
            ("models/gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
            ("gemini-2.5-flash-lite-preview-09-2025", "gemini-2.5-flash-lite"),
            ("gemini-2.0-flash-001", "gemini-2.0-flash"),
        ] {
            assert!(family(name).is(&family(model)) && !family(name).is_careful(), "{name}: {}", family(name).name());
        }
        for (name, row) in [
            ("claude-opus-4-9", "claude"),
            ("claude-opus-5-6", "claude"),
            ("claude-next", "claude"),
            ("gpt-7", "gpt"),
            ("gpt-5.9", "gpt"),
            ("gemini-4-pro", "gemini"),
            ("qwen-max", "compatible"),
            ("llama-3.3-70b-versatile", "compatible"),
            ("my-gpt-4o", "unknown"),
            ("claude", "unknown"),
            ("", "unknown"),
            ("/", "unknown"),
        ] {
            let family = family(name);
            assert_eq!((family.name(), family.is_careful()), (row, true), "{name}");
        }
    }

    /// By the vendors' pages that the file names.
    #[test]
    fn the_rows_say_what_the_vendors_say() {
        let all = [Effort::Low, Effort::Medium, Effort::High, Effort::XHigh, Effort::Max];
        let opus = family("claude-opus-5-5");
        assert_eq!(
            (opus.sampling(), opus.forced_tools(), opus.off()),
            (Sampling::None, ForcedTools::No, ReasoningOff::Least)
        );
        assert_eq!((opus.efforts(), opus.budget(), opus.prefill()), (&all[..], None, false));
        let sonnet = family("claude-sonnet-4-5");
        assert_eq!((sonnet.sampling(), sonnet.budget().map(|budget| budget.least)), (Sampling::One, Some(1024)));
        assert_eq!((sonnet.max_output(), sonnet.forced_tools()), (Some(64_000), ForcedTools::WithoutReasoning));
        assert_eq!(family("claude-3-5-haiku").max_output(), Some(8192));
        assert!(
            !family("claude-3-5-haiku").reasons()
                && !family("gpt-4o").reasons()
                && !family("gemini-2.0-flash").reasons()
        );
        let gpt = family("gpt-5");
        assert_eq!((gpt.sampling(), gpt.stops(), gpt.off()), (Sampling::None, Some(0), ReasoningOff::Least));
        assert_eq!(gpt.efforts()[0], Effort::Minimal);
        assert!(!family("gpt-5.4").tools_with_reasoning() && !family("gpt-6-astra").tools());
        assert_eq!(family("gemini-2.5-pro").budget(), Some(Budget { least: 128, most: Some(32_768) }));
        assert_eq!(
            (family("gemini-2.5-pro").off(), family("gemini-2.5-flash").off()),
            (ReasoningOff::Least, ReasoningOff::Zero)
        );
        assert!(!family("gemini-2.5-flash").json_with_tools() && family("gemini-3-pro").json_with_tools());
        assert_eq!(family("gemini-3-pro-preview").efforts(), [Effort::Low, Effort::High]);
    }

    #[test]
    fn the_nearest_effort_is_never_more_than_what_is_asked_unless_it_is_the_least() {
        let gpt = family("o3");
        let asked = [Effort::Minimal, Effort::Low, Effort::Medium, Effort::High, Effort::XHigh, Effort::Max];
        let given: Vec<_> = asked.iter().map(|effort| gpt.nearest(*effort).unwrap()).collect();
        let [low, medium, high] = [Effort::Low, Effort::Medium, Effort::High];
        assert_eq!(given, [low, low, medium, high, high, high]);
        assert_eq!(family("claude-opus-4-6").nearest(Effort::XHigh), Some(Effort::High));
        assert_eq!(family("gpt-4o").nearest(Effort::High), None);
    }

    #[test]
    fn what_is_set_by_hand_goes_over_the_table() {
        let facts = Facts { max_output: Some(8000), stops: Some(2), ..Facts::default() };
        let table = FamilyTable::builtin().with("gpt-4o", facts).unwrap();
        let family = table.family("gpt-4o-2024-08-06");
        assert_eq!((family.max_output(), family.stops(), family.reasons()), (Some(8000), Some(2), false));
        let like = Facts { like: Some("claude-sonnet-4-5".to_owned()), ..Facts::default() };
        let table = table.with("writer", like).unwrap();
        assert_eq!(table.family("writer").budget().map(|budget| budget.least), Some(1024));
        assert!(table != FamilyTable::builtin() && FamilyTable::builtin() == FamilyTable::builtin());
        for (facts, field) in [
            (Facts { like: Some("nobody".to_owned()), ..Facts::default() }, "like"),
            (Facts { max_output: Some(0), ..Facts::default() }, "max_output"),
            (Facts { budget: Some(Budget { least: 2, most: Some(1) }), ..Facts::default() }, "budget"),
            (Facts { efforts: Some(vec![Effort::High, Effort::Low]), ..Facts::default() }, "efforts"),
        ] {
            assert_eq!(FamilyTable::builtin().with("m", facts).unwrap_err().field(), field);
        }
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        for (json, said) in [
            ("", "families"),
            (r#"{"families": {"a": {"modles": ["x"]}}}"#, "families.a"),
            (r#"{"families": {"a": {"models": ["x"], "like": "b"}}}"#, "unknown family `b`"),
            (r#"{"families": {"a": {"like": "b"}, "b": {"like": "a"}}}"#, "it refers back to itself"),
            (r#"{"families": {"a": {"models": ["x"]}, "b": {"models": ["x"]}}}"#, "`x` is in two families"),
            (r#"{"families": {"a": {"efforts": ["high", "low"]}}}"#, "families.a.efforts"),
            (r#"{"families": {"a": {"efforts": ["hgih"]}}}"#, "families.a"),
        ] {
            let error = FamilyTable::from_json(json).unwrap_err().to_string();
            assert!(error.contains(said), "{json}: {error}");
        }
    }

    #[test]
    fn a_look_up_allocates_nothing() {
        let table = FamilyTable::builtin();
        let measured = allocation_counter::measure(|| {
            for model in ["claude-sonnet-4-5", "openrouter/openai/gpt-4o-2024-08-06", "unknown/model-x", ""] {
                std::hint::black_box(table.family(model));
            }
        });
        assert_eq!(measured.count_total, 0);
    }
}
