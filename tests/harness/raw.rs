//! HTTP as bytes on a connection, for what no well-behaved client sends.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::PATIENCE;

/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 << 10;

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    /// What came and was not taken yet.
    buffer: Vec<u8>,
}

/// An answer's head.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// All lines, in lower case.
    pub text: String,
}

impl Head {
    /// Returns a header's value, empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        let value = |line: &'_ str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        self.text.lines().find(|line| value(line)).map_or("", |line| line[name.len() + 1..].trim())
    }

    fn length(&self) -> usize {
        self.header("content-length").parse().unwrap_or_default()
    }
}

impl Raw {
    /// Connects; reads wait at most [`PATIENCE`].
    #[track_caller]
    pub fn connect(authority: &str) -> Self {
        Self::try_connect(authority).unwrap_or_else(|error| panic!("{authority}: {error}"))
    }

    /// Connects, if anybody is there.
    pub fn try_connect(authority: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(authority)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends bytes; `false` where the other side does not take them any more.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a request without a body, with `Host: localhost` and these header lines.
    pub fn ask(&mut self, line: &str, headers: &str) -> bool {
        self.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"))
    }

    /// Reads an answer's head; `None` where the connection ends before there is one.
    #[track_caller]
    pub fn head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.buffer.len() < MAX_HEAD, "an endless head");
            if !self.fill() {
                return None;
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        self.buffer.drain(..end);
        let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        Some(Head { status: status.unwrap_or_else(|| panic!("no status line: {text}")), text })
    }

    /// Reads an answer whole (a body of the announced length, none to a HEAD); `None` where it does not come whole.
    #[track_caller]
    pub fn answer(&mut self) -> Option<(Head, Vec<u8>)> {
        let head = self.head()?;
        let length = head.length();
        let body = self.take(length);
        (body.len() == length).then_some((head, body))
    }

    /// Reads so many bytes, fewer where the connection ends before.
    #[track_caller]
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length && self.fill() {}
        let length = length.min(self.buffer.len());
        self.buffer.drain(..length).collect()
    }

    /// Waits for the other side to close, for at most `patience`; what comes before that is dropped. Says whether it closed.
    pub fn closes_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut bytes = [0; 4096];
        loop {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            let _ = self.stream.set_read_timeout(Some(left));
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Returns the socket itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 64 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&bytes[..read]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came for {PATIENCE:?}; so far: {:?}", String::from_utf8_lossy(&self.buffer))
            }
            Err(_) => false,
        }
    }
}
