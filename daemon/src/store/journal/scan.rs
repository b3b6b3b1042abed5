//! The journal read through once, when the store is opened: is it whole, torn, or damaged?

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::frame::{self, Chain, FRAME_HEADER, JournalId, Next, SEGMENT_HEADER, SegmentStart};
use super::read::{Map, Segment};

/// What a reading found.
#[derive(Debug)]
pub(in crate::store) struct Scan {
    /// The journal's id; `None` where no segment tells.
    pub(in crate::store) id: Option<JournalId>,
    /// Where what is valid ends.
    pub(in crate::store) chain: Chain,
    /// The hashes of the headers that end at the seqs asked for.
    pub(in crate::store) hashes: HashMap<u64, [u8; 32]>,
    /// What is wrong.
    pub(in crate::store) damage: Damage,
    pub(super) map: Map,
    /// The last segment, and where what is valid in it ends.
    pub(super) last: Option<(PathBuf, u64)>,
}

/// What is wrong with a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Damage {
    /// Nothing.
    None,
    /// A crash cut the last frame short; nothing follows it.
    Torn {
        /// The segment.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// How many bytes there are from there.
        length: u64,
    },
    /// Something that no crash explains.
    Loss(String),
}

/// Reads the whole journal: every checksum, the chain, every body's hash. `wanted` are seqs whose header's hash is asked.
pub(in crate::store) fn scan(folder: &Path, wanted: &[u64]) -> io::Result<Scan> {
    let mut scan = Scan {
        id: None,
        chain: Chain::START,
        hashes: HashMap::new(),
        damage: Damage::None,
        map: Map::default(),
        last: None,
    };
    if wanted.contains(&0) {
        scan.hashes.insert(0, Chain::START.hash);
    }
    let segments = segments(folder)?;
    if segments.is_empty() {
        scan.damage = Damage::Loss("the journal has no segment".into());
    }
    let count = segments.len();
    for (place, path) in segments.into_iter().enumerate() {
        scan.segment(path, place + 1 == count, wanted)?;
        if scan.damage != Damage::None {
            break;
        }
    }
    Ok(scan)
}

impl Scan {
    fn segment(&mut self, path: PathBuf, is_last: bool, wanted: &[u64]) -> io::Result<()> {
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let start = SegmentStart::read(&mut reader)?;
        let first = self.chain.seq.saturating_add(1);
        let belongs = start.filter(|start| {
            start.first == first && start.before == self.chain.hash && self.id.is_none_or(|id| id == start.id)
        });
        let Some(start) = belongs else {
            self.damage = Damage::Loss(format!("journal/{name} does not continue what is before it"));
            return Ok(());
        };
        self.id = Some(start.id);
        let mut segment = Segment::new(path.clone(), first);
        let mut offset = SEGMENT_HEADER as u64;
        loop {
            let payload = match frame::next(&mut reader)? {
                Next::Payload(payload) => payload,
                Next::End => break,
                Next::Broken => {
                    self.damage = self.broken(&path, &name, offset, length, is_last)?;
                    break;
                }
            };
            let mut chain = self.chain;
            let hashes = &mut self.hashes;
            let verified = frame::verify(&payload, &mut chain, |chain| {
                if wanted.contains(&chain.seq) {
                    hashes.insert(chain.seq, chain.hash);
                }
            });
            match verified {
                Ok(first) => segment.mark(first, offset),
                Err(error) => {
                    self.damage = Damage::Loss(format!("journal/{name}, {error}"));
                    break;
                }
            }
            self.chain = chain;
            offset += (FRAME_HEADER + payload.len()) as u64;
        }
        self.map.segments.push(segment);
        self.last = Some((path, offset));
        Ok(())
    }

    /// Tells a torn end from damage.
    fn broken(&self, path: &Path, name: &str, offset: u64, length: u64, is_last: bool) -> io::Result<Damage> {
        let loss = || Damage::Loss(format!("journal/{name} is damaged after seq {}", self.chain.seq));
        if !is_last {
            return Ok(loss());
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        if frame::holds_a_frame(&rest) {
            return Ok(loss());
        }
        Ok(Damage::Torn { path: path.to_owned(), offset, length: length.saturating_sub(offset) })
    }
}

/// Lists the segments in order.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_segment = name.to_str().and_then(|name| name.strip_suffix(".log")).is_some_and(|number| {
            number.len() == super::NAME_DIGITS && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if is_segment {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
