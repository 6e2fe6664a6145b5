//! Heap allocations per call and memory per idle call, counted by the second binary, which has an allocator that
//! counts.

use std::{collections::HashMap, env, path::PathBuf, process::Command};

/// The findings of the second binary.
#[derive(Debug, Default)]
pub struct Allocations {
    /// For each contestant's id, the allocations of one call.
    pub per_call: HashMap<String, f64>,
    /// For each stack around a call that waits, in the order in which they were measured.
    pub idle: Vec<Idle>,
}

/// The memory of one call while it waits for its answer.
#[derive(Debug)]
pub struct Idle {
    pub name: String,
    /// The future itself, which lies wherever its caller puts it.
    pub future: u64,
    /// Its bytes on the heap.
    pub heap: u64,
}

/// Runs the second binary, which lies beside this one. `None`, with a word about it, where it does not run.
pub fn measure() -> Option<Allocations> {
    let output = Command::new(beside_this()).output();
    let Ok(output) = output.as_ref().map(|output| String::from_utf8_lossy(&output.stdout)) else {
        eprintln!("allocations: skipped, for the counting binary is not there; `cargo build --release` builds it");
        return None;
    };
    let mut found = Allocations::default();
    for line in output.lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["call", id, count] => drop(found.per_call.insert(id.to_owned(), count.parse().ok()?)),
            ["idle", name, future, heap] => {
                found.idle.push(Idle { name: name.to_owned(), future: future.parse().ok()?, heap: heap.parse().ok()? })
            }
            _ => {}
        }
    }
    Some(found)
}

fn beside_this() -> PathBuf {
    let this = env::current_exe().unwrap_or_default();
    this.with_file_name(format!("allocations{}", env::consts::EXE_SUFFIX))
}
