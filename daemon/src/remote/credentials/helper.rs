//! Credential helpers: `docker-credential-NAME get|store|erase`, as docker and podman call them.
//!
//! A helper is another's program: it gets no shell and no arguments of ours, its answer is bounded in bytes and time,
//! and what it does not end by itself is killed with all that it started.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::error::CredentialError;
use super::secret::Secret;
use super::{Login, Proof};
use crate::remote::error::clean;

/// How long a helper may take; a person may have to unlock something meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const MAX_ANSWER: u64 = 64 << 10;
/// The longest name.
const MAX_NAME: usize = 64;
/// What helpers say where they have nothing for a registry (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user's name of an identity token.
const TOKEN_USER: &str = "<token>";

/// A helper, found.
#[derive(Debug)]
pub(super) struct Helper {
    name: String,
    program: PathBuf,
    /// The file that names it.
    named_in: PathBuf,
    /// How long it may take.
    pub(super) patience: Duration,
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: Secret,
}

impl Helper {
    /// Finds a helper in these folders.
    pub(super) fn find(name: &str, named_in: &Path, folders: &[PathBuf]) -> Result<Self, CredentialError> {
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let shown: String = clean(name).chars().take(MAX_NAME).collect();
        let fail = |why: &str| CredentialError::Helper { name: shown.clone(), path: named_in.into(), why: why.into() };
        // The name becomes a part of a path.
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(letters) {
            return Err(fail("its name is not one that a program can have"));
        }
        let file = format!("docker-credential-{name}");
        let can_run = |path: &PathBuf| {
            std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        };
        let program = folders.iter().map(|folder| folder.join(&file)).find(can_run);
        let program =
            program.ok_or_else(|| fail(&format!("there is no {file} in the PATH that larderd was started with")))?;
        Ok(Self { name: name.to_owned(), program, named_in: named_in.to_owned(), patience: PATIENCE })
    }

    /// Asks for a registry's credentials.
    pub(super) async fn get(&self, server: &str) -> Result<Option<Login>, CredentialError> {
        let Some(answer) = self.run("get", server.as_bytes()).await? else { return Ok(None) };
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| self.fail("its answer is not what helpers answer".into()))?;
        if answer.secret.is_empty() {
            return Ok(None);
        }
        let from = format!("the credential helper {:?}", self.name);
        Ok(Some(match answer.username.as_str() {
            TOKEN_USER => Login { username: String::new(), proof: Proof::IdentityToken(answer.secret), from },
            "" => return Err(self.fail("its answer has a secret and no user".into())),
            _ => Login { username: answer.username, proof: Proof::Password(answer.secret), from },
        }))
    }

    /// Has it keep a registry's credentials.
    pub(super) async fn store(&self, server: &str, username: &str, secret: &Secret) -> Result<(), CredentialError> {
        let said = serde_json::json!({"ServerURL": server, "Username": username, "Secret": secret.reveal()});
        let said = Zeroizing::new(said.to_string());
        self.run("store", said.as_bytes()).await.map(|_| ())
    }

    /// Has it forget a registry's credentials.
    pub(super) async fn erase(&self, server: &str) -> Result<(), CredentialError> {
        self.run("erase", server.as_bytes()).await.map(|_| ())
    }

    /// Says what it is called, for people.
    pub(super) fn title(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    fn fail(&self, why: String) -> CredentialError {
        CredentialError::Helper { name: self.name.clone(), path: self.named_in.clone(), why }
    }

    /// Runs it with this on its stdin; `None` where it says that it has nothing.
    async fn run(&self, verb: &str, input: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        let mut command = Command::new(&self.program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.current_dir("/").process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(|error| self.fail(format!("it cannot be run: {}", error.kind())))?;
        let mut running = Running(child);
        let ended = tokio::time::timeout(self.patience, running.converse(input)).await;
        let (status, answer) = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => return Err(self.fail(format!("it cannot be spoken with: {}", error.kind()))),
            Err(_) => {
                let why = format!("it did not end within {} s, and was killed", self.patience.as_secs());
                return Err(self.fail(why));
            }
        };
        if answer.len() as u64 > MAX_ANSWER {
            return Err(self.fail("its answer is longer than 64 KiB".into()));
        }
        if status.success() {
            return Ok(Some(answer));
        }
        let said = String::from_utf8_lossy(&answer);
        if said.trim() == NOT_FOUND {
            return Ok(None);
        }
        // What was to be stored may stand in what it says.
        let said = if verb == "get" { clean(said.lines().next().unwrap_or_default()) } else { String::new() };
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let how = status.code().map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        Err(self.fail(format!("`{verb}` ended with {how}{said}")))
    }
}

/// A helper that runs; it and all that it started end with this.
struct Running(Child);

impl Running {
    async fn converse(&mut self, input: &[u8]) -> std::io::Result<(std::process::ExitStatus, Zeroizing<Vec<u8>>)> {
        let (stdin, stdout) = (self.0.stdin.take(), self.0.stdout.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // One that ends without reading has still answered.
                let _ = stdin.write_all(input).await;
            }
        };
        let read = async {
            match stdout {
                Some(stdout) => read_bounded(stdout).await,
                None => Ok(Zeroizing::default()),
            }
        };
        let ((), answer) = tokio::join!(write, read);
        let answer = answer?;
        if answer.len() as u64 > MAX_ANSWER {
            // It would wait for ever for somebody to read the rest.
            self.0.start_kill()?;
        }
        Ok((self.0.wait().await?, answer))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its id is its own as long as it was not waited for; afterwards there is nothing to kill.
        if let Some(group) = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn read_bounded(stdout: impl AsyncRead + Unpin) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut answer = Zeroizing::new(Vec::with_capacity(4 << 10));
    stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A helper that is this script; the folder holds it.
    fn helper(script: &str) -> (Helper, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let helper = Helper::find("test", Path::new("config.json"), &[folder.path().to_owned()]).expect("found");
        (helper, folder)
    }

    async fn get(script: &str) -> Result<Option<Login>, CredentialError> {
        let (helper, _folder) = helper(script);
        helper.get("r.io").await
    }

    #[tokio::test]
    async fn what_helpers_answer() {
        let login =
            get(r#"read url; [ "$1 $url" = "get r.io" ] && echo '{"ServerURL":"x","Username":"u","Secret":"p"}'"#);
        let login = login.await.expect("an answer").expect("credentials");
        assert_eq!((login.username.as_str(), &login.proof), ("u", &Proof::Password(Secret::new("p".into()))));
        let token = get(r#"echo '{"Username":"<token>","Secret":"t"}'"#).await.expect("an answer").expect("a token");
        assert_eq!(token.proof, Proof::IdentityToken(Secret::new("t".into())));
        let none = get("echo 'credentials not found in native keychain'; exit 1").await.expect("nothing");
        assert!(none.is_none());
        assert!(get(r#"echo '{"Username":"","Secret":""}'"#).await.expect("nothing").is_none());
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error_that_holds_no_secret() {
        for script in [
            "echo 's3cret'",
            "echo '{\"Username\":\"u\",\"Secret\":[\"s3cret\"]}'",
            "echo '{\"Username\":\"\",\"Secret\":\"s3cret\"}'",
            "echo locked; exit 1",
            "exit 3",
            "kill -9 $$",
            "",
            "head -c 10000000 /dev/zero",
            "printf '\\377\\376'",
        ] {
            let error = get(script).await.expect_err(script);
            let words = format!("{error} {error:?}");
            assert!(!words.contains("s3cret") && words.contains("test"), "{script}: {words}");
            assert_eq!(error.reason(), "credential-helper");
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_what_it_started() {
        let (mut helper, folder) = helper("sleep 1000 & echo $! > \"$(dirname \"$0\")/child\"; wait");
        helper.patience = Duration::from_millis(700);
        let error = helper.get("r.io").await.expect_err("it hangs");
        assert!(error.to_string().contains("killed"), "{error}");
        let child = std::fs::read_to_string(folder.path().join("child")).expect("it had started something");
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let begun = std::time::Instant::now();
        while !gone() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn what_is_stored_goes_by_stdin_and_is_not_told() {
        let (helper, folder) = helper("cat > \"$(dirname \"$0\")/got\"; echo \"$*\" > \"$(dirname \"$0\")/words\"");
        helper.store("r.io", "u", &Secret::new("s3cret".into())).await.expect("stored");
        let got = std::fs::read_to_string(folder.path().join("got")).expect("stdin");
        assert_eq!(got, r#"{"ServerURL":"r.io","Username":"u","Secret":"s3cret"}"#);
        assert_eq!(std::fs::read_to_string(folder.path().join("words")).expect("words").trim(), "store");
        let (helper, _folder) = self::helper("cat; exit 1");
        let error = helper.store("r.io", "u", &Secret::new("s3cret".into())).await.expect_err("refused");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }

    #[test]
    fn names_are_checked_before_they_become_paths() {
        let folder = tempfile::tempdir().expect("folder");
        let folders = [folder.path().to_owned()];
        for name in ["", "../x", "a/b", "a b", "x;y", "\0", "ü", &"x".repeat(65), "absent"] {
            assert!(Helper::find(name, Path::new("f"), &folders).is_err(), "{name}");
        }
        // A file that cannot be run is none.
        std::fs::write(folder.path().join("docker-credential-plain"), "").expect("write");
        assert!(Helper::find("plain", Path::new("f"), &folders).is_err());
    }
}
