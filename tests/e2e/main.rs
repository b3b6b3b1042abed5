//! End-to-end tests: real binaries, a real socket, a real registry on loopback.
//!
//! One module a feature, by the same names as in the rooms of the daemon and the client.

mod arrows;
mod bad_input;
mod cli;
mod endpoint;
mod judge_sample;
mod kill;
mod login;
mod properties;
mod pull;
mod push;
mod rebuild;
mod sign;
mod status;
mod store_faults;
mod trust;
mod verify;
mod watch;
mod world;
