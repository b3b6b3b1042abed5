//! Flags of cosign's that have no meaning here: accepted, so that habits and scripts go on working.

use clap::Args;

/// They decide about consent, connections and defaults. Larder asks nobody who is not named, and signs what it holds.
#[derive(Debug, Args)]
pub(crate) struct Habits {
    #[arg(short, long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    yes: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    use_signing_config: Option<bool>,
    #[arg(long, hide = true)]
    oidc_issuer: Option<String>,
    #[arg(long, hide = true)]
    oidc_client_id: Option<String>,
    #[arg(long, hide = true)]
    fulcio_auth_flow: Option<String>,
    #[arg(long, hide = true)]
    registry_referrers_mode: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_http_registry: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_insecure_registry: Option<bool>,
}
