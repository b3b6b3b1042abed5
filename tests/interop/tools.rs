//! Foreign tools as they are called here.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use harness::{Home, Http};

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
            let answer = registry.http().try_send(http::Method::GET, "/v2/", "", bytes::Bytes::new());
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
