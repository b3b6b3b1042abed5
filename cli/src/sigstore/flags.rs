//! The flags that name services, with cosign's names.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::token::Provider;

/// Whom to ask while signing; nobody, where nobody is named.
#[derive(Debug, Args)]
#[command(next_help_heading = "Without a key, or with witnesses (a Sigstore)")]
pub(crate) struct Flags {
    /// Sign as who this token says you are, without a key: the token, or a file that holds it. Else SIGSTORE_ID_TOKEN, or
    /// what GitHub Actions offers
    #[arg(long, value_name = "TOKEN", conflicts_with = "key", value_parser = hidden)]
    pub(super) identity_token: Option<Hidden>,
    /// Take the token from there alone
    #[arg(long, value_enum, value_name = "PROVIDER", conflicts_with_all = ["key", "identity_token"])]
    pub(super) oidc_provider: Option<Provider>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) oidc_disable_ambient_providers: Option<bool>,
    /// Which services to ask: Sigstore's file. Signatures are uploaded to the logs that it names
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fulcio_url", "rekor_url", "timestamp_server_url"])]
    pub(super) signing_config: Option<PathBuf>,
    /// What their answers are checked against, before anything is stored: trusted_root.json, or `public-good`, a shipped
    /// copy of the public Sigstore's
    #[arg(long, value_name = "FILE")]
    pub(super) trusted_root: Option<PathBuf>,
    /// Who issues certificates
    #[arg(long, value_name = "URL")]
    pub(super) fulcio_url: Option<String>,
    /// The transparency log (version 1) to upload to
    #[arg(long, value_name = "URL")]
    pub(super) rekor_url: Option<String>,
    /// Who signs the time
    #[arg(long, value_name = "URL")]
    pub(super) timestamp_server_url: Option<String>,
    /// False uploads nothing, whatever is named
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) tlog_upload: Option<bool>,
    /// Take a certificate that no certificate transparency log vouched for
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) insecure_skip_verify: Option<bool>,
}

/// Text that nobody prints by accident.
#[derive(Clone)]
pub(crate) struct Hidden(Zeroizing<String>);

impl Hidden {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a Result of a parser")]
fn hidden(text: &str) -> Result<Hidden, String> {
    Ok(Hidden(Zeroizing::new(text.to_owned())))
}
