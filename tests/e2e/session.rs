//! A session at a shell: what the client is asked and what it says, written down.

use harness::transcript::Transcript;
use harness::{Output, Signer};

use crate::world::World;

/// A world, and the session that happens in it.
pub(crate) struct Session {
    pub(crate) world: World,
    pub(crate) transcript: Transcript,
}

impl Session {
    pub(crate) fn start() -> Self {
        Self::in_world(World::start())
    }

    pub(crate) fn in_world(world: World) -> Self {
        let mut transcript = Transcript::default();
        let folder = world.home.path().parent().expect("its folder").to_str().expect("UTF-8").to_owned();
        transcript.hide(&folder, "~");
        transcript.hide(world.daemon.endpoint(), &same_length(world.daemon.endpoint(), "127.0.0.1:2"));
        let registry = world.registry.host();
        transcript.hide(&registry, &same_length(&registry, "127.0.0.1:1"));
        for joint in ["_", "-"] {
            let instead = same_length(&registry, &format!("127.0.0.1{joint}1"));
            transcript.hide(&registry.replace(':', joint), &instead);
        }
        Self { world, transcript }
    }

    /// With two pulled images, the first signed by `release`, which is trusted.
    pub(crate) fn furnished() -> Self {
        let session = Self::start();
        session.world.upstream("1.0", &[&Signer::new("release")]);
        session.world.upstream("1.1", &[]);
        session.world.pull("1.0");
        session.world.pull("1.1");
        session.world.home.write_beside("release.pub", Signer::new("release").public_pem());
        session.world.home.larder(["trust", "add", "release.pub"]).exits(0);
        session
    }

    /// With the keyless fixtures in the folder that the client runs in.
    pub(crate) fn keyless(&self) {
        for folder in ["blobs", "bundles", "keys", "roots"] {
            let fixtures = harness::fixtures::cosign().join("keyless").join(folder);
            std::os::unix::fs::symlink(fixtures, self.world.home.beside(folder)).expect("a link to the fixtures");
        }
    }

    pub(crate) fn reference(&self, tag: &str) -> String {
        self.world.reference(tag)
    }

    /// Runs the client and writes down what it says.
    #[track_caller]
    pub(crate) fn larder(&mut self, words: &[&str], code: i32) -> String {
        let output = self.world.home.invoke(words).env("COSIGN_PASSWORD", "larder").run();
        self.note(words, output, code)
    }

    #[track_caller]
    pub(crate) fn note(&mut self, words: &[&str], output: Output, code: i32) -> String {
        self.transcript.note(words, &output);
        let output = output.exits(code);
        if output.stderr.starts_with("error:") {
            // The argument parser has words of its own for it.
            let remedied = ["\n  hint: ", "tip: ", "--help"].iter().any(|word| output.stderr.contains(word));
            assert!(remedied, "an error says what to do about it: {words:?}\n{}", output.stderr);
            let is_general = output.stderr.contains("`larder daemon status` says how larderd is");
            assert!(!is_general, "what helps against anything helps little: {words:?}\n{}", output.stderr);
        }
        output.stdout
    }

    /// Runs what prints much, and writes down how it begins.
    #[track_caller]
    pub(crate) fn begins(&mut self, words: &[&str], lines: usize) {
        let mut output = self.world.home.larder(words);
        let cut: Vec<&str> = output.stdout.lines().take(lines).collect();
        output.stdout = format!("{}\n…\n", cut.join("\n"));
        self.note(words, output, 0);
    }

    /// Writes down help and wrong usage.
    #[track_caller]
    pub(crate) fn usage(&mut self, verb: &[&str], wrong: &[&str]) {
        let code = if verb.first().is_some_and(|verb| verb.starts_with("verify")) { 1 } else { 2 };
        self.larder(&[verb, &["--help"]].concat(), 0);
        self.larder(&[verb, wrong].concat(), code);
    }

    #[track_caller]
    pub(crate) fn matches(self, name: &str) {
        self.transcript.matches(name);
    }
}

/// Returns digits behind a beginning, as long as `text`: columns stay as wide.
fn same_length(text: &str, begins: &str) -> String {
    let digit = begins.chars().next_back().expect("a digit").to_string();
    format!("{begins}{}", digit.repeat(text.len().saturating_sub(begins.len())))
}
