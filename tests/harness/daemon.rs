//! A running `larderd`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::faults::{self, Kind};
use crate::grpc::Client;
use crate::http::Http;
use crate::{GLANCE, PATIENCE, binaries};

/// A start of the daemon that is being prepared.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    home: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    /// The process id of the child is the daemon's own.
    direct: bool,
}

/// Why the daemon did not come up: it ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote.
    pub log: String,
}

impl Launch {
    pub(crate) fn new(home: PathBuf, log: PathBuf) -> Self {
        let socket = home.join("larder.sock");
        let mut launch = Self { command: Command::new(&binaries().larderd), home, socket, log, direct: true };
        launch.set_environment();
        launch
    }

    fn set_environment(&mut self) {
        let (home, command) = (&self.home, &mut self.command);
        command.env_clear().env("LARDER_HOME", home).env("LARDER_ENDPOINT", "127.0.0.1:0");
        command.env("LARDER_LOG", "info").env("TZ", "UTC").env("RUST_BACKTRACE", "1");
    }

    /// Runs it under another program, as `strace`.
    #[must_use]
    pub fn under(mut self, program: &str, arguments: &[&str]) -> Self {
        self.command = Command::new(program);
        self.command.args(arguments).arg(&binaries().larderd);
        self.direct = false;
        self.set_environment();
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        if name == "LARDER_SOCKET" {
            self.socket = value.into();
        }
        self
    }

    /// Injects a fault.
    #[must_use]
    pub fn fault(self, point: &str, kind: Kind) -> Self {
        self.env("LARDER_FAULT", &faults::variable(point, kind))
    }

    /// Starts it and waits until it answers on its socket.
    #[track_caller]
    pub fn start(self) -> Daemon {
        match self.try_start() {
            Ok(daemon) => daemon,
            Err(ended) => panic!("larderd ended ({}) instead of starting:\n{}", ended.status, ended.log),
        }
    }

    /// Starts it and waits until it answers or ends.
    pub fn try_start(mut self) -> Result<Daemon, Ended> {
        let log = File::create(&self.log).expect("a log file");
        self.command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log file twice")).stderr(log);
        let mut child = self.command.spawn().expect("larderd can be run");
        let socket = self.socket;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("the state of larderd") {
                return Err(Ended { status, log: read(&self.log) });
            }
            if let Some(status) = Client::connect(&socket).and_then(|client| client.try_status().ok())
                && (!self.direct || status.pid == child.id())
            {
                return Ok(Daemon { child: Some(child), socket, endpoint: status.endpoint, log: self.log });
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("larderd did not answer within {PATIENCE:?}:\n{}", read(&self.log));
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// A daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    socket: PathBuf,
    endpoint: String,
    log: PathBuf,
}

impl Daemon {
    /// Returns a client of its socket.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap_or_else(|| panic!("no socket at {}", self.socket.display()))
    }

    /// Returns its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns `HOST:PORT` of its endpoint.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns a client of its endpoint.
    pub fn http(&self) -> Http {
        Http::new(&self.endpoint)
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Returns what it wrote so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Returns a figure from `/proc/<pid>/status` in KiB, as `VmHWM`.
    pub fn memory_kib(&self, figure: &str) -> u64 {
        memory_kib(self.pid(), figure)
    }

    /// Asserts that it runs.
    #[track_caller]
    pub fn assert_up(&mut self) {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("the state of larderd"));
        assert!(ended.is_none(), "larderd ended: {ended:?}\n{}", self.log());
        self.client().status();
    }

    /// Kills it (`SIGKILL`) and waits for its end.
    pub fn kill(mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop (`SIGTERM`) and waits for its end.
    #[track_caller]
    pub fn stop(self) -> ExitStatus {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("SIGTERM to larderd");
        self.ended()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running larderd");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("the state of larderd") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("larderd did not end within {PATIENCE:?}:\n{}", read(&self.log));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Says whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_))))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- larderd wrote:\n{}----", read(&self.log));
        }
    }
}

pub(crate) fn memory_kib(pid: u32, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc of larderd");
    let line = status.lines().find(|line| line.starts_with(figure)).expect(figure);
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}
