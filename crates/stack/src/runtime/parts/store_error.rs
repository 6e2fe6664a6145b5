//! The errors of a configuration's stores.

use steadfast::InvalidConfig;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
use steadfast::store::StoreError;

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(crate) fn wrong(which: &str, error: &StoreError) -> InvalidConfig {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    InvalidConfig::new(format!("stores.{which}"), format!("{error}{cause}"))
}

pub(crate) fn not_here(which: &str, feature: &str) -> InvalidConfig {
    let problem = format!("this build lacks it; build with the feature `{feature}`");
    InvalidConfig::new(format!("stores.{which}"), problem)
}
