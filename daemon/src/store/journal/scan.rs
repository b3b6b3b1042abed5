//! The journal read when the store is opened: is it whole, torn, or damaged?

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::frame::{self, Chain, FRAME_HEADER, JournalId, Next, SEGMENT_HEADER, SegmentStart, StateStart};
use super::read::{Map, Segment};
use super::state;

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
    /// What an interrupted pruning has left, to be removed.
    pub(in crate::store) doomed: Vec<PathBuf>,
    /// Where the chain must be behind the segments that were not read; `None` where all were.
    pub(in crate::store) unread: Option<Chain>,
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

/// Reads the journal: every checksum, the chain, every body's hash. `wanted` are seqs whose header's hash is asked.
///
/// Where `believed` names a seq up to which somebody has seen the journal before, only the segments that hold what came
/// since are read; of the others the beginnings. [`super::verify`] reads them later.
pub(in crate::store) fn scan(folder: &Path, wanted: &[u64], believed: Option<u64>) -> io::Result<Scan> {
    let mut scan = Scan {
        id: None,
        chain: Chain::START,
        hashes: HashMap::new(),
        damage: Damage::None,
        doomed: Vec::new(),
        unread: None,
        map: Map::default(),
        last: None,
    };
    let Some(mut segments) = scan.beginnings(folder)? else { return Ok(scan) };
    if let Err(why) = scan.begin(folder, &mut segments)? {
        scan.damage = Damage::Loss(why);
        return Ok(scan);
    }
    let believed = believed.unwrap_or(0).saturating_add(1);
    let unread = segments.partition_point(|(_, start)| start.first <= believed).saturating_sub(1);
    for (path, start) in segments.drain(..unread) {
        scan.map.segments.push(Segment::unread(path, start.first));
    }
    if let Some((_, start)) = segments.first().filter(|_| unread > 0) {
        scan.chain = Chain { seq: start.first.saturating_sub(1), hash: start.before, time: scan.chain.time };
        scan.unread = Some(scan.chain);
    }
    if wanted.contains(&scan.chain.seq) {
        scan.hashes.insert(scan.chain.seq, scan.chain.hash);
    }
    let count = segments.len();
    for (place, (path, _)) in segments.into_iter().enumerate() {
        scan.segment(path, place + 1 == count, wanted)?;
        if scan.damage != Damage::None {
            break;
        }
    }
    Ok(scan)
}

impl Scan {
    /// Reads what the segments begin with. `None`, and the damage, where that cannot be.
    fn beginnings(&mut self, folder: &Path) -> io::Result<Option<Vec<(PathBuf, SegmentStart)>>> {
        let mut segments: Vec<(PathBuf, SegmentStart)> = Vec::new();
        for path in self::segments(folder)? {
            let start = SegmentStart::read(&mut File::open(&path)?)?;
            let belongs = start.filter(|start| {
                super::file_name(start.first, super::SEGMENT) == name_of(&path)
                    && self.id.is_none_or(|id| id == start.id)
                    && segments.last().is_none_or(|(_, before)| before.first < start.first)
            });
            let Some(start) = belongs else {
                self.damage = Damage::Loss(format!("journal/{} does not continue what is before it", name_of(&path)));
                return Ok(None);
            };
            self.id = Some(start.id);
            segments.push((path, start));
        }
        if segments.is_empty() {
            self.damage = Damage::Loss("the journal has no segment".into());
            return Ok(None);
        }
        Ok(Some(segments))
    }

    /// Finds out with what the journal begins: with its first record, or with a state. Pruning puts the state in place, then
    /// takes segments away, the oldest first: one that was interrupted is to be finished, and a state that stands for
    /// segments that are all there counts for nothing.
    fn begin(&mut self, folder: &Path, segments: &mut Vec<(PathBuf, SegmentStart)>) -> io::Result<Result<(), String>> {
        let states = state::list(folder)?;
        let first = segments.first().map_or(1, |(_, start)| start.first);
        if first == 1 {
            self.doomed = states;
            return Ok(Ok(()));
        }
        let mut found: Option<(PathBuf, StateStart)> = None;
        for path in &states {
            let Some(state) = state::open(path)? else { continue };
            let continues = |(_, start): &(PathBuf, SegmentStart)| {
                start.id == state.id
                    && start.first.checked_sub(1) == Some(state.until.seq)
                    && start.before == state.until.hash
            };
            let exact = state.until.seq.saturating_add(1) == first;
            if state.until.seq.saturating_add(1) >= first && segments.iter().any(continues) {
                found = Some((path.clone(), state));
                if exact {
                    break;
                }
            }
        }
        let Some((path, state)) = found else {
            return Ok(Err(format!(
                "the journal begins at seq {first}, and no whole state in journal/ says what was before it"
            )));
        };
        self.doomed =
            segments.extract_if(.., |(_, start)| start.first <= state.until.seq).map(|(path, _)| path).collect();
        self.doomed.extend(states.into_iter().filter(|other| *other != path));
        self.chain = state.until;
        self.map.segments.push(Segment::state(path));
        self.map.base = Some(state);
        Ok(Ok(()))
    }
}

impl Scan {
    /// Returns the last seq of what was pruned; 0 where nothing was.
    pub(in crate::store) fn begins_after(&self) -> u64 {
        self.map.base.map_or(0, |base| base.until.seq)
    }

    fn segment(&mut self, path: PathBuf, is_last: bool, wanted: &[u64]) -> io::Result<()> {
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let name = name_of(&path);
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

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Lists the segments in order.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    numbered(folder, super::SEGMENT)
}

/// Lists the files of a kind in the order of their seqs.
pub(super) fn numbered(folder: &Path, kind: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_one = name.to_str().and_then(|name| name.strip_suffix(kind)).is_some_and(|number| {
            number.len() == super::NAME_DIGITS && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if is_one {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
