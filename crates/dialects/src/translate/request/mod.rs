//! Translates a request into another dialect.

mod allowed;
mod bare;
mod caches;
mod calls;
mod clearing;
mod content;
#[cfg(test)]
mod efforts;
mod fit;
mod mend;
mod names;
mod report;
mod responses;
mod restore;
mod root;
mod schema;
mod seals;
mod settle;
mod survey;
mod thoughts;

pub(crate) use self::{
    caches::PlacedMarks,
    clearing::{CONTEXT, without_clearing},
    fit::fit,
    mend::{may_need_mending, mend, with_stand_ins, without_seals, without_thoughts},
    report::Extras,
    settle::{Reasoning, Settings, Situation, settle},
    thoughts::stand_in,
};
pub use self::{
    names::{Names, OtherNames, is_plain_name},
    report::Report,
    restore::Restore,
};
