//! Signing and attesting without a private key: says what to sign, stores what was signed.

mod signable;
mod stored;

use std::collections::BTreeMap;

use bytes::Bytes;
use larder_core::check::{Checker, check};
use larder_core::key::{KeyError, PublicKey};
use larder_core::manifest::{Manifest, ManifestError};
use larder_core::signature::dsse::{COSIGN_SIGN, IN_TOTO, pae};
use larder_core::signature::found;
use larder_core::signature::material::{MaterialError, VerificationMaterial};
use larder_core::signature::simple_signing::{self, MAX_COSIGN_LAYERS, MAX_PAYLOAD_BYTES};
use larder_core::signature::statement::{self, StatementError};
use larder_core::{Digest, Reference, Repository, Tag};

use super::Ctx;
use super::query::{Held, QueryError};
use crate::store::StoreError;
use crate::store::record::Actor;
pub use signable::{Covered, signable};

/// What is wrong with a signature that does not verify.
const FOREIGN: &str = "it was made by another key, or over other bytes";

/// How a signature or an attestation is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Under cosign's tags `.sig` and `.att`.
    Legacy,
    /// As a Sigstore bundle, in a referrer of its own.
    Bundle,
}

/// What is said about a digest.
#[derive(Clone, Debug)]
pub enum Saying {
    /// That it is signed, and these annotations.
    Signature(BTreeMap<String, String>),
    /// A predicate.
    Attestation {
        /// Its type, a URI.
        predicate_type: String,
        /// A JSON value.
        predicate: Bytes,
    },
}

/// What to sign.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The subject's repository.
    pub repository: Repository,
    /// The subject.
    pub digest: Digest,
    /// A SimpleSigning payload, or a statement.
    pub payload: Vec<u8>,
}

/// A signature that a client made.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The subject's repository.
    pub repository: Repository,
    /// The subject.
    pub digest: Digest,
    /// The SimpleSigning payload, whose bytes are signed, or the statement, whose encoding is.
    pub payload: Bytes,
    /// The signature: of ECDSA in DER.
    pub signature: Bytes,
    /// The key that it must verify with, as PEM; empty where the material has a certificate.
    pub public_key: String,
    /// How it is to be stored.
    pub format: Format,
    /// What is stored beside it.
    pub material: VerificationMaterial,
}

/// Where a signature was put.
#[derive(Clone, Debug)]
pub struct Attached {
    /// The tag that holds it; none for a bundle.
    pub tag: Option<Tag>,
    /// The manifest that holds it.
    pub digest: Digest,
    /// False where the same was signed by the same key before.
    pub added: bool,
}

/// Says why something was not signed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The subject is not held.
    #[error("{0}")]
    Subject(#[from] QueryError),
    /// No SBOM is attached to the subject under cosign's tag.
    #[error("no SBOM is attached to {0}")]
    NoSbom(Reference),
    /// The predicate cannot be attested.
    #[error("{0}")]
    Statement(#[from] StatementError),
    /// The public key cannot be read.
    #[error("the public key cannot be read: {0}")]
    Key(#[from] KeyError),
    /// What was to be stored beside the signature cannot be.
    #[error("what comes with the signature cannot be stored: {0}")]
    Material(#[from] MaterialError),
    /// A key and a certificate are given.
    #[error("the signature is by a certificate's holder, and a public key is given too")]
    TwoSigners,
    /// The payload is not what was prepared: it does not name the digest.
    #[error("the payload does not name {0}")]
    OtherPayload(Digest),
    /// The signature does not verify.
    #[error("the signature does not verify with the given key: {0}")]
    BadSignature(&'static str),
    /// The digest is too long for a signature tag.
    #[error("cosign has no tag for {0}: its name would be too long")]
    NoTag(Digest),
    /// What is under the signature tag is no signature image.
    #[error("{tag} holds something that no signature can be added to: {source}")]
    Occupied {
        /// The tag.
        tag: Tag,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// There are as many layers under the tag as cosign reads.
    #[error("{0} holds {MAX_COSIGN_LAYERS} signatures already, and cosign reads no more")]
    Full(Tag),
    /// A referrer could not be written.
    #[error("the referrer of {digest} cannot be written: {source}")]
    Referrer {
        /// The subject.
        digest: Digest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl SignError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Subject(error) => error.reason(),
            Self::NoSbom(_) => "not-found",
            Self::Statement(_) => "invalid-predicate",
            Self::Key(_) | Self::TwoSigners => "invalid-key",
            Self::Material(_) => "invalid-material",
            Self::OtherPayload(_) | Self::BadSignature(_) => "bad-signature",
            Self::NoTag(_) => "unsupported-digest",
            Self::Occupied { .. } | Self::Referrer { .. } => "invalid-manifest",
            Self::Full(_) => "too-many-signatures",
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Subject(error) => error.hint(),
            Self::NoSbom(subject) => Some(format!("`larder tree {subject}` shows what is attached to it")),
            Self::Statement(_) => Some("nothing was signed or stored".to_owned()),
            Self::OtherPayload(_) | Self::BadSignature(_) => {
                Some("sign the payload as PrepareSignature returned it; nothing was stored".to_owned())
            }
            Self::Material(MaterialError::NotClassic(_)) => {
                Some("`--format bundle` has room for it; nothing was stored".to_owned())
            }
            Self::Material(_) => Some("nothing was stored".to_owned()),
            Self::TwoSigners => Some("leave one of them out; nothing was stored".to_owned()),
            Self::Key(_) => Some("`larder key generate` makes a pair that can be read".to_owned()),
            Self::NoTag(_) => Some("`--format bundle` needs no tag".to_owned()),
            Self::Occupied { .. } => Some(
                "whoever pushed it to the endpoint has to push a signature image in its place; nothing was stored"
                    .to_owned(),
            ),
            Self::Full(_) => Some("`--format bundle` has no such limit; nothing was stored".to_owned()),
            Self::Referrer { .. } => None,
            Self::Store(error) => error.hint(),
        }
    }
}

/// Returns what cosign would sign for what is held under a reference.
///
/// # Errors
/// Fails where it is not held, and where the predicate is none.
pub async fn prepare(ctx: &Ctx, reference: &Reference, format: Format, saying: &Saying) -> Result<Prepared, SignError> {
    let Held { repository, digest, .. } = signable::resolve(ctx, reference).await?;
    let name = repository.cosign_name();
    let payload = match (saying, format) {
        (Saying::Signature(annotations), Format::Legacy) => simple_signing::payload(&name, &digest, annotations),
        (Saying::Signature(annotations), Format::Bundle) => statement::signature(&digest, annotations),
        (Saying::Attestation { predicate_type, predicate }, _) => {
            statement::attestation(&name, &digest, predicate_type, predicate)?
        }
    };
    Ok(Prepared { repository, digest, payload })
}

/// Stores a signature beside those that are there: under one of the subject's tags, or as a referrer.
///
/// # Errors
/// Fails where the subject is not held, or the signature is not one of this key over this digest.
pub async fn attach(ctx: &Ctx, actor: Actor, signed: Signed) -> Result<Attached, SignError> {
    let subject = Reference::by_digest(signed.repository.clone(), signed.digest);
    signable::resolve(ctx, &subject).await?;
    let key = match signed.material.key() {
        Some(_) if !signed.public_key.is_empty() => return Err(SignError::TwoSigners),
        Some(key) => key.clone(),
        None => PublicKey::from_pem(signed.public_key.as_bytes())?,
    };
    let attests = verify(&signed, &key)?;
    match (signed.format, attests) {
        (Format::Legacy, attests) => stored::under_tag(ctx, actor, &signed, &key, attests.as_deref()).await,
        (Format::Bundle, Some(predicate_type)) => stored::as_referrer(ctx, actor, &signed, &key, &predicate_type).await,
        (Format::Bundle, None) => Err(SignError::BadSignature("a bundle holds a statement, and this is none")),
    }
}

/// Checks what a client made as any other signature would be checked: what does not verify is not stored. Returns the
/// predicate type of a statement, and `None` for a SimpleSigning payload.
fn verify(signed: &Signed, key: &PublicKey) -> Result<Option<String>, SignError> {
    let Some(said) = statement::read(&signed.payload) else {
        verify_simple_signing(signed, key)?;
        return Ok(None);
    };
    if said.digest != signed.digest {
        return Err(SignError::OtherPayload(signed.digest));
    }
    if signed.format == Format::Legacy && said.predicate_type == COSIGN_SIGN {
        return Err(SignError::BadSignature("cosign has no classic signature over a statement"));
    }
    let message = pae(IN_TOTO, &signed.payload);
    match Checker::new(&message, &signed.signature).check(key) {
        Some(_) => Ok(Some(said.predicate_type)),
        None => Err(SignError::BadSignature(FOREIGN)),
    }
}

fn verify_simple_signing(signed: &Signed, key: &PublicKey) -> Result<(), SignError> {
    if signed.payload.len() as u64 > MAX_PAYLOAD_BYTES {
        return Err(SignError::BadSignature("its payload is longer than any that is read"));
    }
    let alone = simple_signing::append(None, &signed.payload, &signed.signature, BTreeMap::new())
        .ok_or(SignError::BadSignature("it cannot be written as a signature"))?;
    let manifest = Manifest::parse(alone.manifest, None)
        .map_err(|_| SignError::BadSignature("it cannot be written as a signature"))?;
    let found = found::read(&manifest, |_| Some(signed.payload.clone()));
    let [found] = found.as_slice() else { return Err(SignError::BadSignature("it is not one signature")) };
    if found.names != Some(signed.digest) {
        return Err(SignError::OtherPayload(signed.digest));
    }
    match check(found, key) {
        Some(_) => Ok(()),
        None => Err(SignError::BadSignature(FOREIGN)),
    }
}
