//! The shapes of names that addresses are made of, and the doubts that a name is this door's.

use crate::{InvalidConfig, credentials::aws::region::is_region, models::snapshot::is_bedrocks_maker};

/// Checks a region of AWS, such as `us-east-1` or `us-gov-west-1`.
pub(super) fn region(region: &str) -> Result<&str, InvalidConfig> {
    let region = region.trim();
    if is_region(region) {
        return Ok(region);
    }
    let hint = match is_google_location(region) {
        true => "; this is a location of Google Cloud",
        false => "",
    };
    let problem = format!("{} is no region of AWS: write one such as us-east-1 or eu-central-1{hint}", quoted(region));
    Err(InvalidConfig::new("region", problem))
}

/// Checks the name of an Azure resource: the first part of its host.
pub(super) fn resource(resource: &str) -> Result<&str, InvalidConfig> {
    let resource = resource.trim();
    if resource.contains("://") || resource.contains('.') {
        let problem = "it is an address: write the resource's name alone, such as my-resource, or set base_url";
        return Err(InvalidConfig::new("resource", problem));
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let ends = resource.starts_with('-') || resource.ends_with('-');
    if (2..=64).contains(&resource.len()) && resource.bytes().all(is_name) && !ends {
        return Ok(resource);
    }
    let problem = format!(
        "{} is no name of an Azure resource: 2 to 64 letters, digits and hyphens, as the portal shows it",
        quoted(resource)
    );
    Err(InvalidConfig::new("resource", problem))
}

/// Checks the id of a Google Cloud project, or its number.
pub(super) fn project(project: &str) -> Result<&str, InvalidConfig> {
    let project = project.trim();
    // Old projects belong to a domain: `example.com:name`.
    let id = project.rsplit(':').next().unwrap_or(project);
    let is_number = !project.is_empty() && project.bytes().all(|byte| byte.is_ascii_digit());
    let is_id = (6..=30).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && id.starts_with(|first: char| first.is_ascii_lowercase())
        && !id.ends_with('-');
    let is_domain = project.rsplit_once(':').is_none_or(|(domain, _)| {
        domain.contains('.') && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    });
    if is_number || is_id && is_domain {
        return Ok(project);
    }
    let problem = format!(
        "{} is no id of a Google Cloud project: 6 to 30 lower-case letters, digits and hyphens, or its number",
        quoted(project)
    );
    Err(InvalidConfig::new("project", problem))
}

/// Checks a location of Google Cloud: `global`, a continent (`us`, `eu`), or a region such as `europe-west1`.
pub(super) fn location(location: &str) -> Result<&str, InvalidConfig> {
    let location = location.trim();
    if matches!(location, "global" | "us" | "eu") || is_google_location(location) {
        return Ok(location);
    }
    let hint = match is_region(location) {
        true => "; this is a region of AWS",
        false => "",
    };
    let problem = format!(
        "{} is no location of Google Cloud: write global, or one such as us-east5 or europe-west1{hint}",
        quoted(location)
    );
    Err(InvalidConfig::new("location", problem))
}

fn is_google_location(location: &str) -> bool {
    let Some((continent, place)) = location.split_once('-') else { return false };
    let word = place.trim_end_matches(|last: char| last.is_ascii_digit());
    let is_word = |word: &str| word.len() >= 2 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    is_word(continent) && is_word(word) && (1..=2).contains(&(place.len() - word.len()))
}

/// Checks the name of a deployment of Azure.
pub(super) fn deployment(deployment: &str) -> Result<&str, InvalidConfig> {
    let deployment = deployment.trim();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=64).contains(&deployment.len()) && deployment.bytes().all(is_name) {
        return Ok(deployment);
    }
    let problem = format!(
        "{} is no name of a deployment: up to 64 letters, digits, hyphens, underscores and points",
        quoted(deployment)
    );
    Err(InvalidConfig::new("deployment", problem))
}

/// Checks a version of an API: a date for Azure (`2024-10-21`, `2025-04-01-preview`), `v1` or `v1beta1` for Vertex AI.
pub(super) fn api_version(version: &str) -> Result<&str, InvalidConfig> {
    let version = version.trim();
    let is_version = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if (1..=40).contains(&version.len()) && version.bytes().all(is_version) {
        return Ok(version);
    }
    let problem = format!("{} is no version of an API: write one such as 2024-10-21", quoted(version));
    Err(InvalidConfig::new("api_version", problem))
}

/// Returns a value for an error: short, in one line.
fn quoted(value: &str) -> String {
    if value.is_empty() {
        return "it is empty, which".to_owned();
    }
    let short: String = value.chars().take(60).filter(|letter| !letter.is_control()).collect();
    format!("`{short}`")
}

/// The place whose spelling a model's id has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `claude-sonnet-4-5`, `gpt-5`: a provider's own, Azure's and mostly Google's.
    Plain,
    /// `claude-sonnet-4-5@20250929`.
    Vertex,
    /// `anthropic.claude-sonnet-4-5`, and `openai.gpt-oss-120b`.
    Bedrock,
    /// `us.anthropic.claude-sonnet-4-5-20250929-v1:0`.
    Profile,
}

/// The prefixes of inference profiles. Source: "Supported Regions and models for inference profiles", AWS.
const PROFILES: [&str; 8] = ["us", "us-gov", "eu", "apac", "jp", "au", "ca", "global"];

impl Spelling {
    /// Returns the spelling of a model's id.
    pub(super) fn of(model: &str) -> Self {
        let of_vendor = |rest: &str| {
            let (vendor, name) = rest.split_once('.').unwrap_or((rest, ""));
            !name.is_empty() && is_bedrocks_maker(vendor)
        };
        if model.starts_with("arn:") {
            return Self::Profile;
        }
        match model.split_once('.') {
            Some((prefix, rest)) if PROFILES.contains(&prefix) && of_vendor(rest) => Self::Profile,
            _ if of_vendor(model) => Self::Bedrock,
            _ if model.contains('@') => Self::Vertex,
            _ => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_right_shape_are_taken() {
        for name in ["us-east-1", "eu-central-1", "ap-southeast-2", "us-gov-west-1", "us-iso-east-1", " us-west-2\n"] {
            assert_eq!(region(name).unwrap(), name.trim());
        }
        for name in ["global", "us", "eu", "us-east5", "europe-west1", "asia-northeast1", "northamerica-northeast2"] {
            assert_eq!(location(name).unwrap(), name);
        }
        for name in ["my-project-1", "123456789012", "example.com:my-project"] {
            assert_eq!(project(name).unwrap(), name);
        }
        for name in ["my-resource", "RESOURCE", "a1"] {
            assert_eq!(resource(name).unwrap(), name);
        }
    }

    #[test]
    fn a_wrong_name_is_refused_with_its_field_and_a_suggestion() {
        for name in ["", "us", "useast1", "us-east", "US-EAST-1", "us-east-1a", "global", "us-east5", "us-east-1/x"] {
            let error = region(name).unwrap_err();
            assert_eq!(error.field(), "region");
            assert!(error.to_string().contains("us-east-1"), "{error}");
        }
        for name in ["", "us-east-1", "europe", "global-1", "us-east5/../x", "EU"] {
            let error = location(name).unwrap_err();
            assert_eq!(error.field(), "location");
            assert!(error.to_string().contains("global"), "{error}");
        }
        for name in ["", "abc", "My-Project", "a/b/c/d/e/f", "-project", "project-", "x:my-project"] {
            assert_eq!(project(name).unwrap_err().field(), "project", "{name}");
        }
        for name in ["", "https://my.openai.azure.com", "my.openai.azure.com", "a/b", "-ab", "ä-resource"] {
            assert_eq!(resource(name).unwrap_err().field(), "resource", "{name}");
        }
        assert!(region("us-east5").unwrap_err().to_string().contains("Google"));
        assert!(location("us-east-1").unwrap_err().to_string().contains("AWS"));
        assert_eq!(deployment("a/b").unwrap_err().field(), "deployment");
        assert_eq!(api_version("2024?x").unwrap_err().field(), "api_version");
    }

    #[test]
    fn spellings_of_model_ids_are_told_apart() {
        for (model, spelling) in [
            ("claude-sonnet-4-5-20250929", Spelling::Plain),
            ("gpt-4.1-mini", Spelling::Plain),
            ("gemini-2.5-pro", Spelling::Plain),
            ("claude-sonnet-4-5@20250929", Spelling::Vertex),
            ("anthropic.claude-sonnet-4-5", Spelling::Bedrock),
            ("anthropic.claude-3-5-sonnet-20240620-v1:0", Spelling::Bedrock),
            ("openai.gpt-oss-120b", Spelling::Bedrock),
            ("us.anthropic.claude-opus-4-1-20250805-v1:0", Spelling::Profile),
            ("global.anthropic.claude-opus-4-6-v1", Spelling::Profile),
            ("us.amazon.nova-2-lite-v1:0", Spelling::Profile),
            ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.x", Spelling::Profile),
        ] {
            assert_eq!(Spelling::of(model), spelling, "{model}");
        }
    }
}
