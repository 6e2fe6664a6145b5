//! `steadfast key`: a new key for a caller.

use std::io::Write as _;

use clap::Args;
use steadfast_gateway::VirtualKey;

use super::Failure;

/// Make a new key for a caller of the gateway, and the entry for the file of keys
///
/// Prints the key once and stores it nowhere. All that is kept of a key's requests belongs to its name, so that a new
/// team takes a new name.
#[derive(Args, Debug)]
pub(crate) struct Key {
    /// The caller's name, for logs and records
    name: String,
}

impl Key {
    /// Prints the key and its entry.
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.name.trim().is_empty() || self.name.chars().any(char::is_control) {
            return Err(Failure::usage("a key needs a name, of characters that can be seen"));
        }
        // A JSON string is a YAML string.
        let name = serde_json::Value::from(self.name);
        let key = VirtualKey::generate().map_err(|error| Failure::Config(format!("error: no randomness: {error}")))?;
        let (secret, hash) = (key.secret(), key.hash());
        write!(
            std::io::stdout().lock(),
            "The key, which is not shown again:\n\n  {secret}\n\nIts entry in the file for `serve --keys FILE`. It may \
             have more: team, features, models, requests_per_minute,\ntokens_per_minute, concurrency, \
             budget: {{ usd: 50, period: day }}, expires: 2027-01-01, admin: true,\nhandoff: true, \
             objects: false, pass_through: true. Put them before the hash, and `...` on the last line\nof the file, so \
             that a file that is read while it is written gives no key more than it is to have.\n\n\
             Kept responses, objects, tasks and spending belong to the name: \
             a name that another team has had shows theirs.\n\nkeys:\n  - name: {name}\n    hash: {hash}\n"
        )?;
        Ok(())
    }
}
