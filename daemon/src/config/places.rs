//! Where docker and podman keep credentials and certificates, as the environment says it; nothing is opened here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The files, folders and programs of other tools that the registry client uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Files with credentials, in the order in which they are asked; the first that knows a repository decides.
    pub auth_files: Vec<AuthFile>,
    /// Folders with a folder `HOST[:PORT]` of certificates for each host; the first that has one decides.
    pub certificates: Vec<PathBuf>,
    /// Where credential helpers are looked for: the absolute folders of `PATH`.
    pub programs: Vec<PathBuf>,
}

/// A file with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthFile {
    /// The file, there or not.
    pub path: PathBuf,
    /// Whose it is.
    pub format: AuthFormat,
}

/// How a file names registries when it is written; both are read alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFormat {
    /// podman's `auth.json`: Docker Hub is `docker.io`, and a key may name a part of a registry.
    Podman,
    /// docker's `config.json`: Docker Hub is `https://index.docker.io/v1/`, and a key names a whole registry.
    Docker,
}

impl Places {
    /// Finds the places as containers-auth.json(5) and containers-certs.d(5) have them: `REGISTRY_AUTH_FILE` alone
    /// where it is set; else podman's file of the session, podman's of the user, and docker's.
    ///
    /// `uid` names the folder of podman's session where `XDG_RUNTIME_DIR` is not set.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let settings = path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let settings = settings.map(|settings| settings.join("containers"));
        let podman = |path: PathBuf| AuthFile { path, format: AuthFormat::Podman };
        let auth_files = match path("REGISTRY_AUTH_FILE") {
            Some(only) => vec![podman(only)],
            None => {
                let session = path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
                let session = session.unwrap_or_else(|| format!("/run/containers/{uid}/auth.json").into());
                let docker = path("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
                let docker = docker.map(|folder| folder.join("config.json"));
                let docker = docker.map(|path| AuthFile { path, format: AuthFormat::Docker });
                let users = settings.as_ref().map(|settings| podman(settings.join("auth.json")));
                [Some(podman(session)), users, docker].into_iter().flatten().collect()
            }
        };
        let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        let certificates = settings.map(|settings| settings.join("certs.d")).into_iter().chain(system).collect();
        let programs = variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        let mut programs: Vec<PathBuf> = programs;
        programs.retain(|folder| folder.is_absolute());
        Self { auth_files, certificates, programs }
    }

    /// Says whether a file is one of those that are read.
    pub fn reads(&self, path: &Path) -> bool {
        self.auth_files.iter().any(|file| file.path == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Places {
        let variable = |name: &str| variables.iter().find(|(one, _)| *one == name).map(|(_, value)| value.into());
        Places::from_environment(variable, 1000)
    }

    fn files(places: &Places) -> Vec<&str> {
        places.auth_files.iter().filter_map(|file| file.path.to_str()).collect()
    }

    #[test]
    fn where_the_tools_look() {
        let all = places(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r"), ("PATH", "/a::b:/c/d")]);
        assert_eq!(
            files(&all),
            ["/r/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
        );
        assert_eq!(all.auth_files[2].format, AuthFormat::Docker);
        assert_eq!(all.programs, [Path::new("/a"), Path::new("/c/d")], "never a folder that is relative to another");
        let moved = places(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x"), ("DOCKER_CONFIG", "/d"), ("PATH", "")]);
        assert_eq!(files(&moved), ["/run/containers/1000/auth.json", "/x/containers/auth.json", "/d/config.json"]);
        assert_eq!(moved.certificates[0], Path::new("/x/containers/certs.d"));
        let only = places(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d"), ("REGISTRY_AUTH_FILE", "/only")]);
        assert_eq!(files(&only), ["/only"]);
        assert_eq!(files(&places(&[])), ["/run/containers/1000/auth.json"]);
    }
}
