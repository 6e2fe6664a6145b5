use super::Findings;
use crate::Config;

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    let Some(responses) = config.responses else { return };
    findings.within("responses", |findings| {
        findings.nonzero_time("keep", responses.keep);
        if responses.keep.is_some() && config.stores.durable.is_none() {
            let message = "keeping responses needs a durable store, and there is no durable store yet: add \
                           `stores: { durable: sqlite:steadfast.db }`";
            findings.wrong("keep", message);
        }
        let why = "; leave `keep` out to keep none";
        for (key, size) in [("max_response", responses.max_response), ("max_bytes", responses.max_bytes)] {
            findings.at_least_one(key, size.map(|size| size.0), why);
            if size.is_some() && responses.keep.is_none() {
                findings.wrong(key, format!("`{key}` has no effect without `keep`, the time to keep responses for"));
            }
        }
    });
}
