use super::Findings;
use crate::{Config, Validate};

/// Refuses a setting that this build cannot honour, rather than ignoring it.
pub(super) fn check(settings: Option<Validate>, findings: &mut Findings<'_, '_>) {
    if matches!(settings, Some(Validate::On(_))) && cfg!(not(feature = "validate")) {
        findings.wrong("validate", Config::NO_VALIDATE);
    }
}
