//! Byte ranges: of downloads (RFC 9110 section 14) and of upload chunks (distribution-spec).

/// What part of a blob is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// The bytes from `first` to `last`, both included.
    Slice {
        /// The first byte.
        first: u64,
        /// The last byte.
        last: u64,
    },
    /// No byte of it lies in the range that was asked for.
    Unsatisfiable,
}

impl Part {
    /// Reads `Range` for content of `length` bytes.
    ///
    /// What is malformed, in another unit or of several ranges is ignored, as RFC 9110 allows: the
    /// answer is the whole.
    pub(super) fn parse(header: Option<&str>, length: u64) -> Self {
        Self::asked(header, length).unwrap_or(Self::Whole)
    }

    fn asked(header: Option<&str>, length: u64) -> Option<Self> {
        let (unit, range) = header?.split_once('=')?;
        let (first, last) = range.trim().split_once('-')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        if first.is_empty() {
            let suffix = number(last)?;
            return Some(match (suffix, length.checked_sub(1)) {
                (0, _) | (_, None) => Self::Unsatisfiable,
                (_, Some(last)) => Self::Slice { first: length.saturating_sub(suffix), last },
            });
        }
        let first = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        if last < first {
            return None;
        }
        Some(match length.checked_sub(1) {
            Some(end) if first <= end => Self::Slice { first, last: last.min(end) },
            _ => Self::Unsatisfiable,
        })
    }
}

/// The place of an upload's chunk: `Content-Range: FIRST-LAST`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The first byte.
    pub(super) first: u64,
    /// How many bytes it has.
    pub(super) length: u64,
}

impl Chunk {
    /// Reads `Content-Range`; `None` where it is malformed. The unit and the whole length, which
    /// RFC 9110 has and the distribution-spec has not, are accepted.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let header = header.trim();
        let range = header.strip_prefix("bytes").map_or(header, |rest| rest.trim_start_matches([' ', '=']));
        let range = range.split_once('/').map_or(range, |(range, _)| range);
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let length = last.checked_sub(first)?.checked_add(1)?;
        Some(Self { first, length })
    }
}

/// Reads digits alone; `parse` would also take a sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_downloads() {
        let slice = |first, last| Part::Slice { first, last };
        for (header, expected) in [
            ("bytes=0-3", slice(0, 3)),
            ("Bytes=2-", slice(2, 9)),
            ("bytes=2-100", slice(2, 9)),
            ("bytes=-3", slice(7, 9)),
            ("bytes=-30", slice(0, 9)),
            ("bytes=9-9", slice(9, 9)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=3-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=99999999999999999999-", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(Part::parse(Some(header), 10), expected, "{header}");
        }
        assert_eq!(Part::parse(None, 10), Part::Whole);
        assert_eq!(Part::parse(Some("bytes=0-"), 0), Part::Unsatisfiable);
        assert_eq!(Part::parse(Some("bytes=-1"), 0), Part::Unsatisfiable);
    }

    #[test]
    fn chunks_of_uploads() {
        assert_eq!(Chunk::parse("0-9"), Some(Chunk { first: 0, length: 10 }));
        assert_eq!(Chunk::parse("bytes 5-5/*"), Some(Chunk { first: 5, length: 1 }));
        for text in ["", "5", "9-5", "-5", "a-b", "0-18446744073709551615", "0--1"] {
            assert_eq!(Chunk::parse(text), None, "{text}");
        }
    }
}
