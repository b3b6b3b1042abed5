//! Reads `larder watch --output json`.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use serde_json::Value;

use crate::PATIENCE;
use crate::home::Home;

/// A running watch; killed when dropped.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    lines: Receiver<(Instant, Value)>,
}

impl Watch {
    /// Starts `larder watch --output json` with more arguments.
    pub fn start(home: &Home, arguments: &[&str]) -> Self {
        let words = ["watch", "--output", "json"].iter().chain(arguments);
        let mut child = home.invoke(words).spawn();
        let stdout = child.stdout.take().expect("a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let arrived = Instant::now();
                let value = serde_json::from_str(&line).unwrap_or_else(|_| Value::String(line));
                if sender.send((arrived, value)).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Starts it and reads to the `complete` line; returns the states before it.
    pub fn start_complete(home: &Home) -> (Self, Vec<Value>) {
        let watch = Self::start(home, &[]);
        let mut states = Vec::new();
        loop {
            let (_, line) = watch.line("the complete line");
            if line["type"] == "complete" {
                return (watch, states);
            }
            assert_eq!(line["type"], "state", "only states come before complete: {line}");
            states.push(line);
        }
    }

    /// Reads a line, and when it arrived.
    #[track_caller]
    pub fn line(&self, what: &str) -> (Instant, Value) {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the watch told nothing within {PATIENCE:?}; waited for {what}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the watch ended; waited for {what}"),
        }
    }

    /// Reads on until a line passes; others are dropped.
    #[track_caller]
    pub fn until(&self, what: &str, passes: impl Fn(&Value) -> bool) -> (Instant, Value) {
        loop {
            let line = self.line(what);
            if passes(&line.1) {
                return line;
            }
        }
    }

    /// Reads on to the change of a digest to a state.
    #[track_caller]
    pub fn change(&self, digest: &str, to: &str) -> (Instant, Value) {
        self.until(&format!("{digest} to become {to}"), |line| {
            line["type"] == "change" && line["digest"] == digest && line["to"] == to
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
