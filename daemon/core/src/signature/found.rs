//! Signatures as they are found in manifests, in every format.
//!
//! A manifest that was attached to a subject goes in, layer by layer, and one row for each signature and digest that
//! it names comes out, also for those that cannot be read or that this version does not check: a signature that is
//! there is never "none".

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::bundle::{Bundle, Content, Material};
use super::dsse::{COSIGN_SIGN, Envelope, IN_TOTO, Statement, pae};
use super::statement::MAX_PREDICATE_TYPE_BYTES;
use super::{Format, IdParts, SignatureId, simple_signing};
use crate::artifact::{BUNDLE_PREFIX, DSSE_ENVELOPE, NOTATION, SIMPLE_SIGNING};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::facts::SignatureRow;
use crate::manifest::Manifest;

/// The most bytes that an attestation's or a bundle's layer may have; a longer one is recorded and not counted.
pub const MAX_ENVELOPE_BYTES: u64 = 32 << 20;
/// The most digests that one statement may name.
const MAX_NAMED: usize = 1024;

/// What a signature says about the digest that it names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Says {
    /// That it is signed.
    Signed,
    /// A predicate of this type about it: an attestation is not a signature.
    Attested(Arc<str>),
}

impl Says {
    /// Returns the predicate's type; `None` for a signature.
    pub fn predicate_type(&self) -> Option<&str> {
        match self {
            Self::Signed => None,
            Self::Attested(predicate_type) => Some(predicate_type),
        }
    }
}

/// A signature as found: what it says and the bytes to check it by.
#[derive(Clone, Debug)]
pub struct FoundSignature {
    /// Its id.
    pub id: SignatureId,
    /// Its format.
    pub format: Format,
    /// The place of its layer in the manifest, from 0; 0 also where the manifest has no layer.
    pub layer: u32,
    /// A digest that it names; `None` where it cannot be read, or the format is not checked. What names several is
    /// several rows.
    pub names: Option<Digest>,
    /// What it says about that digest.
    pub says: Says,
    /// The `docker-reference` in a classic payload, or the name in a statement; shown, not compared.
    pub claims: Option<String>,
    /// What it says, as bytes: a SimpleSigning payload, or an in-toto statement.
    pub payload: Bytes,
    /// The raw signature; empty where it is missing or broken, or there is nothing to check it against.
    pub signature: Bytes,
    /// Whether a bare key can have made it: a signature that brings a certificate is not checked against keys.
    pub by_key: bool,
    /// What is wrong with it, in words for `explain`.
    pub fault: Option<String>,
    /// What came with it and may prove who made it, and when; nothing of it is believed yet.
    pub beside: Beside,
    /// The payload's type in its DSSE envelope; `None` for a classic signature.
    pub(crate) payload_type: Option<String>,
    /// The name that a DSSE signature gives its key, where it gives one: it must be the key's own.
    pub(crate) key_id: Option<String>,
}

/// What comes with a signature: certificates, entries of logs, timestamps.
#[derive(Clone, Debug, Default)]
pub enum Beside {
    /// Nothing, or nothing that could be read.
    #[default]
    Nothing,
    /// A classic layer's annotations as they are written; empty where one is not there.
    Annotations(Box<Annotations>),
    /// A Sigstore bundle.
    Bundle(Arc<Bundle>),
}

/// The annotations of a classic layer (facts/sigstore.md 2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `dev.sigstore.cosign/certificate`: the signer's certificate, PEM.
    pub certificate: String,
    /// `dev.sigstore.cosign/chain`: certificates, PEM.
    pub chain: String,
    /// `dev.sigstore.cosign/bundle`: an entry of Rekor, JSON.
    pub log_entry: String,
    /// `dev.sigstore.cosign/rfc3161timestamp`: a timestamp, JSON.
    pub timestamp: String,
    /// The envelope byte for byte, of a classic attestation.
    pub envelope: Bytes,
}

impl FoundSignature {
    pub(super) fn new(id: SignatureId, format: Format, layer: u32) -> Self {
        Self {
            id,
            format,
            layer,
            names: None,
            says: Says::Signed,
            claims: None,
            payload: Bytes::new(),
            signature: Bytes::new(),
            by_key: true,
            fault: None,
            beside: Beside::Nothing,
            payload_type: None,
            key_id: None,
        }
    }

    /// Returns the type of its predicate, also where it signs; `None` for a classic signature.
    pub fn predicate_type(&self) -> Option<&str> {
        match (&self.says, &self.payload_type) {
            (Says::Attested(predicate_type), _) => Some(predicate_type),
            (Says::Signed, Some(_)) => Some(COSIGN_SIGN),
            (Says::Signed, None) => None,
        }
    }

    /// Returns its row in the table of facts.
    pub fn row(&self, manifest: Digest, first_seen: Timestamp) -> SignatureRow {
        SignatureRow {
            id: self.id,
            format: self.format,
            names: self.names,
            says: self.says.clone(),
            first_seen,
            manifest,
            layer: self.layer,
        }
    }

    /// Returns the bytes that the signature is over: the payload, or its pre-authentication encoding (DSSE `protocol.md`).
    pub fn signed(&self) -> Cow<'_, [u8]> {
        match &self.payload_type {
            None => Cow::Borrowed(&self.payload),
            Some(payload_type) => Cow::Owned(pae(payload_type, &self.payload)),
        }
    }
}

/// A layer that holds signatures, and what kind.
#[derive(Clone, Copy, Debug)]
pub struct SignatureLayer<'a> {
    /// Its place in the manifest, from 0.
    pub place: u32,
    /// The format of what it holds.
    pub format: Format,
    /// Its descriptor.
    pub descriptor: &'a Descriptor,
}

impl SignatureLayer<'_> {
    /// Says whether the layer's bytes are needed to read it, and are few enough to be read.
    pub fn is_read(&self) -> bool {
        self.format.is_checked() && self.descriptor.size <= max_bytes(self.format)
    }

    /// Reads the layer's signatures. `bytes` are `None` where they are not to be had; the caller has verified them
    /// against the digest. At least one row comes out.
    pub fn read(&self, bytes: Option<Bytes>) -> Vec<FoundSignature> {
        match self.format {
            Format::SimpleSigning => vec![simple_signing::read_layer(self.place, self.descriptor, bytes)],
            Format::Attestation => self.envelope(bytes),
            Format::Bundle => self.bundle(bytes),
            Format::Notation => vec![self.unread()],
        }
    }

    /// A signature of which no more is known than that it is there.
    fn unread(&self) -> FoundSignature {
        unread(self.format, self.place, &self.descriptor.digest)
    }

    fn faulty(&self, fault: impl Into<String>) -> Vec<FoundSignature> {
        vec![FoundSignature { fault: Some(fault.into()), ..self.unread() }]
    }

    fn bounded(&self, bytes: Option<Bytes>) -> Result<Bytes, String> {
        let size = self.descriptor.size;
        if size > max_bytes(self.format) {
            return Err(format!("it has {size} bytes; at most 32 MiB are read"));
        }
        bytes.ok_or_else(|| "its bytes are not to be had".to_owned())
    }

    fn envelope(&self, bytes: Option<Bytes>) -> Vec<FoundSignature> {
        let bytes = match self.bounded(bytes) {
            Ok(bytes) => bytes,
            Err(fault) => return self.faulty(fault),
        };
        let envelope = match Envelope::parse(&bytes) {
            Ok(envelope) => envelope,
            Err(error) => return self.faulty(format!("its envelope cannot be read: {error}")),
        };
        let annotations = simple_signing::annotations(self.descriptor);
        let beside = Annotations { envelope: bytes, ..annotations.clone() };
        // With a certificate a key may have signed, too: classic layers bring both to whoever wants them.
        self.statement(&envelope, annotations.parts(), ByKey::Yes, Beside::Annotations(Box::new(beside)))
    }

    fn bundle(&self, bytes: Option<Bytes>) -> Vec<FoundSignature> {
        let bytes = match self.bounded(bytes) {
            Ok(bytes) => bytes,
            Err(fault) => return self.faulty(fault),
        };
        let bundle = match Bundle::parse(&bytes) {
            Ok(bundle) => bundle,
            Err(error) => return self.faulty(format!("its bundle cannot be read: {error}")),
        };
        let by_key = match bundle.material {
            Material::PublicKey { .. } => ByKey::Yes,
            Material::Certificate(_) | Material::Chain(_) => ByKey::No,
        };
        let bundle = Arc::new(bundle);
        match &bundle.content {
            Content::Envelope(envelope) => {
                // All that a bundle holds beside the envelope is in its own bytes; so that no two bundles share an id.
                let whole = Digest::of(&bytes);
                let parts = IdParts { certificate: whole.as_bytes(), ..IdParts::default() };
                self.statement(envelope, parts, by_key, Beside::Bundle(Arc::clone(&bundle)))
            }
            Content::Message { .. } => self.faulty("its bundle holds a bare message signature and no statement"),
        }
    }

    /// Makes a row for each digest that a statement names.
    fn statement(&self, envelope: &Envelope, parts: IdParts<'_>, by_key: ByKey, beside: Beside) -> Vec<FoundSignature> {
        if envelope.payload_type != IN_TOTO {
            return self.faulty(format!("its envelope's payload type is not {IN_TOTO}"));
        }
        let statement = match Statement::parse(&envelope.payload) {
            Ok(statement) => statement,
            Err(error) => return self.faulty(format!("its statement cannot be read: {error}")),
        };
        if !(1..=MAX_PREDICATE_TYPE_BYTES).contains(&statement.predicate_type.len()) {
            return self.faulty("its predicate type is empty, or longer than 256 bytes");
        }
        let says = match (self.format, statement.predicate_type.as_str()) {
            (Format::Bundle, COSIGN_SIGN) => Says::Signed,
            (_, predicate_type) => Says::Attested(predicate_type.into()),
        };
        let parts = IdParts { key_id: envelope.key_id.as_deref(), ..parts };
        let names = statement.subjects.iter().flat_map(|subject| {
            subject.digests.iter().map(|digest| (*digest, subject.name.as_ref().filter(|name| !name.is_empty())))
        });
        let mut rows: Vec<FoundSignature> = Vec::new();
        let mut seen = BTreeSet::new();
        for (digest, name) in names.filter(|(digest, _)| seen.insert(*digest)) {
            if rows.len() == MAX_NAMED {
                return self.faulty(format!("its statement names more than {MAX_NAMED} digests"));
            }
            // One signature that names several digests is several rows, each with an id of its own.
            let format = match rows.len() {
                0 => Cow::Borrowed(self.format.name()),
                _ => Cow::Owned(format!("{}, for {digest}", self.format.name())),
            };
            let id =
                IdParts { format: &format, signed: &envelope.payload, signature: &envelope.signature, ..parts }.id();
            rows.push(FoundSignature {
                names: Some(digest),
                says: says.clone(),
                claims: name.cloned(),
                payload: envelope.payload.clone(),
                signature: envelope.signature.clone(),
                by_key: by_key == ByKey::Yes,
                beside: beside.clone(),
                payload_type: Some(envelope.payload_type.clone()),
                key_id: envelope.key_id.clone(),
                ..FoundSignature::new(id, self.format, self.place)
            });
        }
        if rows.is_empty() { self.faulty("its statement names no digest that is known here") } else { rows }
    }
}

impl Annotations {
    /// Returns them as parts of a signature's id.
    pub(super) fn parts(&self) -> IdParts<'_> {
        IdParts {
            certificate: self.certificate.as_bytes(),
            chain: self.chain.as_bytes(),
            log_entry: self.log_entry.as_bytes(),
            timestamp: self.timestamp.as_bytes(),
            ..IdParts::default()
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ByKey {
    Yes,
    No,
}

/// Returns the layers of an attached manifest that hold signatures, in their order.
pub fn layers(manifest: &Manifest) -> impl Iterator<Item = SignatureLayer<'_>> {
    // Notation's layers are JWS or COSE, by media types that other things have too.
    let notation = (manifest.artifact_type() == Some(NOTATION)).then_some(Format::Notation);
    (0_u32..).zip(manifest.layers()).filter_map(move |(place, descriptor)| {
        let format = by_layer(&descriptor.media_type).or(notation)?;
        Some(SignatureLayer { place, format, descriptor })
    })
}

/// Returns the signature that a manifest without signature layers is by its artifact type.
pub fn bare(manifest: &Manifest) -> Option<FoundSignature> {
    if layers(manifest).next().is_some() {
        return None;
    }
    let format = match manifest.artifact_type()? {
        NOTATION => Format::Notation,
        artifact_type if artifact_type.starts_with(BUNDLE_PREFIX) => Format::Bundle,
        _ => return None,
    };
    Some(unread(format, 0, &manifest.digest()))
}

/// Reads every signature in an attached manifest at once; `bytes` returns a layer's bytes by its descriptor.
///
/// For manifests that are known to be small; whoever reads what strangers attached goes through [`layers`], one at a time.
pub fn read(manifest: &Manifest, bytes: impl Fn(&Descriptor) -> Option<Bytes>) -> Vec<FoundSignature> {
    let read = |layer: SignatureLayer<'_>| {
        let bytes = if layer.is_read() { bytes(layer.descriptor) } else { None };
        layer.read(bytes)
    };
    layers(manifest).flat_map(read).chain(bare(manifest)).collect()
}

fn by_layer(media_type: &str) -> Option<Format> {
    match media_type {
        SIMPLE_SIGNING => Some(Format::SimpleSigning),
        DSSE_ENVELOPE => Some(Format::Attestation),
        _ if media_type.starts_with(BUNDLE_PREFIX) => Some(Format::Bundle),
        _ => None,
    }
}

fn max_bytes(format: Format) -> u64 {
    match format {
        Format::SimpleSigning => simple_signing::MAX_PAYLOAD_BYTES,
        Format::Bundle | Format::Attestation => MAX_ENVELOPE_BYTES,
        Format::Notation => 0,
    }
}

fn unread(format: Format, layer: u32, digest: &Digest) -> FoundSignature {
    let signed = digest.to_string();
    let id = IdParts { format: format.name(), signed: signed.as_bytes(), ..IdParts::default() }.id();
    FoundSignature::new(id, format, layer)
}

#[cfg(test)]
pub(crate) mod tests;
