//! The troubles of a provider, and the keys that begin them.

use std::{fmt, io, time::Duration};

use steadfast::providers::simulated::Fault;
use steadfast_simulator::SimulatedServer;

/// A way in which the first provider fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Errors,
    Slowness,
    Cuts,
    RateLimit,
    Absence,
}

/// The delay of a slow provider.
pub(super) const DELAY: Duration = Duration::from_secs(10);
/// The tokens of a stream before its cut.
const TOKENS_BEFORE_CUT: u32 = 6;
/// The wait that a limited provider names.
const LIMITED_FOR: Duration = Duration::from_secs(5);

impl Trouble {
    pub(super) const ALL: [Self; 5] = [Self::Errors, Self::Slowness, Self::Cuts, Self::RateLimit, Self::Absence];

    pub(super) fn key(self) -> char {
        match self {
            Self::Errors => 'f',
            Self::Slowness => 's',
            Self::Cuts => 'c',
            Self::RateLimit => 'l',
            Self::Absence => 'd',
        }
    }

    /// Returns a name for a list of keys.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Errors => "fails",
            Self::Slowness => "slow",
            Self::Cuts => "cuts streams",
            Self::RateLimit => "limits",
            Self::Absence => "away",
        }
    }

    /// Returns what the provider is said to do.
    pub(super) fn state(self) -> &'static str {
        match self {
            Self::Errors => "fails",
            Self::Slowness => "is slow",
            Self::Cuts => "cuts streams",
            Self::RateLimit => "limits its callers",
            Self::Absence => "is away",
        }
    }

    /// Returns whether open connections end with its beginning.
    pub(super) fn ends_connections(self) -> bool {
        self == Self::Absence
    }

    /// Returns whether a call alone is answered after all.
    pub(super) fn only_delays(self) -> bool {
        self == Self::Slowness
    }

    /// Lets a provider fail so, and in no other way.
    ///
    /// # Errors
    ///
    /// Another process has taken the provider's port.
    pub(super) async fn begin(self, provider: &SimulatedServer) -> io::Result<()> {
        if self != Self::Absence {
            provider.up().await?;
        }
        match self {
            Self::Errors => provider.handle().fail(Fault::ServerError),
            Self::Slowness => provider.handle().fail(Fault::Slow(DELAY)),
            Self::Cuts => provider.handle().fail(Fault::CutAfter(TOKENS_BEFORE_CUT)),
            Self::RateLimit => provider.handle().fail(Fault::RateLimited { retry_after: Some(LIMITED_FOR) }),
            Self::Absence => provider.down().await?,
        }
        Ok(())
    }

    /// Lets a provider be well again.
    ///
    /// # Errors
    ///
    /// Another process has taken the provider's port.
    pub(super) async fn end(provider: &SimulatedServer) -> io::Result<()> {
        provider.handle().heal();
        provider.up().await
    }
}

/// Writes what happens to a call.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors => f.write_str("each call gets a 500"),
            Self::Slowness => write!(f, "each answer comes {} s later", DELAY.as_secs()),
            Self::Cuts => write!(f, "each answer is cut off after {TOKENS_BEFORE_CUT} words"),
            Self::RateLimit => write!(f, "each call gets a 429, and is to wait for {} s", LIMITED_FOR.as_secs()),
            Self::Absence => f.write_str("nothing listens, and open connections are gone"),
        }
    }
}
