//! Runs the races of the layers under loom, in every interleaving: all of them, or those whose name contains the
//! argument.
//!
//! `RUSTFLAGS="--cfg steadfast_loom" cargo test -p steadfast-races --target-dir target/loom`

#[cfg(steadfast_loom)]
fn main() {
    let part = std::env::args().nth(1).unwrap_or_default();
    let races: Vec<_> = steadfast::races::RACES.iter().filter(|(name, _)| name.contains(&part)).collect();
    assert!(!races.is_empty(), "no race is named '{part}'");
    for (name, race) in races {
        println!("{name}");
        race();
    }
}

#[cfg(not(steadfast_loom))]
fn main() {
    println!("skipped: steadfast_loom is not set");
}
