//! What the system knows of this process and its threads. All code for one kind of system stands here.

pub(crate) mod fork;
pub(crate) mod threads;
