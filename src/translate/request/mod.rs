//! A request on its way into another dialect.

mod calls;
mod content;
mod fit;
mod mend;
mod names;
mod report;
mod schema;
mod survey;

pub(crate) use self::{
    fit::fit,
    mend::{may_need_mending, mend},
    names::Names,
    report::{Extras, Report},
};
