//! Flags of cosign's that have no meaning here: accepted, so that habits and scripts go on working.

use clap::Args;

use crate::habits::Registry;
use crate::output::Output;

/// They decide about consent, connections and defaults. Larder asks nobody who is not named, signs what it holds, and pushes a
/// signature only with `--push`.
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
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    upload: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    record_creation_timestamp: Option<bool>,
    #[command(flatten)]
    registry: Registry,
}

impl Habits {
    /// Says what was asked for and is not done.
    pub(super) fn tell(&self, output: &Output) {
        self.registry.tell(output);
    }
}
