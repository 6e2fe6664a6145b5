//! AWS's regions.

use crate::{InvalidConfig, credentials::Machine};

/// Returns true if a name has the form of a region's: `eu-west-1`, `us-gov-east-1`.
pub(crate) fn is_region(name: &str) -> bool {
    let mut words: Vec<&str> = name.split('-').collect();
    let number = words.pop().unwrap_or_default();
    let is_word = |word: &&str| word.len() >= 2 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && (2..=3).contains(&words.len()) && words.iter().all(is_word)
}

/// Returns the problem of a name that is no region's, if it is none.
pub(crate) fn check(region: &str) -> Result<(), String> {
    if is_region(region) {
        return Ok(());
    }
    let shown: String = region.chars().filter(|letter| !letter.is_control()).take(40).collect();
    Err(format!("`{shown}` is no AWS region; write one such as `eu-west-1`"))
}

/// Returns the domain of a region's services.
pub(crate) fn suffix(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        _ => "amazonaws.com",
    }
}

/// Returns the region that the environment names.
pub(crate) fn of(machine: &Machine) -> Result<Option<String>, InvalidConfig> {
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(region) = machine.variable(name)? {
            check(&region).map_err(|problem| InvalidConfig::new(name, problem))?;
            return Ok(Some(region));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_regions_are_checked() {
        for region in ["eu-west-1", "us-gov-west-1", "ap-southeast-7", "eusc-de-east-1", "us-isob-east-1", "cn-north-1"]
        {
            assert_eq!(check(region), Ok(()), "{region}");
        }
        for region in
            ["", "eu", "eu-west", "EU-WEST-1", "eu-west-1.evil.example/", "eu_west_1", "eu--1", "global", "-west-1"]
        {
            assert!(check(region).unwrap_err().contains("eu-west-1"), "{region}");
        }
    }
}
