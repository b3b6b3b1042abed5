//! Which services are asked: those that flags or a signing config name.

use std::path::Path;

use jiff::Timestamp;
use larder_core::keyless::{MAX_CONFIG_BYTES, RekorVersion, Service, SigningConfig, SigningConfigError};
use reqwest::Url;

use super::flags::Flags;
use super::http::service_url;
use super::rekor::Log;
use crate::commands::verify_blob::read_bounded;
use crate::error::Error;

/// The services of one run.
pub(crate) struct Services {
    pub(super) authority: Option<Url>,
    pub(super) logs: Vec<Log>,
    pub(super) timestamps: Vec<Url>,
}

impl Services {
    /// Finds out whom to ask.
    ///
    /// # Errors
    /// Fails where a URL or the config is none, or the config names nobody who can be asked now.
    pub(crate) fn of(flags: &Flags, now: Timestamp) -> Result<Self, Error> {
        let mut services = match &flags.signing_config {
            Some(path) => Self::of_config(path, now)?,
            None => Self::of_urls(flags)?,
        };
        if flags.tlog_upload == Some(false) {
            services.logs.clear();
        }
        Ok(services)
    }

    fn of_urls(flags: &Flags) -> Result<Self, Error> {
        let url = |who: &'static str| move |text: &String| service_url(who, text);
        let log = flags.rekor_url.as_ref().map(url("Rekor")).transpose()?;
        Ok(Self {
            authority: flags.fulcio_url.as_ref().map(url("Fulcio")).transpose()?,
            logs: log.map(|url| Log { url, version: RekorVersion::V1 }).into_iter().collect(),
            timestamps: flags
                .timestamp_server_url
                .iter()
                .map(url("a timestamp authority"))
                .collect::<Result<_, _>>()?,
        })
    }

    fn of_config(path: &Path, now: Timestamp) -> Result<Self, Error> {
        let bad = |error: SigningConfigError| {
            Error::new("bad-signing-config", format!("{} cannot be used as signing config: {error}", path.display()))
                .hint("`cosign signing-config create` writes one; nothing was signed")
        };
        let config = SigningConfig::parse(&read_bounded(path, MAX_CONFIG_BYTES)?).map_err(bad)?;
        let log = |service: &Service| {
            let version = if service.version == 2 { RekorVersion::V2 } else { RekorVersion::V1 };
            Ok::<_, Error>(Log { url: service_url("Rekor", &service.url)?, version })
        };
        let authority = config.authority(now).map_err(bad)?;
        let stamp = |service: &Service| service_url("a timestamp authority", &service.url);
        Ok(Self {
            authority: authority.map(|service| service_url("Fulcio", &service.url)).transpose()?,
            logs: config.logs(now).map_err(bad)?.into_iter().map(log).collect::<Result<_, _>>()?,
            timestamps: config.timestamps(now).map_err(bad)?.into_iter().map(stamp).collect::<Result<_, _>>()?,
        })
    }

    /// Says whether nobody would witness a signature.
    pub(crate) fn has_no_witness(&self) -> bool {
        self.logs.is_empty() && self.timestamps.is_empty()
    }

    /// Checks that the classic format has room for what they will say.
    ///
    /// # Errors
    /// Fails where it has not.
    pub(crate) fn fit_classic(&self) -> Result<(), Error> {
        let what = if self.logs.iter().any(|log| log.version == RekorVersion::V2) {
            "an entry of Rekor v2"
        } else if self.logs.len() > 1 {
            "entries of two logs"
        } else if self.timestamps.len() > 1 {
            "two timestamps"
        } else {
            return Ok(());
        };
        Err(Error::usage(format!("the classic format cannot hold {what}")).hint("--format bundle; nothing was signed"))
    }
}
