//! The facts of models about requests: the sampling settings that they take, the form of reasoning, forced tools, the
//! longest answer, and more. Leaves translate parameters by them, so that a failover does not fail because of a
//! parameter.
//!
//! The facts are kept by *family*, in one dated file with its sources (`families.json` in `steadfast-core`); an unknown
//! model gets a careful row. Pass a [`FamilyTable`] of your own to a leaf with `HttpLeaf::families`.
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
//!
//! Clouds have ids of their own for a maker's models: [`ModelDoors`] finds the model of an id, and the id of a model.
#![doc = include_str!("efforts.md")]

mod doors;
mod facts;
mod family;
mod ladder;
#[doc(hidden)]
pub mod snapshot;
mod table;

#[doc(hidden)]
pub use self::family::gemini_generation;
#[doc(hidden)]
pub use self::ladder::{budget_of, effort_of};
#[doc(hidden)]
pub use self::table::UNKNOWN;
pub use self::{
    doors::{Door, DoorIds, ModelDoors},
    facts::{Budget, Facts, ForcedTools, ReasoningOff, Sampling},
    family::Family,
    table::FamilyTable,
};
