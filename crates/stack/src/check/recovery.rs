use super::Findings;
use crate::RecoveryCheck;

pub(super) fn check(check: Option<&RecoveryCheck>, findings: &mut Findings<'_, '_>) {
    let settings = match check {
        None => return,
        Some(RecoveryCheck::Every(span)) => return findings.nonzero_time("recovery_check", Some(*span)),
        Some(RecoveryCheck::Settings(settings)) => settings,
    };
    findings.within("recovery_check", |findings| {
        findings.nonzero_time("every", settings.every);
        let Some(text) = &settings.probe_with else { return };
        if !settings.active {
            findings.wrong_key("probe_with", "`probe_with` needs `active: true`");
        } else if text.trim().is_empty() {
            findings.wrong("probe_with", "the prompt is empty; give a text, or leave `probe_with` out");
        }
    });
}
