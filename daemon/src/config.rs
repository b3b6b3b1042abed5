//! `$LARDER_HOME/config.toml` and the environment; building it opens nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the endpoint does with subjects that are not accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateMode {
    /// Refuse them.
    #[default]
    Enforce,
    /// Serve them with a warning.
    Warn,
    /// Serve everything.
    Off,
}

/// One `[registry."HOST"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// The user's name.
    pub username: Option<String>,
    /// The file that holds the password (a trailing newline is not part of it).
    pub password_file: Option<PathBuf>,
    /// Speak plain HTTP; loopback hosts do so without asking.
    #[serde(default)]
    pub plain_http: bool,
}

/// What the registry client needs.
#[derive(Clone, Debug, Default)]
pub struct RegistriesConfig {
    /// By host (with port), in lower case.
    pub registries: BTreeMap<String, RegistryConfig>,
    /// How many requests may be under way at one registry.
    pub concurrency: usize,
}
