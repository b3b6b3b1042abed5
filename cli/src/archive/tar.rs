//! Tars: where each file lies in one, and writing one (POSIX pax, ustar, and GNU's long names and large numbers).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

use super::{MAX_FILES, MAX_NAME, is_layouts_own, shown};
use crate::error::words_of;

/// The size of a header, and what contents are padded to.
const BLOCK: usize = 512;
/// The most bytes of a header that describes the next: a long name, or pax records.
const MAX_EXTENSION: u64 = 64 << 10;

/// A file in a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What a header says of the next one.
#[derive(Default)]
struct Next {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Finds the files in a tar, by reading headers only.
///
/// # Errors
/// Fails in words that name the member: a name that leads out, one that is there twice, a link or a device where a
/// layout has a file, a sparse file; and where the tar is cut short or none.
pub(super) fn index(tar: &File) -> Result<Vec<Member>, String> {
    let length = tar.metadata().map_err(|error| words_of(&error))?.len();
    let mut members = Vec::new();
    let mut names = HashSet::new();
    let mut next = Next::default();
    let (mut at, mut count) = (0_u64, 0_usize);
    loop {
        let mut header = [0; BLOCK];
        match tar.read_exact_at(&mut header, at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && at == 0 => {
                return Err("it is no tar".to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err("it is cut short: it has no end mark".to_owned());
            }
            Err(error) => return Err(words_of(&error)),
        }
        if header.iter().all(|byte| *byte == 0) {
            return Ok(members);
        }
        if !sum_fits(&header) {
            return Err(if at == 0 {
                "it is no tar".to_owned()
            } else {
                format!("the header at byte {at} is damaged")
            });
        }
        count += 1;
        if count > MAX_FILES {
            return Err(format!("it has more than {MAX_FILES} members"));
        }
        let kind = field(&header, 156, 1).first().copied().unwrap_or_default();
        let said = number(field(&header, 124, 12)).ok_or_else(|| format!("the header at byte {at} has no size"))?;
        // Only a file's size may be told by the header before it.
        let is_extension = matches!(kind, b'x' | b'g' | b'L' | b'K');
        let size = if is_extension { said } else { next.size.unwrap_or(said) };
        let offset = at.saturating_add(BLOCK as u64);
        let end = offset.checked_add(size).filter(|end| *end <= length);
        let name = if is_extension { Vec::new() } else { next.name.take().unwrap_or_else(|| own_name(&header)) };
        let end = end.ok_or_else(|| format!("{} is cut short", shown(&String::from_utf8_lossy(&name))))?;
        at = end.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64);
        if is_extension {
            extend(tar, kind, offset, size, &mut next)?;
            continue;
        }
        next = Next::default();
        if let Some(name) = take(kind, &name, &mut names)? {
            members.push(Member { name, offset, size });
        }
    }
}

/// Judges a member: returns the name of one that is a file of use.
fn take(kind: u8, name: &[u8], names: &mut HashSet<String>) -> Result<Option<String>, String> {
    let is_folder = kind == b'5' || (matches!(kind, 0 | b'0') && name.ends_with(b"/"));
    let Ok(name) = std::str::from_utf8(name) else {
        return Ok(None); // no file of a layout has such a name
    };
    let Some(name) = plain(name) else {
        return Err(format!("the member {} leads out of the archive", shown(name)));
    };
    if is_folder || name.is_empty() {
        return Ok(None);
    }
    match kind {
        0 | b'0' | b'7' => {}
        b'S' => return Err(format!("the member {} is a sparse file, which is not read", shown(&name))),
        b'1' | b'2' if is_layouts_own(&name) => {
            return Err(format!("the member {} is a link, which is not followed", shown(&name)));
        }
        _ if is_layouts_own(&name) => return Err(format!("the member {} is no regular file", shown(&name))),
        // docker links layers that it has written already; whoever needs one finds the other.
        _ => return Ok(None),
    }
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Ok(None);
    }
    if !names.insert(name.clone()) {
        return Err(format!("the member {} is there twice", shown(&name)));
    }
    Ok(Some(name))
}

/// Returns a name without `./` before and `/` behind it; `None` where it is absolute or climbs.
fn plain(name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Reads what a header says of the next.
fn extend(tar: &File, kind: u8, offset: u64, size: u64, next: &mut Next) -> Result<(), String> {
    if matches!(kind, b'g' | b'K') {
        return Ok(()); // comments, mostly; and where a link leads
    }
    if size > MAX_EXTENSION {
        return Err(format!("the header before byte {offset} is longer than {MAX_EXTENSION} bytes"));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    tar.read_exact_at(&mut bytes, offset).map_err(|error| words_of(&error))?;
    if kind == b'L' {
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        next.name = Some(name.to_vec());
        return Ok(());
    }
    let damaged = || format!("the pax header before byte {offset} is damaged");
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
        let length: usize =
            rest.get(..space).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).ok_or_else(damaged)?;
        let record = rest.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(damaged)?;
        rest = rest.get(length..).ok_or_else(damaged)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(damaged)?;
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        match key {
            b"path" => next.name = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                next.size = Some(size.ok_or_else(damaged)?);
            }
            _ if key.starts_with(b"GNU.sparse.") => return Err("it has a sparse file, which is not read".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

fn field(header: &[u8; BLOCK], from: usize, length: usize) -> &[u8] {
    header.get(from..from + length).unwrap_or_default()
}

fn own_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let text = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    let name = text(field(header, 0, 100));
    let prefix = text(field(header, 345, 155));
    // GNU's older form has times where the prefix is.
    if field(header, 257, 6) != b"ustar\0" || prefix.is_empty() {
        return name;
    }
    [prefix, name].join(&b'/')
}

/// Reads an octal number, or GNU's binary one.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first().map(|(first, rest)| (*first, rest)) {
        let (high, low) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
        return high.iter().all(|byte| *byte == 0).then(|| low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn sum_fits(header: &[u8; BLOCK]) -> bool {
    let said = number(field(header, 148, 8));
    let bytes = header.iter().enumerate();
    let sum: u64 = bytes.map(|(place, byte)| if (148..156).contains(&place) { 32 } else { u64::from(*byte) }).sum();
    said == Some(sum)
}

/// Writes a tar, one file after another.
#[derive(Debug)]
pub(super) struct TarWriter<W> {
    to: W,
    left: u64,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, left: 0, padding: 0 }
    }

    /// Begins a file; the one before must be complete.
    pub(super) fn begin(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.complete()?;
        // An octal field of eleven digits holds less than 8 GiB.
        let is_long = size >= 1 << 33;
        if name.len() > 100 || is_long {
            let mut records = record("path", name);
            if is_long {
                records.push_str(&record("size", &size.to_string()));
            }
            self.to.write_all(&header("pax-header", records.len() as u64, b'x'))?;
            self.to.write_all(records.as_bytes())?;
            self.to.write_all(&vec![0; padding(records.len() as u64)])?;
        }
        let short: String = name.chars().take(100).collect();
        self.to.write_all(&header(&short, if is_long { 0 } else { size }, b'0'))?;
        (self.left, self.padding) = (size, padding(size));
        Ok(())
    }

    /// Adds bytes of the file.
    pub(super) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("more bytes came than were announced"))?;
        self.to.write_all(bytes)
    }

    fn complete(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("fewer bytes came than were announced"));
        }
        self.to.write_all(&vec![0; std::mem::take(&mut self.padding)])
    }

    /// Writes the end mark.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.complete()?;
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush()?;
        Ok(self.to)
    }
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    if over == 0 { 0 } else { BLOCK - over }
}

/// Writes a pax record: its own length in decimal digits, which count, too.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// Writes a header; times and owners are none, so that the same layout is the same tar.
fn header(name: &str, size: u64, kind: u8) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (place, byte) in header.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000444\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    for (place, byte) in header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").as_bytes()) {
        *place = *byte;
    }
    header
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for (name, bytes) in members {
            writer.begin(name, bytes.len() as u64).expect("memory");
            writer.data(bytes).expect("memory");
        }
        writer.finish().expect("memory")
    }

    /// A member of another kind, as a header alone.
    fn odd(name: &str, kind: u8) -> Vec<u8> {
        let mut tar = header(name, 0, kind).to_vec();
        tar.extend_from_slice(&[0; 2 * BLOCK]);
        tar
    }

    #[test]
    fn what_is_written_is_found() {
        let long = format!("blobs/sha512/{}", "a".repeat(128));
        let bytes = tar(&[("oci-layout", b"{}"), (&long, &[7; 1000]), ("index.json", b"")]);
        let members = index(&file(&bytes)).expect("a tar");
        let found: Vec<_> = members.iter().map(|member| (member.name.as_str(), member.size)).collect();
        assert_eq!(found, [("oci-layout", 2), (&long, 1000), ("index.json", 0)]);
        let begin = usize::try_from(members[1].offset).expect("small");
        assert_eq!(&bytes[begin..begin + 1000], [7; 1000]);
        assert_eq!(bytes.len() % BLOCK, 0);
    }

    #[test]
    fn random_tars_round_trip() {
        // A small generator is enough: names and sizes around the borders of blocks and fields.
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..200 {
            let mut wanted = Vec::new();
            for number in 0..random(12) {
                let name = format!("{number}/{}", "n".repeat(usize::try_from(1 + random(200)).expect("small")));
                let size = [0, 1, 511, 512, 513, random(2000)][usize::try_from(random(6)).expect("small")];
                wanted.push((name, vec![u8::try_from(number).expect("small"); usize::try_from(size).expect("small")]));
            }
            let members: Vec<_> = wanted.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
            let bytes = tar(&members);
            let found = index(&file(&bytes)).expect("a tar");
            assert_eq!(found.len(), wanted.len());
            for (member, (name, content)) in found.iter().zip(&wanted) {
                let begin = usize::try_from(member.offset).expect("small");
                assert_eq!((&member.name, &bytes[begin..begin + content.len()]), (name, &content[..]));
            }
            // Cut anywhere, it is no whole tar any more, but for the second block of its end mark.
            let cut = usize::try_from(random((bytes.len() - BLOCK) as u64)).expect("small");
            assert!(index(&file(&bytes[..cut])).is_err(), "cut at {cut} of {}", bytes.len());
        }
    }

    #[test]
    fn every_single_flip_in_a_header_is_noticed_or_changes_nothing() {
        let bytes = tar(&[("oci-layout", b"{}"), ("index.json", b"{}")]);
        let whole = index(&file(&bytes)).expect("a tar");
        for place in 0..BLOCK {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            if let Ok(found) = index(&file(&flipped)) {
                assert_eq!(found, whole, "byte {place}");
            }
        }
    }

    #[test]
    fn hostile_members_are_refused_by_name() {
        for name in ["../../etc/passwd", "/etc/passwd", "blobs/../../x"] {
            let error = index(&file(&tar(&[(name, b"x")]))).expect_err("it leads out");
            assert!(error.contains(name), "{error}");
        }
        let blob = format!("blobs/sha256/{}", "a".repeat(64));
        for (kind, word) in
            [(b'1', "link"), (b'2', "link"), (b'6', "no regular file"), (b'3', "no regular file"), (b'S', "sparse")]
        {
            for name in ["index.json", "oci-layout", "manifest.json", &blob] {
                let error = index(&file(&odd(name, kind))).expect_err("no file");
                assert!(error.contains(word) && error.contains(name), "{error}");
            }
        }
        let twice = index(&file(&tar(&[("index.json", b"a"), ("./index.json", b"b")]))).expect_err("doubled");
        assert!(twice.contains("twice"), "{twice}");
        assert!(index(&file(&odd("a/layer.tar", b'2'))).expect("docker's links").is_empty());
        assert!(index(&file(&odd("blobs/", b'5'))).expect("folders").is_empty());
    }

    #[test]
    fn sizes_that_lie_are_refused() {
        let mut writer = TarWriter::new(Vec::new());
        writer.begin("index.json", 1 << 40).expect("memory");
        let error = index(&file(&writer.to)).expect_err("a long file");
        assert!(error.contains("index.json"), "{error}");
        let mut huge = header("index.json", 0, b'0');
        huge[124..136].fill(0xff);
        assert!(index(&file(&huge)).is_err(), "a negative number");
        assert!(index(&file(b"")).is_err());
        assert!(index(&file(&[1; 4096])).expect_err("no tar").contains("no tar"));
        let long = header("x", MAX_EXTENSION + 1, b'L');
        let mut long = long.to_vec();
        long.resize(long.len() + 70_000, 0);
        assert!(index(&file(&long)).is_err(), "a name of 64 KiB");
    }

    #[test]
    fn more_members_than_are_read() {
        let mut bytes = Vec::new();
        let one = header("x/", 0, b'5');
        for _ in 0..=MAX_FILES {
            bytes.extend_from_slice(&one);
        }
        assert!(index(&file(&bytes)).expect_err("too many").contains("more than"));
    }

    #[test]
    fn a_file_is_as_long_as_it_was_announced() {
        let mut writer = TarWriter::new(Vec::new());
        writer.begin("a", 2).expect("memory");
        assert!(writer.data(b"abc").is_err());
        let mut writer = TarWriter::new(Vec::new());
        writer.begin("a", 2).expect("memory");
        assert!(writer.begin("b", 1).is_err());
    }
}
