use std::fmt::Write;

use clap::Args;
use sha2::{Digest, Sha256};

use crate::exit::Failure;

/// Makes a new key for a caller of the gateway, and the entry for the file of keys.
///
/// The key itself is shown once and kept nowhere.
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
        // A string of JSON is one of YAML, whatever is in it.
        let name = serde_json::Value::from(self.name);
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| Failure::Config(format!("error: no randomness: {error}")))?;
        let key = format!("sk-steadfast-{}", hex(&random));
        println!("The key, which is not shown again:\n\n  {key}\n");
        println!(
            "Its entry in the file for `serve --keys FILE`. It may have more: features, models, requests_per_minute,"
        );
        println!(
            "tokens_per_minute, concurrency, budget: {{ usd: 50, period: day }}, expires: 2027-01-01, admin: true,\nhandoff: true.\n"
        );
        println!("keys:\n  - name: {name}\n    hash: sha256:{}", hex(&Sha256::digest(&key)));
        Ok(())
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
