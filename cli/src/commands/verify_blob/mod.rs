//! `larder verify-blob`: local, without the daemon.

pub(crate) mod blob;
pub(crate) mod flags;
pub(crate) mod trust;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use jiff::Timestamp;
use larder_core::key::{KeyAlgorithm, PublicKey};
use larder_core::keyless::{
    self, Accepted, ChainForm, Check, Claim, Demands, Evidence, Finding, GivenDigest, Identity, LocalBundle,
    ProvenEntry, ProvenTime, Signed, Signer, TrustedRoot, examine,
};
use larder_core::signature::bundle::{Bundle, Content, LogEntry, MAX_BUNDLE_BYTES, Version};
use larder_core::signature::dsse::{COSIGN_SIGN, Envelope, Statement};
use serde_json::{Value, json};

use blob::Blob;
use flags::{Flags, usage};

use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// The most bytes that a file with one signature or one timestamp may have.
const MAX_SMALL_BYTES: usize = 1 << 20;

/// Verify a file's signature, offline, as `cosign verify-blob` does
///
/// Asks nobody: the evidence is in the bundle (or the files), and whom to trust in --trusted-root or --key. The daemon and
/// its trust folder are not looked at.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 verified, 1 everything else.

Examples:
  larder verify-blob --key cosign.pub --insecure-ignore-tlog --bundle app.tgz.sigstore.json app.tgz
  larder verify-blob --trusted-root trusted_root.json --bundle app.tgz.sigstore.json \\
      --certificate-identity alice@example.com --certificate-oidc-issuer https://accounts.example.com app.tgz
  larder verify-blob … --bundle app.tgz.sigstore.json sha256:469d29ea…")]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// The signed file, `-` for stdin, or its digest (sha256:HEX)
    #[arg(value_name = "BLOB")]
    blob: String,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Exit, Error> {
    let flags = &arguments.flags;
    if flags.key.is_none() && flags.certificate.is_none() && flags.bundle.is_none() {
        return Err(usage(
            "--bundle, --key or --certificate is needed: nothing says how the signature is to be checked",
        ));
    }
    let run = Run::prepare(flags, output)?;
    let hold = run.key.as_ref().is_some_and(|key| key.algorithm() == KeyAlgorithm::Ed25519);
    match run.source()? {
        Source::Bundle(bundle) => {
            let root = trust::for_bundle(flags, output)?;
            let blob = Blob::read(&arguments.blob, hold)?;
            if let Content::Envelope(envelope) = &bundle.content {
                signs(envelope, &blob, &arguments.blob)?;
            }
            let accepted = run.bundle(&bundle, Some(&blob), &root, &arguments.blob)?;
            run.verified(&accepted)
        }
        Source::Files(files) => {
            let root = trust::for_files(flags)?;
            let blob = Blob::read(&arguments.blob, hold)?;
            let signed = Signed::Message(blob.message());
            let accepted = run.files(&files, signed, &files.signature, None, &root, &arguments.blob);
            run.verified(&accepted.map_err(|error| limited(&blob, error))?)
        }
    }
}

/// Adds why a good signature may not verify, where there is such a reason.
fn limited(blob: &Blob, error: Error) -> Error {
    match blob.limit_in_words().filter(|_| matches!(error.reason(), "signature" | "artifact")) {
        Some(words) => error.hint(words),
        None => error,
    }
}

/// Checks that an envelope in a bundle is a signature on this file, and no attestation about it.
fn signs(envelope: &Envelope, blob: &Blob, name: &str) -> Result<(), Error> {
    let statement = statement(envelope)?;
    if statement.predicate_type != COSIGN_SIGN {
        return Err(Error::new(
            "not-a-signature",
            format!("the bundle is an attestation ({}), not a signature on {name}", statement.predicate_type),
        )
        .hint("`larder verify-blob-attestation --type …` checks attestations"));
    }
    names(&statement, blob, name)
}

/// Reads the statement in an envelope.
pub(crate) fn statement(envelope: &Envelope) -> Result<Statement, Error> {
    let is_in_toto = envelope.payload_type == larder_core::signature::dsse::IN_TOTO;
    if !is_in_toto {
        return Err(Error::new(
            "statement-type",
            format!("the envelope holds {:?}, not a statement", envelope.payload_type),
        )
        .hint("an attestation's envelope holds application/vnd.in-toto+json; is it the right file?"));
    }
    Statement::parse(&envelope.payload).map_err(|error| {
        Error::new(error.reason(), error.to_string())
            .hint("its maker has to write the statement anew; nothing was verified")
    })
}

/// Checks that a statement is about this file.
pub(crate) fn names(statement: &Statement, blob: &Blob, name: &str) -> Result<(), Error> {
    if blob.digests().iter().any(|digest| statement.names(digest)) {
        return Ok(());
    }
    Err(Error::new("artifact", format!("the statement in the bundle is not about {name}"))
        .hint("is this the file that its maker published?"))
}

/// What the flags ask for, loaded.
pub(crate) struct Run<'a> {
    flags: &'a Flags,
    key: Option<PublicKey>,
    identity: Option<Identity>,
    output: Output,
}

/// Where the signature is.
pub(crate) enum Source {
    /// In a Sigstore bundle.
    Bundle(Box<Bundle>),
    /// In single files, or in the bundle of an older `sign-blob`.
    Files(Files),
}

/// A signature and its evidence out of single files.
pub(crate) struct Files {
    /// The raw signature, or an envelope as it is written.
    pub(crate) signature: Bytes,
    leaf: Option<Bytes>,
    entries: Vec<LogEntry>,
    timestamps: Vec<Bytes>,
}

impl<'a> Run<'a> {
    /// Loads the key, or the identity, that the flags ask for.
    pub(crate) fn prepare(flags: &'a Flags, output: &Output) -> Result<Self, Error> {
        let identity = flags.identity(output)?;
        let key = flags.key.as_deref().map(trust::key).transpose()?;
        if flags.ignores_logs() {
            output.say("warning: --insecure-ignore-tlog: no transparency log is looked at");
        }
        if flags.insecure_ignore_sct && identity.is_some() {
            output.say("warning: --insecure-ignore-sct: no certificate transparency log is looked at");
        }
        Ok(Self { flags, key, identity, output: *output })
    }

    /// Reads the signature.
    pub(crate) fn source(&self) -> Result<Source, Error> {
        let flags = self.flags;
        let Some(path) = &flags.bundle else { return self.loose().map(Source::Files) };
        let bytes = read_bounded(path, MAX_BUNDLE_BYTES)?;
        if LocalBundle::is_one(&bytes) {
            return self.local(path, &bytes).map(Source::Files);
        }
        let not_with_a_bundle = [
            ("--certificate", &flags.certificate),
            ("--certificate-chain", &flags.certificate_chain),
            ("--ca-roots", &flags.ca_roots),
            ("--timestamp-certificate-chain", &flags.timestamp_certificate_chain),
            ("--signature", &flags.signature),
            ("--rfc3161-timestamp", &flags.rfc3161_timestamp),
        ];
        if let Some((name, _)) = not_with_a_bundle.iter().find(|(_, given)| given.is_some()) {
            return Err(usage(&format!("{name} is not for Sigstore bundles: they hold everything themselves")));
        }
        let bundle = Bundle::parse(&bytes).map_err(|error| bad_bundle(error.reason(), path, &error.to_string()))?;
        if flags.allow_certificate_chain && bundle.version < Version::V03 {
            return Err(usage("--allow-certificate-chain is for bundles of v0.3, and this one is older"));
        }
        Ok(Source::Bundle(Box::new(bundle)))
    }

    /// Reads the bundle of an older `cosign sign-blob`. A key in it is never believed.
    fn local(&self, path: &Path, bytes: &[u8]) -> Result<Files, Error> {
        let bad = |words: String| bad_bundle("bad-bundle", path, &words);
        let bundle = LocalBundle::parse(bytes).map_err(|error| bad(error.to_string()))?;
        let own = self.own_certificate()?;
        let leaf = match (&self.key, bundle.certificate) {
            (Some(_), _) | (None, None) => own,
            (None, Some(pem)) => {
                let found = keyless::certificates(&pem).map_err(|error| bad(error.to_string()))?;
                let found = found.into_iter().next();
                if own.is_some() && own != found {
                    return Err(bad("its certificate is another than --certificate".to_owned()));
                }
                found
            }
        };
        let entries = match bundle.entry {
            Some(Ok(entry)) => vec![entry],
            Some(Err(error)) if !self.flags.ignores_logs() => return Err(bad(error.to_string())),
            Some(Err(_)) | None => Vec::new(),
        };
        Ok(Files { signature: bundle.signature, leaf, entries, timestamps: self.timestamps()? })
    }

    /// Reads `--signature`, `--certificate` and `--rfc3161-timestamp`.
    fn loose(&self) -> Result<Files, Error> {
        let Some(path) = &self.flags.signature else {
            return Err(usage("--bundle or --signature is needed: there is no signature to check"));
        };
        let bytes = match path.try_exists() {
            // As with cosign, the flag may hold the signature itself.
            Ok(false) => path.to_string_lossy().into_owned().into_bytes(),
            _ => read_bounded(path, MAX_BUNDLE_BYTES)?,
        };
        let text = str::from_utf8(&bytes).ok().map(str::trim);
        let decoded = text.and_then(|text| STANDARD.decode(text).ok()).filter(|bytes| !bytes.is_empty());
        let signature = Bytes::from(decoded.unwrap_or(bytes));
        let (leaf, timestamps) = (self.own_certificate()?, self.timestamps()?);
        Ok(Files { signature, leaf, entries: Vec::new(), timestamps })
    }

    fn own_certificate(&self) -> Result<Option<Bytes>, Error> {
        let path = self.flags.certificate.as_deref();
        Ok(path.map(trust::certificates).transpose()?.and_then(|found| found.into_iter().next()))
    }

    fn timestamps(&self) -> Result<Vec<Bytes>, Error> {
        match (&self.flags.rfc3161_timestamp, self.flags.asks_for_timestamps()) {
            (None, false) => Ok(Vec::new()),
            (Some(path), true) => {
                let bytes = read_bounded(path, MAX_SMALL_BYTES)?;
                let timestamp = keyless::timestamp_annotation(&bytes).map_err(|error| {
                    Error::new("bad-timestamp", format!("{}: {error}", path.display()))
                        .hint("it is what `cosign sign-blob --rfc3161-timestamp FILE` writes, or a .tsr file")
                })?;
                Ok(vec![timestamp])
            }
            (Some(_), false) => {
                Err(usage("--rfc3161-timestamp needs --use-signed-timestamps, or it would not be looked at"))
            }
            (None, true) => {
                Err(usage("--use-signed-timestamps needs --rfc3161-timestamp, for there is no other timestamp"))
            }
        }
    }

    /// Checks a Sigstore bundle; `blob` is what a message signature is over.
    pub(crate) fn bundle(
        &self,
        bundle: &Bundle,
        blob: Option<&Blob>,
        root: &TrustedRoot,
        name: &str,
    ) -> Result<Accepted, Error> {
        let claim = Claim::of_bundle(bundle, blob.map(Blob::message), self.key.as_ref());
        let claim = claim.map_err(|finding| refused(name, &finding))?;
        let accepted = self.hold(&examine(&claim, root), name);
        match blob {
            Some(blob) => accepted.map_err(|error| limited(blob, error)),
            None => accepted,
        }
    }

    /// Checks a signature out of single files.
    pub(crate) fn files(
        &self,
        files: &Files,
        signed: Signed<'_>,
        signature: &[u8],
        key_id: Option<&str>,
        root: &TrustedRoot,
        name: &str,
    ) -> Result<Accepted, Error> {
        let signer = match (&self.key, &files.leaf) {
            (Some(key), _) => Signer::Key(key),
            (None, Some(leaf)) => Signer::Certificate { leaf, more: &[], form: ChainForm::Classic },
            (None, None) => {
                return Err(usage("there is no certificate beside the signature")
                    .hint("--certificate names it, or --key the key"));
            }
        };
        let claim = Claim {
            signed,
            signature,
            digest: GivenDigest::NotAsked,
            key_id,
            signer,
            entries: &files.entries,
            timestamps: &files.timestamps,
            // A classic attestation's timestamp is over the whole envelope.
            stamped: &files.signature,
        };
        self.hold(&examine(&claim, root), name)
    }

    /// Holds evidence against what the flags demand.
    fn hold(&self, evidence: &Evidence, name: &str) -> Result<Accepted, Error> {
        let now = Timestamp::now();
        let mut demands = match &self.identity {
            Some(identity) => Demands::keyless(vec![identity.clone()], now),
            None => Demands::key(now),
        };
        demands.logs = usize::from(!self.flags.ignores_logs());
        demands.sct &= !self.flags.insecure_ignore_sct;
        demands.signed_timestamps = self.flags.asks_for_timestamps();
        demands.certificate_chain = self.flags.allow_certificate_chain;
        let accepted = evidence.meets(&demands).map_err(|finding| refused(name, &finding))?;
        // What is there and broken is told, though nothing that was asked for rests on it.
        for finding in evidence.findings() {
            let what = match finding.check {
                Check::Timestamp => "a timestamp",
                Check::LogEntry if demands.logs > 0 => "a log entry",
                Check::Sct if demands.sct => "a certificate transparency log's timestamp",
                _ => continue,
            };
            self.output.say(&format!("warning: {what} does not count: {finding}"));
        }
        Ok(accepted)
    }

    /// Says which checks ran, and that all of them held.
    ///
    /// # Errors
    /// Fails where stdout cannot be written.
    pub(crate) fn verified(&self, accepted: &Accepted) -> Result<Exit, Error> {
        let output = &self.output;
        if output.is_json() {
            output.document(&self.to_json(accepted))?;
        }
        for line in self.checks(accepted) {
            output.say(&format!("  - {line}"));
        }
        output.say("Verified OK");
        Ok(Exit::Done)
    }

    fn checks(&self, accepted: &Accepted) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(key) = &self.key {
            lines.push(format!("the signature is by the key {}", short(&key.id().to_string())));
        }
        if let Some(subject) = &accepted.subject {
            let issuer = accepted.issuer.as_deref().unwrap_or("nobody");
            lines.push(format!("the signature is by {subject}, for whom {issuer} vouched"));
        }
        if let Some(chain) = &accepted.chain {
            let authority = short(&chain.authority.to_string());
            lines.push(format!("the certificate was issued by the trusted authority {authority}, and was valid"));
        }
        if accepted.sct {
            lines.push("a certificate transparency log vouched for the certificate".to_owned());
        }
        for entry in &accepted.entries {
            let (log, index) = (short(&entry.log.to_string()), entry.log_index);
            let when = entry.integrated.map(|time| format!(" at {time}")).unwrap_or_default();
            lines.push(format!("the transparency log {log} took the signature in{when}, as entry {index}"));
        }
        for time in &accepted.timestamps {
            let authority = short(&time.authority.to_string());
            lines.push(format!("the timestamp authority {authority} saw the signature at {}", time.at));
        }
        lines
    }

    fn to_json(&self, accepted: &Accepted) -> Value {
        let entry = |entry: &ProvenEntry| {
            let time = entry.integrated.map(|time| time.to_string());
            json!({"log": entry.log.to_string(), "index": entry.log_index, "time": time})
        };
        let timestamp =
            |time: &ProvenTime| json!({"authority": time.authority.to_string(), "time": time.at.to_string()});
        json!({
            "verified": true,
            "key": self.key.as_ref().map(|key| key.id().to_string()),
            "subject": accepted.subject,
            "issuer": accepted.issuer,
            "authority": accepted.chain.as_ref().map(|chain| chain.authority.to_string()),
            "sct": accepted.sct,
            "entries": accepted.entries.iter().map(entry).collect::<Vec<_>>(),
            "timestamps": accepted.timestamps.iter().map(timestamp).collect::<Vec<_>>(),
        })
    }
}

fn bad_bundle(reason: &str, path: &Path, words: &str) -> Error {
    Error::new(reason, format!("{}: {words}", path.display()))
        .hint("a bundle is what `cosign sign-blob --bundle FILE` writes; fetch it again from where it was published")
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// Turns the check that failed into an error.
fn refused(name: &str, finding: &Finding) -> Error {
    Error::new(finding.reason(), format!("{name} is not verified: {finding}")).hint(finding.hint())
}

/// Reads a file whole, up to a limit.
///
/// # Errors
/// Fails where it cannot be read, or is longer.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Error::file(&name, &error).and_hint("it is read before anything is checked"))?;
    if bytes.len() > limit {
        return Err(Error::new(
            "file",
            format!("{name} is larger than {} KiB, and cannot be what it should be", limit >> 10),
        )
        .hint("is it the right file? nothing of it was read further"));
    }
    Ok(bytes)
}
