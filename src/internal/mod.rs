//! Mechanisms without a place in the vocabulary: clocks, hashes, histograms, locks.

pub(crate) mod base64;
pub(crate) mod dated_file;
pub(crate) mod fnv;
pub(crate) mod histogram;
pub(crate) mod quick_hash;
pub(crate) mod sync;
pub(crate) mod wall_clock;
