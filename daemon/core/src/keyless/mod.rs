//! Signatures with evidence, checked offline: certificates of Fulcio, entries of Rekor, timestamps, in bundles and beside
//! cosign's classic signatures.
//!
//! Two stages, for facts are kept and judgement is derived. [`examine`] takes a [`Claim`] (a signature, what it is over, and
//! what is said about it) and a [`TrustedRoot`], and gives [`Evidence`]: what is proven by whom, and what is broken. It knows
//! no clock and no wish, so its result never goes stale while the root is the same. [`Evidence::meets`] holds that against
//! [`Demands`]: identities, logs, timestamps. Nothing that a claim brings widens what the root trusts.

mod annotation;
mod asn1;
mod certificate;
mod chain;
mod classic;
mod demand;
mod evidence;
mod found;
mod identity;
pub(crate) mod key_id;
mod log;
mod message;
mod pem_files;
mod public_good;
mod request;
mod root;
mod sct;
mod signing_config;
#[cfg(test)]
mod tests;
mod timestamp;
mod window;

use bytes::Bytes;

pub use annotation::{AnnotationError, LocalBundle, certificates, log_entry, timestamp as timestamp_annotation};
pub use asn1::Malformed;
pub use certificate::certificate_key;
pub use classic::ClassicEvidence;
pub use demand::{Accepted, Check, Demands, Finding};
pub use evidence::{CertificateFacts, ChainFacts, Evidence, examine};
pub use found::{broken_beside, claim_of, examine_by_key, examine_found};
pub use identity::{Identity, Pattern, PatternError, extension_name};
pub use log::{
    AnswerError, Checkpoint, CheckpointError, Entry, ProposalError, ProvenEntry, RekorVersion, proposal, read_v1,
};
pub use message::{Hashes, Message, MessageHasher};
pub use pem_files::{RootFiles, RootFilesError};
pub use public_good::{PublicGood, public_good};
pub use request::{certificate_request, timestamp_request};
pub use root::{Authority, Log, MAX_ROOT_BYTES, RootError, TrustedRoot};
pub use sct::Sct;
pub use signing_config::{MAX_CONFIG_BYTES, Service, SigningConfig, SigningConfigError};
pub use timestamp::{ProvenTime, Token};
pub use window::Window;

use crate::key::PublicKey;
use crate::signature::bundle::{Bundle, Content, LogEntry, Material, MessageDigest, Version};
use certificate::Certificate;

/// A signature, and what is said about it; nothing of it is believed yet.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// What is signed.
    pub signed: Signed<'a>,
    /// The raw signature.
    pub signature: &'a [u8],
    /// The digest that a bundle gives of its message; bundles without it are refused.
    pub digest: GivenDigest<'a>,
    /// A DSSE signature's `keyid`, where it is not empty: it must be the key's own name.
    pub key_id: Option<&'a str>,
    /// Who it is said to be by.
    pub signer: Signer<'a>,
    /// Entries of logs.
    pub entries: &'a [LogEntry],
    /// TimeStampResps, DER.
    pub timestamps: &'a [Bytes],
    /// What the timestamps are over: the raw signature; for classic attestations the whole envelope as it was written
    /// (facts/sigstore.md 4.3).
    pub stamped: &'a [u8],
}

/// What a signature is over.
#[derive(Clone, Copy, Debug)]
pub enum Signed<'a> {
    /// A message: a file, or a SimpleSigning payload.
    Message(Message<'a>),
    /// A DSSE envelope.
    Envelope {
        /// The payload's type.
        payload_type: &'a str,
        /// The payload, decoded.
        payload: &'a [u8],
        /// The envelope byte for byte, where it is a classic one: Rekor v1 logged its hash.
        written: Option<&'a [u8]>,
    },
}

/// The digest that is given beside a message's signature.
#[derive(Clone, Copy, Debug)]
pub enum GivenDigest<'a> {
    /// The format has none.
    NotAsked,
    /// The format has one, and this is it.
    Given(Option<&'a MessageDigest>),
}

/// Who a signature is said to be by.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'a> {
    /// A key that the reader chose.
    Key(&'a PublicKey),
    /// The holder of a certificate that came with the signature.
    Certificate {
        /// The certificate, DER.
        leaf: &'a Bytes,
        /// What else came with it, DER.
        more: &'a [Bytes],
        /// How it came.
        form: ChainForm,
    },
}

/// How certificates come with a signature; each form has its own rule (facts/sigstore.md 5.1, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainForm {
    /// One certificate in a bundle v0.3.
    Single,
    /// A certificate or a chain in a bundle before v0.3: all but the first are left unread.
    OldBundle,
    /// A chain in a bundle v0.3: taken where it is asked for, and only with authorities' certificates that are no roots.
    NewBundle,
    /// cosign's annotations: the chain helps where the trusted root names a root alone.
    Classic,
}

impl<'a> Claim<'a> {
    /// Makes a bundle's claim. `message` is what a message signature is over; an envelope brings its own.
    ///
    /// With `key`, the signature must be by that key: a certificate in the bundle never takes its place.
    ///
    /// # Errors
    /// Fails where the bundle is signed by a certificate and a key is asked for, or the other way round, where its
    /// message is not given, or where an entry's body is of no kind that is known: such a bundle is none, whether logs
    /// are asked for or not.
    pub fn of_bundle(
        bundle: &'a Bundle,
        message: Option<Message<'a>>,
        key: Option<&'a PublicKey>,
    ) -> Result<Self, Finding> {
        if let Some(error) = bundle.entries.iter().find_map(|entry| log::Body::parse(&entry.body).err()) {
            return Err(Finding::new(Check::LogEntry, format!("a log entry cannot be read: {error}")));
        }
        let (signed, signature, digest, key_id) = match &bundle.content {
            Content::Envelope(envelope) => {
                let signed = Signed::Envelope {
                    payload_type: &envelope.payload_type,
                    payload: &envelope.payload,
                    written: None,
                };
                (signed, &envelope.signature, GivenDigest::NotAsked, envelope.key_id.as_deref())
            }
            Content::Message { digest, signature } => {
                let message = message
                    .ok_or_else(|| Finding::new(Check::Artifact, "the bundle signs a message that is not at hand"))?;
                (Signed::Message(message), signature, GivenDigest::Given(digest.as_ref()), None)
            }
        };
        let signer = match (&bundle.material, key) {
            (Material::PublicKey { .. }, Some(key)) => Signer::Key(key),
            (Material::PublicKey { .. }, None) => {
                return Err(Finding::new(Check::Signer, "the bundle is signed by a key, and no key is asked for"));
            }
            (_, Some(_)) => {
                return Err(Finding::new(
                    Check::Signer,
                    "the bundle is signed by a certificate, and a key is asked for",
                ));
            }
            (Material::Certificate(leaf), None) => {
                let form = if bundle.version < Version::V03 { ChainForm::OldBundle } else { ChainForm::Single };
                Signer::Certificate { leaf, more: &[], form }
            }
            (Material::Chain(chain), None) => {
                let (leaf, more) = chain
                    .split_first()
                    .ok_or_else(|| Finding::new(Check::Certificate, "the bundle's certificate chain is empty"))?;
                let form = if bundle.version < Version::V03 { ChainForm::OldBundle } else { ChainForm::NewBundle };
                Signer::Certificate { leaf, more, form }
            }
        };
        Ok(Self {
            signed,
            signature,
            digest,
            key_id,
            signer,
            entries: &bundle.entries,
            timestamps: &bundle.timestamps,
            stamped: signature,
        })
    }
}

impl<'a> Signer<'a> {
    fn certificate(&self) -> Option<&'a Bytes> {
        match self {
            Self::Key(_) => None,
            Self::Certificate { leaf, .. } => Some(leaf),
        }
    }

    fn key(&self) -> Option<&'a PublicKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::Certificate { .. } => None,
        }
    }

    /// Returns the key that the signature is to be checked with; `None` where the certificate has none that is usable.
    fn public_key(&self) -> Option<PublicKey> {
        match self {
            Self::Key(key) => Some((*key).clone()),
            Self::Certificate { leaf, .. } => PublicKey::from_der(&Certificate::parse(leaf).ok()?.spki).ok(),
        }
    }
}
