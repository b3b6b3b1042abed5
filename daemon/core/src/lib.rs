//! Larder's domain, pure: no I/O, no async, no clock.
//!
//! Everything that comes from outside is parsed here, once, into types that cannot be wrong
//! ([`Digest`], [`Reference`], [`Manifest`](manifest::Manifest), [`TrustSet`](policy::TrustSet)),
//! and everything that Larder says about an artifact is derived here: [`check`] is arithmetic on
//! one signature and one anchor, [`facts`] is the table of what is known, and
//! [`judge`](judge::judge) turns facts and trust into a [`Verdict`](verdict::Verdict).

pub mod artifact;
pub mod asked;
pub mod check;
pub mod descriptor;
pub mod digest;
pub mod facts;
pub mod glob;
pub mod judge;
pub mod key;
pub mod keyless;
pub mod manifest;
pub mod policy;
pub mod protojson;
pub mod reference;
pub mod rego;
pub mod sbom;
pub mod signature;
pub mod verdict;

pub use descriptor::{Descriptor, Platform};
pub use digest::Digest;
pub use reference::{Reference, Repository, Tag};
