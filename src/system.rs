//! What the system knows of this process and its threads, and what the rest asks about the system. All code for one kind of
//! system stands here, but for that about sockets and descriptors: see [`transport`](crate::transport).

pub(crate) mod facts;
pub(crate) mod fork;
pub(crate) mod refusals;
pub(crate) mod threads;
