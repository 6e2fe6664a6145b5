//! The steadfast gateway beside nginx and other gateways, under load. `README.md` says how to run it and how it
//! measures.

pub mod contestants;
pub mod dialect;
pub mod http;
pub mod instructions;
pub mod load;
pub mod measure;
pub mod pace;
pub mod process;
pub mod provider;
pub mod report;
pub mod result;
pub mod rig;
pub mod soak;
pub mod targets;
pub mod training;
pub mod trials;
