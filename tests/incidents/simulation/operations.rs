//! An operator's orders to the stack while things go wrong.

use std::time::Duration;

use tokio::time::sleep_until;

use crate::simulation::{
    draw::Draw,
    plan::Plan,
    world::{Change, World},
};

/// One deed, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) at: Duration,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    ForceOpen(usize),
    ForceClose(usize),
    Release(usize),
    Reset(usize),
    Drain(usize),
    Undrain(usize),
    PinLevel(Option<u8>),
    Limit(usize, usize),
    Reload(Change),
}

/// Returns the orders of a simulation, in the order of their times. Half of the simulations have none.
pub(crate) fn plan(plan: &Plan) -> Vec<Operation> {
    let mut draw = Draw::new(plan.seed, "operations");
    let count = if draw.chance(0.5) { draw.number(1, 8) } else { 0 };
    let mut operations: Vec<Operation> = (0..count)
        .map(|_| {
            let tier = draw.index(plan.tiers.len());
            let what = match draw.number(0, 11) {
                0 => What::ForceOpen(tier),
                1 => What::ForceClose(tier),
                2 | 3 => What::Release(tier),
                4 => What::Reset(tier),
                5 => What::Drain(tier),
                6 => What::Undrain(tier),
                7 => What::PinLevel(draw.pick(&[None, Some(1), Some(2)])),
                8 => What::Limit(draw.index(plan.features.len()), draw.number(1, 100) as usize),
                9 => What::Reload(Change::Circuit(tier)),
                10 => What::Reload(Change::Retries(tier)),
                _ => What::Reload(draw.pick(&[Change::Nothing, Change::Limits])),
            };
            Operation { at: draw.moment(Duration::ZERO, plan.healed), what }
        })
        .collect();
    operations.sort_by_key(|operation| operation.at);
    operations
}

/// Does them, each in its time.
pub(crate) async fn run(world: &World, operations: Vec<Operation>) {
    for Operation { at, what } in operations {
        sleep_until(world.books.start + at).await;
        world.books.line(&format!("operation {what:?}"));
        act(world, what);
    }
}

fn act(world: &World, what: What) {
    world.books.kept().was_operated = true;
    let (plan, handles) = (&*world.plan, &world.handles);
    match what {
        What::ForceOpen(tier) => drop(handles.circuit(plan, tier).force_open()),
        What::ForceClose(tier) => drop(handles.circuit(plan, tier).force_close()),
        What::Release(tier) => drop(handles.circuit(plan, tier).release()),
        What::Reset(tier) => drop(handles.circuit(plan, tier).reset()),
        What::Drain(tier) => {
            handles.fallback().drain(plan.name(tier));
            world.books.kept().tiers[tier].drained.get_or_insert_with(|| world.books.now());
        }
        What::Undrain(tier) => undrain(world, tier),
        What::PinLevel(level) => drop(handles.fallback().pin_level(level)),
        What::Limit(feature, limit) => {
            world.books.raise_limit(feature, limit);
            handles.bulkhead().set_limit(plan.features[feature].name, limit).expect("a feature");
        }
        What::Reload(change) => {
            if change == Change::Limits {
                plan.features.iter().enumerate().for_each(|(n, own)| world.books.raise_limit(n, own.concurrency + 1));
            }
            // The reload puts another circuit in the place of one that has its calls under way.
            world.books.kept().tiers.iter_mut().for_each(|tier| tier.is_replaced |= !plan.by_hand);
            handles.reload(plan, change);
        }
    }
}

fn undrain(world: &World, tier: usize) {
    world.books.kept().tiers[tier].drained = None;
    world.handles.fallback().undrain(world.plan.name(tier));
}

/// The end of all that was done by hand, and of all faults that the providers' scripts do not end.
pub(crate) fn put_right(world: &World) {
    let (plan, handles) = (&*world.plan, &world.handles);
    for tier in 0..plan.tiers.len() {
        world.simulated(tier).rate_limit(None);
        handles.circuit(plan, tier).release();
        undrain(world, tier);
    }
    handles.fallback().pin_level(None);
    for feature in &plan.features {
        handles.bulkhead().set_limit(feature.name, feature.concurrency).expect("a feature");
    }
    world.books.line("healed: all faults and operations are over");
}
