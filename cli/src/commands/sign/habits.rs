//! Flags of cosign's that have no meaning here: accepted, so that habits and scripts go on working.

use std::path::PathBuf;

use clap::Args;

use crate::habits::Registry;
use crate::output::Output;

/// They decide about transparency logs, timestamps, uploads and connections. Larder uploads nothing to a log, signs what it
/// holds, and pushes a signature only with `--push`.
#[derive(Debug, Args)]
pub(crate) struct Habits {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tlog_upload: Option<bool>,
    #[arg(short, long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    yes: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    use_signing_config: Option<bool>,
    #[arg(long, hide = true)]
    signing_config: Option<PathBuf>,
    #[arg(long, hide = true)]
    trusted_root: Option<PathBuf>,
    #[arg(long, hide = true)]
    rekor_url: Option<String>,
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
        if self.tlog_upload == Some(true) || self.rekor_url.is_some() || self.signing_config.is_some() {
            output.detail("nothing is uploaded to a transparency log, and no timestamp is asked for");
        }
    }
}
