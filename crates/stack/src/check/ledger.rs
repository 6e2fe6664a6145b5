use super::Findings;
use crate::{Config, Share, WhenAway};

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    if let Some(caps) = &config.caps {
        if config.ledger.is_none() {
            findings.wrong("caps", "caps are one process's without a ledger: add `ledger: {}`, or leave this out");
        }
        if let WhenAway::GoOn(Share(share)) = caps.when_away
            && !(0.0..=1.0).contains(&share)
        {
            let problem = "is a share of each cap, from 0% to 100%";
            findings.within("caps.when_away", |findings| findings.wrong("go_on", problem));
        }
    }
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
