//! SBOMs: which things are one, the image that cosign attaches one by, and the one in an attestation.

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Deserializer, Value};

use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::signature::dsse::{Statement, StatementError};
use crate::signature::simple_signing::{SignatureImage, of_layer};

/// The most bytes that an attached SBOM may have: cosign reads no longer attachment (`COSIGN_MAX_ATTACHMENT_SIZE`).
pub const MAX_SBOM_BYTES: u64 = 128 << 20;

/// The media types by which cosign attaches SBOMs (facts/sigstore.md 4.6).
pub const ATTACHABLE: [&str; 5] = [
    "text/spdx",
    "text/spdx+json",
    "application/vnd.cyclonedx+xml",
    "application/vnd.cyclonedx+json",
    "application/vnd.syft+json",
];

/// The predicate types of SBOMs; a version may follow (`https://spdx.dev/Document/v2.3`).
const PREDICATE_TYPES: [(&str, Kind); 3] = [
    ("https://spdx.dev/Document", Kind::Spdx),
    ("https://cyclonedx.org/bom", Kind::CycloneDx),
    ("https://syft.dev/bom", Kind::Syft),
];

/// The language of an SBOM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SPDX, as text, JSON or XML.
    Spdx,
    /// CycloneDX, as JSON or XML.
    CycloneDx,
    /// Syft's own JSON.
    Syft,
}

impl Kind {
    /// Returns the name used in JSON and shown to people: spdx, cyclonedx, syft.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spdx => "spdx",
            Self::CycloneDx => "cyclonedx",
            Self::Syft => "syft",
        }
    }

    /// Says what SBOM a layer of this media type is.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        if !crate::artifact::is_sbom(media_type) {
            return None;
        }
        Some(if media_type.contains("spdx") {
            Self::Spdx
        } else if media_type.contains("cyclonedx") {
            Self::CycloneDx
        } else {
            Self::Syft
        })
    }

    /// Says what SBOM the predicate of an attestation of this type is.
    pub fn of_predicate_type(predicate_type: &str) -> Option<Self> {
        let is = |known: &&(&str, Self)| {
            predicate_type.strip_prefix(known.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        PREDICATE_TYPES.iter().find(is).map(|(_, kind)| *kind)
    }
}

/// Writes the image by which cosign attaches an SBOM, byte for byte: the SBOM is its one layer.
pub fn image(media_type: &str, digest: Digest, size: u64) -> SignatureImage {
    of_layer(&Descriptor::new(media_type, digest, size))
}

/// Returns the SBOM in a statement: its predicate, byte for byte as it was signed; of one that is text (SPDX tag-value),
/// the text.
///
/// # Errors
/// Fails where the statement is no JSON, has a field twice, or has no predicate.
pub fn of_statement(payload: &Bytes) -> Result<Bytes, StatementError> {
    match Statement::predicate(payload)? {
        Value::Null => Err(StatementError::Missing("predicate")),
        Value::String(text) => Ok(text.into()),
        // Written anew, numbers could differ from what was signed.
        _ => value_of(payload, "predicate")
            .map(|predicate| payload.slice_ref(predicate))
            .ok_or(StatementError::Missing("predicate")),
    }
}

/// Returns the bytes of one field's value in a JSON object, which was parsed before.
fn value_of<'a>(object: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut rest = object.trim_ascii_start().strip_prefix(b"{")?;
    loop {
        let (name, behind) = first::<String>(rest)?;
        let (_, after) = first::<IgnoredAny>(behind.trim_ascii_start().strip_prefix(b":")?)?;
        if name == wanted {
            let value = behind.get(..behind.len().checked_sub(after.len())?)?;
            return Some(value.trim_ascii_start().strip_prefix(b":")?.trim_ascii());
        }
        rest = after.trim_ascii_start().strip_prefix(b",")?;
    }
}

/// Reads the JSON value that some bytes begin with; returns it and what follows.
fn first<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let mut values = Deserializer::from_slice(bytes).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, bytes.get(values.byte_offset()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sbom_of(payload: &str) -> Result<String, StatementError> {
        let bytes = of_statement(&Bytes::copy_from_slice(payload.as_bytes()))?;
        Ok(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }

    #[test]
    fn the_image_is_cosigns_byte_for_byte() {
        let layer: Digest =
            "sha256:1e3101029555fae77bbee58a6dc64ddb402088d17016ba0d75129e98a7b73c84".parse().expect("a digest");
        let image = image("text/spdx", layer, 3855);
        assert_eq!(
            Digest::of(&image.config).to_string(),
            "sha256:9672cbe2d5d1af3ad123f741c02f7349c8c96352e467f525a44843abb4dfc76e",
            "the config at single:1.0.0's `.sbom` tag"
        );
        assert_eq!(
            Digest::of(&image.manifest).to_string(),
            "sha256:0e88772ca954ea6823c79411cc781699e2f8bb39462b0f8a86b3d2927cb40819",
            "the manifest there"
        );
    }

    #[test]
    fn kinds_by_media_type_and_by_predicate_type() {
        for (media_type, kind) in [
            ("text/spdx", Some(Kind::Spdx)),
            ("application/spdx+json", Some(Kind::Spdx)),
            ("application/vnd.cyclonedx+xml", Some(Kind::CycloneDx)),
            ("application/vnd.syft+json", Some(Kind::Syft)),
            ("application/vnd.oci.image.layer.v1.tar", None),
            ("application/not-spdx", None),
        ] {
            assert_eq!(Kind::of_media_type(media_type), kind, "{media_type}");
        }
        assert!(ATTACHABLE.iter().all(|media_type| Kind::of_media_type(media_type).is_some()));
        for (predicate_type, kind) in [
            ("https://spdx.dev/Document", Some(Kind::Spdx)),
            ("https://spdx.dev/Document/v2.3", Some(Kind::Spdx)),
            ("https://spdx.dev/Documents", None),
            ("https://cyclonedx.org/bom", Some(Kind::CycloneDx)),
            ("https://cosign.sigstore.dev/attestation/v1", None),
        ] {
            assert_eq!(Kind::of_predicate_type(predicate_type), kind, "{predicate_type}");
        }
    }

    #[test]
    fn a_predicate_comes_out_as_it_was_signed() {
        let odd = r#"{ "b": 1.50e2, "a":[1 ,{"predicate":7}],"é":"\u00e9\"}" }"#;
        assert_eq!(sbom_of(&format!(r#"{{"predicate":{odd}}}"#)).as_deref(), Ok(odd));
        assert_eq!(
            sbom_of(&format!("{{\"x\":-1e3,\"y\":\"}},\", \"predicate\" :\n {odd} , \"z\":null}}")).as_deref(),
            Ok(odd)
        );
        assert_eq!(sbom_of(&format!(r#"{{"pred\u0069cate":{odd}}}"#)).as_deref(), Ok(odd), "a name in escapes");
        assert_eq!(
            sbom_of(r#"{"predicate":"SPDXVersion: SPDX-2.3\nX: é"}"#).as_deref(),
            Ok("SPDXVersion: SPDX-2.3\nX: é")
        );
        assert_eq!(sbom_of(r#"{"predicate":17}"#).as_deref(), Ok("17"));
    }

    #[test]
    fn a_predicate_that_two_readers_could_read_differently_is_none() {
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"predicate":null}"#,
            r#"{"predicate":{"a":1},"predicate":{"a":2}}"#,
            r#"{"predicate":{"a":1,"a":2}}"#,
            r#"{"predicate":{"a":1}"#,
        ] {
            assert!(sbom_of(wrong).is_err(), "{wrong}");
        }
    }
}
