//! References from a file: one a line, `#` begins a comment.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::Error;

/// The most bytes that a list may have: ten thousand long references.
const MAX_BYTES: u64 = 3 << 20;

/// Reads a list from a file, or from standard input where it is `-`.
///
/// # Errors
/// Fails where it cannot be read, is too long, or is no text.
pub(super) fn read(path: &Path) -> Result<Vec<String>, Error> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let bytes = if path == Path::new("-") { read_all(io::stdin().lock()) } else { File::open(path).and_then(read_all) };
    let bytes = bytes.map_err(|error| {
        Error::file(&format!("{name} cannot be read"), &error)
            .hint("a file with one reference on each line, or `-` for stdin")
    })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::new("too-large", format!("{name} is longer than {} MiB", MAX_BYTES >> 20))
            .hint("pull it in parts; what is here is not fetched again"));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Error::new("invalid-list", format!("{name} is no list of references: it is not UTF-8 text"))
            .hint("one reference a line; `#` begins a comment")
    })?;
    references(&text).map_err(|line| {
        Error::new("invalid-list", format!("{name}, line {line}: a reference has no spaces in it"))
            .hint("one reference a line; `#` begins a comment")
    })
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the references of a list, or the first line that holds anything else.
fn references(text: &str) -> Result<Vec<String>, usize> {
    let mut references = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
        if line.contains(char::is_whitespace) {
            return Err(index + 1);
        }
        if !line.is_empty() {
            references.push(line.to_owned());
        }
    }
    Ok(references)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_line_and_comments() {
        let text = "# all of ours\nalpine:3.22\n\n  r.example/a/b@sha256:00 # pinned\r\nc\n";
        assert_eq!(references(text), Ok(vec!["alpine:3.22".into(), "r.example/a/b@sha256:00".into(), "c".into()]));
        assert_eq!(references(""), Ok(Vec::new()));
        assert_eq!(references("a\nb c\n"), Err(2));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("list");
        assert_eq!(read(&file).expect_err("not there").reason(), "file");
        std::fs::write(&file, [0xff]).expect("a file");
        assert_eq!(read(&file).expect_err("no text").reason(), "invalid-list");
        std::fs::write(&file, vec![b'a'; 3 << 20 | 1]).expect("a file");
        assert_eq!(read(&file).expect_err("too long").reason(), "too-large");
    }
}
