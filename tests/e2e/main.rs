//! End-to-end tests: real binaries, a real socket, a real registry on loopback.
//!
//! One module a feature, by the same names as in the rooms of the daemon and the client.

mod arrows;
mod bad_input;
mod cli;
mod cli_snapshots;
mod content;
mod endpoint;
mod endpoint_clients;
mod evidence;
mod evidence_snapshots;
mod gate;
mod gate_model;
mod grpc_limits;
mod grpc_tcp;
mod hostile_local;
mod hostile_registry;
mod journal_grow;
mod journal_prune;
mod judge_sample;
mod kill;
mod login;
mod many;
mod operations;
mod properties;
mod pull;
mod push;
mod rebuild;
mod resume;
mod second_pull;
mod second_uid;
mod sign;
mod status;
mod store_faults;
mod tags;
mod terminal;
mod trust;
mod verify;
mod watch;
mod world;
