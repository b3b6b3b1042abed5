//! What a manifest is to Larder: a subject, or something attached to one.
//!
//! What a tag, a pull by digest or a parent index brought here is a *subject*. What a referrers call
//! or a signature tag brought is *attached*. DESIGN section 5 holds the rules.

use std::str::FromStr;

use crate::descriptor::Descriptor;
use crate::digest::{Algorithm, Digest};
use crate::manifest::{Content, Manifest};
use crate::reference::Tag;

/// `application/vnd.dev.cosign.simplesigning.v1+json`
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// `application/vnd.dsse.envelope.v1+json`
pub const DSSE_ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// What the media type of every Sigstore bundle begins with.
pub const BUNDLE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
/// `application/vnd.cncf.notary.signature`
pub const NOTATION: &str = "application/vnd.cncf.notary.signature";
/// `application/vnd.oci.empty.v1+json`, the media type of `{}`.
pub const EMPTY_JSON: &str = "application/vnd.oci.empty.v1+json";

/// The media types of SBOMs as tools attach them.
const SBOM_TYPES: [&str; 9] = [
    "text/spdx",
    "text/spdx+json",
    "text/spdx+xml",
    "application/spdx",
    "application/spdx+json",
    "application/vnd.cyclonedx",
    "application/vnd.cyclonedx+json",
    "application/vnd.cyclonedx+xml",
    "application/vnd.syft+json",
];

/// What an attached manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttachedKind {
    /// Classic cosign signatures (SimpleSigning layers).
    Signature,
    /// Classic cosign attestations (DSSE layers).
    Attestation,
    /// A Sigstore bundle.
    Bundle,
    /// A Notation signature.
    Notation,
    /// An SBOM.
    Sbom,
    /// Anything else that refers to a subject.
    Other,
}

impl AttachedKind {
    /// Returns the name used in JSON and shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Attestation => "attestation",
            Self::Bundle => "bundle",
            Self::Notation => "notation",
            Self::Sbom => "sbom",
            Self::Other => "other",
        }
    }

    /// Says what `manifest` holds, by the media types of its layers.
    pub fn of(manifest: &Manifest) -> Self {
        if manifest.artifact_type() == Some(NOTATION) {
            return Self::Notation;
        }
        let layers = manifest.layers();
        let any = |test: fn(&str) -> bool| layers.iter().any(|layer| test(&layer.media_type));
        if any(|media_type| media_type == SIMPLE_SIGNING) {
            Self::Signature
        } else if any(|media_type| media_type.starts_with(BUNDLE_PREFIX)) {
            Self::Bundle
        } else if any(|media_type| media_type == DSSE_ENVELOPE) {
            Self::Attestation
        } else if any(is_sbom) {
            Self::Sbom
        } else {
            Self::Other
        }
    }
}

/// Says whether `media_type` is that of an SBOM.
pub fn is_sbom(media_type: &str) -> bool {
    SBOM_TYPES.contains(&media_type)
}

/// Says whether a layer's media type is that of a signature, an attestation, a bundle, an SBOM or
/// a report: content that an attached manifest may open without its subject being accepted.
///
/// In-toto statements are what BuildKit attaches, SARIF is what scanners report in.
pub fn is_evidence(media_type: &str) -> bool {
    media_type == SIMPLE_SIGNING
        || media_type == DSSE_ENVELOPE
        || media_type.starts_with(BUNDLE_PREFIX)
        || is_sbom(media_type)
        || matches!(
            media_type,
            "application/vnd.in-toto+json" | "application/sarif+json" | "application/jose+json" | "application/cose"
        )
}

/// Says whether a layer's media type is that of content which registries need not have: its `urls` say where it
/// is, and they are never followed (image-spec, "Non-Distributable Layers"; Docker's name is `foreign`).
pub fn is_foreign(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

/// Returns the layers of an attached manifest if all of them are evidence, else `None`.
pub fn evidence_layers(manifest: &Manifest) -> Option<&[Descriptor]> {
    match manifest.content() {
        Content::Image { layers, .. } if layers.iter().all(|layer| is_evidence(&layer.media_type)) => Some(layers),
        _ => None,
    }
}

/// The suffix of a tag under which cosign stores what belongs to a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TagSuffix {
    /// No suffix: the referrers fallback tag of distribution-spec 1.1.
    Fallback,
    /// `.sig`: classic signatures.
    Signature,
    /// `.att`: classic attestations.
    Attestation,
    /// `.sbom`: an attached SBOM.
    Sbom,
}

/// A tag that names a digest: `sha256-<hex>`, with `.sig`, `.att`, `.sbom` or nothing behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DigestTag {
    /// The digest that the tag names.
    pub digest: Digest,
    /// What the tag holds.
    pub suffix: TagSuffix,
}

impl DigestTag {
    /// The suffixes of cosign's tags.
    pub const COSIGN: [TagSuffix; 3] = [TagSuffix::Signature, TagSuffix::Attestation, TagSuffix::Sbom];

    /// Returns what `tag` names, or `None` for an ordinary tag.
    ///
    /// A fallback tag of a sha512 digest is cut at 64 hex digits (distribution-spec, "Referrers Tag Schema")
    /// and so names no whole digest; nothing is found by it, but see [`Self::is_reserved`].
    pub fn parse(tag: &Tag) -> Option<Self> {
        let (name, suffix) = Self::split(tag)?;
        let digest = Digest::from_str(&name.replacen('-', ":", 1)).ok()?;
        Some(Self { digest, suffix })
    }

    /// Says whether `tag` is of a form that never makes a subject: `sha256-<hex>…`.
    pub fn is_reserved(tag: &Tag) -> bool {
        Algorithm::ALL.iter().any(|algorithm| {
            tag.as_str()
                .strip_prefix(algorithm.name())
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|hex| hex.bytes().take(64).filter(u8::is_ascii_hexdigit).count() == 64)
        })
    }

    fn split(tag: &Tag) -> Option<(&str, TagSuffix)> {
        let text = tag.as_str();
        Some(match text.split_once('.') {
            None => (text, TagSuffix::Fallback),
            Some((name, "sig")) => (name, TagSuffix::Signature),
            Some((name, "att")) => (name, TagSuffix::Attestation),
            Some((name, "sbom")) => (name, TagSuffix::Sbom),
            Some(_) => return None,
        })
    }

    /// Returns the tag; a sha512 digest is cut at 64 digits without a suffix, and has none with one,
    /// for it would be longer than a tag may be.
    pub fn tag(&self) -> Option<Tag> {
        let suffix = match self.suffix {
            TagSuffix::Fallback => "",
            TagSuffix::Signature => ".sig",
            TagSuffix::Attestation => ".att",
            TagSuffix::Sbom => ".sbom",
        };
        let mut hex = self.digest.hex();
        if self.suffix == TagSuffix::Fallback {
            hex.truncate(64);
        }
        Tag::from_str(&format!("{}-{hex}{suffix}", self.digest.algorithm().name())).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_tags_and_back() {
        let digest = Digest::of(b"x");
        for suffix in [TagSuffix::Fallback, TagSuffix::Signature, TagSuffix::Attestation, TagSuffix::Sbom] {
            let tag = DigestTag { digest, suffix }.tag().expect("sha256 fits");
            assert_eq!(DigestTag::parse(&tag), Some(DigestTag { digest, suffix }));
            assert!(DigestTag::is_reserved(&tag));
        }
        for text in ["latest", "sha256-abc", "sha256-abc.sig", "v1.0.sig"] {
            let tag: Tag = text.parse().expect(text);
            assert_eq!(DigestTag::parse(&tag), None);
            assert!(!DigestTag::is_reserved(&tag));
        }
    }

    #[test]
    fn reserved_whatever_follows() {
        let tag: Tag = format!("sha256-{}.sig.old", Digest::of(b"x").hex()).parse().expect("tag");
        assert_eq!(DigestTag::parse(&tag), None);
        assert!(DigestTag::is_reserved(&tag));
    }
}
