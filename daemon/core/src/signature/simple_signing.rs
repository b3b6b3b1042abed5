//! cosign's classic signatures (facts/sigstore.md section 2).

use bytes::Bytes;

use super::{Format, SignatureId};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::manifest::Manifest;

/// The most bytes that a payload may have; a longer one is recorded and not counted.
pub const MAX_PAYLOAD_BYTES: u64 = 1 << 20;

/// A signature as found: what it says and the bytes to check it by.
#[derive(Clone, Debug)]
pub struct FoundSignature {
    /// Its id.
    pub id: SignatureId,
    /// Its format.
    pub format: Format,
    /// The digest that its payload names; `None` where the payload cannot be read, or the format is not checked.
    pub names: Option<Digest>,
    /// The `docker-reference` in the payload; shown, not compared.
    pub claims: Option<String>,
    /// The signed bytes.
    pub payload: Bytes,
    /// The raw signature; empty where the annotation is missing or broken.
    pub signature: Bytes,
    /// What is wrong with it, in words for `explain`.
    pub fault: Option<String>,
}

/// Reads every signature in an attached manifest. `payload` returns a layer's bytes by digest, or `None`
/// where it is not to be had (too long); the caller has verified them against the digest.
///
/// SimpleSigning layers give one signature each; bundle, attestation and Notation manifests give one per layer
/// (or one for the manifest) of a format that is not checked. SBOMs and others give none.
pub fn read(_manifest: &Manifest, _payload: impl Fn(&Descriptor) -> Option<Bytes>) -> Vec<FoundSignature> {
    unimplemented!()
}

/// Writes the payload that cosign would sign, byte for byte.
pub fn payload(_docker_reference: &str, _digest: &Digest, _annotations: &std::collections::BTreeMap<String, String>) -> Vec<u8> {
    unimplemented!()
}

/// A signature image as cosign writes it: manifest, config, and the layers' bytes are the payloads.
#[derive(Clone, Debug)]
pub struct SignatureImage {
    /// The manifest's bytes.
    pub manifest: Bytes,
    /// The config's bytes.
    pub config: Bytes,
}

/// Appends a signature to the image at a `.sig` tag (or begins one), as cosign does: merging layers.
/// Returns `None` where the same layer with the same signature is there.
pub fn append(_existing: Option<&Manifest>, _payload: &[u8], _signature: &[u8]) -> Option<SignatureImage> {
    unimplemented!()
}

/// Unites the layers of two signature images of one subject (`ours` after `theirs`), each layer once; `None`
/// where `theirs` has them all.
pub fn merge(_theirs: &Manifest, _ours: &Manifest) -> Option<SignatureImage> {
    unimplemented!()
}
