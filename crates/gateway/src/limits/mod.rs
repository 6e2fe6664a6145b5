//! The limits that the gateway sets its callers: sizes, times, memory and open files.

pub(crate) mod answers;
pub(crate) mod memory;
mod open_files;
mod settings;

pub(crate) use self::{
    memory::Memory,
    open_files::connections as connections_for_files,
    settings::{MIN_UPLOAD_RATE, Settings},
};
