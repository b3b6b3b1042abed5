//! cosign's classic signatures (facts/sigstore.md section 2).
//!
//! A signature image hangs at the tag `sha256-<hex>.sig`; each of its layers is a payload, and the layer's annotations
//! hold the signature over it. Reading is as lenient as cosign is, save where leniency could make two readers
//! see two things; writing is byte for byte what cosign writes.

mod image;
mod payload;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::found::{Annotations, Beside};
use super::{Format, FoundSignature, IdParts};
use crate::descriptor::Descriptor;
use crate::digest::Digest;

pub use image::{SignatureImage, append, append_attestation, append_layer, evidence_layer, merge, of_layer};

/// The most bytes that a payload may have; a longer one is recorded and not counted.
pub const MAX_PAYLOAD_BYTES: u64 = 1 << 20;
/// The most bytes that a raw signature may have; the longest that Larder checks has 1 KiB (RSA of 8192 bits).
pub const MAX_SIGNATURE_BYTES: usize = 16 << 10;
/// The most layers that cosign reads in a signature image (its `maxLayers`).
pub const MAX_COSIGN_LAYERS: usize = 1000;

/// The annotation with the signature, in base64.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
pub(super) const CERTIFICATE_ANNOTATION: &str = "dev.sigstore.cosign/certificate";
pub(super) const CHAIN_ANNOTATION: &str = "dev.sigstore.cosign/chain";
pub(super) const LOG_ENTRY_ANNOTATION: &str = "dev.sigstore.cosign/bundle";
pub(super) const TIMESTAMP_ANNOTATION: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// Standard base64 as Go's `base64.StdEncoding` reads it, which lets the last bits be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Writes the payload that cosign would sign, byte for byte.
///
/// `docker_reference` is the repository as cosign names it, without tag and digest
/// ([`Repository::cosign_name`](crate::reference::Repository::cosign_name)).
pub fn payload(docker_reference: &str, digest: &Digest, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    payload::write(docker_reference, digest, annotations)
}

/// Returns what a layer's annotations hold beside the signature.
pub(super) fn annotations(layer: &Descriptor) -> Annotations {
    let text = |name| annotation(layer, name).to_owned();
    Annotations {
        certificate: text(CERTIFICATE_ANNOTATION),
        chain: text(CHAIN_ANNOTATION),
        log_entry: text(LOG_ENTRY_ANNOTATION),
        timestamp: text(TIMESTAMP_ANNOTATION),
        envelope: Bytes::new(),
    }
}

fn annotation<'a>(layer: &'a Descriptor, name: &str) -> &'a str {
    layer.annotations.get(name).map(String::as_str).unwrap_or_default()
}

/// Reads the one signature in a layer.
pub(super) fn read_layer(place: u32, layer: &Descriptor, bytes: Option<Bytes>) -> FoundSignature {
    let text = annotation(layer, SIGNATURE_ANNOTATION);
    let annotations = annotations(layer);
    let parts = annotations.parts();
    let mut found = FoundSignature::new(parts.id(), Format::SimpleSigning, place);
    found.beside = Beside::Annotations(Box::new(annotations.clone()));
    let is_short = |bytes: &Bytes| bytes.len() as u64 <= MAX_PAYLOAD_BYTES;
    let Some(bytes) = bytes.filter(is_short) else {
        // There is nothing to check the signature against: were it kept beside an empty payload, it could be
        // "valid" over no bytes at all.
        let signed = layer.digest.to_string();
        let format = "simple-signing, payload not read";
        found.id = IdParts { format, signed: signed.as_bytes(), signature: text.as_bytes(), ..parts }.id();
        found.fault = Some(if layer.size > MAX_PAYLOAD_BYTES {
            format!("its payload has {} bytes; at most 1 MiB is read", layer.size)
        } else {
            "its payload is not to be had".to_owned()
        });
        return found;
    };
    found.payload = bytes;
    match payload::read(&found.payload) {
        Ok(claims) => {
            found.names = Some(claims.digest);
            found.claims = claims.docker_reference;
        }
        Err(fault) => found.fault = Some(format!("its payload {fault}")),
    }
    match decode_signature(text) {
        Ok(signature) => {
            found.id = IdParts {
                format: Format::SimpleSigning.name(),
                signed: &found.payload,
                signature: &signature,
                ..parts
            }
            .id();
            found.signature = signature;
        }
        Err(fault) => {
            let format = "simple-signing, signature not read";
            found.id = IdParts { format, signed: &found.payload, signature: text.as_bytes(), ..parts }.id();
            found.fault.get_or_insert(fault);
        }
    }
    found
}

/// Decodes the signature in a layer's annotation; the error is what is wrong with it, in words.
///
/// # Errors
/// Fails where there is none, where it is too long, and where it is no base64.
pub fn decode_signature(text: &str) -> Result<Bytes, String> {
    // Go skips line ends in base64.
    let text: String = text.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
    if text.is_empty() {
        return Err("its layer has no signature".to_owned());
    }
    if text.len().div_ceil(4).saturating_mul(3) > MAX_SIGNATURE_BYTES {
        return Err("its signature has more than 16 KiB".to_owned());
    }
    BASE64.decode(text).map(Bytes::from).map_err(|error| format!("its signature is no base64 ({error})"))
}

#[cfg(test)]
mod tests;
