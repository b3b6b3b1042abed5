//! `roots/<name>.yaml`: as of when a trusted root was known to be the current one.

use jiff::Timestamp;
use serde::Deserialize;

use super::key_file::Instant;
use super::yaml;

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Settings {
    #[serde(default, deserialize_with = "yaml::present")]
    as_of: Option<Instant>,
}

/// Reads what the file says.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Timestamp>, String> {
    let settings: Settings = yaml::parse(bytes)?;
    Ok(settings.as_of.map(|instant| instant.0))
}
