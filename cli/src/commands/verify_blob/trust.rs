//! Whom a run trusts: a trusted root, or the single files that older cosign takes.

use std::env;
use std::path::Path;

use bytes::Bytes;
use larder_core::key::{MAX_KEY_BYTES, PublicKey};
use larder_core::keyless::{self, MAX_ROOT_BYTES, RootError, TrustedRoot, public_good};

use super::flags::{Flags, usage};
use super::read_bounded;
use crate::commands::key_place;
use crate::error::Error;
use crate::output::Output;

/// The most bytes that a file of certificates may have.
const MAX_CERTIFICATES_BYTES: usize = 1 << 20;
/// cosign's variables, each with the path of a PEM file.
const ISSUERS: &str = "SIGSTORE_ROOT_FILE";
const CT_LOG: &str = "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE";
const LOG: &str = "SIGSTORE_REKOR_PUBLIC_KEY";
const TIMESTAMPS: &str = "SIGSTORE_TSA_CERTIFICATE_FILE";

/// The name of the shipped copy of the public Sigstore's trusted root.
const PUBLIC_GOOD: &str = "public-good";
/// Where a trusted root comes from.
pub(crate) const NO_ROOT: &str = "`--trusted-root public-good` is the public Sigstore's; of another, ask whoever runs it for trusted_root.json, or write one with `cosign trusted-root create`";

/// Reads the public key of `--key`.
pub(crate) fn key(path: &Path) -> Result<PublicKey, Error> {
    let bytes = key_place::read(path, MAX_KEY_BYTES as u64)?;
    PublicKey::from_pem(&bytes).map_err(|error| {
        Error::new("bad-key", format!("{} is not a public key: {error}", path.display())).hint(key_place::PUBLIC_KEYS)
    })
}

/// Reads the bytes of `--trusted-root`: a file, or, where there is none of that name, the shipped copy `public-good`, whose date
/// is said.
pub(crate) fn root_bytes(path: &Path, output: &Output) -> Result<Vec<u8>, Error> {
    if path != Path::new(PUBLIC_GOOD) || path.exists() {
        return read_bounded(path, MAX_ROOT_BYTES);
    }
    let shipped = public_good().map_err(|error| shipped_root(&error))?;
    output.say(&format!("the public Sigstore's trusted root is the copy of {} that Larder brings", shipped.as_of));
    Ok(shipped.json.to_vec())
}

/// Builds the error of a shipped root that cannot be used.
pub(crate) fn shipped_root(error: &RootError) -> Error {
    Error::new(error.reason(), format!("the trusted root that Larder brings: {error}"))
        .hint("this larder is damaged: install it anew, or name a trusted_root.json")
}

/// Reads `--trusted-root`, as [`root_bytes`] does, and parses it.
pub(crate) fn parsed_root(path: &Path, output: &Output) -> Result<TrustedRoot, Error> {
    TrustedRoot::parse(&root_bytes(path, output)?).map_err(|error| {
        Error::new(error.reason(), format!("{} is no trusted root: {error}", path.display()))
            .hint("`cosign trusted-root create` writes one; a bundle is not one")
    })
}

/// Reads whom to trust for a Sigstore bundle.
///
/// A key alone needs nobody else, where neither a log nor a timestamp is asked for.
pub(crate) fn for_bundle(flags: &Flags, output: &Output) -> Result<TrustedRoot, Error> {
    if let Some(path) = &flags.trusted_root {
        return parsed_root(path, output);
    }
    if flags.key.is_some() && flags.ignores_logs() && !flags.use_signed_timestamps {
        return Ok(TrustedRoot::default());
    }
    Err(usage("--trusted-root is needed: it says which authorities and logs are trusted").hint(match flags.key {
        Some(_) => "with --key, --insecure-ignore-tlog goes without a log and without a trusted root",
        None => NO_ROOT,
    }))
}

/// Reads whom to trust for a signature in single files: cosign's variables, and the flags that name certificates.
pub(crate) fn for_files(flags: &Flags) -> Result<TrustedRoot, Error> {
    if let Some(path) = &flags.trusted_root {
        let words = format!("--trusted-root {} is for Sigstore bundles only, as with cosign", path.display());
        return Err(usage(&words).hint(format!(
            "{ISSUERS}, {LOG}, {CT_LOG} and {TIMESTAMPS} name the files for a signature in single files"
        )));
    }
    let mut issuers = from_variable(ISSUERS, certificates)?.unwrap_or_default();
    for path in [&flags.certificate_chain, &flags.ca_roots, &flags.ca_intermediates].into_iter().flatten() {
        issuers.extend(certificates(path)?);
    }
    let timestamps = match &flags.timestamp_certificate_chain {
        Some(path) => certificates(path)?,
        None => from_variable(TIMESTAMPS, certificates)?.unwrap_or_default(),
    };
    let logs = from_variable(LOG, key)?.into_iter().collect();
    let ct_logs = from_variable(CT_LOG, key)?.into_iter().collect();
    TrustedRoot::assemble(&issuers, &timestamps, logs, ct_logs).map_err(|error| {
        Error::new(error.reason(), format!("the certificates that are trusted have no root: {error}")).hint(format!(
            "the files of --ca-roots, --certificate-chain and {ISSUERS} have to hold a self-signed certificate"
        ))
    })
}

fn from_variable<T>(name: &str, read: impl Fn(&Path) -> Result<T, Error>) -> Result<Option<T>, Error> {
    let path = env::var_os(name).filter(|path| !path.is_empty());
    path.map(|path| read(Path::new(&path)).map_err(|error| error.about(name))).transpose()
}

/// Reads a file of certificates, DER in their order.
pub(crate) fn certificates(path: &Path) -> Result<Vec<Bytes>, Error> {
    let bytes = read_bounded(path, MAX_CERTIFICATES_BYTES)?;
    keyless::certificates(&bytes).map_err(|error| {
        Error::new("bad-certificate", format!("{}: {error}", path.display()))
            .hint("certificates are PEM blocks, BEGIN CERTIFICATE; is it the right file?")
    })
}
