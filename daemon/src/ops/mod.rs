//! ops

pub mod receive;
pub mod serve;
