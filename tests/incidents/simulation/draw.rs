//! Draws from a seed: everything that is random in a simulation comes from here.

use std::{f64::consts::TAU, time::Duration};

/// A source of chance. The same seed and the same questions give the same answers.
#[derive(Debug)]
pub(crate) struct Draw(fastrand::Rng);

impl Draw {
    /// A source for one purpose: another purpose's draws do not change this one's.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mixed = purpose.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
        });
        Self(fastrand::Rng::with_seed(mixed))
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.0.f64() < share
    }

    /// From `low` to `high`, both included.
    pub(crate) fn number(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.0.usize(..len)
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())].clone()
    }

    /// A span of whole milliseconds, as likely between 1 and 10 as between 10 and 100.
    pub(crate) fn span(&mut self, low_ms: u64, high_ms: u64) -> Duration {
        let (low, high) = ((low_ms.max(1) as f64).ln(), (high_ms.max(1) as f64).ln());
        Duration::from_millis((low + (high - low) * self.0.f64()).exp().round() as u64)
    }

    /// Any moment of a span, in whole milliseconds.
    pub(crate) fn moment(&mut self, from: Duration, to: Duration) -> Duration {
        let (from, to) = (from.as_millis() as u64, to.as_millis() as u64);
        Duration::from_millis(self.number(from, to.max(from)))
    }

    pub(crate) fn seed(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// The time to the next arrival of a Gamma process of that shape and mean: shape 1 is a Poisson process, less comes
    /// in clumps, more is regular. After Marsaglia and Tsang (2000).
    pub(crate) fn gamma(&mut self, shape: f64, mean: f64) -> f64 {
        let boost = if shape < 1.0 { (1.0 - self.0.f64()).powf(1.0 / shape) } else { 1.0 };
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = (-2.0 * (1.0 - self.0.f64()).ln()).sqrt() * (TAU * self.0.f64()).cos();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.0.f64()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return boost * d * v * mean / shape;
            }
        }
    }
}

#[test]
fn gamma_arrivals_have_the_mean_and_the_spread_that_were_asked_for() {
    for shape in [0.3, 1.0, 4.0] {
        let mut draw = Draw::new(7, "gamma");
        let drawn: Vec<f64> = (0..40_000).map(|_| draw.gamma(shape, 2.0)).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!((mean - 2.0).abs() < 0.1, "shape {shape}: {mean}");
        assert!((variance * shape / 4.0 - 1.0).abs() < 0.15, "shape {shape}: {variance}");
    }
}
