//! Manifests and indexes, OCI and Docker schema 2.
//!
//! The raw bytes are kept and are the manifest: nothing is ever serialised again, for that would
//! change its digest.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::descriptor::{Descriptor, map_footprint, null_is_empty};
use crate::digest::{Algorithm, Digest};

/// The most bytes that a manifest may have: registries accept at least 4 MiB
/// (distribution-spec, "Pushing Manifests").
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// The most descriptors that a manifest may list.
pub const MAX_SUCCESSORS: usize = 16_384;
/// How deep indexes may be nested.
pub const MAX_DEPTH: usize = 8;

/// `application/vnd.oci.image.manifest.v1+json`
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.oci.image.index.v1+json`
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.docker.distribution.manifest.v2+json`
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// `application/vnd.docker.distribution.manifest.list.v2+json`
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Every media type of a manifest that Larder reads, as an `Accept` header lists them.
pub const ACCEPTED: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];

/// Says whether `media_type` is that of a manifest or an index.
pub fn is_manifest(media_type: &str) -> bool {
    ACCEPTED.contains(&media_type)
}

/// Says whether `media_type` is that of an index.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// A manifest or an index, with its raw bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    raw: Bytes,
    digest: Digest,
    media_type: &'static str,
    content: Content,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    annotations: BTreeMap<String, String>,
}

/// What a manifest lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An image or another artifact: a config and layers.
    Image {
        /// The config.
        config: Descriptor,
        /// The layers, the base first.
        layers: Vec<Descriptor>,
    },
    /// An index: manifests.
    Index {
        /// The listed manifests.
        manifests: Vec<Descriptor>,
    },
}

/// Says why bytes are no manifest that Larder accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is longer than [`MAX_MANIFEST_BYTES`].
    #[error("the manifest has {0} bytes; at most 4 MiB are accepted")]
    TooLarge(u64),
    /// It is no JSON of the right form.
    #[error("the manifest is malformed: {0}")]
    Malformed(String),
    /// Its media type is unknown, or there is none.
    #[error(
        "{0:?} is not the media type of a manifest that Larder reads (OCI or Docker schema 2 manifests and indexes)"
    )]
    UnknownMediaType(String),
    /// Its own media type is not the one that it was announced with.
    #[error("the manifest calls itself {own:?}, but it was announced as {announced:?}")]
    MediaTypeMismatch {
        /// The `mediaType` in the manifest.
        own: String,
        /// The `Content-Type` or the descriptor's media type.
        announced: String,
    },
    /// It lists more than [`MAX_SUCCESSORS`] descriptors.
    #[error("the manifest lists {0} descriptors; at most {MAX_SUCCESSORS} are accepted")]
    TooManySuccessors(usize),
    /// Its bytes have another digest than the one that they were asked for by.
    #[error("the manifest's digest is {actual}, not {expected}")]
    DigestMismatch {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Parses a manifest whose bytes must have `expected` as digest.
    ///
    /// # Errors
    /// Fails as [`Self::parse`] does, and where the digest differs.
    pub fn parse_as(raw: Bytes, announced: Option<&str>, expected: Digest) -> Result<Self, ManifestError> {
        let actual = Digest::with(expected.algorithm(), &raw);
        if actual != expected {
            return Err(ManifestError::DigestMismatch { expected, actual });
        }
        Self::parse_with(raw, announced, expected)
    }

    /// Parses a manifest, addressed by the SHA-256 of its bytes.
    ///
    /// `announced` is the media type that it came with; without one, its own decides.
    ///
    /// # Errors
    /// Fails where the bytes are too long, malformed, ambiguous (layers *and* manifests) or not of the
    /// announced media type, which would let two readers see two different things.
    pub fn parse(raw: Bytes, announced: Option<&str>) -> Result<Self, ManifestError> {
        let digest = Digest::with(Algorithm::Sha256, &raw);
        Self::parse_with(raw, announced, digest)
    }

    fn parse_with(raw: Bytes, announced: Option<&str>, digest: Digest) -> Result<Self, ManifestError> {
        if raw.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge(raw.len() as u64));
        }
        // A Content-Type may carry parameters.
        let announced = announced.map(|announced| announced.split(';').next().unwrap_or_default().trim());
        if let Some(announced) = announced.filter(|announced| !is_manifest(announced)) {
            return Err(ManifestError::UnknownMediaType(cut(announced)));
        }
        let document: Document =
            serde_json::from_slice(&raw).map_err(|error| ManifestError::Malformed(error.to_string()))?;
        let media_type = match (document.media_type.as_deref(), announced) {
            (Some(own), Some(announced)) if own != announced => {
                return Err(ManifestError::MediaTypeMismatch { own: cut(own), announced: cut(announced) });
            }
            (Some(media_type), _) | (None, Some(media_type)) => media_type,
            // The image-spec only recommends `mediaType`; its form says what it is.
            (None, None) if document.manifests.is_some() => OCI_INDEX,
            (None, None) => OCI_MANIFEST,
        };
        let Some(&media_type) = ACCEPTED.iter().find(|accepted| **accepted == media_type) else {
            return Err(ManifestError::UnknownMediaType(cut(media_type)));
        };
        let malformed = |text: &str| Err(ManifestError::Malformed(text.to_owned()));
        if document.schema_version != 2 {
            return malformed("schemaVersion is not 2");
        }
        let content = match (is_index(media_type), document.config, document.layers, document.manifests) {
            (true, None, None, Some(manifests)) => Content::Index { manifests },
            (false, Some(config), Some(layers), None) => Content::Image { config, layers },
            (true, ..) => return malformed("an index lists manifests, and no config or layers"),
            (false, ..) => return malformed("a manifest has a config and layers, and lists no manifests"),
        };
        let manifest = Self {
            digest,
            media_type,
            content,
            artifact_type: document.artifact_type.filter(|artifact_type| !artifact_type.is_empty()),
            subject: document.subject,
            annotations: document.annotations,
            raw,
        };
        if manifest.has_control_characters() {
            return malformed("a media type, an artifact type or a platform has control characters");
        }
        let count = manifest.successors().count();
        if count > MAX_SUCCESSORS {
            return Err(ManifestError::TooManySuccessors(count));
        }
        if manifest.successors().any(|successor| successor.digest == digest) {
            return malformed("it lists itself");
        }
        Ok(manifest)
    }

    /// Says whether a name in it could steer a terminal: these are shown to people.
    fn has_control_characters(&self) -> bool {
        let steers = |text: &str| text.chars().any(char::is_control);
        let of_descriptor = |descriptor: &Descriptor| {
            let platform = descriptor.platform.as_ref().is_some_and(|platform| {
                steers(&platform.os)
                    || steers(&platform.architecture)
                    || platform.variant.as_deref().is_some_and(steers)
            });
            steers(&descriptor.media_type) || descriptor.artifact_type.as_deref().is_some_and(steers) || platform
        };
        self.artifact_type.as_deref().is_some_and(steers)
            || self.successors().chain(self.subject.as_ref()).any(of_descriptor)
    }

    /// Returns the bytes.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Returns about how many bytes of memory it takes: its own bytes, and what was read from them, which may be many
    /// times as long (a short descriptor, a map of one entry).
    pub fn footprint(&self) -> usize {
        let own = self.artifact_type.as_ref().map_or(0, String::len) + map_footprint(&self.annotations);
        let listed = self.successors().chain(self.subject.as_ref()).map(Descriptor::footprint);
        listed.fold(self.raw.len().saturating_add(own), usize::saturating_add)
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the media type, one of [`ACCEPTED`].
    pub fn media_type(&self) -> &'static str {
        self.media_type
    }

    /// Returns what the manifest lists.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Returns what the artifact is: `artifactType`, else the config's media type, as referrers
    /// lists say it (distribution-spec, "Listing Referrers").
    pub fn artifact_type(&self) -> Option<&str> {
        match (&self.artifact_type, &self.content) {
            (Some(artifact_type), _) => Some(artifact_type),
            (None, Content::Image { config, .. }) => Some(&config.media_type),
            (None, Content::Index { .. }) => None,
        }
    }

    /// Returns the manifest that this one refers to, if it is a referrer.
    ///
    /// A back edge, never a successor: a referrer may arrive before its subject.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// Returns the annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Returns the layers; none for an index.
    pub fn layers(&self) -> &[Descriptor] {
        match &self.content {
            Content::Image { layers, .. } => layers,
            Content::Index { .. } => &[],
        }
    }

    /// Returns the listed manifests; none for an image.
    pub fn children(&self) -> &[Descriptor] {
        match &self.content {
            Content::Image { .. } => &[],
            Content::Index { manifests } => manifests,
        }
    }

    /// Says whether this is an index.
    pub fn is_index(&self) -> bool {
        matches!(self.content, Content::Index { .. })
    }

    /// Returns everything that this manifest needs to be whole: the one switch over what a
    /// manifest lists. A copy has the successors before it has the manifest.
    pub fn successors(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, rest) = match &self.content {
            Content::Image { config, layers } => (Some(config), layers),
            Content::Index { manifests } => (None, manifests),
        };
        config.into_iter().chain(rest)
    }

    /// Returns a descriptor of this manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type, self.digest, self.raw.len() as u64)
    }

    /// Says whether a descriptor in this manifest embeds content (`data`).
    pub fn has_inline_data(&self) -> bool {
        self.successors().chain(self.subject.as_ref()).any(|descriptor| descriptor.data.is_some())
    }
}

fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), None)
    }

    fn image(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"c","size":1,"digest":"{DIGEST}"}},"layers":[{{"mediaType":"l","size":2,"digest":"{DIGEST}","annotations":null}}]{extra}}}"#
        )
    }

    #[test]
    fn names_that_could_steer_a_terminal_are_refused() {
        let good = image(r#","artifactType":"application/x""#);
        assert!(parse(&good).is_ok());
        for (from, to) in [
            (r#""mediaType":"l""#, r#""mediaType":"l\u001b[32m""#),
            (r#""artifactType":"application/x""#, r#""artifactType":"\u009b1m""#),
            (r#""mediaType":"c","#, r#""mediaType":"c","platform":{"os":"linux\r","architecture":"x"},"#),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(matches!(parse(&bad), Err(ManifestError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn an_image_and_an_index() {
        let manifest = parse(&image("")).expect("image");
        assert_eq!(manifest.successors().count(), 2);
        assert_eq!(manifest.artifact_type(), Some("c"));
        let index = parse(&format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{DIGEST}","size":1}}]}}"#));
        assert!(index.expect("index").is_index());
    }

    #[test]
    fn the_announced_media_type_must_fit() {
        let raw = Bytes::from(image(""));
        assert!(Manifest::parse(raw.clone(), Some(&format!("{OCI_MANIFEST}; charset=utf-8"))).is_ok());
        let error = Manifest::parse(raw.clone(), Some(OCI_INDEX));
        assert!(matches!(error, Err(ManifestError::MediaTypeMismatch { .. })));
        assert!(matches!(Manifest::parse_as(raw, None, Digest::of(b"")), Err(ManifestError::DigestMismatch { .. })));
    }

    #[test]
    fn refuses_what_is_ambiguous_or_malformed() {
        for text in [
            String::new(),
            "{".into(),
            "[]".into(),
            r#"{"schemaVersion":1}"#.into(),
            r#"{"schemaVersion":2}"#.into(),
            image(r#","manifests":[]"#),
            image(r#","layers":[]"#),
            image("").replace("\"size\":1", "\"size\":-1"),
            image("").replace("\"size\":1", "\"size\":1e30"),
            image("").replace(DIGEST, "sha256:0"),
            image("").replace(OCI_MANIFEST, "text/plain"),
            image("").replace(OCI_MANIFEST, OCI_INDEX),
            image("")[..100].to_owned(),
        ] {
            assert!(parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds() {
        let layer = format!(r#"{{"size":1,"digest":"{DIGEST}"}}"#);
        let many = vec![layer.as_str(); MAX_SUCCESSORS + 1].join(",");
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{layer},"layers":[{many}]}}"#);
        assert!(matches!(parse(&text), Err(ManifestError::TooManySuccessors(_))));
        let hundred_thousand = vec![layer.as_str(); 100_000].join(",");
        assert!(matches!(parse(&text.replace(&many, &hundred_thousand)), Err(ManifestError::TooLarge(_))));
    }
}
