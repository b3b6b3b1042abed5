//! Foreign tools as they are called here.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use harness::{Content, Daemon, Home, Http, Image};
use larder_proto::v1::State;

/// Runs a program; its stdout, if it succeeds.
#[track_caller]
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> String {
    let (code, stdout, stderr) = attempt(program, arguments, &[]);
    assert_eq!(code, 0, "{program} failed:\n{stdout}{stderr}");
    stdout
}

/// Runs a program with variables: exit code, stdout, stderr.
#[track_caller]
pub(crate) fn attempt<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
    variables: &[(&str, &str)],
) -> (i32, String, String) {
    let mut command = Command::new(program);
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// What came of a run of a foreign tool.
pub(crate) struct Ran {
    words: String,
    /// The exit code.
    pub(crate) code: i32,
    /// What it wrote to stdout.
    pub(crate) stdout: String,
    /// What it wrote to stderr.
    pub(crate) stderr: String,
}

impl Ran {
    /// Asserts that it succeeded; its stdout.
    #[track_caller]
    pub(crate) fn succeeds(self) -> String {
        assert_eq!(self.code, 0, "{} failed:\n{}{}", self.words, self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts that it failed and said every one of `words`.
    #[track_caller]
    pub(crate) fn fails_with(self, words: &[&str]) {
        let said = format!("{}{}", self.stdout, self.stderr);
        assert_ne!(self.code, 0, "{} succeeded:\n{said}", self.words);
        for word in words {
            assert!(said.contains(word), "{} does not say {word:?}:\n{said}", self.words);
        }
    }
}

/// A daemon and a folder for the tools that call it. Goes before its home does.
pub(crate) struct Stage {
    pub(crate) daemon: Daemon,
    pub(crate) home: Home,
    variables: Vec<(String, String)>,
}

impl Stage {
    /// Starts a daemon that takes images under Docker Hub's name, and holds nothing back without judging it.
    pub(crate) fn new() -> Self {
        let home = Home::with_config("[endpoint]\npush_to = [\"docker.io/**\"]\n");
        let daemon = home.start();
        let tools = home.beside("tools");
        fs::create_dir(&tools).expect("a folder for tools");
        // Nothing but loopback is spoken to: Go's tools go past a proxy for that only.
        let variables = [("HOME", tools.to_str().expect("UTF-8")), ("HTTPS_PROXY", "http://127.0.0.1:1")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { daemon, home, variables }
    }

    /// Sets a variable of every tool that is run from now on.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// Returns the path of a tool's own file.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.beside("tools").join(name)
    }

    /// Returns `HOST:PORT/NAME`.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.daemon.endpoint())
    }

    /// Runs a tool, its words divided by spaces, in the tools' folder.
    #[track_caller]
    pub(crate) fn run(&self, words: &str) -> Ran {
        self.run_reading(words, Stdio::null())
    }

    /// Runs a tool that reads its input.
    #[track_caller]
    pub(crate) fn run_reading(&self, words: &str, input: Stdio) -> Ran {
        let mut parts = words.split_whitespace();
        let program = parts.next().expect("a program");
        let mut command = Command::new(program);
        command.args(parts).current_dir(self.home.beside("tools")).stdin(input);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            words: words.to_owned(),
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Writes files that are printed for a user (`~/…`) where that user's tools look for them.
    pub(crate) fn write_at_home(&self, files: &[(String, String)]) {
        for (path, lines) in files {
            let file = self.file(path.strip_prefix("~/").expect("a file of the user"));
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, lines).expect("a file");
        }
    }

    /// Accepts everything that matches a glob, and waits until that acts on `reference`.
    #[track_caller]
    pub(crate) fn allow(&self, glob: &str, reference: &str) {
        self.home.larder(["trust", "allow", glob, "--yes"]).exits(0);
        self.daemon.client().becomes(reference, State::Allowed);
    }

    /// Asserts that the endpoint has content under a name, every byte as it was.
    #[track_caller]
    pub(crate) fn holds(&self, repository: &str, tag: &str, content: &Content) {
        let http = self.daemon.http();
        assert_eq!(http.manifest(repository, tag).is(200).body, content.root().bytes, "{repository}:{tag}");
        for blob in content.blobs() {
            let digest = larder_core::Digest::of(blob);
            assert_eq!(http.blob(repository, &digest).is(200).body, *blob, "{repository}@{digest}");
        }
    }

    /// Returns the digest at which a tag is.
    #[track_caller]
    pub(crate) fn digest(&self, repository: &str, tag: &str) -> String {
        self.daemon.http().manifest(repository, tag).is(200).header("docker-content-digest").to_owned()
    }
}

/// What `larder serve print-config` prints, cut into files: (where each belongs, all its lines).
pub(crate) fn printed(home: &Home, arguments: &[&str]) -> Vec<(String, String)> {
    let stdout = home.larder(["serve", "print-config"].iter().chain(arguments)).exits(0).stdout;
    let mut files: Vec<(String, String)> = Vec::new();
    for line in stdout.lines() {
        match line.strip_prefix("# ").filter(|path| path.starts_with(['/', '~'])) {
            Some(path) => files.push((path.to_owned(), format!("{line}\n"))),
            None => files.last_mut().expect("a path in front").1.push_str(&format!("{line}\n")),
        }
    }
    files
}

/// Returns an image with one file, `etc/greeting`, that container engines can unpack.
pub(crate) fn greeting(text: &str) -> Content {
    Image::new(text).layer(tar("etc/greeting", text.as_bytes())).build()
}

/// Returns a tar archive with one file (POSIX.1-1988, "ustar").
fn tar(name: &str, bytes: &[u8]) -> Bytes {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, field: &str| header[at..at + field.len()].copy_from_slice(field.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", bytes.len()));
    put(136, "00000000000");
    // The checksum is made with spaces in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(bytes);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive.into()
}

/// Copies an image by skopeo, every byte as it is, over plain HTTP.
#[track_caller]
pub(crate) fn skopeo_copy(from: &str, to: &str) {
    let insecure = [
        "--insecure-policy",
        "copy",
        "--all",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
    ];
    run("skopeo", insecure.into_iter().chain([from, to]));
}

/// A registry in a process of its own; killed when dropped.
pub(crate) struct Registry {
    child: Child,
    host: String,
    _folder: Option<Home>,
}

impl Registry {
    /// Starts Debian's `docker-registry`, which has no referrers API.
    pub(crate) fn docker() -> Self {
        let folder = Home::new();
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let config = folder.write_beside(
            "registry.yml",
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"{free}\"}}\n",
                folder.beside("registry")
            ),
        );
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry can be run");
        let registry = Self { child, host: free.to_string(), _folder: Some(folder) };
        harness::eventually("docker-registry", || {
            let answer = registry.http().try_send(http::Method::GET, "/v2/", "", Bytes::new());
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        });
        registry
    }

    /// Starts go-containerregistry's registry, which has the referrers API.
    pub(crate) fn with_referrers() -> Self {
        let program =
            std::env::var("INTEROP_REFERRERS_REGISTRY").expect("tests/interop/run sets INTEROP_REFERRERS_REGISTRY");
        let mut child =
            Command::new(program).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the registry can be run");
        let mut host = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut host).expect("its address");
        Self { child, host: host.trim().to_owned(), _folder: None }
    }

    /// Returns `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns a client of it.
    pub(crate) fn http(&self) -> Http {
        Http::new(&self.host)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
