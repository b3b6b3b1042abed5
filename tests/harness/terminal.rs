//! A terminal that a test plays the person at.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::cli::Invocation;
use crate::{GLANCE, PATIENCE, eventually};

/// A run of the client at a pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    /// Kept open, so that the modes that the client leaves can be looked at.
    slave: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs the client at a terminal of so many columns.
    pub fn run(invocation: Invocation, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("the terminal's name");
        let slave = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("the terminal");
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).expect("a size");
        let child = invocation.env("TERM", "xterm-256color").spawn_at(&slave);
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = std::thread::spawn({
            let (mut master, seen) = (master.try_clone().expect("the master twice"), Arc::clone(&seen));
            move || {
                let mut chunk = [0; 4096];
                // Fails when the last holder of the other side closes it.
                while let Ok(count @ 1..) = master.read(&mut chunk) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
                }
            }
        });
        Self { child, master, slave, seen, reader: Some(reader) }
    }

    /// Returns what it shows so far, as lines.
    pub fn shown(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&seen).replace("\r\n", "\n")
    }

    /// Waits until it shows something.
    #[track_caller]
    pub fn shows(&self, words: &str) {
        eventually(words, || self.shown().contains(words).then_some(()));
    }

    /// Waits until nothing that is typed is shown.
    #[track_caller]
    pub fn hides_what_is_typed(&self) {
        eventually("no echo", || (!self.echoes()).then_some(()));
    }

    /// Says whether what is typed is shown.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.slave).expect("the terminal's modes").local_modes.contains(LocalModes::ECHO)
    }

    /// Types.
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("what is typed");
    }

    /// Waits for its end; returns the exit code and everything that was shown.
    #[track_caller]
    pub fn ends(mut self) -> (i32, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the state of larder") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("larder is stuck at its terminal:\n{}", self.shown());
            }
            std::thread::sleep(GLANCE);
        };
        let Self { slave, seen, reader, .. } = self;
        drop(slave);
        if let Some(reader) = reader {
            let _ = reader.join();
        }
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        (status.code().unwrap_or(-1), String::from_utf8_lossy(&seen).replace("\r\n", "\n"))
    }
}

/// Returns a text without colours.
pub fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(begins) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..begins]);
        let sequence = &rest[begins + 2..];
        let ends = sequence.find(|letter: char| letter.is_ascii_alphabetic()).map_or(sequence.len(), |end| end + 1);
        rest = &sequence[ends..];
    }
    plain.push_str(rest);
    plain
}
