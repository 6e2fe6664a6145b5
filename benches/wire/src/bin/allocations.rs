//! Heap allocations of one run of each contestant, one line each, in the contestants' order.

use allocation_counter::measure;
use steadfast_wire_bench::contestants;

fn main() {
    for mut contestant in contestants::all() {
        // An allocation that is made once (a thread's local state) is not a run's cost.
        (contestant.run)();
        println!("{}", measure(&mut contestant.run).count_total);
    }
}
