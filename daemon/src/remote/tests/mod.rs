//! The client against a real HTTP server on loopback.

mod access;
mod pull;
mod push;
mod tokens;
mod upstream;
