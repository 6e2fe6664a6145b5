use std::{fmt, iter::Sum, num::NonZeroU64, ops::Add};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::internal::decimal::decimal;

/// An amount of US dollars, exact to a billionth, never negative. Arithmetic saturates instead of wrapping.
///
/// ```
/// use steadfast::prices::Usd;
///
/// let cent = Usd::from_nanos(10_000_000);
/// assert_eq!(cent + cent, Usd::from_dollars(0.02).unwrap());
/// assert_eq!(cent.to_string(), "$0.01");
/// ```
// One more than the billionths: an amount that may be missing is then as wide as one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(NonZeroU64);

const NANOS: u64 = 1_000_000_000;

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self::from_nanos(0);

    /// Creates an amount of billionths of a dollar, of at most `u64::MAX - 1`.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Creates an amount of dollars, to the nearest billionth. Returns `None` for a number that is negative, infinite,
    /// NaN, or too large (some 18 billion).
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        let nanos = (dollars * NANOS as f64).round();
        (nanos >= 0.0 && nanos < u64::MAX as f64).then_some(Self::from_nanos(nanos as u64))
    }

    /// Returns the amount in billionths of a dollar.
    pub const fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Returns the amount in dollars.
    pub fn dollars(self) -> f64 {
        self.nanos() as f64 / NANOS as f64
    }

    /// Returns the amount in dollars as a text: cents, and as many further places as there are.
    #[doc(hidden)]
    pub fn plain(self) -> String {
        decimal(self.nanos(), 9, 2)
    }

    /// Subtracts `other`, down to nothing.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self::from_nanos(self.nanos().saturating_sub(other.nanos()))
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::from_nanos(self.nanos().saturating_add(other.nanos()))
    }
}

impl Default for Usd {
    /// Returns [nothing](Self::ZERO).
    fn default() -> Self {
        Self::ZERO
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Usd {
    /// Writes cents, and as many further places as there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.plain())
    }
}

impl Serialize for Usd {
    /// Serializes a number of dollars.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.dollars())
    }
}

impl<'de> Deserialize<'de> for Usd {
    /// Deserializes a number of dollars.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let dollars = f64::deserialize(deserializer)?;
        Self::from_dollars(dollars).ok_or_else(|| D::Error::custom(format!("{dollars} is no amount of dollars")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_stop_at_the_ends() {
        assert_eq!(Usd::from_dollars(3.0).map(Usd::nanos), Some(3 * NANOS));
        assert_eq!(Usd::from_dollars(0.000_000_001), Some(Usd::from_nanos(1)));
        for nonsense in [-1.0, f64::NAN, f64::INFINITY, 1e30] {
            assert_eq!(Usd::from_dollars(nonsense), None, "{nonsense}");
        }
        let most = Usd::from_nanos(u64::MAX);
        assert_eq!(most + Usd::from_nanos(1), most);
        assert_eq!(Usd::ZERO.saturating_sub(most), Usd::ZERO);
        assert_eq!([Usd::from_nanos(2), Usd::from_nanos(3)].into_iter().sum::<Usd>(), Usd::from_nanos(5));
    }

    #[test]
    fn money_reads_as_money() {
        let said: Vec<String> =
            [0, 5, 10_000_000, 1_500_000_000, 123_450_000].map(|n| Usd::from_nanos(n).to_string()).into();
        assert_eq!(said, ["$0.00", "$0.000000005", "$0.01", "$1.50", "$0.12345"]);
    }
}
