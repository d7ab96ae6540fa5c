//! The only fsync, rename and lock of the crate.
//!
//! What a reader can rely on: a name shows either nothing or a whole file whose bytes are on the
//! medium. [`NewFile`] is written under a temporary name, and takes its real name only after an
//! fsync of its bytes; the fsync of the folder follows, since a rename alone is not durable on
//! ext4 or XFS. A failed fsync is final: the kernel may have dropped the pages, so it is never
//! tried again, and the temporary file is dropped.
//!
//! A temporary file is held by a lock while its writer lives. [`sweep`] removes those that nobody
//! holds: what a killed build leaves behind is gone after the next one.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// What temporary files begin with.
const TEMPORARY: &str = ".new-";

/// A file that has no name yet. Dropped without a name, it is gone.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
}

/// What became of a file that was to take a new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// It has the name.
    New,
    /// The name was taken. It stays with its old file: names are never written twice.
    Taken,
}

impl NewFile {
    /// An empty file in `folder`, readable by its owner alone until it is named.
    pub fn create(folder: &Path) -> Result<NewFile, DurableError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
            let opened =
                OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
            let file = match opened {
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(|err| DurableError::new("create", &path, err))?,
            };
            file.lock().map_err(|err| DurableError::new("lock", &path, err))?;
            let links = file.metadata().map_err(|err| DurableError::new("read", &path, err))?;
            // Swept between its creation and its lock: make another.
            if links.nlink() > 0 {
                return Ok(NewFile { file, path });
            }
        }
    }

    /// The file, to be written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is while it has no name, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file the name `name` in its folder, durably, if no file has it.
    pub fn name(self, name: &str, mode: u32) -> Result<Named, DurableError> {
        self.seal(mode)?;
        let named = self.take(name)?;
        if named == Named::New {
            sync_parent(&self.path)?;
        }
        Ok(named)
    }

    fn take(&self, name: &str) -> Result<Named, DurableError> {
        let target = self.path.with_file_name(name);
        match renameat_with(CWD, &self.path, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Named::New),
            Err(rustix::io::Errno::EXIST) => Ok(Named::Taken),
            Err(err) => Err(DurableError::new("rename to", &target, err.into())),
        }
    }

    /// As [`NewFile::replace`], for a file that [`name_all`] brought to the medium, and a `target`
    /// in any folder of the file system. When that is durable it is at `also` as well, unless that
    /// name is taken: a name that a power cut cannot leave there alone. It is durable itself no
    /// sooner than the file system likes, or than the next [`name_all`] with a file of that folder.
    pub fn replace_and_link(self, target: &Path, also: &Path) -> Result<(), DurableError> {
        fs::rename(&self.path, target)
            .map_err(|err| DurableError::new("rename to", target, err))?;
        sync_parent(target)?;
        match fs::hard_link(target, also) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                Err(DurableError::new("link to", also, err))
            }
            _ => Ok(()),
        }
    }

    /// Gives the file the name `name` in its folder, durably, in the place of any file that had
    /// it. Readers of the old file keep it.
    pub fn replace(self, name: &str, mode: u32) -> Result<(), DurableError> {
        self.seal(mode)?;
        let target = self.path.with_file_name(name);
        fs::rename(&self.path, &target)
            .map_err(|err| DurableError::new("rename to", &target, err))?;
        sync_parent(&target)
    }

    fn seal(&self, mode: u32) -> Result<(), DurableError> {
        self.file
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|err| DurableError::new("set the mode of", &self.path, err))?;
        self.file.sync_all().map_err(|err| DurableError::new("fsync", &self.path, err))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Already gone when it was named. What cannot be removed now is swept later.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes a small file whole, durably, in the place of any file of that name.
pub fn write(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    filled(folder, bytes)?.replace(name, mode)
}

/// Writes a small file whole, durably, unless the name is taken.
pub fn write_new(
    folder: &Path,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<Named, DurableError> {
    filled(folder, bytes)?.name(name, mode)
}

/// A file of those bytes that has no name yet.
pub fn filled(folder: &Path, bytes: &[u8]) -> Result<NewFile, DurableError> {
    let new = NewFile::create(folder)?;
    (&new.file).write_all(bytes).map_err(|err| DurableError::new("write", &new.path, err))?;
    Ok(new)
}

/// Files that take their names together: all bytes reach the medium, then the names are taken in
/// the order in which they were added, then each folder is made durable, once. A crash between
/// leaves some of the names taken; what makes them count is written after them.
pub struct Batch {
    scratch: PathBuf,
    files: Vec<(PathBuf, Vec<u8>, u32)>,
    appended: Vec<Appended>,
}

impl Batch {
    /// An empty batch, whose files have no name in `scratch` until they are named. It is on the
    /// file system of their targets.
    pub fn new(scratch: &Path) -> Batch {
        Batch { scratch: scratch.to_owned(), files: Vec::new(), appended: Vec::new() }
    }

    /// Adds a file that will be `target`, in the place of any file of that name.
    pub fn add(&mut self, target: PathBuf, bytes: Vec<u8>, mode: u32) {
        self.files.push((target, bytes, mode));
    }

    /// Adds files that were appended to.
    pub fn also(&mut self, appended: Vec<Appended>) {
        self.appended.extend(appended);
    }

    /// Makes it so; the file that was added last takes its name only when all others are durable
    /// under theirs.
    pub fn commit_then_last(mut self) -> Result<(), DurableError> {
        let last = self.files.pop().expect("there is a last one");
        let (target, bytes, mode) = &last;
        let more = [Wait::Write(&self.scratch, bytes, *mode)];
        let made = self.commit_with(&more)?.pop().flatten().expect("one file was to be written");
        fs::rename(&made.path, target)
            .map_err(|err| DurableError::new("rename to", target, err))?;
        sync_parent(target)
    }

    /// Makes it so, and waits for `more` at the same time. Gives what came of those.
    fn commit_with(&self, more: &[Wait<'_>]) -> Result<Vec<Option<NewFile>>, DurableError> {
        let appended = self.appended.iter().map(Wait::Appended);
        let files =
            self.files.iter().map(|(_, bytes, mode)| Wait::Write(&self.scratch, bytes, *mode));
        let mut waits: Vec<Wait<'_>> = appended.chain(files).collect();
        waits.extend(more.iter().copied());
        let mut done = wait_for_all(&waits)?;
        let rest = done.split_off(waits.len() - more.len());
        let mut folders: Vec<&Path> = self.appended.iter().filter_map(Appended::new_in).collect();
        for (file, (target, _, _)) in done.iter().flatten().zip(&self.files) {
            let folder = target.parent().unwrap_or(Path::new("."));
            if folders.last() != Some(&folder) {
                create_folder(folder, 0o755)?;
                folders.push(folder);
            }
            fs::rename(&file.path, target)
                .map_err(|err| DurableError::new("rename to", target, err))?;
        }
        folders.sort_unstable();
        folders.dedup();
        wait_for_all(&folders.into_iter().map(Wait::Folder).collect::<Vec<_>>())?;
        Ok(rest)
    }
}

/// Gives files of one folder their names, durably, each if no file has it. `also` reaches the
/// medium at the same time, and keeps its temporary name; so do the names that its folder has.
pub fn name_all(
    files: Vec<(NewFile, String)>,
    mode: u32,
    also: (&NewFile, u32),
) -> Result<Vec<Named>, DurableError> {
    let seals = files.iter().map(|(file, _)| Wait::Seal(file, mode));
    let folder = also.0.path.parent().expect("a file is in a folder");
    let others = [Wait::Seal(also.0, also.1), Wait::Folder(folder)];
    wait_for_all(&seals.chain(others).collect::<Vec<_>>())?;
    let named = files.iter().map(|(file, name)| file.take(name)).collect::<Result<_, _>>()?;
    match files.first() {
        Some((file, _)) => sync_parent(&file.path).map(|()| named),
        None => Ok(named),
    }
}

/// A file with bytes at its end that may not be on the medium yet.
#[derive(Debug)]
pub struct Appended {
    file: File,
    path: PathBuf,
    is_new: bool,
}

impl Appended {
    /// Waits until it is on the medium.
    pub fn wait(&self) -> Result<(), DurableError> {
        self.file.sync_all().map_err(|err| DurableError::new("fsync", &self.path, err))
    }

    fn new_in(&self) -> Option<&Path> {
        self.path.parent().filter(|_| self.is_new)
    }
}

/// Appends to the file `path`, whose good bytes end at `at`: what follows them is cut. Durable when
/// a [`Batch`] that has it is.
pub fn append(
    file: File,
    path: &Path,
    is_new: bool,
    at: u64,
    bytes: &[u8],
) -> Result<Appended, DurableError> {
    use std::os::unix::fs::FileExt;
    file.set_len(at).map_err(|err| DurableError::new("truncate", path, err))?;
    file.write_all_at(bytes, at).map_err(|err| DurableError::new("write", path, err))?;
    Ok(Appended { file, path: path.to_owned(), is_new })
}

/// Something to wait for the medium with.
#[derive(Clone, Copy)]
enum Wait<'a> {
    Write(&'a Path, &'a [u8], u32),
    Seal(&'a NewFile, u32),
    Appended(&'a Appended),
    Folder(&'a Path),
}

impl Wait<'_> {
    /// Gives the file that was made, if one was.
    fn wait(&self) -> Result<Option<NewFile>, DurableError> {
        match self {
            Self::Write(scratch, bytes, mode) => {
                let new = filled(scratch, bytes)?;
                new.seal(*mode)?;
                return Ok(Some(new));
            }
            Self::Seal(file, mode) => file.seal(*mode)?,
            Self::Appended(appended) => appended.wait()?,
            Self::Folder(folder) => sync_folder(folder)?,
        }
        Ok(None)
    }
}

/// Threads that wait for the medium together: it serves several as fast as one.
const WAITERS_MAX: usize = 8;

/// What each wait gave, in their order.
fn wait_for_all(waits: &[Wait<'_>]) -> Result<Vec<Option<NewFile>>, DurableError> {
    let Some((first, rest)) = waits.split_first() else { return Ok(Vec::new()) };
    let share = rest.len().div_ceil(WAITERS_MAX - 1).max(1);
    std::thread::scope(|scope| {
        let each = |waits: &[Wait<'_>]| waits.iter().map(Wait::wait).collect::<Result<Vec<_>, _>>();
        let waiting: Vec<_> =
            rest.chunks(share).map(|waits| scope.spawn(move || each(waits))).collect();
        let own = first.wait();
        let others: Vec<_> =
            waiting.into_iter().map(|thread| thread.join().expect("it only waits")).collect();
        let mut done = vec![own?];
        for other in others {
            done.extend(other?);
        }
        Ok(done)
    })
}

/// Makes a folder and those above it that are missing, durably.
pub fn create_folder(path: &Path, mode: u32) -> Result<(), DurableError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folder(parent, mode)?;
    }
    match fs::create_dir(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other.map_err(|err| DurableError::new("create the folder", path, err))?,
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|err| DurableError::new("set the mode of", path, err))?;
    sync_parent(path)
}

/// Removes the temporary files in `folder` whose writers are gone.
pub fn sweep(folder: &Path) -> Result<(), DurableError> {
    let failed = |err| DurableError::new("list", folder, err);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            continue;
        }
        let path = entry.path();
        // Gone meanwhile, or not ours to open: leave it.
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            fs::remove_file(&path).map_err(|err| DurableError::new("remove", &path, err))?;
        }
    }
    Ok(())
}

/// A lock between processes, released on drop, and by the kernel when its holder dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock file `path` to be free, and holds it.
    pub fn take(path: &Path) -> Result<Lock, DurableError> {
        let file = Lock::open(path)?;
        file.lock().map_err(|err| DurableError::new("lock", path, err))?;
        Ok(Lock { _file: file })
    }

    /// As [`Lock::take`], and gives up after `patience`.
    pub fn take_within(path: &Path, patience: Duration) -> Result<Lock, DurableError> {
        let file = Lock::open(path)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if began.elapsed() < patience => {
                    std::thread::sleep(LOCK_LOOK_AGAIN);
                }
                Err(err) => return Err(DurableError::new("lock", path, err.into())),
            }
        }
    }

    fn open(path: &Path) -> Result<File, DurableError> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|err| DurableError::new("open", path, err))
    }
}

/// How often a lock that is held by another is looked at.
const LOCK_LOOK_AGAIN: Duration = Duration::from_micros(200);

fn sync_parent(path: &Path) -> Result<(), DurableError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Makes durable which names a folder has.
pub fn sync_folder(folder: &Path) -> Result<(), DurableError> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|err| DurableError::new("fsync the folder", folder, err))
}

/// An I/O error with what was being done, and to which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct DurableError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl DurableError {
    /// `source` happened while doing `action` to `path`.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> DurableError {
        DurableError { action, path: path.to_owned(), source }
    }

    /// What the operating system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let new = NewFile::create(folder.path()).unwrap();
        new.file().write_all(b"half").unwrap();
        drop(new);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        write(folder.path(), "name", b"first", 0o440).unwrap();
        write(folder.path(), "name", b"second", 0o440).unwrap();
        assert_eq!(fs::read(folder.path().join("name")).unwrap(), b"second");
        let mode = fs::metadata(folder.path().join("name")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o440);
    }

    #[test]
    fn a_taken_name_keeps_its_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write_new(folder.path(), "name", b"first", 0o440).unwrap(), Named::New);
        assert_eq!(write_new(folder.path(), "name", b"second", 0o440).unwrap(), Named::Taken);
        assert_eq!(fs::read(folder.path().join("name")).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_files_of_dead_writers_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let alive = NewFile::create(folder.path()).unwrap();
        fs::write(folder.path().join(".new-1-dead"), b"left behind").unwrap();
        fs::write(folder.path().join("manifest"), b"not temporary").unwrap();
        sweep(folder.path()).unwrap();
        assert!(alive.path().exists());
        assert!(!folder.path().join(".new-1-dead").exists());
        assert!(folder.path().join("manifest").exists());
    }

    #[test]
    fn an_error_says_what_was_done_and_to_which_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let error = write(&missing, "name", b"", 0o440).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("cannot create ") && said.contains("missing"), "{said}");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn folders_are_made_with_those_above_them_and_left_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c");
        create_folder(&path, 0o750).unwrap();
        for made in ["a", "a/b", "a/b/c"] {
            let mode = fs::metadata(folder.path().join(made)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o750, "{made}");
        }
        create_folder(&path, 0o700).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o750);
        fs::write(folder.path().join("file"), b"").unwrap();
        let error = create_folder(&folder.path().join("file/below"), 0o750).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_lock_is_held_by_one_and_waited_for_no_longer_than_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::take(&path).unwrap();
        let patience = Duration::from_millis(20);
        let began = Instant::now();
        let refused = Lock::take_within(&path, patience).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(began.elapsed() >= patience);
        drop(held);
        let taken = Lock::take_within(&path, Duration::ZERO).unwrap();
        assert!(Lock::take_within(&path, Duration::ZERO).is_err());
        drop(taken);
        assert!(Lock::take(&path).is_ok());
    }

    #[test]
    fn what_is_appended_follows_the_good_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("name");
        fs::write(&path, b"good torn").unwrap();
        let file = || OpenOptions::new().write(true).open(&path).unwrap();
        let appended = append(file(), &path, false, 5, b"more").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"good more");
        assert_eq!(appended.new_in(), None);
        let appended = append(file(), &path, true, 0, b"x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
        assert_eq!(appended.new_in(), Some(folder.path()));
    }

    /// Every file under its name, with its mode, in folders that were not there, and the last one
    /// too; nothing else stays.
    #[test]
    fn a_batch_names_all_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut batch = Batch::new(root);
        for number in 0..20 {
            let target = root.join(format!("{}/{number}", number % 3));
            batch.add(target, vec![number; 3], 0o440);
        }
        batch.add(root.join("last"), b"last".to_vec(), 0o400);
        batch.commit_then_last().unwrap();
        for number in 0..20 {
            let path = root.join(format!("{}/{number}", number % 3));
            assert_eq!(fs::read(&path).unwrap(), [number; 3]);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o440);
        }
        assert_eq!(fs::read(root.join("last")).unwrap(), b"last");
        assert_eq!(fs::metadata(root.join("last")).unwrap().mode() & 0o777, 0o400);
        assert_eq!(fs::read_dir(root).unwrap().count(), 4);
    }

    #[test]
    fn names_are_given_together_and_each_that_is_taken_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("b"), b"old").unwrap();
        let also = filled(root, b"also").unwrap();
        let files = ["a", "b"].map(|name| (filled(root, name.as_bytes()).unwrap(), name.into()));
        let named = name_all(files.into(), 0o440, (&also, 0o444)).unwrap();
        assert_eq!(named, [Named::New, Named::Taken]);
        assert_eq!(fs::read(root.join("a")).unwrap(), b"a");
        assert_eq!(fs::read(root.join("b")).unwrap(), b"old");
        assert_eq!(fs::metadata(also.path()).unwrap().mode() & 0o777, 0o444);

        let (target, link) = (root.join("current"), root.join("all"));
        also.replace_and_link(&target, &link).unwrap();
        assert_eq!(
            (fs::read(&target).unwrap(), fs::read(&link).unwrap()),
            (b"also".to_vec(), b"also".to_vec())
        );
        let next = filled(root, b"next").unwrap();
        next.replace_and_link(&target, &link).unwrap();
        assert_eq!(
            (fs::read(&target).unwrap(), fs::read(&link).unwrap()),
            (b"next".to_vec(), b"also".to_vec())
        );
        let next = filled(root, b"none").unwrap();
        let error = next.replace_and_link(&target, &root.join("missing/all")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
