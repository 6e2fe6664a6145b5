//! The tables, in Markdown, and what they come to.

pub mod calls;
pub mod findings;
pub mod growth;
pub mod machine;
pub mod numbers;
pub mod outage;
pub mod outside;
pub mod page;
pub mod threads;
pub mod traps;
pub mod whole;

pub use self::findings::Finding;

/// One part of the report.
#[derive(Debug, Default)]
pub struct Section {
    pub title: String,
    /// The command that repeats it.
    pub repeat: String,
    pub text: String,
    pub findings: Vec<Finding>,
    /// The part of it that stands on the page that users read first.
    pub brief: String,
}

/// A number with as many digits as mean something, `-` for one that is not known.
pub fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
        None => "-".to_owned(),
    }
}
