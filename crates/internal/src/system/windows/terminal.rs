//! The terminal.

/// A terminal that sends each key at once: there is none here, and keys come by lines.
#[derive(Debug)]
pub enum SingleKeys {}

impl SingleKeys {
    /// Returns none.
    pub fn begin() -> Option<Self> {
        None
    }
}
