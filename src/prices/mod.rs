//! What answers cost.

mod usd;

pub use self::usd::Usd;
