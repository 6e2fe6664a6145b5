//! What models take of a request beside the conversation: which sampling settings, how much reasoning and how it is said,
//! forced tools, the longest answer, and more. By it a leaf translates parameters, so that a fallback does not fail of one.
//!
//! The facts are by *family*, in one dated file with its sources (`src/models/families.json`); what is not in it gets a
//! careful row. A [`FamilyTable`] of your own goes to a leaf with
//! [`HttpLeaf::families`](crate::providers::http::HttpLeaf::families).
//!
//! ```
//! use steadfast::models::{FamilyTable, Facts};
//!
//! let table = FamilyTable::builtin();
//! assert_eq!(table.family("gpt-4o-2024-08-06").max_output(), Some(16_384));
//! assert_eq!(table.family("anthropic/claude-sonnet-4-5").name(), "claude-4-5");
//! assert!(!table.family("gpt-4o").reasons());
//!
//! let facts = Facts { like: Some("gpt-4o".into()), max_output: Some(4096), ..Facts::default() };
//! let table = table.with("our-finetune", facts)?;
//! assert_eq!(table.family("our-finetune").max_output(), Some(4096));
//! # Ok::<(), steadfast::InvalidConfig>(())
//! ```

mod facts;
mod family;
mod ladder;
mod table;

pub(crate) use self::ladder::{budget_of, effort_of};
#[cfg(feature = "http")]
pub(crate) use self::table::UNKNOWN;
pub use self::{
    facts::{Budget, Facts, ForcedTools, Off, Sampling},
    family::Family,
    table::FamilyTable,
};
