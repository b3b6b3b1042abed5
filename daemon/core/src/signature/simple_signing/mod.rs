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

use super::{Format, IdParts, SignatureId};
use crate::artifact::{BUNDLE_PREFIX, DSSE_ENVELOPE, NOTATION, SIMPLE_SIGNING};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::manifest::Manifest;

pub use image::{SignatureImage, append, append_attestation, merge};

/// The most bytes that a payload may have; a longer one is recorded and not counted.
pub const MAX_PAYLOAD_BYTES: u64 = 1 << 20;
/// The most bytes that a raw signature may have; the longest that Larder checks has 1 KiB (RSA of 8192 bits).
pub const MAX_SIGNATURE_BYTES: usize = 16 << 10;
/// The most layers that cosign reads in a signature image (its `maxLayers`).
pub const MAX_COSIGN_LAYERS: usize = 1000;

/// The annotation with the signature, in base64.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE_ANNOTATION: &str = "dev.sigstore.cosign/certificate";
const CHAIN_ANNOTATION: &str = "dev.sigstore.cosign/chain";
const LOG_ENTRY_ANNOTATION: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP_ANNOTATION: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// Standard base64 as Go's `base64.StdEncoding` reads it, which lets the last bits be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A signature as found: what it says and the bytes to check it by.
#[derive(Clone, Debug)]
pub struct FoundSignature {
    /// Its id.
    pub id: SignatureId,
    /// Its format.
    pub format: Format,
    /// The place of its layer in the manifest, from 0; 0 also where the manifest has no layer.
    pub layer: u32,
    /// The digest that its payload names; `None` where the payload cannot be read, or the format is not checked.
    pub names: Option<Digest>,
    /// The `docker-reference` in the payload; shown, not compared.
    pub claims: Option<String>,
    /// The signed bytes.
    pub payload: Bytes,
    /// The raw signature; empty where the annotation is missing or broken, or the payload is not to be had.
    pub signature: Bytes,
    /// What is wrong with it, in words for `explain`.
    pub fault: Option<String>,
}

/// Reads every signature in an attached manifest. `payload` returns a layer's bytes by digest, or `None`
/// where it is not to be had (too long); the caller has verified them against the digest.
///
/// SimpleSigning layers give one signature each; bundle, attestation and Notation manifests give one per layer
/// (or one for the manifest) of a format that is not checked. SBOMs and others give none.
pub fn read(manifest: &Manifest, payload: impl Fn(&Descriptor) -> Option<Bytes>) -> Vec<FoundSignature> {
    let by_manifest = match manifest.artifact_type() {
        Some(NOTATION) => Some(Format::Notation),
        Some(artifact_type) if artifact_type.starts_with(BUNDLE_PREFIX) => Some(Format::Bundle),
        _ => None,
    };
    // Notation's layers are JWS or COSE, by media types that other things have too.
    let notation = by_manifest.filter(|format| *format == Format::Notation);
    let mut found = Vec::new();
    for (place, layer) in (0_u32..).zip(manifest.layers()) {
        match by_layer(&layer.media_type).or(notation) {
            Some(Format::SimpleSigning) => found.push(read_layer(place, layer, payload(layer))),
            Some(format) => found.push(unchecked(format, place, &layer.digest)),
            None => {}
        }
    }
    if let (true, Some(format)) = (found.is_empty(), by_manifest) {
        found.push(unchecked(format, 0, &manifest.digest()));
    }
    found
}

/// Writes the payload that cosign would sign, byte for byte.
///
/// `docker_reference` is the repository as cosign names it, without tag and digest
/// ([`Repository::cosign_name`](crate::reference::Repository::cosign_name)).
pub fn payload(docker_reference: &str, digest: &Digest, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    payload::write(docker_reference, digest, annotations)
}

fn by_layer(media_type: &str) -> Option<Format> {
    match media_type {
        SIMPLE_SIGNING => Some(Format::SimpleSigning),
        DSSE_ENVELOPE => Some(Format::Attestation),
        _ if media_type.starts_with(BUNDLE_PREFIX) => Some(Format::Bundle),
        _ => None,
    }
}

/// A signature of a format that is not checked: it is there, and that is all that is said about it.
fn unchecked(format: Format, layer: u32, digest: &Digest) -> FoundSignature {
    let signed = digest.to_string();
    FoundSignature {
        id: IdParts { format: format.name(), signed: signed.as_bytes(), ..IdParts::default() }.id(),
        format,
        layer,
        names: None,
        claims: None,
        payload: Bytes::new(),
        signature: Bytes::new(),
        fault: None,
    }
}

fn read_layer(place: u32, layer: &Descriptor, bytes: Option<Bytes>) -> FoundSignature {
    let annotation = |name: &str| layer.annotations.get(name).map(String::as_str).unwrap_or_default();
    let text = annotation(SIGNATURE_ANNOTATION);
    let parts = IdParts {
        certificate: annotation(CERTIFICATE_ANNOTATION).as_bytes(),
        chain: annotation(CHAIN_ANNOTATION).as_bytes(),
        log_entry: annotation(LOG_ENTRY_ANNOTATION).as_bytes(),
        timestamp: annotation(TIMESTAMP_ANNOTATION).as_bytes(),
        ..IdParts::default()
    };
    let mut found = FoundSignature {
        id: parts.id(),
        format: Format::SimpleSigning,
        layer: place,
        names: None,
        claims: None,
        payload: Bytes::new(),
        signature: Bytes::new(),
        fault: None,
    };
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
