use schemars::JsonSchema;
use serde::Deserialize;

use super::Span;

/// The ledger: a row for every answer's cost, in the durable store, with the caller's key, team, feature and session.
/// `steadfast spend` and `GET /admin/spend` read it. Without it spending is counted in memory alone, for the caps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// The time for which rows are kept; sums by the hour are kept for ever. Default: 90 days.
    #[schemars(extend("default" = "90d"))]
    pub keep: Option<Span>,
    /// The folder of the journal, on a local disk: it has every row until the store does, so that neither a crash nor
    /// a store that is away loses one. Processes of one machine may share it. Default: the folder `ledger` in
    /// `$STATE_DIRECTORY`, which systemd sets; without that, beside a SQLite file; else none.
    pub folder: Option<String>,
}
