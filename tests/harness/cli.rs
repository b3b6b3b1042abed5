//! Runs of `larder`, in an environment that holds nothing but what the test says.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{GLANCE, binaries};

/// How long a run may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(120);

/// A run of the client that is being prepared.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    stdin: Stdio,
    patience: Duration,
}

/// What came of a run.
#[derive(Debug)]
pub struct Output {
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Invocation {
    pub(crate) fn new<A: AsRef<OsStr>>(home: &Path, folder: &Path, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(&binaries().larder);
        command.args(arguments).env_clear().current_dir(folder);
        command.env("LARDER_HOME", home).env("LARDER_ENDPOINT", "127.0.0.1:0");
        command.env("HOME", folder).env("TZ", "UTC").env("PATH", "/usr/bin:/bin");
        Self { command, stdin: Stdio::null(), patience: STUCK }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it a file as stdin; nothing is there otherwise.
    #[must_use]
    pub fn stdin(mut self, path: &Path) -> Self {
        self.stdin = File::open(path).expect("a file for stdin").into();
        self
    }

    /// Has it count as stuck only after so long.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Output {
        let words = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let deadline = Instant::now() + self.patience;
        let mut child = self.spawn();
        let (stdout, stderr) = (child.stdout.take().map(drain), child.stderr.take().map(drain));
        let status = loop {
            if let Some(status) = child.try_wait().expect("the state of larder") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("larder {words} is stuck");
            }
            std::thread::sleep(GLANCE);
        };
        let text = |reader: Option<std::thread::JoinHandle<String>>| {
            reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
        };
        Output { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Starts it at a terminal.
    pub(crate) fn spawn_at(mut self, terminal: &OwnedFd) -> Child {
        let stream = || Stdio::from(terminal.try_clone().expect("the terminal again"));
        self.command.stdin(stream()).stdout(stream()).stderr(stream());
        self.command.spawn().expect("larder can be run")
    }

    /// Starts it; stdout and stderr are pipes.
    pub fn spawn(mut self) -> Child {
        self.command.stdin(self.stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn().expect("larder can be run")
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Output {
    /// Asserts the exit code, and shows both streams where it is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n-- stdout\n{}-- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that the talk holds every one of `words` (in any case).
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let talk = self.stderr.to_lowercase();
        for word in words {
            assert!(talk.contains(&word.to_lowercase()), "stderr does not say {word:?}:\n{}", self.stderr);
        }
        self
    }

    /// Asserts that this is an error as a person should see one: begins with `error:`, names `noun`, gives a hint (the
    /// gate's refusals end in it), shows no Rust type, no gRPC status and no bare number of the operating system.
    #[track_caller]
    pub fn is_a_clear_error(self, noun: &str) -> Self {
        assert_ne!(self.code, 0, "no error:\n{}", self.stdout);
        let output = self.says(&["error", noun]);
        // In lines, as JSON, or in the gate's own words.
        let hints = ["hint: ", "\"hint\":\"", "larder trust "].iter().any(|hint| output.stderr.contains(hint));
        assert!(hints, "an error for people gives no hint:\n{}", output.stderr);
        for ugly in ["os error", "panicked", "Status {", "code: Internal", "status: ", "unwrap"] {
            assert!(!output.stderr.contains(ugly), "an error for people shows {ugly:?}:\n{}", output.stderr);
        }
        output
    }

    /// Asserts that the talk ends in a hint.
    #[track_caller]
    pub fn hints(self) -> Self {
        self.says(&["hint"])
    }

    /// Reads stdout as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON ({error}):\n{}-- stderr\n{}", self.stdout, self.stderr))
    }
}

/// Says whether `reasons`, as all JSON has them, hold a code.
pub fn has_reason(value: &Value, code: &str) -> bool {
    value["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(|reason| reason["code"] == code))
}
