//! `keys/<name>.yaml`: which repositories a key is for, and how long it counts.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::{Ends, KeyFile, yaml};
use crate::glob::Glob;
use crate::key::PublicKey;

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Settings {
    #[serde(default, rename = "for", deserialize_with = "yaml::present")]
    scope: Option<Vec<String>>,
    #[serde(default, deserialize_with = "yaml::present")]
    valid_for: Option<ValidFor>,
    #[serde(default)]
    retired: Said<Retired>,
    #[serde(default)]
    revoked: Said<Revoked>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidFor {
    #[serde(default, deserialize_with = "yaml::present")]
    start: Option<Instant>,
    #[serde(default, deserialize_with = "yaml::present")]
    end: Option<Instant>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retired {
    at: Option<Instant>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {
    since: Option<Instant>,
    reason: Option<String>,
}

/// A field that counts as said wherever it is there, even with nothing behind it: an operator who got as far as writing
/// `revoked:` meant it.
#[derive(Debug, Default)]
enum Said<T> {
    #[default]
    No,
    Yes(T),
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Said<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::Yes(Option::<T>::deserialize(deserializer)?.unwrap_or_default()))
    }
}

/// An instant: RFC 3339, or a date, which means its first moment in UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant(pub(super) Timestamp);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Instant;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date as 2026-06-01 or a time as 2026-06-01T12:00:00Z")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Instant, E> {
                let date = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
                let instant = if text.len() == "2026-06-01".len() { date() } else { text.parse().ok() };
                instant.map(Instant).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Instant, A::Error> {
                Err(de::Error::invalid_type(de::Unexpected::Map, &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// What a key's settings file says, and what is odd in it.
pub(super) struct Parsed {
    pub(super) file: KeyFile,
    pub(super) warnings: Vec<String>,
}

/// Joins a key with its settings, if it has any.
pub(super) fn read(key: PublicKey, settings: Option<&[u8]>) -> Result<Parsed, String> {
    let Life { scope, valid_from, valid_until, revoked, ends, warnings } = life(settings)?;
    Ok(Parsed { file: KeyFile { key, scope, valid_from, valid_until, revoked, ends }, warnings })
}

/// Says what is wrong with settings whose key is not there (yet).
pub(super) fn check(settings: &[u8]) -> Result<(), String> {
    life(Some(settings)).map(drop)
}

/// What settings say.
struct Life {
    scope: Vec<Glob>,
    valid_from: Option<Timestamp>,
    valid_until: Option<Timestamp>,
    revoked: Option<String>,
    ends: Ends,
    warnings: Vec<String>,
}

fn life(settings: Option<&[u8]>) -> Result<Life, String> {
    let settings: Settings = settings.map(yaml::parse).transpose()?.unwrap_or_default();
    let mut warnings = Vec::new();
    let scope = match settings.scope {
        None => Vec::new(),
        // Read as "all" it would say the opposite of what is written.
        Some(globs) if globs.is_empty() => {
            return Err("`for` lists no repositories; list some, or take `for` out if the key is for all".to_owned());
        }
        Some(globs) => globs.iter().map(|text| glob(text, &mut warnings)).collect::<Result<_, _>>()?,
    };
    let valid_from = settings.valid_for.as_ref().and_then(|valid| valid.start).map(|instant| instant.0);
    let valid_until = settings.valid_for.as_ref().and_then(|valid| valid.end).map(|instant| instant.0);
    if let (Some(start), Some(end)) = (valid_from, valid_until)
        && end <= start
    {
        warnings.push("validFor ends before it begins, so this key never counts".to_owned());
    }
    let ends = ends(&settings.revoked, &settings.retired);
    let revoked = match (settings.revoked, settings.retired) {
        (Said::Yes(revoked), _) => Some(revoked.words()),
        (Said::No, Said::Yes(Retired { at: Some(at) })) => Some(format!("retired at {}", at.0)),
        (Said::No, Said::Yes(Retired { at: None })) => Some("retired".to_owned()),
        (Said::No, Said::No) => None,
    };
    Ok(Life { scope, valid_from, valid_until, revoked, ends, warnings })
}

/// What is said without a time holds for ever.
fn ends(revoked: &Said<Revoked>, retired: &Said<Retired>) -> Ends {
    let (revoked, always) = match revoked {
        Said::No => (None, false),
        Said::Yes(revoked) => (revoked.since, revoked.since.is_none()),
    };
    let (retired, too) = match retired {
        Said::No => (None, false),
        Said::Yes(retired) => (retired.at, retired.at.is_none()),
    };
    Ends { retired: retired.map(|at| at.0), revoked: revoked.map(|since| since.0), for_ever: always || too }
}

impl Revoked {
    fn words(&self) -> String {
        let since = self.since.map(|since| format!(" since {}", since.0)).unwrap_or_default();
        let reason = self.reason.as_deref().filter(|reason| !reason.is_empty());
        format!("revoked{since}{}", reason.map(|reason| format!(": {reason}")).unwrap_or_default())
    }
}

/// Parses a glob of an operator's file.
pub(super) fn glob(text: &str, warnings: &mut Vec<String>) -> Result<Glob, String> {
    let glob: Glob = text.parse().map_err(|error| {
        let shown: String = text.chars().take(100).collect();
        format!("{shown:?} is not a glob: {error}; write it as 'ghcr.io/team/**'")
    })?;
    if glob.has_tag() {
        warnings.push(format!(
            "the glob {text:?} has a tag and matches nothing: images are matched as REPO and REPO@DIGEST"
        ));
    }
    Ok(glob)
}
