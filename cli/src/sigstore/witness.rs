//! What others say of a signature, collected and checked before it is stored.

use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use larder_core::key::PublicKey;
use larder_core::keyless::{
    Accepted, ChainForm, Claim, Demands, Evidence, Finding, GivenDigest, Identity, Message, Signed, Signer,
    TrustedRoot, examine,
};
use larder_core::signature::bundle_writer::envelope;
use larder_core::signature::dsse::IN_TOTO;
use larder_core::signature::material::VerificationMaterial;

use super::flags::Flags;
use super::http::Http;
use super::services::Services;
use super::{fresh_key, fulcio, rekor, token, tsa};
use crate::commands::verify_blob::trust;
use crate::error::Error;
use crate::key_file::PrivateKey;
use crate::output::Output;

/// Has signatures witnessed, under one signer.
pub(crate) struct Witness {
    http: Http,
    services: Services,
    root: TrustedRoot,
    /// The signer's certificate first; none for keys.
    certificates: Vec<Bytes>,
    wants_sct: bool,
}

/// What is witnessed.
pub(crate) enum Said<'a> {
    /// A SimpleSigning payload.
    Payload(&'a [u8]),
    /// A statement in a classic envelope.
    Attestation(&'a [u8]),
    /// A statement in a bundle.
    Bundled(&'a [u8]),
}

/// What the witnesses said, for people: only what was checked.
#[derive(Debug, Default)]
pub(crate) struct Testimony {
    /// The certificate's holder; none for keys.
    pub(crate) holder: Option<Holder>,
    /// The numbers of the entries in their logs.
    pub(crate) entries: Vec<u64>,
    /// The times that timestamp authorities signed.
    pub(crate) times: Vec<Timestamp>,
}

/// Who signs, as a certificate says it.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) subject: String,
    pub(crate) issuer: String,
}

impl Witness {
    /// Prepares witnesses for a key's signatures; `None` where nobody is to be asked.
    ///
    /// # Errors
    /// Fails where what they say could not be checked.
    pub(crate) fn of_key(flags: &Flags, services: Services, output: &Output) -> Result<Option<Self>, Error> {
        if services.has_no_witness() {
            return Ok(None);
        }
        let root = trusted_root(flags.trusted_root.as_deref(), output)?;
        Ok(Some(Self { http: Http::new()?, services, root, certificates: Vec::new(), wants_sct: false }))
    }

    /// Makes a key for this run alone, and gets a certificate for it.
    ///
    /// # Errors
    /// Fails where no authority or witness is named, there is no identity token, or Fulcio refuses.
    pub(crate) async fn keyless(
        flags: &Flags,
        services: Services,
        output: &Output,
    ) -> Result<(PrivateKey, Self), Error> {
        let http = Http::new()?;
        let token = token::find(flags, &http).await?;
        let Some(authority) = &services.authority else {
            return Err(Error::usage("signing with an identity token needs somebody who issues certificates").hint(
                "--signing-config FILE, or --fulcio-url and --rekor-url; the public ones, where everybody can see who signed what, are https://fulcio.sigstore.dev and https://rekor.sigstore.dev",
            ));
        };
        if services.has_no_witness() {
            return Err(Error::usage(
                "a certificate ends within minutes: without a log or a timestamp nobody could check the signature later",
            )
            .hint("name one: --rekor-url, --timestamp-server-url, or a signing config that has one"));
        }
        let root = trusted_root(flags.trusted_root.as_deref(), output)?;
        let key = PrivateKey::generate().map_err(|error| fresh_key(&error))?;
        let certificates = fulcio::certify(&http, authority, &key, &token).await?;
        let wants_sct = flags.insecure_skip_verify != Some(true);
        if !wants_sct {
            output.warn("--insecure-skip-verify: no certificate transparency log needs to vouch for the certificate");
        }
        Ok((key, Self { http, services, root, certificates, wants_sct }))
    }

    /// Has a signature witnessed, and checks all that was said as a reader would.
    ///
    /// # Errors
    /// Fails where somebody refuses, or says what does not check. Logs forget nothing: the error says whether one has it.
    pub(crate) async fn witness(
        &self,
        said: &Said<'_>,
        signature: &[u8],
        key: &PublicKey,
    ) -> Result<(VerificationMaterial, Testimony), Error> {
        let written = match said {
            Said::Payload(_) => Bytes::new(),
            Said::Attestation(statement) | Said::Bundled(statement) => envelope(statement, signature),
        };
        let claim = self.claim(said, signature, key, &written);
        // Nothing is shown to a log before the signer is known to be who a reader will take it for.
        self.check(&claim, self.signer_alone()).map_err(|finding| failed(&finding, "nothing was uploaded"))?;
        let (mut entries, mut timestamps) = (Vec::new(), Vec::new());
        for url in &self.services.timestamps {
            timestamps.push(tsa::stamp(&self.http, url, claim.stamped).await?);
        }
        for log in &self.services.logs {
            entries.push(rekor::upload(&self.http, log, &claim).await?);
        }
        let claim = Claim { entries: &entries, timestamps: &timestamps, ..claim };
        let is_logged =
            if entries.is_empty() { "nothing was uploaded" } else { "the log has the signature all the same" };
        let accepted = self.check(&claim, self.everything()).map_err(|finding| failed(&finding, is_logged))?;
        let material = VerificationMaterial::new(self.certificates.clone(), entries, timestamps).map_err(|error| {
            Error::new("bad-answer", format!("what the services answered: {error}")).hint(is_logged)
        })?;
        Ok((material, Testimony::of(&accepted)))
    }

    fn claim<'a>(&'a self, said: &Said<'a>, signature: &'a [u8], key: &'a PublicKey, written: &'a Bytes) -> Claim<'a> {
        let (signed, stamped): (_, &[u8]) = match said {
            Said::Payload(payload) => (Signed::Message(Message::Bytes(payload)), signature),
            Said::Attestation(payload) => {
                (Signed::Envelope { payload_type: IN_TOTO, payload, written: Some(written) }, written)
            }
            Said::Bundled(payload) => (Signed::Envelope { payload_type: IN_TOTO, payload, written: None }, signature),
        };
        let signer = match (self.certificates.as_slice(), said) {
            ([], _) => Signer::Key(key),
            ([leaf, ..], Said::Bundled(_)) => Signer::Certificate { leaf, more: &[], form: ChainForm::Single },
            // The root at the end is for the trusted root to name.
            ([leaf, more @ .., _], _) => Signer::Certificate { leaf, more, form: ChainForm::Classic },
            ([leaf], _) => Signer::Certificate { leaf, more: &[], form: ChainForm::Classic },
        };
        let digest = GivenDigest::NotAsked;
        Claim { signed, signature, digest, key_id: None, signer, entries: &[], timestamps: &[], stamped }
    }

    fn check(&self, claim: &Claim<'_>, demands: Demands) -> Result<Accepted, Finding> {
        let evidence: Evidence = examine(claim, &self.root);
        evidence.meets(&demands)
    }

    /// Asks for a certificate that is good now; of a key, for nothing but its signature.
    fn signer_alone(&self) -> Demands {
        let now = Timestamp::now();
        match self.certificates.is_empty() {
            true => Demands { logs: 0, ..Demands::key(now) },
            false => Demands { logs: 0, sct: self.wants_sct, ..Demands::keyless(vec![Identity::default()], now) },
        }
    }

    /// Asks for every witness that was asked.
    fn everything(&self) -> Demands {
        let logs = self.services.logs.len();
        Demands { logs, signed_timestamps: !self.services.timestamps.is_empty(), ..self.signer_alone() }
    }
}

impl Testimony {
    fn of(accepted: &Accepted) -> Self {
        let holder = accepted
            .subject
            .as_ref()
            .map(|subject| Holder { subject: subject.clone(), issuer: accepted.issuer.clone().unwrap_or_default() });
        Self {
            holder,
            entries: accepted.entries.iter().map(|entry| entry.log_index).collect(),
            times: accepted.timestamps.iter().map(|time| time.at).collect(),
        }
    }
}

fn failed(finding: &Finding, uploaded: &str) -> Error {
    Error::new(finding.reason(), format!("what the services answered does not check: {finding}"))
        .hint(format!("{}; nothing was stored, {uploaded}", finding.hint()))
}

fn trusted_root(path: Option<&Path>, output: &Output) -> Result<TrustedRoot, Error> {
    let needed = || {
        Error::usage("--trusted-root is needed: what the services answer is checked before it is stored")
            .hint(trust::NO_ROOT)
    };
    trust::parsed_root(path.ok_or_else(needed)?, output)
}
