//! The whole stack in one file. Feature `config`.

mod schema;

pub use self::schema::*;
