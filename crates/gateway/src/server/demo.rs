//! The stack without a configuration: simulated providers.

use std::time::Duration;

use steadfast::providers::simulated::{Fault, FaultMix, Latency, Simulated};
use steadfast_stack::{Config, ConfigError, Format, Stack};

const CONFIG: &str = "
tiers:
  - { name: simulated-primary, provider: simulated, model: simulated-primary }
  - { name: simulated-backup, provider: simulated, model: simulated-backup }
";

/// The primary's model, for a caller to name.
pub(crate) const MODEL: &str = "simulated-primary";

/// Returns a stack of two simulated models: the primary fails one call in twenty, and the backup answers in its place.
pub(crate) fn stack() -> Result<Stack, ConfigError> {
    let model = |name| {
        Simulated::new(name)
            .latency(Latency::percentiles(Duration::from_millis(250), Duration::from_millis(900)))
            .pace(Duration::from_millis(25))
            .tokens(24..=72)
    };
    Stack::builder()
        .leaf(MODEL, model(MODEL).fault_mix(FaultMix::new().with(0.05, Fault::Overloaded)))
        .leaf("simulated-backup", model("simulated-backup"))
        .build(Config::from_str(CONFIG, Format::Yaml)?)
}
