//! Writes a layout: a tar, into a file or a stream, or a folder, new or one that is there.
//!
//! What is written has its name only when it is whole: a tar and a new folder are made beside their place and renamed;
//! into a layout that is there come blobs that nobody lists yet, and `index.json` is replaced last.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::layout::{Current, There, add, complete, create, there};
use super::tar::TarWriter;
use super::{is_layouts_own, shown};
use crate::error::{Error, words_of};

/// How much is written to a tar at once.
const BUFFER: usize = 1 << 20;

/// Takes the files of a layout; dropped before it is finished, it leaves nothing that looks like one.
#[derive(Debug)]
pub(crate) struct Writer {
    form: Form,
    /// What is written, as the person called it.
    name: String,
}

#[derive(Debug)]
enum Form {
    Stream(TarWriter<io::Stdout>),
    Tar { writer: Option<TarWriter<BufWriter<File>>>, beside: Beside },
    New { beside: Beside, current: Option<Current> },
    There(There),
}

/// A file or folder under a temporary name; removed when it is dropped with one.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) path: PathBuf,
    pub(super) place: PathBuf,
    kept: bool,
}

impl Beside {
    /// Chooses a name beside a place.
    pub(super) fn of(place: &Path) -> io::Result<Self> {
        let name = place.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        Ok(Self { path: place.with_file_name(hidden), place: place.to_owned(), kept: false })
    }

    /// Gives it its name, for good.
    pub(super) fn rename(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.place)?;
        self.kept = true;
        sync_folder(self.place.parent())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.kept {
            // The first error is the one to tell.
            let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_dir_all(&self.path));
        }
    }
}

fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

impl Writer {
    /// Begins to write: `-` is standard output, what ends in `.tar` a tar, everything else a folder. Returns also the
    /// `index.json` of the layout that is added to, where there is one.
    ///
    /// # Errors
    /// Fails where something else is there, or nothing can be made.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<u8>), Error> {
        let name = path.display().to_string();
        let cannot = |error: io::Error| Error::file(&name, &error).and_hint("nothing was saved");
        if path == Path::new("-") {
            let form = Form::Stream(TarWriter::new(io::stdout()));
            return Ok((Self { form, name: "standard output".to_owned() }, Vec::new()));
        }
        let ending = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        if [".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"].iter().any(|wrong| ending.ends_with(wrong)) {
            let message = format!("{name}: larder does not compress what it saves; layers are compressed already");
            return Err(Error::usage(message).hint("end it in .tar, or `larder save REF -o - | gzip > FILE`"));
        }
        if ending.ends_with(".tar") {
            if path.is_dir() {
                return Err(
                    Error::new("exists", format!("{name} is a folder")).hint("name another file; nothing was saved")
                );
            }
            let beside = Beside::of(path).map_err(cannot)?;
            let file = File::options().write(true).create_new(true).open(&beside.path).map_err(cannot)?;
            let writer = TarWriter::new(BufWriter::with_capacity(BUFFER, file));
            return Ok((Self { form: Form::Tar { writer: Some(writer), beside }, name }, Vec::new()));
        }
        // `folder/` and `folder` are one; `.` has no name to be renamed to, and is there.
        let folder: PathBuf = path.components().collect();
        let (form, index) = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (new_folder(&folder).map_err(cannot)?, Vec::new()),
            Err(error) => return Err(cannot(error)),
            Ok(_) if is_empty(&folder) && folder.file_name().is_some() => {
                (new_folder(&folder).map_err(cannot)?, Vec::new())
            }
            Ok(_) => {
                let (there, index) = there(&folder, &name)?;
                (Form::There(there), index)
            }
        };
        Ok((Self { form, name }, index))
    }

    /// Begins a file of the layout; the one before must be complete.
    ///
    /// # Errors
    /// Fails where it cannot be written, or its name is none that a layout has.
    pub(crate) fn begin(&mut self, name: &str, size: u64) -> Result<(), Error> {
        // What the daemon says must not lead anywhere else, whoever it is.
        if !is_layouts_own(name) {
            return Err(Error::new(
                "invalid-layout",
                format!("larderd sent {}, which is no file of a layout", shown(name)),
            )
            .hint("nothing was written to that name; larder and larderd are of different versions, or it is not larderd that answers"));
        }
        // Only tars are loaded by docker.
        let is_docker_list = name == "manifest.json" && matches!(self.form, Form::New { .. } | Form::There(_));
        let begun = match &mut self.form {
            Form::New { current, .. } if is_docker_list => {
                complete(current.take()).map(|()| *current = Some(Current::Kept))
            }
            Form::There(there) if is_docker_list => there.end_current().map(|()| there.current = Some(Current::Kept)),
            Form::Stream(writer) => writer.begin(name, size),
            Form::Tar { writer, .. } => writer.as_mut().map_or_else(closed, |writer| writer.begin(name, size)),
            Form::New { beside, current } => complete(current.take())
                .and_then(|()| create(&beside.path.join(name), size))
                .map(|new| *current = Some(new)),
            Form::There(there) => there.begin(name, size),
        };
        begun.map_err(|error| self.cannot(&error))
    }

    /// Adds bytes of the file.
    ///
    /// # Errors
    /// Fails where they cannot be written, or are more than were announced.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = match &mut self.form {
            Form::Stream(writer) => writer.data(bytes),
            Form::Tar { writer, .. } => writer.as_mut().map_or_else(closed, |writer| writer.data(bytes)),
            Form::New { current, .. } | Form::There(There { current, .. }) => add(current, bytes),
        };
        written.map_err(|error| self.cannot(&error))
    }

    /// Makes what was written whole and durable, and gives it its name.
    ///
    /// # Errors
    /// Fails where that cannot be done; then there is no new layout, and an older one is as it was.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let Self { form, name } = self;
        let finished = match form {
            Form::Stream(writer) => writer.finish().map(drop),
            Form::Tar { writer, beside } => (|| {
                let writer = writer.ok_or(io::ErrorKind::BrokenPipe)?;
                writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
                beside.rename()
            })(),
            Form::New { beside, current } => (|| {
                complete(current)?;
                for folder in ["blobs/sha512", "blobs/sha256", "blobs", ""] {
                    let folder = beside.path.join(folder);
                    if folder.is_dir() {
                        sync_folder(Some(&folder))?;
                    }
                }
                beside.rename()
            })(),
            Form::There(there) => there.finish(),
        };
        finished.map_err(|error| cannot_write(&name, &error))
    }

    fn cannot(&self, error: &io::Error) -> Error {
        cannot_write(&self.name, error)
    }
}

fn cannot_write(name: &str, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe && name == "standard output" {
        return Error::ClosedPipe;
    }
    Error::new("file", format!("{name} cannot be written: {}", words_of(error)))
        .hint("no layout was left there; what was there is as it was")
}

fn closed() -> io::Result<()> {
    Err(io::ErrorKind::BrokenPipe.into())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn new_folder(folder: &Path) -> io::Result<Form> {
    let beside = Beside::of(folder)?;
    fs::create_dir(&beside.path)?;
    for folder in ["blobs", "blobs/sha256"] {
        fs::create_dir(beside.path.join(folder))?;
    }
    Ok(Form::New { beside, current: None })
}

#[cfg(test)]
mod tests {
    use super::super::Archive;
    use super::*;

    const A: &str = "blobs/sha256/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "blobs/sha256/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn put(writer: &mut Writer, name: &str, bytes: &[u8]) {
        writer.begin(name, bytes.len() as u64).expect("begun");
        for piece in bytes.chunks(5) {
            writer.data(piece).expect("written");
        }
    }

    fn write_all(path: &Path, files: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut writer, index) = Writer::open(path).expect("a place");
        for (name, bytes) in files {
            put(&mut writer, name, bytes);
        }
        writer.finish().expect("written");
        index
    }

    fn read(path: &Path, name: &str) -> Vec<u8> {
        let archive = Archive::open(path).expect("an archive");
        let size = archive.files().iter().find(|(there, _)| there == name).map(|(_, size)| *size).expect("listed");
        if size == 0 {
            return Vec::new();
        }
        archive.read(name, 0, size).expect("there").next(1 << 20).expect("read").0
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    const FILES: [(&str, &[u8]); 3] = [("oci-layout", b"{}"), (A, b"content of a"), ("index.json", b"{\"a\":1}")];

    #[test]
    fn a_tar_and_a_folder_hold_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        for place in ["layout", "layout.tar", "empty/"] {
            let path = folder.path().join(place);
            if place == "empty/" {
                fs::create_dir(&path).expect("an empty folder");
            }
            write_all(&path, &FILES);
            for (name, bytes) in FILES {
                assert_eq!(read(&path, name), bytes, "{place} {name}");
            }
        }
        assert_eq!(names(folder.path()), ["empty", "layout", "layout.tar"], "nothing else is left");
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        for place in ["layout", "layout.tar"] {
            let (mut writer, _) = Writer::open(&folder.path().join(place)).expect("a place");
            put(&mut writer, "oci-layout", b"{}");
            writer.begin(A, 100).expect("begun");
            drop(writer);
            let (mut writer, _) = Writer::open(&folder.path().join(place)).expect("a place");
            writer.begin(A, 100).expect("begun");
            writer.data(b"too few").expect("written");
            assert!(writer.finish().is_err());
        }
        assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
    }

    #[test]
    fn an_older_tar_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("layout.tar");
        write_all(&path, &FILES);
        let (mut writer, _) = Writer::open(&path).expect("a place");
        put(&mut writer, "index.json", b"{\"new\":1}");
        assert_eq!(read(&path, "index.json"), b"{\"a\":1}");
        writer.finish().expect("written");
        assert_eq!(read(&path, "index.json"), b"{\"new\":1}");
    }

    #[test]
    fn a_layout_is_added_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("layout");
        assert!(write_all(&path, &FILES).is_empty());
        // What is there and right stays the very file; what is there and wrong is written anew.
        fs::write(path.join(B), b"content of x").expect("damage");
        let before = fs::metadata(path.join(A)).expect("a");
        let files: [(&str, &[u8]); 4] =
            [("oci-layout", b"{}"), (A, b"content of a"), (B, b"content of b"), ("index.json", b"{\"a\":1,\"b\":2}")];
        assert_eq!(write_all(&path, &files), b"{\"a\":1}", "the index that was there is given");
        for (name, bytes) in files {
            assert_eq!(read(&path, name), bytes, "{name}");
        }
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(fs::metadata(path.join(A)).expect("a").ino(), before.ino());
        assert_eq!(names(&path.join("blobs/sha256")).len(), 2);

        let (mut writer, _) = Writer::open(&path).expect("a place");
        put(&mut writer, "index.json", b"{}");
        assert!(matches!(Writer::open(&path), Err(error) if error.reason() == "busy"));
        drop(writer);
        assert_eq!(read(&path, "index.json"), b"{\"a\":1,\"b\":2}", "what was not finished changed nothing");
        assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
    }

    #[test]
    fn a_layout_that_leads_elsewhere_is_not_written_through() {
        for part in ["index.json", "oci-layout", "blobs/sha256", "blobs"] {
            let folder = tempfile::tempdir().expect("a folder");
            let (path, elsewhere) = (folder.path().join("layout"), folder.path().join("elsewhere"));
            write_all(&path, &FILES);
            fs::rename(path.join(part), &elsewhere).expect("moved");
            std::os::unix::fs::symlink(&elsewhere, path.join(part)).expect("a link");
            let error = Writer::open(&path).expect_err("a link");
            assert_eq!(error.reason(), "exists", "{part}");
        }
    }

    #[test]
    fn other_things_are_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let reason = |place: &Path| Writer::open(place).expect_err("refused").reason().to_owned();
        fs::write(folder.path().join("file"), "x").expect("a file");
        assert_eq!(reason(folder.path()), "exists");
        assert_eq!(reason(&folder.path().join("file")), "file");
        assert_eq!(reason(&folder.path().join("x.tar.gz")), "usage");
        assert_eq!(reason(&folder.path().join("no/such/folder")), "file");
        let (mut writer, _) = Writer::open(&folder.path().join("layout")).expect("a place");
        for name in ["../x", "/etc/passwd", "blobs/sha256/../../x", "blobs/sha256/AB", "blobs/md5/00", ""] {
            assert_eq!(writer.begin(name, 1).expect_err("no file of a layout").reason(), "invalid-layout", "{name}");
        }
    }
}
