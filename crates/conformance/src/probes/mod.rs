//! The probes, a file for each group.

mod cancellation;
mod ends;
mod errors;
mod faults;
mod outages;
mod translation;

use crate::probe::Probe;

/// Returns every probe, in the order of a run and its report: what fails both providers comes last, because a gateway
/// may leave both alone for a while.
pub(crate) fn all() -> impl Iterator<Item = &'static Probe> {
    let groups =
        [ends::PROBES, translation::PROBES, errors::PROBES, cancellation::PROBES, faults::PROBES, outages::PROBES];
    groups.into_iter().flatten()
}
