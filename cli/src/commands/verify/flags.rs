//! cosign's flags about who must have signed an image, and by what evidence, as `verify` and `verify-attestation` take them.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{ArgAction, Args};
use larder_core::keyless::Pattern;
use larder_proto::v1;

use super::asked::Place;
use crate::commands::verify_blob::trust;
use crate::commands::{key_place, read_small};
use crate::error::Error;
use crate::habits::Registry;
use crate::output::Output;

/// The most bytes of a public key's file.
const MAX_KEY: u64 = 64 << 10;
/// The most bytes of one file of a root.
const MAX_ROOT_FILE: u64 = 1 << 20;
/// cosign's variables, each with the path of a PEM file.
const ISSUERS: &str = "SIGSTORE_ROOT_FILE";
const CT_LOG: &str = "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE";
const LOG: &str = "SIGSTORE_REKOR_PUBLIC_KEY";
const TIMESTAMPS: &str = "SIGSTORE_TSA_CERTIFICATE_FILE";

/// Whom, and by what evidence. With any of the first group, these flags alone decide, and not the trust folder.
#[derive(Debug, Args)]
#[command(next_help_heading = "Instead of the trust folder")]
pub(crate) struct Flags {
    /// A public key that may have signed; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_identity", "certificate_identity_regexp"])]
    key: Vec<PathBuf>,
    /// Who must have signed: an e-mail address, or a workflow's URI
    #[arg(long, aliases = ["cert-identity", "cert-email"], value_name = "IDENTITY", conflicts_with = "certificate_identity_regexp")]
    certificate_identity: Option<String>,
    /// Who must have signed, as a regular expression that may match anywhere: anchor it
    #[arg(long, alias = "cert-identity-regexp", value_name = "REGEXP")]
    certificate_identity_regexp: Option<String>,
    /// Who must have vouched for the signer
    #[arg(long, alias = "cert-oidc-issuer", value_name = "URL")]
    certificate_oidc_issuer: Option<String>,
    /// Who must have vouched for the signer, as a regular expression that may match anywhere
    #[arg(long, alias = "cert-oidc-issuer-regexp", value_name = "REGEXP")]
    certificate_oidc_issuer_regexp: Option<String>,
    /// What must have started the signer's GitHub workflow
    #[arg(long, value_name = "EVENT")]
    certificate_github_workflow_trigger: Option<String>,
    /// The commit of the signer's GitHub workflow
    #[arg(long, value_name = "SHA")]
    certificate_github_workflow_sha: Option<String>,
    /// The name of the signer's GitHub workflow
    #[arg(long, value_name = "NAME")]
    certificate_github_workflow_name: Option<String>,
    /// The repository of the signer's GitHub workflow
    #[arg(long, value_name = "OWNER/NAME")]
    certificate_github_workflow_repository: Option<String>,
    /// The ref of the signer's GitHub workflow
    #[arg(long, value_name = "REF")]
    certificate_github_workflow_ref: Option<String>,
    /// Whom to believe: authorities, logs and timestamp authorities (trusted_root.json); `public-good` is a shipped copy of
    /// the public Sigstore's
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// In its place, who issued the signer's certificate: PEM, the root last; the root is trusted
    #[arg(long, alias = "cert-chain", value_name = "FILE", conflicts_with_all = ["trusted_root", "ca_roots", "key"])]
    certificate_chain: Option<PathBuf>,
    /// In its place, roots that may have issued the signer's certificate: PEM
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trusted_root", "key"])]
    ca_roots: Option<PathBuf>,
    /// Authorities between them and the signer's certificate: PEM
    #[arg(long, value_name = "FILE", requires = "ca_roots")]
    ca_intermediates: Option<PathBuf>,
    /// In its place, the timestamp authority's chain: PEM; asks for a timestamp
    #[arg(long, value_name = "FILE", conflicts_with = "trusted_root")]
    timestamp_certificate_chain: Option<PathBuf>,
    /// Take a signature that no transparency log is known to have
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    insecure_ignore_tlog: bool,
    /// Take a certificate that no certificate transparency log is known to have
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    insecure_ignore_sct: bool,
    /// Let only a timestamp authority tell when it was signed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    use_signed_timestamps: bool,
    /// Take a bundle v0.3 with a certificate chain
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    allow_certificate_chain: bool,
    /// Whether a classic signature or attestation must name this digest; a bundle always must
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = ArgAction::Set, hide_possible_values = true)]
    check_claims: bool,
    /// cosign's other name for --insecure-ignore-tlog
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    private_infrastructure: bool,
    /// What is named is an OCI layout in a folder, as `save` writes it: nobody is asked, and no daemon
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    local_image: bool,
    #[command(flatten)]
    older: Older,
    #[command(flatten)]
    registry: Registry,
}

/// Flags that scripts for cosign bring along and that change nothing here: Larder asks no log, and finds formats out by itself.
#[derive(Debug, Args)]
#[allow(dead_code, reason = "they are taken, and nothing is done with them")]
struct Older {
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    offline: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    new_bundle_format: Option<bool>,
    #[arg(long, hide = true, value_name = "URL")]
    rekor_url: Option<String>,
    #[arg(long, hide = true, value_name = "ALGORITHM")]
    signature_digest_algorithm: Option<String>,
    #[arg(long, hide = true, value_name = "N")]
    max_workers: Option<u32>,
}

impl Flags {
    /// Says where what is named is.
    pub(crate) fn place(&self) -> Place {
        if self.local_image { Place::Layout } else { Place::StoreOrRegistry }
    }

    /// Says whether these flags decide, and not the trust folder.
    ///
    /// # Errors
    /// Fails where flags loosen or narrow what no key and no identity asks for.
    pub(crate) fn decide(&self, annotations: bool) -> Result<bool, Error> {
        let identity = self.certificate_identity.is_some() || self.certificate_identity_regexp.is_some();
        if identity || !self.key.is_empty() {
            return Ok(true);
        }
        let beside = [
            (self.certificate_oidc_issuer.is_some(), "--certificate-oidc-issuer"),
            (self.certificate_oidc_issuer_regexp.is_some(), "--certificate-oidc-issuer-regexp"),
            (self.workflow().next().is_some(), "--certificate-github-workflow-…"),
            (self.trusted_root.is_some(), "--trusted-root"),
            (self.certificate_chain.is_some(), "--certificate-chain"),
            (self.ca_roots.is_some(), "--ca-roots"),
            (self.timestamp_certificate_chain.is_some(), "--timestamp-certificate-chain"),
            (self.insecure_ignore_tlog, "--insecure-ignore-tlog"),
            (self.private_infrastructure, "--private-infrastructure"),
            (self.local_image, "--local-image"),
            (self.insecure_ignore_sct, "--insecure-ignore-sct"),
            (self.use_signed_timestamps, "--use-signed-timestamps"),
            (!self.check_claims, "--check-claims"),
            (annotations, "--annotations"),
        ];
        match beside.into_iter().find(|(given, _)| *given) {
            None => Ok(false),
            Some((_, name)) => Err(Error::new(
                "usage",
                format!("{name} needs --key, --certificate-identity or --certificate-identity-regexp beside it"),
            )
            .hint("without any of them, the trust folder decides")),
        }
    }

    fn workflow(&self) -> impl Iterator<Item = (u32, String)> {
        let asked = [
            (2, &self.certificate_github_workflow_trigger),
            (3, &self.certificate_github_workflow_sha),
            (4, &self.certificate_github_workflow_name),
            (5, &self.certificate_github_workflow_repository),
            (6, &self.certificate_github_workflow_ref),
        ];
        asked.into_iter().filter_map(|(number, wanted)| Some((number, wanted.clone()?)))
    }

    /// Makes the request that they come to.
    ///
    /// # Errors
    /// Fails where a file cannot be read, or what they ask for is no question.
    pub(crate) fn request(&self, output: &Output) -> Result<v1::VerifySignaturesRequest, Error> {
        self.registry.tell(output);
        let public_keys = self.key.iter().map(|path| public_key(path)).collect::<Result<Vec<_>, _>>()?;
        let identities = match public_keys.is_empty() {
            true => vec![self.identity(output)?],
            false => Vec::new(),
        };
        let (mut trusted_root, mut root_files) = (Vec::new(), None);
        if let Some(path) = &self.trusted_root {
            trusted_root = trust::root_bytes(path, output)?;
        } else {
            root_files = self.root_files()?;
        }
        if trusted_root.is_empty() && root_files.is_none() && public_keys.is_empty() {
            return Err(Error::new(
                "usage",
                "--trusted-root is needed: it says which authorities and logs are believed",
            )
            .hint(trust::NO_ROOT));
        }
        for (given, words) in [
            (self.ignores_logs(), "--insecure-ignore-tlog: no transparency log is looked at"),
            (self.insecure_ignore_sct, "--insecure-ignore-sct: no certificate transparency log is looked at"),
            (
                !self.check_claims,
                "--check-claims=false: a classic signature or attestation may be about another digest",
            ),
        ] {
            if given {
                output.say(&format!("warning: {words}"));
            }
        }
        Ok(v1::VerifySignaturesRequest {
            public_keys,
            identities,
            trusted_root: trusted_root.into(),
            root_files,
            ignore_log: self.ignores_logs(),
            ignore_sct: self.insecure_ignore_sct,
            signed_timestamps: self.use_signed_timestamps || self.timestamp_certificate_chain.is_some(),
            certificate_chain: self.allow_certificate_chain,
            ignore_claims: !self.check_claims,
            ..Default::default()
        })
    }

    fn ignores_logs(&self) -> bool {
        self.insecure_ignore_tlog || self.private_infrastructure
    }

    /// Reads the files of PEM that flags name, and those that cosign's variables name, where no flag does; `None` where there
    /// is neither.
    fn root_files(&self) -> Result<Option<v1::RootFiles>, Error> {
        let authority = [&self.certificate_chain, &self.ca_roots, &self.ca_intermediates].into_iter().flatten();
        let files = v1::RootFiles {
            authority: named_or(authority, ISSUERS)?,
            ct_log: named_or([].into_iter(), CT_LOG)?,
            log: named_or([].into_iter(), LOG)?,
            timestamp_authority: named_or(self.timestamp_certificate_chain.iter(), TIMESTAMPS)?,
        };
        Ok(Some(files).filter(|files| *files != v1::RootFiles::default()))
    }

    fn identity(&self, output: &Output) -> Result<v1::Identity, Error> {
        let pattern = |exact: &Option<String>, expression: &Option<String>, name: &str| {
            let pattern = Pattern::new(exact.as_deref(), expression.as_deref())
                .map_err(|error| Error::new("usage", error.to_string()).hint("it is read as Go's RE2 reads it"))?;
            if pattern.is_any() {
                return Err(Error::new("usage", format!("--{name} or --{name}-regexp is needed")).hint(
                    "without a key, the signer's certificate has to name whom you expect; `larder tree` lists signers",
                ));
            }
            if pattern.is_unanchored() {
                output.say(&format!("warning: --{name}-regexp matches anywhere in the text; ^ and $ anchor it"));
            }
            Ok((exact.clone().unwrap_or_default(), expression.clone().unwrap_or_default()))
        };
        let (subject, subject_regexp) =
            pattern(&self.certificate_identity, &self.certificate_identity_regexp, "certificate-identity")?;
        let (issuer, issuer_regexp) =
            pattern(&self.certificate_oidc_issuer, &self.certificate_oidc_issuer_regexp, "certificate-oidc-issuer")?;
        Ok(v1::Identity { subject, subject_regexp, issuer, issuer_regexp, extensions: self.workflow().collect() })
    }
}

fn public_key(path: &Path) -> Result<String, Error> {
    let bytes = key_place::read(path, MAX_KEY)?;
    let text = String::from_utf8(bytes);
    text.map_err(|_| {
        Error::new("key", format!("{} is no public key: it is no text", path.display())).hint(key_place::PUBLIC_KEYS)
    })
}

/// Reads the files that are named, one after the other, or else the one that a variable names.
fn named_or<'a>(named: impl Iterator<Item = &'a PathBuf>, variable: &str) -> Result<Bytes, Error> {
    let mut whole = Vec::new();
    for path in named {
        whole.extend(read_small(path, MAX_ROOT_FILE)?);
        // A file's last line need not end in one.
        whole.push(b'\n');
    }
    if whole.is_empty()
        && let Some(path) = env::var_os(variable).filter(|path| !path.is_empty())
    {
        whole = read_small(Path::new(&path), MAX_ROOT_FILE).map_err(|error| error.about(variable))?;
    }
    Ok(whole.into())
}

/// Reads `-a`, as cosign does: commas part pairs.
pub(crate) fn annotations(given: &[String]) -> Result<HashMap<String, String>, Error> {
    let pairs = given.iter().flat_map(|text| text.split(',')).map(|pair| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::new("usage", format!("--annotations takes KEY=VALUE, not {pair:?}"))
            .hint("as in -a env=prod,team=web")),
    });
    pairs.collect()
}
