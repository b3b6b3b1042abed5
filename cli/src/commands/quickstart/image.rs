//! An image made of two programs, as an OCI image layout.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// The media type of the manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The unit of a tar archive.
const BLOCK: usize = 512;
/// How much is copied at once.
const CHUNK: usize = 256 << 10;

/// Small content.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: String,
}

/// Content in a file.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) path: PathBuf,
    pub(super) digest: String,
    pub(super) size: u64,
}

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) manifest: Document,
    pub(super) config: Document,
    pub(super) layer: Blob,
}

impl Document {
    fn new(value: &Value) -> Self {
        let bytes = value.to_string().into_bytes();
        let digest = name_of(Sha256::digest(&bytes).as_slice());
        Self { bytes, digest }
    }

    fn describe(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

impl Image {
    /// Packs programs into an image layout at `folder`, under the tag `v1`.
    ///
    /// # Errors
    /// Fails where a program cannot be read or the layout cannot be written.
    pub(super) fn pack(folder: &Path, programs: &[PathBuf]) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::file("the image cannot be packed", &error);
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(failed)?;
        let layer = pack_layer(&blobs, programs).map_err(failed)?;
        let config = Document::new(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": ["/usr/bin/larder"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        }));
        let manifest = Document::new(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.describe(CONFIG),
            "layers": [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size}],
        }));
        let mut entry = manifest.describe(MANIFEST);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": super::TAG});
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        for (path, bytes) in [
            (blobs.join(hex_of(&config.digest)), config.bytes.as_slice()),
            (blobs.join(hex_of(&manifest.digest)), &manifest.bytes),
            (folder.join("index.json"), index.as_bytes()),
            (folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#),
        ] {
            fs::write(path, bytes).map_err(failed)?;
        }
        Ok(Self { manifest, config, layer })
    }
}

/// Returns what images for this machine call its processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex_of(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// Writes a SHA-256 as a digest.
pub(super) fn name_of(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn pack_layer(blobs: &Path, programs: &[PathBuf]) -> io::Result<Blob> {
    let unfinished = blobs.join(".layer");
    let mut archive =
        Hashing { file: BufWriter::with_capacity(CHUNK, File::create(&unfinished)?), hash: Sha256::new(), size: 0 };
    for program in programs {
        append(&mut archive, program)?;
    }
    // Two empty blocks end an archive.
    archive.write_all(&[0; 2 * BLOCK])?;
    archive.flush()?;
    let (digest, size) = (name_of(archive.hash.finalize().as_slice()), archive.size);
    let path = blobs.join(hex_of(&digest));
    fs::rename(unfinished, &path)?;
    Ok(Blob { path, digest, size })
}

/// Appends a program as `usr/bin/NAME`.
fn append(archive: &mut impl Write, program: &Path) -> io::Result<()> {
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or("larder");
    let file = File::open(program)?;
    let size = file.metadata()?.len();
    archive.write_all(&header(&format!("usr/bin/{name}"), size)?)?;
    // Exactly what the header promises, should the program be replaced meanwhile.
    let copied = io::copy(&mut file.take(size), archive)?;
    if copied != size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} became shorter", program.display())));
    }
    let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
    archive.write_all(&[0; BLOCK][..padding])
}

/// Writes the header of a regular file (POSIX.1-1988 ustar): root's, 0755, without a time, so that the same programs
/// give the same digest.
fn header(name: &str, size: u64) -> io::Result<[u8; BLOCK]> {
    const NAME: usize = 100;
    const MAX_SIZE: u64 = 0o77_777_777_777;
    if name.len() >= NAME || size > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} does not fit into a tar header")));
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        if let Some(field) = header.get_mut(at..at + text.len()) {
            field.copy_from_slice(text.as_bytes());
        }
    };
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    // The checksum is taken with spaces in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    put(265, "root");
    put(297, "root");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

/// A file that is hashed while it is written.
struct Hashing {
    file: BufWriter<File>,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let bytes = bytes.get(..written).unwrap_or_default();
        self.hash.update(bytes);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn an_image_whose_every_digest_fits_and_whose_layer_tar_can_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let programs = ["larder", "larderd"].map(|name| folder.path().join(name));
        fs::write(&programs[0], "a client").expect("a file");
        fs::write(&programs[1], vec![7; 3 * BLOCK]).expect("a file");
        let layout = folder.path().join("image");
        let image = Image::pack(&layout, &programs).map_err(|error| error.reason().to_owned()).expect("an image");
        let blobs: Vec<_> = fs::read_dir(layout.join("blobs/sha256")).expect("blobs").flatten().collect();
        assert_eq!(blobs.len(), 3);
        for blob in blobs {
            let bytes = fs::read(blob.path()).expect("a blob");
            assert_eq!(hex_of(&name_of(Sha256::digest(&bytes).as_slice())), blob.file_name().to_str().expect("hex"));
        }
        let layer = fs::read(&image.layer.path).expect("the layer");
        assert_eq!((layer.len() as u64, layer.len() % BLOCK), (image.layer.size, 0));

        let unpacked = folder.path().join("unpacked");
        fs::create_dir(&unpacked).expect("a folder");
        // POSIX has tar; what it reads is what counts.
        let tar = Command::new("tar").arg("-xf").arg(&image.layer.path).arg("-C").arg(&unpacked).status();
        assert!(tar.expect("tar").success());
        for program in &programs {
            let name = program.file_name().expect("a name");
            assert_eq!(
                fs::read(unpacked.join("usr/bin").join(name)).expect("unpacked"),
                fs::read(program).expect("packed")
            );
        }
    }

    #[test]
    fn what_does_not_fit_into_a_header_is_refused() {
        assert!(header(&"x".repeat(100), 0).is_err());
        assert!(header("x", 1 << 40).is_err());
    }
}
