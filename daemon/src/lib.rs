//! larderd: a local content-addressed store of container images, their signatures and their SBOMs,
//! synced with OCI registries, served to runtimes, and judged anew whenever trust changes.
//!
//! ```text
//!   api · registry      inbound: parse → ops → render
//!         ops           the stories, one file each
//!   transfer · trust    one graph copy · keys, policies, watcher
//!   store · remote      outbound: disk, network
//!       · bundle        and archive files
//!         core          everything above depends on it
//! ```
//!
//! Inbound rooms never call each other; `ops` sees neither tonic nor axum; `store` never verifies
//! signatures. A test walks the `use` lines and fails on a wrong arrow.

pub mod api;
pub mod app;
pub mod bundle;
pub mod check_config;
pub mod clock;
pub mod config;
pub mod ops;
pub mod registry;
pub mod remote;
pub mod store;
pub mod telemetry;
pub mod transfer;
pub mod trust;
