//! Small words: sizes, digests, counts, names.

use std::path::Path;

use larder_proto::v1::Verdict;

/// How many hex digits of a digest people see.
const SHORT: usize = 12;

/// Writes a size in binary units.
pub(crate) fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if size < 1024 {
        return format!("{size} B");
    }
    let mut value = size as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// Writes a number with commas between thousands.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut written = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// Writes a count and its noun: `1 signature`, `2 signatures`.
pub(crate) fn count(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(count), if count == 1 { "" } else { "s" })
}

/// Shortens a digest to its first hex digits; SHA-256 goes without saying.
pub(crate) fn short(digest: &str) -> String {
    let (algorithm, hex) = digest.split_once(':').unwrap_or(("", digest));
    let hex: String = hex.chars().take(SHORT).collect();
    if matches!(algorithm, "sha256" | "") { hex } else { format!("{algorithm}:{hex}") }
}

/// Shortens every whole digest in a text: `sha256:<hex>`, and `sha256-<hex>` in tags that hold one.
pub(crate) fn short_digests(text: &str) -> String {
    /// The hex digits of the shortest digest.
    const WHOLE: usize = 64;
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begins) = rest.find("sha256").into_iter().chain(rest.find("sha512")).min() {
        let (before, found) = rest.split_at(begins);
        written.push_str(before);
        let (name, behind) = found.split_at("sha256".len());
        let digits = behind.bytes().skip(1).take_while(u8::is_ascii_hexdigit).count();
        let hex = behind.get(1..=digits).filter(|hex| hex.len() >= WHOLE);
        match (behind.as_bytes().first(), hex) {
            (Some(b':'), Some(hex)) => written.push_str(&short(&format!("{name}:{hex}"))),
            (Some(b'-'), Some(hex)) => written.push_str(&format!("{name}-{}…", short(hex))),
            _ => {
                written.push_str(name);
                rest = behind;
                continue;
            }
        }
        rest = behind.get(digits + 1..).unwrap_or_default();
    }
    written.push_str(rest);
    written
}

/// Names a subject: by its first tag, else by its digest, both as one would type them; the digest is short.
pub(crate) fn subject(repository: &str, tags: &[String], digest: &str) -> String {
    match tags {
        [] => format!("{repository}@{}", short(digest)),
        [tag] => format!("{repository}:{tag}"),
        [tag, more @ ..] => format!("{repository}:{tag} (and {})", count(more.len() as u64, "other tag")),
    }
}

/// Names the subject of a verdict.
pub(crate) fn subject_of(verdict: &Verdict) -> String {
    subject(&verdict.repository, &verdict.tags, &verdict.digest)
}

/// Writes a path, with the user's home as `~`.
pub(crate) fn path(path: &Path, home: Option<&Path>) -> String {
    let below =
        home.filter(|home| home.is_absolute() && *home != Path::new("/")).and_then(|home| path.strip_prefix(home).ok());
    match below {
        Some(below) => Path::new("~").join(below).display().to_string(),
        None => path.display().to_string(),
    }
}

/// Quotes an argument for a shell, where it needs that.
pub(crate) fn quoted(argument: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-/:@=+,".contains(character);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let sizes = [0, 1023, 1024, 3_774_874, 1_048_525, 71 << 20, 61 << 30, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "3.6 MiB", "1.0 MiB", "71.0 MiB", "61.0 GiB", "16384.0 PiB"]);
    }

    #[test]
    fn numbers_and_counts() {
        assert_eq!([0, 999, 1204, 1_000_000].map(number), ["0", "999", "1,204", "1,000,000"]);
        assert_eq!(count(1, "signature"), "1 signature");
        assert_eq!(count(0, "SBOM"), "0 SBOMs");
    }

    #[test]
    fn digests_are_short_for_people() {
        assert_eq!(short("sha256:4bcff63911fcb4448bd4fdacec207030"), "4bcff63911fc");
        assert_eq!(short("sha512:0123456789abcdef"), "sha512:0123456789ab");
        assert_eq!(short(""), "");
        let hex = "4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1";
        assert_eq!(
            short_digests(&format!("r/a:sha256-{hex}.sig was signed")),
            "r/a:sha256-4bcff63911fc….sig was signed"
        );
        assert_eq!(
            short_digests(&format!("r/a@sha256:{hex}: and r/b@sha512:{hex}{hex}")),
            "r/a@4bcff63911fc: and r/b@sha512:4bcff63911fc"
        );
        for plain in ["sha256", "sha256:", "a sha256-1.4 sha512:abcé", ""] {
            assert_eq!(short_digests(plain), plain);
        }
    }

    #[test]
    fn subjects_and_paths() {
        let tags = ["1.4".to_owned(), "latest".to_owned()];
        assert_eq!(subject("r/app", &tags, "sha256:00"), "r/app:1.4 (and 1 other tag)");
        assert_eq!(subject("r/app", &tags[..1], "sha256:00"), "r/app:1.4");
        assert_eq!(subject("r/app", &[], "sha256:0123456789abcdef"), "r/app@0123456789ab");
        assert_eq!(path(Path::new("/home/me/x"), Some(Path::new("/home/me"))), "~/x");
        assert_eq!(path(Path::new("/srv/x"), Some(Path::new("/home/me"))), "/srv/x");
        assert_eq!(quoted("docker.io/library/**"), "'docker.io/library/**'");
        assert_eq!(quoted("a:b"), "a:b");
    }
}
