//! What the benchmarks that need Debian's `docker-registry` share.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use harness::{Home, Http};

/// Debian's registry, which writes a line for each request; killed when dropped.
pub(crate) struct Registry {
    child: Child,
    /// `HOST:PORT`.
    pub(crate) host: String,
    log: PathBuf,
}

impl Registry {
    /// Starts it in a folder.
    pub(crate) fn start(folder: &Home) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let root = folder.beside("registry");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: \"{free}\"}}\n"
        );
        let (config, log) = (folder.write_beside("registry.yml", config), folder.beside("registry.log"));
        let output = File::create(&log).expect("a log");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry can be run");
        let registry = Self { child, host: free.to_string(), log };
        harness::eventually("docker-registry", || {
            let http = Http::new(&registry.host);
            let answer = http.try_send(http::Method::GET, "/v2/", "", bytes::Bytes::new());
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        });
        registry
    }

    /// Returns the number of requests so far and the bytes of the answers: `… "GET /v2/… HTTP/1.1" 200 428 …`.
    pub(crate) fn requests(&self) -> (usize, u64) {
        let log = fs::read_to_string(&self.log).expect("the registry's log");
        let sizes = log.lines().filter_map(|line| {
            let mut words = line.split("\" ").nth(1)?.split(' ');
            words.nth(1)?.parse::<u64>().ok()
        });
        sizes.fold((0, 0), |(requests, bytes), size| (requests + 1, bytes + size))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
