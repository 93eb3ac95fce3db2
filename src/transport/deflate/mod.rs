//! Compression of messages: `permessage-deflate` (RFC 7692).

mod deflater;
mod inflater;
mod terms;

pub(crate) use crate::transport::deflate::deflater::Deflater;
pub(crate) use crate::transport::deflate::inflater::{Bomb, Inflater};
pub(crate) use crate::transport::deflate::terms::{agree, offer};

/// What each compressed message ends with, and what is left out on the wire (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
