use super::Findings;
use crate::config::{Config, Validate};

/// A setting that this program cannot keep is not passed over in silence.
pub(super) fn check(settings: Option<Validate>, findings: &mut Findings<'_, '_>) {
    if matches!(settings, Some(Validate::On(_))) && cfg!(not(feature = "validate")) {
        findings.wrong("validate", Config::NO_VALIDATE);
    }
}
