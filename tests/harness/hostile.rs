//! A registry that means harm: a test writes its answers byte by byte, right or wrong HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The longest that one write may hang, so that no thread outlives a test for long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes of a head are read.
const MAX_HEAD: usize = 64 * 1024;

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// GET, HEAD, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Where a range begins that was asked for: `Range: bytes=5-`.
    pub from: Option<u64>,
    /// How many requests came before.
    pub before: usize,
}

/// The registry; every connection has a thread of its own and serves requests until the answer closes it.
#[derive(Debug)]
pub struct HostileRegistry {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
    gone: Arc<AtomicBool>,
}

impl HostileRegistry {
    /// Starts one. `answer` writes what it likes; the connection is closed afterwards.
    pub fn start(answer: impl Fn(&Asked, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (count, asked, gone) = (Arc::default(), Arc::default(), Arc::default());
        let registry = Self { address, count, asked, gone };
        let (count, asked, gone) =
            (Arc::clone(&registry.count), Arc::clone(&registry.asked), Arc::clone(&registry.gone));
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if gone.load(Ordering::Relaxed) {
                    return;
                }
                let (count, asked, answer) = (Arc::clone(&count), Arc::clone(&asked), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut stream = stream;
                    // Whether the client stays to the end is its own affair.
                    let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
                    if let Some((method, path, from)) = read_head(&stream) {
                        let before = count.fetch_add(1, Ordering::Relaxed);
                        asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path}"));
                        let _ = answer(&Asked { method, path, from, before }, &mut stream);
                    }
                });
            }
        });
        registry
    }

    /// Returns `HOST:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns how many requests came.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns what was asked for, as `GET /v2/…`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HostileRegistry {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn read_head(stream: &TcpStream) -> Option<(String, String, Option<u64>)> {
    let mut reader = BufReader::new(stream).take(MAX_HEAD as u64);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut from = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? <= 2 {
            return Some((method, path, from));
        }
        let range = line.to_ascii_lowercase();
        let range = range.strip_prefix("range: bytes=").and_then(|range| range.split('-').next()?.parse().ok());
        from = from.or(range);
    }
}

/// Writes an answer with these header lines; the length is what the test says, or none at all.
///
/// # Errors
/// Fails where the client has gone.
pub fn write_head(stream: &mut TcpStream, status: &str, headers: &[&str]) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())
}

/// Writes a whole answer.
///
/// # Errors
/// Fails where the client has gone.
pub fn write_answer(stream: &mut TcpStream, status: &str, headers: &[&str], body: &[u8]) -> std::io::Result<()> {
    let length = format!("Content-Length: {}", body.len());
    let headers: Vec<&str> = headers.iter().copied().chain([length.as_str()]).collect();
    write_head(stream, status, &headers)?;
    stream.write_all(body)
}

/// Writes chunks (RFC 9112, 7.1) until the client goes.
///
/// # Errors
/// Fails when the client has gone: that is how it ends.
pub fn write_endlessly(stream: &mut TcpStream, chunk: &[u8], pause: Duration) -> std::io::Result<()> {
    loop {
        write!(stream, "{:x}\r\n", chunk.len())?;
        stream.write_all(chunk)?;
        stream.write_all(b"\r\n")?;
        std::thread::sleep(pause);
    }
}
