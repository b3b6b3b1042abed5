//! Who signs: a key of the user's, or one that lives for this run, with a certificate that says whose it is.

use std::path::PathBuf;

use jiff::Timestamp;
use larder_core::key::PublicKey;
use larder_core::signature::bundle::LogEntry;
use larder_core::signature::material::VerificationMaterial;
use larder_proto::v1;

use super::With;
use crate::commands::key;
use crate::error::Error;
use crate::key_file::PrivateKey;
use crate::output::Output;
use crate::sigstore::{Said, Services, Testimony, Witness, fresh_key};

/// Signs, and has witnessed what it signs.
pub(super) struct Signer {
    key: PrivateKey,
    /// The file that the key is from; none where it lives for this run.
    path: Option<PathBuf>,
    public: PublicKey,
    /// None where nobody is asked.
    witness: Option<Witness>,
}

/// A signature and what comes with it.
pub(super) struct Made {
    pub(super) signature: Vec<u8>,
    /// PEM; empty where a certificate takes its place.
    pub(super) public_key: String,
    pub(super) material: Option<v1::VerificationMaterial>,
    pub(super) testimony: Testimony,
}

impl Signer {
    /// Unlocks the key, or gets a certificate for a new one.
    ///
    /// # Errors
    /// Fails where there is neither a key nor an identity token, or a service refuses.
    pub(super) async fn prepare(with: &With, output: &Output) -> Result<Self, Error> {
        let services = Services::of(&with.sigstore, Timestamp::now())?;
        if with.formats().contains(&v1::SignatureFormat::Legacy) {
            services.fit_classic()?;
        }
        let (key, witness) = match &with.key {
            Some(path) => {
                let witness = Witness::of_key(&with.sigstore, services, output)?;
                (key::unlock(path)?, witness)
            }
            None => {
                let (key, witness) = Witness::keyless(&with.sigstore, services, output).await?;
                (key, Some(witness))
            }
        };
        let public = PublicKey::from_der(key.spki()).map_err(|error| {
            Error::new("key", format!("the key cannot be checked with: {error}"))
                .hint("nothing was signed; `larder key generate` makes a pair that can be")
        })?;
        Ok(Self { key, path: with.key.clone(), public, witness })
    }

    /// Returns the id of a key that lasts; `None` where it lives for this run.
    pub(super) fn key_id(&self) -> Option<String> {
        self.path.as_ref().map(|_| self.key.id())
    }

    /// Signs, and has the signature witnessed.
    ///
    /// # Errors
    /// Fails where the system gives no random numbers, or a witness refuses or does not check.
    pub(super) async fn sign(&self, message: &[u8], said: &Said<'_>) -> Result<Made, Error> {
        let signature = self.key.sign(message).map_err(|error| match &self.path {
            Some(path) => key::of_key(path, error),
            None => fresh_key(&error),
        })?;
        let Some(witness) = &self.witness else {
            let public_key = self.key.public_pem();
            return Ok(Made { signature, public_key, material: None, testimony: Testimony::default() });
        };
        let (material, testimony) = witness.witness(said, &signature, &self.public).await?;
        let public_key = if material.key().is_some() { String::new() } else { self.key.public_pem() };
        Ok(Made { signature, public_key, material: Some(to_wire(&material)), testimony })
    }
}

fn to_wire(material: &VerificationMaterial) -> v1::VerificationMaterial {
    v1::VerificationMaterial {
        certificates: material.certificates().to_vec(),
        log_entries: material.entries().iter().map(LogEntry::to_json).collect(),
        timestamps: material.timestamps().to_vec(),
    }
}
