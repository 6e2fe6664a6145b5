//! Mechanisms that steadfast's packages share: locks, hashes, histograms, the wall clock, short writes, counts
//! for each thread, bodies in content codings, and all that differs between systems.
//!
//! This package has no stable interface: depend on [`steadfast`](https://docs.rs/steadfast) instead.

pub mod base64;
pub mod calendar;
#[cfg(feature = "codings")]
pub mod codings;
pub mod decimal;
pub mod fnv;
pub mod gather;
pub mod hex;
pub mod histogram;
pub mod joined_bytes;
pub mod mix;
pub mod quick_hash;
pub mod recent;
pub mod sharded;
pub mod shares;
pub mod sync;
pub mod system;
pub mod text_similarity;
pub mod totals;
pub mod wall_clock;
