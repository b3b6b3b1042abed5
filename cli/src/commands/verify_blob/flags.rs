//! cosign's flags about who must have signed, and by what evidence, as `verify-blob` and `verify-blob-attestation` take them.

use std::path::PathBuf;

use clap::Args;
use larder_core::keyless::{Identity, Pattern};

use crate::error::Error;
use crate::output::Output;

/// Whom, and by what evidence.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The public key that must have signed
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// The Sigstore bundle, or the bundle of an older `cosign sign-blob`
    #[arg(long, value_name = "FILE")]
    pub(super) bundle: Option<PathBuf>,
    /// The signature alone: a file, raw or base64, or base64 itself
    #[arg(long, value_name = "FILE")]
    pub(super) signature: Option<PathBuf>,
    /// The signer's certificate, beside --signature
    #[arg(long, alias = "cert", value_name = "FILE")]
    pub(super) certificate: Option<PathBuf>,
    /// Who issued --certificate: PEM, the root last; the root is trusted
    #[arg(long, alias = "cert-chain", value_name = "FILE")]
    pub(super) certificate_chain: Option<PathBuf>,
    /// Roots that may have issued --certificate: PEM
    #[arg(long, value_name = "FILE")]
    pub(super) ca_roots: Option<PathBuf>,
    /// Authorities between them and --certificate: PEM
    #[arg(long, value_name = "FILE", requires = "ca_roots")]
    pub(super) ca_intermediates: Option<PathBuf>,
    /// The timestamp beside --signature, as cosign writes it
    #[arg(long, value_name = "FILE")]
    pub(super) rfc3161_timestamp: Option<PathBuf>,
    /// The timestamp authority's chain, PEM; asks for a timestamp
    #[arg(long, value_name = "FILE")]
    pub(super) timestamp_certificate_chain: Option<PathBuf>,
    /// Who must have signed: an e-mail address, or a workflow's URI
    #[arg(long, aliases = ["cert-identity", "cert-email"], value_name = "IDENTITY")]
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
    /// Whom to trust: authorities, logs and timestamp authorities (trusted_root.json); `public-good` is a shipped copy of the
    /// public Sigstore's
    #[arg(long, value_name = "FILE")]
    pub(super) trusted_root: Option<PathBuf>,
    /// Take a signature that no transparency log is known to have
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, hide_possible_values = true, hide_default_value = true)]
    insecure_ignore_tlog: bool,
    /// Take a certificate that no certificate transparency log is known to have
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, hide_possible_values = true, hide_default_value = true)]
    pub(super) insecure_ignore_sct: bool,
    /// Let only a timestamp authority tell when it was signed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, hide_possible_values = true, hide_default_value = true)]
    pub(super) use_signed_timestamps: bool,
    /// Take a bundle v0.3 with a certificate chain
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, hide_possible_values = true, hide_default_value = true)]
    pub(super) allow_certificate_chain: bool,
    /// cosign's other name for --insecure-ignore-tlog
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    private_infrastructure: bool,
    #[command(flatten)]
    older: Older,
}

/// Flags that scripts for cosign bring along and that change nothing here: Larder asks nobody, and finds formats out by
/// itself.
#[derive(Debug, Args)]
struct Older {
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    offline: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    new_bundle_format: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    experimental_oci11: Option<bool>,
    #[arg(long, hide = true, value_name = "URL")]
    rekor_url: Option<String>,
    #[arg(long, hide = true, value_name = "ALGORITHM")]
    signature_digest_algorithm: Option<String>,
    #[arg(long, hide = true, value_name = "N")]
    max_workers: Option<u32>,
}

impl Flags {
    /// Says whether a signature counts that no transparency log is known to have.
    pub(super) fn ignores_logs(&self) -> bool {
        self.insecure_ignore_tlog || self.private_infrastructure
    }

    /// Says whether only a timestamp authority may tell the time.
    pub(super) fn asks_for_timestamps(&self) -> bool {
        self.use_signed_timestamps || self.timestamp_certificate_chain.is_some()
    }

    /// Says what `--key` and the identity flags ask for: a key (`None`), or an identity.
    ///
    /// # Errors
    /// Fails where they ask for both or for neither, or an expression is none.
    pub(super) fn identity(&self, output: &Output) -> Result<Option<Identity>, Error> {
        let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let asked = [self.key.is_some(), given(&self.certificate_identity), given(&self.certificate_identity_regexp)];
        if asked.into_iter().filter(|asked| *asked).count() > 1 {
            return Err(usage("--key, --certificate-identity and --certificate-identity-regexp exclude each other")
                .hint("--key is for what a key signed, an identity for what a person or a workflow signed"));
        }
        if self.key.is_some() && self.certificate.is_some() {
            return Err(usage("--key and --certificate exclude each other"));
        }
        if self.key.is_some() {
            return Ok(None);
        }
        let pattern = |exact: &Option<String>, expression: &Option<String>, name: &str| {
            let pattern = Pattern::new(exact.as_deref(), expression.as_deref())
                .map_err(|error| usage(&error.to_string()).hint("it is read as Go's RE2 reads it"))?;
            if pattern.is_any() {
                return Err(usage(&format!("--{name} or --{name}-regexp is needed, or --key")));
            }
            if pattern.is_unanchored() {
                output.say(&format!("warning: --{name}-regexp matches anywhere in the text; ^ and $ anchor it"));
            }
            Ok(pattern)
        };
        let subject = pattern(&self.certificate_identity, &self.certificate_identity_regexp, "certificate-identity")?;
        let issuer =
            pattern(&self.certificate_oidc_issuer, &self.certificate_oidc_issuer_regexp, "certificate-oidc-issuer")?;
        let workflow = [
            (2, &self.certificate_github_workflow_trigger),
            (3, &self.certificate_github_workflow_sha),
            (4, &self.certificate_github_workflow_name),
            (5, &self.certificate_github_workflow_repository),
            (6, &self.certificate_github_workflow_ref),
        ];
        let extensions = workflow.into_iter().filter_map(|(number, wanted)| Some((number, wanted.clone()?))).collect();
        Ok(Some(Identity { subject, issuer, extensions }))
    }
}

/// An error of wrong usage that the argument parser cannot see.
pub(crate) fn usage(words: &str) -> Error {
    Error::usage(words).hint("`larder verify-blob --help` ends in examples")
}
