//! What most tests begin with: an upstream, a home, a running daemon.

use harness::daemon::Launch;
use harness::{Content, Daemon, FakeRegistry, Home, Image, Signer};

/// The repository that most tests use.
pub(crate) const APP: &str = "store/app";

/// An upstream registry and a daemon, which goes before its home does.
pub(crate) struct World {
    pub(crate) registry: FakeRegistry,
    pub(crate) daemon: Daemon,
    pub(crate) home: Home,
}

impl World {
    /// Starts both.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with_config("")
    }

    /// Starts both, the daemon with this configuration.
    #[track_caller]
    pub(crate) fn with_config(config: &str) -> Self {
        Self::launched(Home::with_config(config), |launch| launch)
    }

    /// Starts both, the daemon in this home and as `prepare` says.
    #[track_caller]
    pub(crate) fn launched(home: Home, prepare: impl FnOnce(Launch) -> Launch) -> Self {
        let daemon = prepare(home.launch()).start();
        Self { registry: FakeRegistry::start(), home, daemon }
    }

    /// Puts an image upstream, signed by these, and returns it.
    pub(crate) fn upstream(&self, tag: &str, signers: &[&Signer]) -> Content {
        let image = Image::small(tag);
        self.registry.put(APP, tag, &image);
        self.sign_upstream(&image, signers);
        image
    }

    /// Puts signatures at the `.sig` tag of content upstream.
    pub(crate) fn sign_upstream(&self, content: &Content, signers: &[&Signer]) {
        if signers.is_empty() {
            return;
        }
        let digest = content.digest();
        let signatures: Vec<_> = signers.iter().map(|signer| signer.sign(&digest)).collect();
        self.registry.put_signature(APP, &digest, &harness::signer::signature_image(&signatures));
    }

    /// Returns the reference of a tag upstream.
    pub(crate) fn reference(&self, tag: &str) -> String {
        self.registry.reference(APP, tag)
    }

    /// Pulls a tag; it must succeed.
    #[track_caller]
    pub(crate) fn pull(&self, tag: &str) {
        self.home.larder(["pull", &self.reference(tag)]).exits(0);
    }

    /// Returns the path under which the endpoint serves [`APP`] of the upstream.
    pub(crate) fn served(&self) -> String {
        self.served_as(APP)
    }

    /// Returns the path under which the endpoint serves a repository of the upstream.
    pub(crate) fn served_as(&self, repository: &str) -> String {
        format!("{}/{repository}", self.registry.host().replace(':', "_"))
    }

    /// Kills the daemon, if it runs, and starts it anew.
    #[track_caller]
    pub(crate) fn restart(mut self) -> Self {
        self.daemon.kill();
        self.daemon = self.home.start();
        self
    }
}
