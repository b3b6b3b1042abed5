//! The configuration of each tool, as text.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::error::Error;

/// Docker Hub's name.
const DOCKER_HUB: &str = "docker.io";

/// A tool that reads from registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Tool {
    Podman,
    Docker,
    Containerd,
    Skopeo,
}

impl Tool {
    /// Returns its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Skopeo => "skopeo",
        }
    }
}

/// Where the endpoint is, and how a client logs in there.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// `HOST:PORT`
    pub(super) address: String,
    /// User and password, as `Authorization: Basic` has them; only where they are to be printed.
    pub(super) login: Option<String>,
}

/// A registry's host, with its port if it has one: lower case, one name for Docker Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registry(String);

impl Registry {
    /// Reads a registry's name.
    ///
    /// # Errors
    /// Fails where it is no host name or IPv4 address with an optional port.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        let name = match lower.as_str() {
            "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            other => other,
        };
        let (host, port) = name.split_once(':').map_or((name, None), |(host, port)| (host, Some(port)));
        let label = |label: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && label.bytes().all(plain)
        };
        let port_is_good = port.is_none_or(|port| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
        // Without dot and port, tools and the endpoint take it for a part of a path.
        let is_host = (host.contains('.') || port.is_some()) && host.len() <= 253 && host.split('.').all(label);
        if is_host && port_is_good {
            return Ok(Self(name.to_owned()));
        }
        let shown: String = text.chars().filter(|character| !character.is_control()).take(120).collect();
        let message = format!("{shown:?} is no registry: a host name with a dot, or a host with a port");
        Err(Error::usage(message).hint("as docker.io, quay.io or registry.example.org:5000"))
    }

    /// Returns the path under which the endpoint serves its repositories.
    fn path(&self) -> String {
        self.0.replacen(':', "_", 1)
    }
}

/// A file of a tool's configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Where it belongs.
    pub(super) path: String,
    /// What a person should know.
    pub(super) notes: Vec<String>,
    /// What it holds.
    pub(super) content: String,
}

impl File {
    fn new(path: impl Into<String>, notes: &[&str], content: String) -> Self {
        Self { path: path.into(), notes: notes.iter().map(|&note| note.to_owned()).collect(), content }
    }

    /// Returns the file behind its path and notes, each in lines that begin with `#`.
    pub(super) fn to_text(&self) -> String {
        let notes = self.notes.iter().map(|note| format!("# {note}\n")).collect::<String>();
        format!("# {}\n{notes}{}", self.path, self.content)
    }
}

/// Returns what a tool needs to read from the endpoint, and to read these registries' images from it.
///
/// # Errors
/// Fails where the tool cannot do that.
pub(super) fn files(tool: Tool, endpoint: &Endpoint, registries: &[Registry]) -> Result<Vec<File>, Error> {
    match tool {
        Tool::Podman => {
            Ok(containers(endpoint, registries, "~/.config/containers/auth.json of the user who runs podman"))
        }
        Tool::Skopeo => {
            Ok(containers(endpoint, registries, "~/.config/containers/auth.json of the user who runs skopeo"))
        }
        Tool::Containerd => Ok(containerd(endpoint, registries)),
        Tool::Docker => docker(endpoint, registries),
    }
}

/// podman, skopeo, buildah and CRI-O read the same files.
fn containers(endpoint: &Endpoint, registries: &[Registry], auth: &str) -> Vec<File> {
    let address = &endpoint.address;
    let mut content = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
    for registry in registries {
        // A prefix with another location, not a mirror: tools go past a mirror that refuses, to the registry itself.
        let (name, path) = (&registry.0, registry.path());
        content.push_str(&format!(
            "\n[[registry]]\nprefix = \"{name}\"\nlocation = \"{address}/{path}\"\ninsecure = true\n"
        ));
    }
    let notes = ["or /etc/containers/registries.conf.d/larder.conf, for all users; insecure: loopback needs no TLS"];
    let mut files = vec![File::new("~/.config/containers/registries.conf.d/larder.conf", &notes, content)];
    files.extend(login(endpoint, auth));
    files
}

/// A folder for each registry, which containerd's `config_path` and ctr's `--hosts-dir` name.
fn containerd(endpoint: &Endpoint, registries: &[Registry]) -> Vec<File> {
    let address = &endpoint.address;
    let host = format!("http://{address}");
    let file = |name: &str, capabilities: &str, notes: &[&str]| {
        // containerd goes past a host that refuses, to the server: so that is the same, and never the registry itself.
        // A file without any host, or of a form that it does not know, containerd 1.6 takes for none at all.
        let mut content = format!("server = \"{host}\"\ncapabilities = [{capabilities}]\n");
        content.push_str(&format!("\n[host.\"{host}\"]\ncapabilities = [{capabilities}]\n"));
        if let Some(login) = &endpoint.login {
            for table in [format!("host.\"{host}\".header"), "header".to_owned()] {
                content.push_str(&format!("\n[{table}]\nauthorization = \"Basic {login}\"\n"));
            }
        }
        File::new(format!("/etc/containerd/certs.d/{name}/hosts.toml"), notes, content)
    };
    let notes = [
        "with, in /etc/containerd/config.toml: [plugins.\"io.containerd.grpc.v1.cri\".registry]",
        "config_path = \"/etc/containerd/certs.d\"; ctr and nerdctl take it by --hosts-dir",
    ];
    let mut files = vec![file(address, "\"pull\", \"resolve\", \"push\"", &notes)];
    // Not written to: containerd says the registry's name only where it reads, so that this would become a local repository.
    files.extend(registries.iter().map(|registry| file(&registry.0, "\"pull\", \"resolve\"", &[])));
    files
}

fn docker(endpoint: &Endpoint, registries: &[Registry]) -> Result<Vec<File>, Error> {
    let address = &endpoint.address;
    if let Some(other) = registries.iter().find(|registry| registry.0 != DOCKER_HUB) {
        let message =
            format!("docker takes no images of {} from elsewhere: its mirrors are Docker Hub's only", other.0);
        let hint = format!("name them by the endpoint: `docker pull {address}/{}/…`", other.path());
        return Err(Error::new("no-mirror", message).hint(hint));
    }
    let mut files = Vec::new();
    if registries.is_empty() {
        let note =
            format!("nothing is needed: docker speaks plain HTTP to loopback; `docker pull {address}/docker.io/…`");
        files.push(File::new("/etc/docker/daemon.json", &[&note], pretty(&json!({}))));
    } else {
        let notes = [
            "a mirror is no gate: docker asks Docker Hub itself for whatever Larder refuses or does not hold;",
            "only what is pulled by the endpoint's own name comes from nowhere else; docker 25 or newer is needed",
        ];
        let mirror = format!("http://{address}/{DOCKER_HUB}");
        files.push(File::new("/etc/docker/daemon.json", &notes, pretty(&json!({"registry-mirrors": [mirror]}))));
    }
    files.extend(login(endpoint, "~/.docker/config.json of the user who runs docker"));
    Ok(files)
}

/// The password, as podman, skopeo and docker keep it: an entry of `auths`.
fn login(endpoint: &Endpoint, path: &str) -> Option<File> {
    let login = endpoint.login.as_deref()?;
    let content = pretty(&json!({"auths": {endpoint.address.as_str(): {"auth": login}}}));
    Some(File::new(path, &["mode 0600; an entry beside those that are there"], content))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(login: Option<&str>) -> Endpoint {
        Endpoint { address: "127.0.0.1:4470".to_owned(), login: login.map(str::to_owned) }
    }

    fn registries(names: &[&str]) -> Vec<Registry> {
        names.iter().map(|name| Registry::parse(name).expect("a registry")).collect()
    }

    #[test]
    fn registries_are_hosts() {
        assert_eq!(registries(&["Registry-1.Docker.io"]), registries(&["docker.io"]));
        assert_eq!(registries(&["127.0.0.1:5000"])[0].path(), "127.0.0.1_5000");
        for text in
            ["", "quay", "a.io/b", "a.io:", "a.io:x", "a.io:99999", "a..io", "-a.io", "a\".io", "a.io\n", "[::1]:5"]
        {
            assert_eq!(Registry::parse(text).expect_err(text).reason(), "usage", "{text}");
        }
    }

    #[test]
    fn podmans_file_sends_a_registrys_names_here_and_nowhere_else() {
        let files = files(Tool::Podman, &endpoint(None), &registries(&["docker.io", "a.io:5000"])).expect("files");
        assert_eq!(files.len(), 1);
        let content = &files[0].content;
        assert!(content.contains("prefix = \"docker.io\"\nlocation = \"127.0.0.1:4470/docker.io\""), "{content}");
        assert!(content.contains("prefix = \"a.io:5000\"\nlocation = \"127.0.0.1:4470/a.io_5000\""), "{content}");
        assert!(!content.contains("mirror"), "a mirror that refuses is gone past: {content}");
        assert!(files[0].to_text().lines().take(2).all(|line| line.starts_with("# ")));
    }

    #[test]
    fn containerds_files_name_no_other_host() {
        let files = files(Tool::Containerd, &endpoint(Some("eDp5")), &registries(&["docker.io"])).expect("files");
        let [own, hub] = &files[..] else { panic!("{files:?}") };
        assert_eq!(own.path, "/etc/containerd/certs.d/127.0.0.1:4470/hosts.toml");
        assert_eq!(hub.path, "/etc/containerd/certs.d/docker.io/hosts.toml");
        assert!(hub.content.starts_with("server = \"http://127.0.0.1:4470\"\n"), "{}", hub.content);
        assert!(hub.content.contains("authorization = \"Basic eDp5\"") && !hub.content.contains("push"));
    }

    #[test]
    fn docker_mirrors_docker_hub_only() {
        let own = files(Tool::Docker, &endpoint(Some("eDp5")), &registries(&["docker.io"])).expect("files");
        assert!(own[0].content.contains("\"http://127.0.0.1:4470/docker.io\""), "{}", own[0].content);
        assert!(own[0].notes.join(" ").contains("no gate"));
        assert!(own[1].content.contains("\"auth\": \"eDp5\""), "{}", own[1].content);
        let error = files(Tool::Docker, &endpoint(None), &registries(&["quay.io"])).expect_err("no such mirror");
        assert_eq!(error.reason(), "no-mirror");
        assert_eq!(files(Tool::Docker, &endpoint(None), &[]).expect("files")[0].content, "{}\n");
    }
}
