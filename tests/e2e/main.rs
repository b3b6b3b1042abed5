//! End-to-end tests: real binaries, a real socket, a real registry on loopback.
//!
//! One module a feature, by the same names as in the rooms of the daemon and the client.

mod arrows;
mod bad_input;
mod cli;
mod endpoint;
mod gate;
mod gate_model;
mod hostile_local;
mod judge_sample;
mod kill;
mod properties;
mod pull;
mod push;
mod rebuild;
mod second_uid;
mod sign;
mod status;
mod store_faults;
mod trust;
mod verify;
mod watch;
mod world;
