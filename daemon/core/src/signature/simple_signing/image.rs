//! Signature images: the manifests and configs that cosign writes at `.sig` tags.
//!
//! A registry has no compare-and-swap, so signers overwrite each other's manifest: whoever writes unites what is there
//! with what it has, and loses nothing.

use std::collections::{BTreeMap, HashSet};

use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    BASE64, CERTIFICATE_ANNOTATION, CHAIN_ANNOTATION, LOG_ENTRY_ANNOTATION, SIGNATURE_ANNOTATION, TIMESTAMP_ANNOTATION,
};
use crate::artifact::{DSSE_ENVELOPE, SIMPLE_SIGNING};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::manifest::{Content, Manifest, OCI_MANIFEST};
use crate::signature::dsse::{Envelope, Statement};
use crate::signature::found::Annotations;
use crate::signature::go_json;
use crate::signature::manifest_json::ManifestJson;

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Go's zero time: cosign records none unless asked to.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// What a classic attestation's layer says about itself.
const PREDICATE_TYPE_ANNOTATION: &str = "predicateType";

/// A signature image as cosign writes it: manifest, config, and the layers' bytes are the payloads.
#[derive(Clone, Debug)]
pub struct SignatureImage {
    /// The manifest's bytes.
    pub manifest: Bytes,
    /// The config's bytes.
    pub config: Bytes,
}

/// Appends a signature to the image at a `.sig` tag (or begins one), as cosign does: merging layers.
/// Returns `None` where the same layer with the same signature is there, and all that comes with it.
///
/// `beside` are the annotations that come with it: what a certificate, a log and a timestamp authority say
/// ([`VerificationMaterial::annotations`](crate::signature::material::VerificationMaterial::annotations)).
pub fn append(
    existing: Option<&Manifest>,
    payload: &[u8],
    signature: &[u8],
    beside: BTreeMap<String, String>,
) -> Option<SignatureImage> {
    let mut layer = Descriptor::new(SIMPLE_SIGNING, Digest::of(payload), payload.len() as u64);
    layer.annotations = beside;
    layer.annotations.insert(SIGNATURE_ANNOTATION.to_owned(), BASE64.encode(signature));
    append_layer(existing, &layer)
}

/// Appends a signed statement, in the envelope that [`envelope`](crate::signature::bundle_writer::envelope) writes, to
/// the image at an `.att` tag (or begins one). Returns `None` where it is there.
pub fn append_attestation(
    existing: Option<&Manifest>,
    envelope: &[u8],
    predicate_type: &str,
    beside: BTreeMap<String, String>,
) -> Option<SignatureImage> {
    let mut layer = Descriptor::new(DSSE_ENVELOPE, Digest::of(envelope), envelope.len() as u64);
    layer.annotations = beside;
    layer.annotations.insert(SIGNATURE_ANNOTATION.to_owned(), String::new());
    layer.annotations.insert(PREDICATE_TYPE_ANNOTATION.to_owned(), predicate_type.to_owned());
    append_layer(existing, &layer)
}

/// Returns the layer that cosign attaches a signature or an attestation by that was made elsewhere: a SimpleSigning payload
/// with its signature in base64, or a DSSE envelope without.
///
/// # Errors
/// Fails in words where the envelope holds no statement.
pub fn evidence_layer(bytes: &[u8], signature: Option<&str>, beside: &Annotations) -> Result<Descriptor, String> {
    let media_type = if signature.is_some() { SIMPLE_SIGNING } else { DSSE_ENVELOPE };
    let mut layer = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
    if signature.is_none() {
        let envelope = Envelope::parse(bytes).map_err(|error| format!("its envelope cannot be read: {error}"))?;
        let statement = Statement::parse(&envelope.payload);
        let statement = statement.map_err(|error| format!("its statement cannot be read: {error}"))?;
        layer.annotations.insert(PREDICATE_TYPE_ANNOTATION.to_owned(), statement.predicate_type);
    }
    layer.annotations.insert(SIGNATURE_ANNOTATION.to_owned(), signature.unwrap_or_default().to_owned());
    let beside = [
        (CERTIFICATE_ANNOTATION, &beside.certificate),
        (CHAIN_ANNOTATION, &beside.chain),
        (LOG_ENTRY_ANNOTATION, &beside.log_entry),
        (TIMESTAMP_ANNOTATION, &beside.timestamp),
    ];
    let beside = beside.into_iter().filter(|(_, text)| !text.is_empty());
    layer.annotations.extend(beside.map(|(name, text)| (name.to_owned(), text.clone())));
    Ok(layer)
}

/// Appends a layer to a signature image (or begins one). Returns `None` where it is there.
pub fn append_layer(existing: Option<&Manifest>, layer: &Descriptor) -> Option<SignatureImage> {
    let layers = existing.map_or(&[][..], Manifest::layers);
    let is_there = layers.iter().any(|other| {
        other.digest == layer.digest
            && other.media_type == layer.media_type
            && layer.annotations.iter().all(|(name, value)| other.annotations.get(name) == Some(value))
    });
    (!is_there).then(|| write(existing, layers.iter().chain([layer])))
}

/// Unites the layers of two signature images of one subject (`ours` after `theirs`), each layer once; `None`
/// where `theirs` has them all.
///
/// Layers are the same if digest, media type and annotations are: one payload may be signed by many.
pub fn merge(theirs: &Manifest, ours: &Manifest) -> Option<SignatureImage> {
    let key = |layer: &'_ Descriptor| (layer.digest, layer.media_type.clone(), layer.annotations.clone());
    let mut there: HashSet<_> = theirs.layers().iter().map(key).collect();
    let mut layers: Vec<&Descriptor> = theirs.layers().iter().collect();
    layers.extend(ours.layers().iter().filter(|layer| there.insert(key(layer))));
    (layers.len() > theirs.layers().len()).then(|| write(Some(theirs), layers.into_iter()))
}

/// Writes an image of one layer: what cosign attaches an SBOM by.
pub fn of_layer(layer: &Descriptor) -> SignatureImage {
    write(None, std::iter::once(layer))
}

#[derive(Serialize)]
struct ConfigJson<'a> {
    architecture: &'a str,
    created: &'a str,
    history: Vec<HistoryJson>,
    os: &'a str,
    rootfs: RootFsJson<'a>,
    config: EmptyJson,
}

#[derive(Serialize)]
struct HistoryJson {
    created: &'static str,
}

#[derive(Serialize)]
struct RootFsJson<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<&'a Digest>,
}

#[derive(Serialize)]
struct EmptyJson {}

/// Writes an image with `layers`, in the flavour and with the annotations of `base`, if there is one.
///
/// The config is made anew: each layer's diff id is its digest, for payloads are not compressed.
fn write<'a>(base: Option<&Manifest>, layers: impl Iterator<Item = &'a Descriptor>) -> SignatureImage {
    let layers: Vec<&Descriptor> = layers.collect();
    let config = go_json::to_vec(&ConfigJson {
        architecture: "",
        created: NO_TIME,
        history: layers.iter().map(|_| HistoryJson { created: NO_TIME }).collect(),
        os: "",
        rootfs: RootFsJson { kind: "layers", diff_ids: layers.iter().map(|layer| &layer.digest).collect() },
        config: EmptyJson {},
    });
    let base = base.filter(|base| !base.is_index());
    let (media_type, config_type) = match base.map(|base| (base.media_type(), base.content())) {
        // Docker's types (COSIGN_DOCKER_MEDIA_TYPES) stay Docker's, and the old referrers mode says by the
        // config's type what the artifact is.
        Some((media_type, Content::Image { config, .. })) => (media_type, config.media_type.as_str()),
        _ => (OCI_MANIFEST, OCI_CONFIG),
    };
    let config_descriptor = Descriptor::new(config_type, Digest::of(&config), config.len() as u64);
    let none = BTreeMap::new();
    let manifest = go_json::to_vec(&ManifestJson {
        schema_version: 2,
        media_type,
        config: (&config_descriptor).into(),
        layers: layers.into_iter().map(Into::into).collect(),
        annotations: base.map_or(&none, Manifest::annotations),
        subject: base.and_then(Manifest::subject).map(Into::into),
        artifact_type: base.and_then(own_artifact_type),
    });
    SignatureImage { manifest: manifest.into(), config: config.into() }
}

/// Returns the `artifactType` that the manifest itself has, without the config's in its place.
fn own_artifact_type(manifest: &Manifest) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        artifact_type: Option<String>,
    }
    serde_json::from_slice::<Own>(manifest.raw()).ok()?.artifact_type
}
