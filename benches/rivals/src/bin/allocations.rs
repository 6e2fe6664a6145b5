//! Heap allocations per call of each contestant, one line each, in the contestants' order.

use allocation_counter::measure;
use steadfast_rivals::contestants;

const CALLS: u64 = 1000;

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let _context = runtime.enter();
    for mut contestant in contestants::all() {
        // What is allocated once (a thread's local state, a first segment) is not a call's cost.
        (contestant.calls)(CALLS);
        let allocated = measure(|| (contestant.calls)(CALLS));
        println!("{}", allocated.count_total as f64 / CALLS as f64);
    }
    Ok(())
}
