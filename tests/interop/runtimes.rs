//! Container engines at the endpoint, with what `larder serve print-config` prints, word for word.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::tools::{Ran, Stage, greeting, printed};

pub(crate) fn podman() {
    let stage = Stage::new();
    let image = greeting("by podman");
    stage.daemon.http().push("team/app", "1.0", &image);
    stage.daemon.http().push("docker.io/library/hub", "1.0", &image);
    stage.write_at_home(&printed(&stage.home, &["podman", "docker.io"]));
    let (root, run_root) = (stage.file("root"), stage.file("run"));
    let engine = format!("podman --root {} --runroot {} --storage-driver vfs", root.display(), run_root.display());
    let podman = |words: &str| -> Ran { stage.run(&format!("{engine} {words}")) };
    let app = stage.at("team/app");
    podman(&format!("pull {app}:1.0")).fails_with(&["403"]);
    podman("pull docker.io/library/hub:1.0").fails_with(&["403"]);
    stage.allow("**", "localhost/team/app:1.0");
    // By tag, by digest, and by Docker Hub's name.
    let digest = image.digest();
    let names = ["docker.io/library/hub:1.0", &format!("{app}:1.0"), &format!("docker.io/library/hub@{digest}")];
    for name in names {
        podman(&format!("pull {name}")).succeeds();
        let seen = podman(&format!("image inspect --format {{{{.Digest}}}} {name}")).succeeds();
        assert_eq!(seen.trim(), digest.to_string(), "{name}");
    }
    // What the gate refuses comes from nowhere else, and neither does what is not here.
    podman("pull docker.io/library/absent:1.0").fails_with(&["docker.io/library/absent:1.0 is not held here"]);
    // Unpacked, every byte is there.
    let container = podman(&format!("create {app}:1.0 /bin/true")).succeeds();
    let mounted = podman(&format!("mount {}", container.trim())).succeeds();
    let greeted = fs::read_to_string(format!("{}/etc/greeting", mounted.trim())).expect("the file in the image");
    assert_eq!(greeted, "by podman");
    podman(&format!("rm --force {}", container.trim())).succeeds();
    // Written by podman, with a digest of its own making, and judged like everything else.
    podman(&format!("push --digestfile pushed {app}:1.0 {}:2.0", stage.at("team/pushed"))).succeeds();
    let pushed = fs::read_to_string(stage.file("pushed")).expect("a digest");
    assert_eq!(stage.digest("team/pushed", "2.0"), pushed.trim());
    podman("rmi --all --force").succeeds();
    podman(&format!("pull {}@{}", stage.at("team/pushed"), pushed.trim())).succeeds();
    podman("rmi --all --force").succeeds();
}

/// A containerd with folders of its own; killed when dropped.
struct Containerd(Child);

impl Containerd {
    fn start(stage: &Stage) -> Self {
        let folder = stage.file("containerd");
        fs::create_dir(&folder).expect("a folder");
        let path = |name: &str| folder.join(name).display().to_string();
        // Of its plugins only those that store content and unpack it into plain folders.
        let without = [
            "grpc.v1.cri",
            "snapshotter.v1.btrfs",
            "snapshotter.v1.zfs",
            "snapshotter.v1.devmapper",
            "internal.v1.opt",
        ];
        let without: Vec<_> = without.iter().map(|name| format!("\"io.containerd.{name}\"")).collect();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [{}]\n[grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            without.join(", "),
            path("grpc.sock"),
            path("ttrpc.sock"),
        );
        fs::write(folder.join("config.toml"), config).expect("a file");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(folder.join("config.toml"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let containerd = Self(child.expect("containerd can be run"));
        let version = format!("ctr --address {} version", path("grpc.sock"));
        harness::eventually("containerd", || (stage.run(&version).code == 0).then_some(()));
        containerd
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes what `print-config` prints below `certs.d` of the tools' folder.
fn configure(stage: &Stage, arguments: &[&str]) {
    for (path, lines) in printed(&stage.home, arguments) {
        let inner = path.strip_prefix("/etc/containerd/").expect("containerd's folder");
        fs::create_dir_all(stage.file(inner).parent().expect("a folder")).expect("a folder");
        fs::write(stage.file(inner), lines).expect("a file");
    }
}

pub(crate) fn containerd() {
    let stage = Stage::new();
    let image = greeting("by containerd");
    let digest = image.digest().to_string();
    stage.daemon.http().push("team/app", "1.0", &image);
    stage.daemon.http().push("docker.io/library/hub", "1.0", &image);
    configure(&stage, &["containerd", "docker.io"]);
    let containerd = Containerd::start(&stage);
    let ctr = |words: &str| -> Ran {
        stage.run(&format!("ctr --address {} {words}", stage.file("containerd/grpc.sock").display()))
    };
    let pull = |name: &str| ctr(&format!("images pull --hosts-dir certs.d --snapshotter native {name}"));
    let app = stage.at("team/app");
    pull(&format!("{app}:1.0")).fails_with(&["403"]);
    pull("docker.io/library/hub:1.0").fails_with(&["403"]);
    stage.allow("**", "localhost/team/app:1.0");
    // As a mirror of Docker Hub it is asked for `library/hub` with `?ns=docker.io`; by its own name without.
    let names =
        [format!("{app}:1.0"), "docker.io/library/hub:1.0".to_owned(), format!("docker.io/library/hub@{digest}")];
    for name in &names {
        pull(name).succeeds();
        let listed = ctr("images list").succeeds();
        let line = listed.lines().find(|line| line.starts_with(name.as_str())).expect("a line");
        assert!(line.contains(&digest), "{line}");
    }
    for blob in image.blobs() {
        let held = ctr(&format!("content get {}", larder_core::Digest::of(blob))).succeeds();
        assert_eq!(held.as_bytes(), &blob[..]);
    }
    pull("docker.io/library/absent:1.0").fails_with(&["docker.io/library/absent:1.0: not found"]);
    assert!(ctr("snapshots --snapshotter native list").succeeds().contains("Committed"), "unpacked");
    // Written under the endpoint's own name, and not under that of a registry, which containerd would not say.
    for name in [stage.at("team/pushed:2.0"), "docker.io/acme/pushed:2.0".to_owned()] {
        ctr(&format!("images tag {} {name}", names[0])).succeeds();
    }
    ctr(&format!("images push --hosts-dir certs.d {}", stage.at("team/pushed:2.0"))).succeeds();
    stage.holds("team/pushed", "2.0", &image);
    ctr("images push --hosts-dir certs.d docker.io/acme/pushed:2.0").fails_with(&["no push hosts"]);
    // With the password, which a client of this user does not need and may send.
    configure(&stage, &["containerd", "docker.io", "--with-token"]);
    pull("docker.io/library/hub:1.0").succeeds();
    drop(containerd);
}
