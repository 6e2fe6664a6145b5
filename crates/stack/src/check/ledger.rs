use super::Findings;
use crate::Config;

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    let Some(ledger) = &config.ledger else { return };
    if config.stores.durable.is_none() {
        let message = match config.stores.shared {
            Some(_) => {
                "a ledger needs a durable store, and Redis is none: add `stores: { durable: postgres://... }` beside it"
            }
            None => "a ledger needs a durable store: add `stores: { durable: sqlite:steadfast.db }`",
        };
        findings.wrong("ledger", message);
    }
    findings.within("ledger", |findings| {
        findings.nonzero_time("keep", ledger.keep);
        if ledger.folder.as_deref().is_some_and(|folder| folder.trim().is_empty()) {
            findings.wrong("folder", "the folder's name is empty: leave it out, or name one on a local disk");
        }
    });
}
