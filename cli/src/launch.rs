//! Starting `larderd`: the one that lies beside this program, with an environment of few variables, and a log that
//! says why where it does not come up.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::connect::{Client, Place, try_connect};
use crate::error::{Error, without_number};
use crate::output::{Output, text};

/// How often a daemon that starts is looked for.
const GLANCE: Duration = Duration::from_millis(10);
/// After how long a person is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a daemon may take to open its home; a large journal is read first.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// What a daemon says that finds another at its home: that one will answer.
const HELD: &str = "is in use by another larderd";
/// How much of a log is read for the reason of an end.
const LOG_TAIL: u64 = 64 << 10;
/// The log's name in the home.
const LOG: &str = "larderd.log";
/// What may lie in a folder that is about to become a home.
const BEFORE_A_HOME: [&str; 4] = ["config.toml", "lock", "larder.sock", LOG];

/// How a daemon hangs on to whoever started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tie {
    /// It lives on, in a session of its own.
    Detached,
    /// It is the caller's child, and the caller ends it.
    Child,
}

/// Starts a daemon for this place and waits until it answers.
///
/// Where two clients do so at once, the home's lock decides, and both get the one that holds it.
///
/// # Errors
/// Fails where there is no `larderd`, or it ends: with what it said.
pub(crate) async fn start(place: &Place, output: &Output) -> Result<Client, Error> {
    let mut launch = Launch::spawn(place, Tie::Detached, &[])?;
    let client = launch.answered(place, output).await?;
    if client.pid == i32::try_from(launch.child.id()).ok() {
        let home = env::var_os("HOME").map(PathBuf::from);
        output.say(&format!(
            "larder: started larderd (pid {}, home {})",
            launch.child.id(),
            text::path(&place.home, home.as_deref())
        ));
    }
    Ok(client)
}

/// A daemon that is starting.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) child: Child,
    /// What it writes to; read from where it begins.
    log: File,
    log_begins: u64,
    /// Where people find it; `None` where it has no name.
    log_path: Option<PathBuf>,
}

impl Launch {
    /// Starts the `larderd` beside this program, with `more` variables.
    ///
    /// # Errors
    /// Fails where it is not there or cannot be run.
    pub(crate) fn spawn(place: &Place, tie: Tie, more: &[(&str, &OsStr)]) -> Result<Self, Error> {
        let own = env::current_exe().map_err(|error| Error::file("the path of larder itself", &error))?;
        let larderd = own.with_file_name("larderd");
        if !larderd.is_file() {
            return Err(Error::new("no-larderd", format!("there is no larderd at {}", larderd.display()))
                .hint("larder starts the larderd that lies beside it; put both into one folder"));
        }
        let (mut log, log_path) = open_log(&place.home)?;
        let of_log = |error: io::Error| Error::file("the log of larderd", &error);
        let log_begins = log.seek(SeekFrom::End(0)).map_err(of_log)?;
        let mut command = match tie {
            // Ends as `exec_detached` below: only the process itself can leave its session.
            Tie::Detached => {
                let mut command = Command::new(&own);
                command.args(["daemon", "detached"]);
                command
            }
            Tie::Child => {
                let mut command = Command::new(&larderd);
                // A Ctrl-C at the terminal is for the caller, who stops it in order.
                command.process_group(0);
                command
            }
        };
        let stderr = log.try_clone().map_err(of_log)?;
        command.env_clear().envs(environment()).env("LARDER_HOME", &place.home);
        command.env("LARDER_SOCKET", &place.socket).envs(more.iter().copied());
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().map_err(|error| Error::file(&larderd.display().to_string(), &error))?;
        Ok(Self { child, log, log_begins, log_path })
    }

    /// Waits until the daemon answers: this one, or another that was faster.
    ///
    /// # Errors
    /// Fails where it ends or takes too long.
    pub(crate) async fn answered(&mut self, place: &Place, output: &Output) -> Result<Client, Error> {
        let begun = Instant::now();
        let mut told = Duration::ZERO;
        let mut lost_the_race = false;
        loop {
            if let Some(client) = try_connect(&place.socket).await? {
                return Ok(client);
            }
            let ended = self.child.try_wait().map_err(|error| Error::file("larderd", &error))?;
            if ended.is_some() && !lost_the_race {
                lost_the_race = self.said().contains(HELD);
                if !lost_the_race {
                    return Err(self.end());
                }
            }
            let waited = begun.elapsed();
            if waited > START_TIMEOUT {
                let message = format!("larderd did not answer within {} s", START_TIMEOUT.as_secs());
                return Err(Error::new("no-answer", message).hint(self.see_log()));
            }
            if waited > PATIENCE + told {
                told = waited;
                output.say(&format!(
                    "larder: waiting for larderd to open its home ({} s so far; Ctrl-C ends the waiting, not larderd)",
                    waited.as_secs()
                ));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Returns the end of what it wrote since it was started.
    pub(crate) fn said(&mut self) -> String {
        let mut bytes = Vec::new();
        let end = self.log.seek(SeekFrom::End(0)).unwrap_or(self.log_begins);
        let from = self.log_begins.max(end.saturating_sub(LOG_TAIL));
        // A log that cannot be read leaves the exit as the only reason there is.
        let _ = self.log.seek(SeekFrom::Start(from)).and_then(|_| (&self.log).take(LOG_TAIL).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn end(&mut self) -> Error {
        let said = self.said();
        let message = match reason_in(&said) {
            Some(reason) => format!("larderd did not start: {}", without_number(&reason)),
            None => "larderd ended while it was starting, and did not say why".to_owned(),
        };
        Error::new("start-failed", message).hint(self.see_log())
    }

    fn see_log(&self) -> String {
        self.log_path.as_ref().map(|path| format!("{} has what it wrote", path.display())).unwrap_or_default()
    }
}

/// Finds the reason in what a daemon wrote: its last error, else its last line.
fn reason_in(said: &str) -> Option<String> {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().filter_map(|line| line.strip_prefix("error: ")).next_back();
    error.or_else(|| lines().next_back()).map(ToOwned::to_owned)
}

/// Opens what a daemon writes to: `larderd.log` in its home, which is made here if need be. A folder that is not about
/// to become a home gets no file of ours: the daemon refuses it, and says so into a file without a name.
fn open_log(home: &Path) -> Result<(File, Option<PathBuf>), Error> {
    let path = home.join(LOG);
    let name = path.display().to_string();
    if is_or_becomes_a_home(home) {
        let failed = |error: io::Error| Error::file(&name, &error).hint("LARDER_HOME says where the home is");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(failed)?;
        let log = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path).map_err(failed)?;
        return Ok((log, Some(path)));
    }
    let log = rustix::fs::memfd_create("larderd.log", rustix::fs::MemfdFlags::CLOEXEC);
    log.map(|log| (File::from(log), None)).map_err(|error| Error::file("a log for larderd", &error.into()))
}

fn is_or_becomes_a_home(home: &Path) -> bool {
    if home.join("format.json").exists() {
        return true;
    }
    match fs::read_dir(home) {
        Ok(mut entries) => entries.all(|entry| {
            entry.is_ok_and(|entry| BEFORE_A_HOME.iter().any(|name| entry.file_name() == OsStr::new(name)))
        }),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Leaves the session and becomes the `larderd` beside this program; the process id stays.
///
/// # Errors
/// Returns only where that fails.
pub(crate) fn exec_detached() -> Error {
    // Fails for a process that leads a group already; it is out of the terminal's reach all the same.
    let _ = rustix::process::setsid();
    match env::current_exe() {
        Ok(own) => {
            let larderd = own.with_file_name("larderd");
            let error = Command::new(&larderd).exec();
            Error::file(&larderd.display().to_string(), &error)
        }
        Err(error) => Error::file("the path of larder itself", &error),
    }
}

/// Returns the variables that a daemon gets: those that say where things live and how people read and write, those of
/// docker's, podman's and their credential helpers' files included. Passwords
/// and tokens of the shell that happens to start it are none of its business, and it outlives that shell.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    allowed(env::vars_os())
}

fn allowed(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    const NAMES: [&str; 6] = ["PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"];
    // Where credentials are, and where helpers find theirs; each names a place, none is a secret.
    const CREDENTIALS: [&str; 12] = [
        "AWS_CONFIG_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_SHARED_CREDENTIALS_FILE",
        "CLOUDSDK_CONFIG",
        "DBUS_SESSION_BUS_ADDRESS",
        "DOCKER_CONFIG",
        "GNUPGHOME",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "PASSWORD_STORE_DIR",
        "REGISTRY_AUTH_FILE",
    ];
    // The daemon's working folder is another than ours.
    const FILES: [&str; 2] = ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE"];
    const PREFIXES: [&str; 3] = ["XDG_", "LARDER_", "LC_"];
    let passes = |name: &str| {
        NAMES.contains(&name) || CREDENTIALS.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let whole = |(name, value): (OsString, OsString)| {
        let is_file = name.to_str().is_some_and(|name| FILES.contains(&name)) && !value.is_empty();
        let whole = is_file.then(|| std::path::absolute(&value).ok()).flatten();
        (name, whole.map_or(value, PathBuf::into_os_string))
    };
    variables.filter(|(name, _)| name.to_str().is_some_and(passes)).map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_variables_pass() {
        let names = [
            "PATH",
            "COSIGN_PASSWORD",
            "LARDER_FAULT",
            "XDG_RUNTIME_DIR",
            "AWS_SECRET",
            "LC_ALL",
            "http_proxy",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_PROFILE",
            "DOCKER_AUTH_CONFIG",
            "DOCKER_CONFIG",
            "REGISTRY_AUTH_FILE",
        ];
        let passed = allowed(names.iter().map(|name| (OsString::from(name), OsString::from("x"))));
        let file = passed.iter().find(|(name, _)| name == "REGISTRY_AUTH_FILE").map(|(_, value)| Path::new(value));
        assert!(file.is_some_and(Path::is_absolute), "{file:?}");
        let passed: Vec<_> = passed.iter().filter_map(|(name, _)| name.to_str()).collect();
        let expected = ["PATH", "LARDER_FAULT", "XDG_RUNTIME_DIR", "LC_ALL", "AWS_PROFILE"];
        assert_eq!(passed, [&expected[..], &["DOCKER_CONFIG", "REGISTRY_AUTH_FILE"]].concat());
    }

    #[test]
    fn the_reason_is_the_last_error() {
        let said = "2026 INFO larderd\nerror: the home is newer\n\n";
        assert_eq!(reason_in(said).as_deref(), Some("the home is newer"));
        assert_eq!(reason_in("thread panicked\n").as_deref(), Some("thread panicked"));
        assert_eq!(reason_in("\n"), None);
    }

    #[test]
    fn a_folder_of_something_else_gets_no_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let new = folder.path().join("new");
        open_log(&new).expect("a log in a new home");
        assert!(new.join(LOG).exists());
        fs::write(new.join("config.toml"), "").expect("a file");
        assert!(is_or_becomes_a_home(&new));
        fs::write(folder.path().join("thesis.tex"), "").expect("a file");
        assert!(!is_or_becomes_a_home(folder.path()));
        open_log(folder.path()).expect("a log without a name");
        assert!(!folder.path().join(LOG).exists());
    }
}
