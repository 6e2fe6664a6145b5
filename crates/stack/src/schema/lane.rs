use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use super::Tier;

/// The paths that are no conversation, such as `/v1/embeddings`. A call goes to the tiers here that have the model that
/// it names, and to no tier of the conversations.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lane {
    /// The tiers, in order of preference. Those of one model stand in for each other, and for embeddings those of one
    /// `space`.
    pub tiers: Vec<Tier>,
    /// The treatment of `POST` to a path of `/v1` that the gateway does not know. Default: `refuse`.
    pub other: OtherPaths,
}

/// The treatment of unknown paths. A request that passes goes to one tier, once: the first with the model that it
/// names, or else the first of all. A model that no tier of the lane has is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OtherPaths {
    /// The gateway refuses the request, and its error lists the paths.
    #[default]
    Refuse,
    /// Every path passes. Of callers with keys only those with `pass_through` may ask.
    Pass,
    /// These paths pass, for every caller.
    Listed(Vec<ListedPath>),
}

/// A path of `/v1`, in which `*` stands for one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPath(String);

impl ListedPath {
    /// Returns true if a request's path is this one.
    pub fn is(&self, path: &str) -> bool {
        let (mut own, mut parts) = (self.0.split('/'), path.split('/'));
        let is_same = |(own, part): (&str, &str)| own == "*" || own == part;
        own.by_ref().zip(parts.by_ref()).all(is_same) && self.0.split('/').count() == path.split('/').count()
    }
}

impl FromStr for ListedPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |part: &str| {
            let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
            part == "*" || !part.is_empty() && !matches!(part, "." | "..") && part.bytes().all(is_usual)
        };
        let rest = text.strip_prefix("/v1/").filter(|rest| rest.split('/').all(is_plain) && !rest.starts_with('*'));
        match rest {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(format!("`{text}` is no path of `/v1`, such as /v1/ocr or /v1/videos/*/remix")),
        }
    }
}

impl<'de> Deserialize<'de> for OtherPaths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Paths;

        impl<'de> Visitor<'de> for Paths {
            type Value = OtherPaths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`refuse`, `pass`, or a list of paths such as [/v1/ocr]")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<OtherPaths, E> {
                match word {
                    "refuse" => Ok(OtherPaths::Refuse),
                    "pass" => Ok(OtherPaths::Pass),
                    other => Err(E::unknown_variant(other, &["refuse", "pass"])),
                }
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<OtherPaths, S::Error> {
                let mut paths = Vec::new();
                while let Some(path) = list.next_element::<String>()? {
                    paths.push(path.parse().map_err(de::Error::custom)?);
                }
                Ok(OtherPaths::Listed(paths))
            }
        }

        deserializer.deserialize_any(Paths)
    }
}

impl JsonSchema for OtherPaths {
    fn schema_name() -> Cow<'static, str> {
        "OtherPaths".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The treatment of unknown paths. `pass`: of callers with keys only those with `pass_through` \
                            may ask. A list: every caller may, and `*` stands for one part of a path.",
            "anyOf": [
                { "type": "string", "enum": ["refuse", "pass"] },
                { "type": "array", "items": { "type": "string", "pattern": "^/v1/[A-Za-z0-9_.:-]+(/([A-Za-z0-9_.:-]+|\\*))*$" } },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_part() {
        let listed = |text: &str| text.parse::<ListedPath>().unwrap();
        let remix = listed("/v1/videos/*/remix");
        for (path, is) in [
            ("/v1/videos/video_1/remix", true),
            ("/v1/videos/remix", false),
            ("/v1/videos/a/b/remix", false),
            ("/v1/videos/video_1/remix/x", false),
            ("/v1/videos/video_1", false),
        ] {
            assert_eq!(remix.is(path), is, "{path}");
        }
        assert!(listed("/v1/ocr").is("/v1/ocr") && !listed("/v1/ocr").is("/v1/ocr/x"));
        for wrong in ["", "/v1", "/v1/", "/v2/x", "v1/x", "/v1/*", "/v1/../x", "/v1/a//b", "/v1/a?b", "/v1/a%2fb"] {
            assert!(wrong.parse::<ListedPath>().is_err(), "{wrong}");
        }
    }
}
