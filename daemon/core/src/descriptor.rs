//! Descriptors and platforms (OCI image-spec, descriptor.md and image-index.md).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::digest::Digest;

/// Points at content: what it is, how long, and its digest.
///
/// Read from manifests; unknown fields are ignored, as the image-spec asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the content.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes.
    pub size: u64,
    /// The platform that the content runs on, in indexes.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// What the content is, for artifacts.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Arbitrary metadata.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself in base64, where the manifest embeds it.
    #[serde(default)]
    pub data: Option<String>,
}

impl Descriptor {
    /// Returns a descriptor without platform, artifact type, annotations and data.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            data: None,
        }
    }

    /// Returns about how many bytes of memory it takes.
    pub(crate) fn footprint(&self) -> usize {
        let platform = self.platform.as_ref().map_or(0, |platform| {
            platform.os.len() + platform.architecture.len() + platform.variant.as_ref().map_or(0, String::len)
        });
        let texts = [&self.artifact_type, &self.data].into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<Self>() + self.media_type.len() + platform + texts + map_footprint(&self.annotations)
    }
}

/// Returns about how many bytes of memory the entries of a map take: a `BTreeMap` keeps 11 to a node, half of them free at
/// worst, and the least that an allocator gives is 32 bytes.
pub(crate) fn map_footprint(map: &BTreeMap<String, String>) -> usize {
    const NODE: usize = 11 * size_of::<(String, String)>();
    let texts = map.iter().map(|(key, value)| key.len().max(32) + value.len().max(32)).sum::<usize>();
    map.len().div_ceil(5) * NODE + texts
}

/// Reads a map, with Go's `null` for an empty one.
pub(crate) fn null_is_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What an image runs on: operating system, architecture, variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Platform {
    /// The operating system, as `GOOS` names it.
    #[serde(default)]
    pub os: String,
    /// The architecture, as `GOARCH` names it.
    #[serde(default)]
    pub architecture: String,
    /// The variant of the architecture, as in `v8`.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// Says whether an image for `offered` serves somebody who asked for this platform.
    ///
    /// A variant that was not asked for does not matter, and `arm64` is `arm64/v8`.
    pub fn accepts(&self, offered: &Self) -> bool {
        let variant = |platform: &Self| match (platform.architecture.as_str(), platform.variant.as_deref()) {
            ("arm64", Some("v8")) | (_, None | Some("")) => None,
            (_, Some(variant)) => Some(variant.to_owned()),
        };
        self.os == offered.os
            && self.architecture == offered.architecture
            && (variant(self).is_none() || variant(self) == variant(offered))
    }

    /// Says whether this is `unknown/unknown`, under which indexes list attestations.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

/// Says that a text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform; write it as OS/ARCH or OS/ARCH/VARIANT, as in linux/amd64")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture] if word(os) && word(architecture) => {
                Ok(Self { os: (*os).into(), architecture: (*architecture).into(), variant: None })
            }
            [os, architecture, variant] if word(os) && word(architecture) && word(variant) => {
                Ok(Self { os: (*os).into(), architecture: (*architecture).into(), variant: Some((*variant).into()) })
            }
            _ => Err(PlatformError(text.chars().take(80).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants() {
        let platform = |text: &str| text.parse::<Platform>().expect(text);
        assert!(platform("linux/arm64").accepts(&platform("linux/arm64/v8")));
        assert!(platform("linux/arm64/v8").accepts(&platform("linux/arm64")));
        assert!(platform("linux/arm").accepts(&platform("linux/arm/v7")));
        assert!(!platform("linux/arm/v6").accepts(&platform("linux/arm/v7")));
        assert!(!platform("linux/amd64").accepts(&platform("windows/amd64")));
        assert!("linux".parse::<Platform>().is_err());
        assert!("linux/".parse::<Platform>().is_err());
        assert!("a/b/c/d".parse::<Platform>().is_err());
    }
}
