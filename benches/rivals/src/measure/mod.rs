//! The ways of measuring.

pub mod allocations;
pub mod instructions;
pub mod threads;
pub mod timing;
pub mod wall;

/// The effort of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// To see that it runs: the figures are worth little.
    Quick,
    Whole,
}

impl Effort {
    /// So many rounds, or few.
    pub fn rounds(self, whole: usize) -> usize {
        if self == Self::Quick { 3 } else { whole }
    }
}

/// The middle value and the range that half of the values lie in.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

pub fn spread(values: &[f64]) -> Spread {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    Spread { median: at(0.5), low: at(0.25), high: at(0.75) }
}
