//! Services of a Sigstore, asked while signing: Fulcio for a certificate, Rekor to take a signature in, a timestamp
//! authority for the time.
//!
//! In come an identity token and answers from the network; out goes [verification material](larder_core::signature::material), and only after all of it was
//! checked against a trusted root as any reader would check it. The private key goes nowhere, the token to Fulcio alone.
//! Nobody is asked who is not named on the command line or in a signing config.

pub(crate) mod flags;
mod fulcio;
mod http;
mod rekor;
mod services;
mod token;
mod tsa;
mod witness;

use crate::error::Error;
use crate::key_file::KeyFileError;

pub(crate) use services::Services;
pub(crate) use witness::{Said, Testimony, Witness};

/// Builds the error of a key that was made for this run.
pub(crate) fn fresh_key(error: &KeyFileError) -> Error {
    Error::new("key", format!("a fresh key {error}")).hint("nothing was signed; try again")
}
