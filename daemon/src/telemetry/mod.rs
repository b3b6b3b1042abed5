//! What the daemon says of itself while it runs: the log ([`log`]) and the counters ([`Counters`]).
//!
//! In come records that became durable and requests that were answered; out go lines on stderr and numbers that
//! `/metrics` shows. Nothing is decided here, and nothing secret passes: no header, no query, no body.

mod counters;
pub mod log;

pub use counters::{Counters, EndpointLabels, KindLabels, StateLabels};
