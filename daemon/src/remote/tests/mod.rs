//! The client against a real HTTP server on loopback.

mod access;
mod look;
mod pull;
mod push;
mod tokens;
mod upstream;
