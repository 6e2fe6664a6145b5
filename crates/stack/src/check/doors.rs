use std::net::IpAddr;

use super::Findings;
use crate::{
    Candidate, Cloud, Config, Credential, CredentialName, CredentialSource, Provider, Tier, TierApi, suggest::nearest,
};
use steadfast::models::{Door, ModelDoors};

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    let mut table = ModelDoors::builtin();
    findings.within("same_model", |findings| {
        for (model, ids) in &config.same_model {
            match table.clone().with(model.as_str(), ids.clone()) {
                Ok(with) => table = with,
                Err(error) => findings.within(model, |findings| findings.wrong(error.field(), error.problem())),
            }
        }
    });
    findings.within("tiers", |findings| {
        for (at, own) in config.tiers.iter().enumerate() {
            findings.within(at, |findings| endpoints(own, &table, findings));
        }
    });
    if let Some(lane) = &config.lane {
        findings.within("lane", |findings| {
            findings.within("tiers", |findings| {
                for (at, own) in lane.tiers.iter().enumerate() {
                    findings.within(at, |findings| tier(own, &table, findings));
                }
            });
        });
    }
    if let Some(Candidate::Tier(own)) = config.mirror.as_ref().map(|mirror| &mirror.to) {
        findings.within("mirror", |findings| findings.within("to", |findings| endpoints(own, &table, findings)));
    }
}

/// Checks the door of a tier, or that of each of its deployments.
fn endpoints(own: &Tier, table: &ModelDoors, findings: &mut Findings<'_, '_>) {
    if own.deployments.is_none() {
        return tier(own, table, findings);
    }
    findings.within("deployments", |findings| {
        for (at, endpoint) in own.endpoints().iter().enumerate() {
            findings.within(at, |findings| {
                tier(endpoint, table, findings);
                same_model(own, endpoint, table, findings);
            });
        }
    });
}

/// Checks that a deployment's model is the tier's.
fn same_model(tier: &Tier, endpoint: &Tier, table: &ModelDoors, findings: &mut Findings<'_, '_>) {
    let (Some(of_tier), Some(own)) = (&tier.model, &endpoint.model) else { return };
    let (known, found) = (table.model(of_tier), table.model(own));
    // An id that the table does not know is a server's own name for the model.
    if own != of_tier && known.is_some() && found.is_some() && known != found {
        let message =
            format!("`{own}` is another model than the tier's, `{of_tier}`; make a tier of its own of this deployment");
        findings.wrong("model", message);
    }
}

fn tier(tier: &Tier, table: &ModelDoors, findings: &mut Findings<'_, '_>) {
    api(tier, findings);
    keys(tier, findings);
    let Some(cloud) = tier.at else { return };
    let served: &[Provider] = match cloud {
        Cloud::Aws => &[Provider::Anthropic, Provider::OpenAi],
        Cloud::Azure => &[Provider::OpenAi, Provider::Anthropic],
        Cloud::Vertex => &[Provider::Gemini, Provider::Anthropic],
    };
    if !served.contains(&tier.provider) {
        let names: Vec<String> = served.iter().map(|provider| format!("`{}`", provider.name())).collect();
        let (cloud, provider) = (cloud.name(), tier.provider.name());
        let message =
            format!("`at: {cloud}` has no models of `{provider}`; the providers there are {}", names.join(" and "));
        findings.wrong("at", message);
        return;
    }
    match cloud {
        Cloud::Aws => region(tier, findings),
        Cloud::Azure => azure(tier, findings),
        Cloud::Vertex => location(tier, findings),
    }
    credential(tier, cloud, findings);
    model(tier, table, findings);
}

/// Checks that the tier's server has the API.
fn api(tier: &Tier, findings: &mut Findings<'_, '_>) {
    let Some(api) = tier.api else { return };
    let is_claude_at_aws = (tier.provider, tier.at) == (Provider::Anthropic, Some(Cloud::Aws));
    let message = match tier.provider {
        Provider::OpenAi if api.is_openais() => return,
        Provider::OpenAi => "a tier with the provider `openai` has `api: chat`, `responses` or `auto`",
        _ if is_claude_at_aws && !api.is_openais() => return,
        _ if is_claude_at_aws => "Claude at AWS has `api: mantle`, `runtime`, `invoke` or `converse`",
        _ => {
            "only a tier with the provider `openai` has a choice of `api`, or one with `provider: anthropic, at: aws`; \
             remove it"
        }
    };
    findings.wrong_key("api", message);
}

/// Checks that the tier has only keys that its door takes.
fn keys(tier: &Tier, findings: &mut Findings<'_, '_>) {
    let given = [
        ("region", tier.region.is_some(), Some(Cloud::Aws)),
        ("project", tier.project.is_some(), Some(Cloud::Vertex)),
        ("location", tier.location.is_some(), Some(Cloud::Vertex)),
        ("resource", tier.resource.is_some(), Some(Cloud::Azure)),
        ("deployment", tier.deployment.is_some(), Some(Cloud::Azure)),
        ("api_version", tier.api_version.is_some(), Some(Cloud::Azure)),
        ("credential", tier.credential.is_some(), None),
    ];
    for (key, _, of) in given.into_iter().filter(|(_, is_given, _)| *is_given) {
        let message = match (tier.at, of) {
            (Some(_), None) => continue,
            (Some(at), Some(of)) if at == of => continue,
            (Some(Cloud::Aws), _) => format!("`at: aws` has no `{key}`; it takes `region`"),
            (Some(Cloud::Azure), _) => {
                format!("`at: azure` has no `{key}`; it takes `resource`, `deployment` and `api_version`")
            }
            (Some(Cloud::Vertex), _) => format!("`at: vertex` has no `{key}`; it takes `project` and `location`"),
            (None, Some(of)) => {
                format!("only a tier with `at: {}` has a `{key}`; add it, or remove `{key}`", of.name())
            }
            (None, None) => "only a tier with `at` has a `credential`; add `at`, or give an `api_key`".to_owned(),
        };
        findings.wrong_key(key, message);
    }
}

/// The directions in which clouds divide the parts of the world.
const DIRECTIONS: &[&str] =
    &["central", "east", "north", "northeast", "northwest", "south", "southeast", "southwest", "west"];
/// Regions and locations for suggestions.
const REGIONS: &[&str] = &[
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "eu-central-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-north-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "sa-east-1",
];
const LOCATIONS: &[&str] = &[
    "global",
    "us",
    "eu",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-west1",
    "europe-west1",
    "europe-west4",
    "asia-east1",
    "asia-northeast1",
    "asia-southeast1",
    "northamerica-northeast1",
    "southamerica-east1",
];

/// Returns whether the text has the form of a region of AWS: `us-east-1`, `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    let mut parts: Vec<&str> = text.split('-').collect();
    let number = parts.pop().unwrap_or_default();
    let direction = parts.pop().unwrap_or_default();
    let is_area = |part: &&str| (2..=4).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_lowercase());
    (1..=2).contains(&number.len())
        && number.bytes().all(|c| c.is_ascii_digit())
        && DIRECTIONS.contains(&direction)
        && (1..=2).contains(&parts.len())
        && parts.iter().all(is_area)
}

/// Returns whether the text has the form of a location of Google Cloud: `global`, `eu`, `us-east5`.
fn is_location(text: &str) -> bool {
    if matches!(text, "global" | "us" | "eu") {
        return true;
    }
    let Some((area, place)) = text.split_once('-') else { return false };
    let direction = place.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = place.len() - direction.len();
    (1..=2).contains(&number)
        && DIRECTIONS.contains(&direction)
        && area.len() >= 2
        && area.bytes().all(|c| c.is_ascii_lowercase())
}

fn region(tier: &Tier, findings: &mut Findings<'_, '_>) {
    if let Some(region) = tier.region.as_deref().filter(|region| !is_region(region)) {
        let right = nearest(region, REGIONS.iter().copied());
        findings.wrong_name("region", format!("`{region}` is no region of AWS, such as us-east-1"), right);
    }
}

fn location(tier: &Tier, findings: &mut Findings<'_, '_>) {
    if let Some(location) = tier.location.as_deref().filter(|location| !is_location(location)) {
        let right = nearest(location, LOCATIONS.iter().copied());
        let message = format!("`{location}` is no location of Google Cloud, such as us-east5 or global");
        findings.wrong_name("location", message, right);
    }
    // A number, or 6 to 30 characters: https://docs.cloud.google.com/resource-manager/docs/creating-managing-projects
    let is_project = |text: &str| {
        let is_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let is_number = text.bytes().all(|c| c.is_ascii_digit());
        text.bytes().all(is_name) && (is_number && !text.is_empty() || (6..=30).contains(&text.len()))
    };
    if let Some(project) = tier.project.as_deref().filter(|project| !is_project(project)) {
        findings.wrong("project", format!("`{project}` is no project's id, such as my-project-123"));
    }
}

fn azure(tier: &Tier, findings: &mut Findings<'_, '_>) {
    let is_label = |text: &str| {
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    match tier.resource.as_deref() {
        None if tier.base_url.is_none() => {
            findings.wrong_here("`resource` is missing here; give the name of the resource at Azure, or a `base_url`");
        }
        Some(resource) if !is_label(resource) => {
            let is_address = resource.contains(['.', '/', ':']) && resource.parse::<IpAddr>().is_err();
            let message = match is_address {
                true => format!(
                    "`{resource}` is an address; give the first part of its host alone, or the whole as `base_url`"
                ),
                false => format!("`{resource}` is no resource's name: letters, digits and `-`"),
            };
            findings.wrong("resource", message);
        }
        _ => {}
    }
    if tier.deployment.as_deref().is_some_and(|name| name.trim().is_empty() || name.contains(['/', '?', '#'])) {
        findings.wrong("deployment", "a deployment's name is not empty and has no `/`, `?` or `#`");
    }
    let Some(version) = tier.api_version.as_deref() else { return };
    let date = version.strip_suffix("-preview").unwrap_or(version);
    let is_date = date.len() == 10
        && date.bytes().enumerate().all(|(at, c)| if at == 4 || at == 7 { c == b'-' } else { c.is_ascii_digit() });
    if tier.provider != Provider::OpenAi {
        findings.wrong_key("api_version", "only OpenAI's models at Azure have an `api_version`; remove it");
    } else if !is_date {
        let message = format!("`{version}` is no date such as 2024-10-21; leave it out for the addresses without one");
        findings.wrong("api_version", message);
    }
}

/// Checks that the credential is one source of the tier's cloud, with all that the source needs.
fn credential(tier: &Tier, cloud: Cloud, findings: &mut Findings<'_, '_>) {
    if tier.api_key.is_some() {
        if tier.credential.is_some() {
            findings.wrong_key("credential", "set either `api_key` or `credential`, not both");
        } else if (tier.provider, cloud) == (Provider::Anthropic, Cloud::Vertex) {
            findings.wrong_key("api_key", "Claude at Vertex takes no key; give a `credential`, such as `default`");
        }
        return;
    }
    let names: &[CredentialName] = match cloud {
        Cloud::Aws => &[
            CredentialName::Default,
            CredentialName::Environment,
            CredentialName::WebIdentity,
            CredentialName::Container,
            CredentialName::Instance,
        ],
        Cloud::Azure => &[CredentialName::Default, CredentialName::ManagedIdentity, CredentialName::WorkloadIdentity],
        Cloud::Vertex => &[CredentialName::Default, CredentialName::Metadata],
    };
    let keys: &[&str] = match cloud {
        Cloud::Aws => &["profile", "key_id", "web_identity", "command"],
        Cloud::Azure => &["tenant", "managed_identity", "command"],
        Cloud::Vertex => &["service_account", "authorized_user", "external_account", "command"],
    };
    let takes = || {
        let names = names.iter().map(|name| name.name());
        let all: Vec<String> = names.chain(keys.iter().copied()).map(|name| format!("`{name}`")).collect();
        format!("`at: {}` takes {}", cloud.name(), all.join(", "))
    };
    match &tier.credential {
        None => {}
        Some(Credential::Named(name)) if names.contains(name) => {}
        Some(Credential::Named(name)) => {
            findings.wrong("credential", format!("no `{}` for it: {}", name.name(), takes()));
        }
        Some(Credential::Source(source)) => findings.within("credential", |findings| match source.given()[..] {
            [] => findings.wrong_here(format!("the credential names no source; {}", takes())),
            [one] if keys.contains(&one) => self::source(source, findings),
            [one] => findings.wrong_key(one, format!("no `{one}` for it: {}", takes())),
            [one, other, ..] => {
                findings.wrong_key(other, format!("a credential has one source; remove `{one}` or `{other}`"));
            }
        }),
    }
}

/// Checks that a source has all that it needs.
fn source(source: &CredentialSource, findings: &mut Findings<'_, '_>) {
    match (&source.key_id, &source.secret) {
        (Some(_), None) => findings.wrong_key("key_id", "half of a pair: `secret` is missing beside `key_id`"),
        (None, Some(_)) if source.tenant.is_none() && source.client_id.is_none() => {
            findings.wrong_key("secret", "half of a pair: `key_id` is missing beside `secret`");
        }
        (None, None) if source.session.is_some() => {
            findings.wrong_key("session", "a session belongs to a pair of keys; add `key_id` and `secret`");
        }
        _ => {}
    }
    if source.tenant.is_some() || source.client_id.is_some() {
        let all = [
            ("tenant", source.tenant.is_some()),
            ("client_id", source.client_id.is_some()),
            ("secret", source.secret.is_some()),
        ];
        if let Some((missing, _)) = all.iter().find(|(_, is_given)| !is_given) {
            let message =
                format!("`{missing}` is missing here; a client of Azure has `tenant`, `client_id` and `secret`");
            findings.wrong_here(message);
        }
    }
    if source.command.as_ref().is_some_and(|argv| argv.first().is_none_or(|program| program.trim().is_empty())) {
        findings.wrong("command", "the command is empty; give the program and its arguments as a list");
    }
    let texts = [
        ("profile", &source.profile),
        ("service_account", &source.service_account),
        ("authorized_user", &source.authorized_user),
        ("external_account", &source.external_account),
        ("tenant", &source.tenant),
        ("client_id", &source.client_id),
    ];
    for (key, _) in texts.iter().filter(|(_, text)| text.as_ref().is_some_and(|text| text.trim().is_empty())) {
        findings.wrong(*key, format!("`{key}` is empty"));
    }
}

/// Checks that the model has an id at the tier's door, and that a written id is not another door's.
fn model(tier: &Tier, table: &ModelDoors, findings: &mut Findings<'_, '_>) {
    let Some(model) = tier.model.as_deref() else { return };
    let own = tier.door(table);
    // A deployment has any name.
    if own == Door::Azure && tier.deployment.is_some() {
        return;
    }
    let name = table.model(model);
    let is_name = name == Some(model) || table.holds(model, Door::Own);
    if !is_name && !table.holds(model, own) {
        let elsewhere =
            Door::ALL.iter().find(|door| table.holds(model, **door)).copied().or_else(|| foreign(model, own));
        if let Some(door) = elsewhere {
            let right = name.filter(|_| !tier.lacks_id(table)).map_or_else(
                || format!("give the id at {own}"),
                |name| format!("write `model: {name}`, which becomes the id at {own}"),
            );
            findings.wrong("model", format!("`{model}` is an id at {door}, not at {own}; {right}"));
            return;
        }
    }
    if tier.lacks_id(table) {
        let message = match (own, tier.api) {
            (Door::AwsMantle, Some(TierApi::Mantle)) if table.id(model, Door::AwsRuntime, None).is_some() => {
                format!("no id of `{model}` is known at {own}; it has one at bedrock-runtime: write `api: runtime`")
            }
            _ => format!("no id of `{model}` is known at {own}; write the id itself, or add it under `same_model`"),
        };
        findings.wrong("model", message);
    }
}

/// Returns the other door whose ids have this form.
fn foreign(model: &str, own: Door) -> Option<Door> {
    let is_aws = model.starts_with("arn:aws") || ["anthropic.", "openai."].iter().any(|maker| model.contains(maker));
    let is_vertex = model.rsplit_once('@').is_some_and(|(_, date)| date.len() == 8 && date.parse::<u32>().is_ok());
    match own {
        Door::Vertex | Door::Azure if is_aws => Some(Door::AwsRuntime),
        Door::AwsMantle | Door::AwsRuntime | Door::Azure if is_vertex => Some(Door::Vertex),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_and_locations_have_their_forms() {
        for region in REGIONS.iter().chain(&["us-gov-west-1", "eusc-de-east-1", "ap-southeast-7", "mx-central-1"]) {
            assert!(is_region(region), "{region}");
        }
        for text in
            ["", "us", "us-east", "us-est-1", "us-east-", "us-east-1a", "US-EAST-1", "us-east5", "europe-west-4"]
        {
            assert!(!is_region(text), "{text}");
        }
        for location in LOCATIONS.iter().chain(&["me-central2", "africa-south1", "australia-southeast1"]) {
            assert!(is_location(location), "{location}");
        }
        for text in ["", "us-east-1", "us-est5", "europe", "globl", "us-", "-west1"] {
            assert!(!is_location(text), "{text}");
        }
    }
}
