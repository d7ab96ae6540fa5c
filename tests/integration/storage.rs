//! A file system that keeps no more than it must: what a power cut may leave of the calls that a
//! program has made.
//!
//! - The bytes and the mode of a file are durable after an fsync of that file; the names of a folder
//!   after an fsync of that folder.
//! - What is not durable is there after the cut or it is not, each change for itself and in any
//!   order. ext4 and XFS keep the order of names; a file system that does not is allowed here.
//! - A rename is one change, durable with the folder of the new name: both journals do it whole.
//! - A write may be torn: a prefix of it, or some of its units of 512 bytes, in any order. Where the
//!   others should be are the bytes from before, or zeros where the file had none; and the length
//!   may be there without any of the bytes.
//! - An fsync covers what was done before it began, and counts when it has returned.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// What a device writes whole, or not.
const UNIT_BYTES: usize = 512;

/// A call that changes what is on the disk, or makes it durable. Paths are below the home.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Create {
        path: String,
        mode: u32,
    },
    MakeFolder {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    Write {
        path: String,
        at: usize,
        bytes: Arc<Vec<u8>>,
    },
    Cut {
        path: String,
        len: usize,
    },
    Mode {
        path: String,
        mode: u32,
    },
    /// With the moment at which it began.
    Sync {
        path: String,
        begun: usize,
    },
}

/// A file or a folder, whatever its names are.
type Node = usize;
const ROOT: Node = 0;
type Names = BTreeMap<(Node, String), Node>;

/// Names that change together, durable with `folder`.
#[derive(Clone)]
struct NameChange {
    at: usize,
    folder: Node,
    sets: Vec<((Node, String), Option<Node>)>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Arc<Vec<u8>>),
    Cut(usize),
    Mode(u32),
}

#[derive(Clone, Default)]
struct Content {
    is_folder: bool,
    bytes: Arc<Vec<u8>>,
    mode: u32,
    pending: Vec<(usize, Change)>,
}

/// What is durable, and what is not yet.
#[derive(Clone)]
pub(crate) struct Disk {
    nodes: Vec<Content>,
    /// What programs see.
    names: Names,
    durable: Names,
    pending: Vec<NameChange>,
    now: usize,
}

impl Disk {
    /// A folder as it is, all of it durable.
    pub(crate) fn of(folder: &Path) -> Disk {
        let root = Content { is_folder: true, ..Content::default() };
        let (names, durable) = (Names::new(), Names::new());
        let mut disk = Disk { nodes: vec![root], names, durable, pending: Vec::new(), now: 0 };
        disk.take_in(folder, ROOT, &mut BTreeMap::new());
        disk.durable = disk.names.clone();
        disk
    }

    /// `taken` has the node of each file by its inode: one may have several names.
    fn take_in(&mut self, folder: &Path, node: Node, taken: &mut BTreeMap<u64, Node>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, facts) = (entry.path(), entry.metadata().unwrap());
            let new = *taken.entry(facts.ino()).or_insert_with(|| {
                let is_folder = facts.is_dir();
                let bytes = if is_folder { Vec::new() } else { fs::read(&path).unwrap() };
                let (bytes, mode) = (Arc::new(bytes), facts.mode() & 0o7777);
                self.add(Content { is_folder, bytes, mode, pending: Vec::new() })
            });
            self.names.insert((node, entry.file_name().into_string().unwrap()), new);
            if facts.is_dir() {
                self.take_in(&path, new, taken);
            }
        }
    }

    fn add(&mut self, content: Content) -> Node {
        self.nodes.push(content);
        self.nodes.len() - 1
    }

    /// The node of a path, if programs see one there.
    fn node(&self, path: &str) -> Option<Node> {
        let mut steps = path.split('/').filter(|step| !step.is_empty());
        steps.try_fold(ROOT, |node, step| self.names.get(&(node, step.to_owned())).copied())
    }

    /// The folder of a path, and the name there.
    fn place(&self, path: &str) -> (Node, String) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.node(folder).expect("the call has succeeded"), name.to_owned())
    }

    /// Whether programs see something at a path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.node(path).is_some()
    }

    /// Makes a call at the moment `at`, which is later than all before.
    pub(crate) fn make(&mut self, at: usize, call: &Call) {
        self.now = at;
        match call {
            Call::Create { path, mode } => {
                let new = self.add(Content { mode: *mode, ..Content::default() });
                self.change_names(at, path, vec![(self.place(path), Some(new))]);
            }
            Call::MakeFolder { path } => {
                let new = self.add(Content { is_folder: true, ..Content::default() });
                self.change_names(at, path, vec![(self.place(path), Some(new))]);
            }
            Call::Rename { from, to } => {
                let node = self.node(from);
                let sets = vec![(self.place(from), None), (self.place(to), node)];
                self.change_names(at, to, sets);
            }
            Call::Link { from, to } => {
                self.change_names(at, to, vec![(self.place(to), self.node(from))]);
            }
            Call::Remove { path } => self.change_names(at, path, vec![(self.place(path), None)]),
            Call::Write { path, at: offset, bytes } => {
                self.change(at, path, Change::Write(*offset, Arc::clone(bytes)));
            }
            Call::Cut { path, len } => self.change(at, path, Change::Cut(*len)),
            Call::Mode { path, mode } => self.change(at, path, Change::Mode(*mode)),
            Call::Sync { path, begun } => {
                if let Some(node) = self.node(path) {
                    self.sync(node, *begun);
                }
            }
        }
    }

    fn change_names(&mut self, at: usize, of: &str, sets: Vec<((Node, String), Option<Node>)>) {
        let (folder, _) = self.place(of);
        set_all(&mut self.names, &sets);
        self.pending.push(NameChange { at, folder, sets });
    }

    /// A file that has no name is not there after a power cut, whatever is written to it.
    fn change(&mut self, at: usize, path: &str, change: Change) {
        if let Some(node) = self.node(path) {
            self.nodes[node].pending.push((at, change));
        }
    }

    fn sync(&mut self, node: Node, begun: usize) {
        let content = &mut self.nodes[node];
        let (done, later) = content.pending.drain(..).partition(|(at, _)| *at < begun);
        content.pending = later;
        let mut all = Choice::Everything;
        (content.bytes, content.mode) = after(content, &done, &mut all);
        let (done, later): (Vec<_>, Vec<_>) =
            self.pending.drain(..).partition(|change| change.folder == node && change.at < begun);
        self.pending = later;
        for change in done {
            set_all(&mut self.durable, &change.sets);
            // What came before of the same names, in a folder that had no fsync, is overtaken.
            for earlier in self.pending.iter_mut().filter(|earlier| earlier.at < change.at) {
                earlier
                    .sets
                    .retain(|(name, _)| !change.sets.iter().any(|(later, _)| later == name));
            }
        }
        self.pending.retain(|change| !change.sets.is_empty());
    }

    /// The moment of the last call.
    pub(crate) fn now(&self) -> usize {
        self.now
    }

    /// How many changes are not durable.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len() + self.nodes.iter().map(|content| content.pending.len()).sum::<usize>()
    }

    /// What the disk has after a power cut now.
    pub(crate) fn image(&self, choice: &mut Choice) -> Image {
        let mut names = self.durable.clone();
        for change in &self.pending {
            if choice.takes() {
                set_all(&mut names, &change.sets);
            }
        }
        let mut image = Image::default();
        self.walk(&names, ROOT, "", choice, &mut image, &mut BTreeMap::new());
        image
    }

    fn walk(
        &self,
        names: &Names,
        folder: Node,
        path: &str,
        choice: &mut Choice,
        image: &mut Image,
        written: &mut BTreeMap<Node, String>,
    ) {
        let inside = names.range((folder, String::new())..(folder + 1, String::new()));
        for ((_, name), &node) in inside {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let content = &self.nodes[node];
            if content.is_folder {
                image.0.push((path.clone(), Entry::Folder));
                self.walk(names, node, &path, choice, image, written);
            } else if let Some(first) = written.get(&node) {
                image.0.push((path, Entry::Link(first.clone())));
            } else {
                let (bytes, mode) = after(content, &content.pending, choice);
                written.insert(node, path.clone());
                image.0.push((path, Entry::File(bytes, mode)));
            }
        }
    }
}

fn set_all(names: &mut Names, sets: &[((Node, String), Option<Node>)]) {
    for (name, node) in sets {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

/// Bytes and mode of a file after those of the `changes` that the choice takes.
fn after(
    content: &Content,
    changes: &[(usize, Change)],
    choice: &mut Choice,
) -> (Arc<Vec<u8>>, u32) {
    let (mut bytes, mut mode) = (Arc::clone(&content.bytes), content.mode);
    for (_, change) in changes {
        match change {
            Change::Mode(new) if choice.takes() => mode = *new,
            Change::Cut(len) if choice.takes() => Arc::make_mut(&mut bytes).resize(*len, 0),
            Change::Write(at, new) => write(Arc::make_mut(&mut bytes), *at, new, choice),
            _ => {}
        }
    }
    (bytes, mode)
}

/// Writes `new` at `at`, as much of it as the choice takes.
fn write(bytes: &mut Vec<u8>, at: usize, new: &[u8], choice: &mut Choice) {
    let end = at + new.len();
    let mut put = |from: usize, to: usize| {
        bytes.resize(bytes.len().max(to), 0);
        bytes[from..to].copy_from_slice(&new[from - at..to - at]);
    };
    if choice.takes() {
        return put(at, end);
    }
    let Choice::Seeded { .. } = choice else { return };
    match choice.below(4) {
        0 => put(at, at + choice.below(new.len())),
        1 => {
            let mut from = at;
            while from < end {
                let to = end.min((from / UNIT_BYTES + 1) * UNIT_BYTES);
                if choice.below(2) == 0 {
                    put(from, to);
                }
                from = to;
            }
        }
        _ => {}
    }
    if choice.below(2) == 0 {
        bytes.resize(bytes.len().max(end), 0);
    }
}

/// Decides what of the changes that are not durable is there.
pub(crate) enum Choice {
    Nothing,
    Everything,
    /// Each with odds of `odds` in 8.
    Seeded {
        state: u64,
        odds: usize,
    },
}

impl Choice {
    pub(crate) fn seeded(seed: u64) -> Choice {
        let mut choice = Choice::Seeded { state: seed, odds: 0 };
        let drawn = [1, 3, 4, 6, 7][choice.below(5)];
        let Choice::Seeded { odds, .. } = &mut choice else { unreachable!("made above") };
        *odds = drawn;
        choice
    }

    fn takes(&mut self) -> bool {
        match *self {
            Choice::Nothing => false,
            Choice::Everything => true,
            Choice::Seeded { odds, .. } => self.below(8) < odds,
        }
    }

    /// A number below `end`, which is not 0; by SplitMix64.
    fn below(&mut self, end: usize) -> usize {
        let Choice::Seeded { state, .. } = self else { return 0 };
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from(mixed ^ (mixed >> 31)).expect("64 bits") % end.max(1)
    }
}

#[derive(Debug, Hash, PartialEq, Eq)]
enum Entry {
    Folder,
    File(Arc<Vec<u8>>, u32),
    /// Another name of the file at that path.
    Link(String),
}

/// Folders and files, each folder before what is in it.
#[derive(Debug, Default, Hash, PartialEq, Eq)]
pub(crate) struct Image(Vec<(String, Entry)>);

impl Image {
    /// Writes it into an empty folder.
    pub(crate) fn write_to(&self, folder: &Path) {
        for (path, entry) in &self.0 {
            let path = folder.join(path);
            match entry {
                Entry::Folder => fs::create_dir(&path).unwrap(),
                Entry::Link(first) => fs::hard_link(folder.join(first), &path).unwrap(),
                Entry::File(bytes, mode) => {
                    fs::write(&path, &**bytes).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
                }
            }
        }
    }

    /// The bytes of a file.
    pub(crate) fn file(&self, path: &str) -> Option<&Arc<Vec<u8>>> {
        let (_, entry) = self.0.iter().find(|(found, _)| found == path)?;
        match entry {
            Entry::File(bytes, _) => Some(bytes),
            Entry::Link(first) => self.file(first),
            Entry::Folder => None,
        }
    }

    /// What tells it from others.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Paths at which it has something else than `other`.
    pub(crate) fn differences(&self, other: &Image) -> Vec<String> {
        let of = |image: &Image| -> BTreeMap<String, String> {
            let text = |entry: &Entry| match entry {
                Entry::Folder => "a folder".to_owned(),
                Entry::Link(first) => format!("another name of {first}"),
                Entry::File(bytes, mode) => {
                    let mut hasher = DefaultHasher::new();
                    bytes.hash(&mut hasher);
                    format!("{} bytes ({:016x}), mode {mode:o}", bytes.len(), hasher.finish())
                }
            };
            image.0.iter().map(|(path, entry)| (path.clone(), text(entry))).collect()
        };
        let (ours, theirs) = (of(self), of(other));
        let all: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let said = |found: Option<&String>| found.map_or("nothing", String::as_str).to_owned();
        all.into_iter()
            .filter(|path| ours.get(*path) != theirs.get(*path))
            .map(|path| format!("{path}: {}, not {}", said(ours.get(path)), said(theirs.get(path))))
            .collect()
    }
}

/// Write, fsync, rename, fsync of the folder: each may only be left out together with what rests on
/// it.
#[test]
fn what_has_no_fsync_may_be_lost_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("name"), "old").unwrap();
    let (temporary, name) = (|| "new".to_owned(), || "name".to_owned());
    let bytes = Arc::new(vec![b'n'; 2 * UNIT_BYTES]);
    let steps = [
        Call::Create { path: temporary(), mode: 0o600 },
        Call::Write { path: temporary(), at: 0, bytes: Arc::clone(&bytes) },
        Call::Sync { path: temporary(), begun: 3 },
        Call::Rename { from: temporary(), to: name() },
        Call::Sync { path: String::new(), begun: 5 },
    ];
    let mut disk = Disk::of(folder.path());
    for (at, step) in (1..).zip(&steps) {
        disk.make(at, step);
        let images: Vec<Image> =
            (0..200).map(|seed| disk.image(&mut Choice::seeded(seed))).collect();
        let has = |path: &str, wanted: &[u8]| {
            let found = images.iter().filter_map(|image| image.file(path));
            found.filter(|found| found.as_slice() == wanted).count()
        };
        let (old, new) = (has("name", b"old"), has("name", &bytes));
        let in_sum = (old + new, has("new", &bytes));
        match at {
            1 => assert!(in_sum == (200, 0) && has("new", b"") > 20, "{in_sum:?}"),
            2 => {
                let there = images.iter().filter(|image| image.file("new").is_some()).count();
                let torn = there - has("new", b"") - in_sum.1;
                assert!(old == 200 && torn > 20 && in_sum.1 > 20, "{there} {torn} {in_sum:?}");
            }
            3 => assert!(old == 200 && in_sum.1 > 20, "{in_sum:?}"),
            // The new bytes are under either name, or have none; never a part of them.
            4 => assert!(in_sum.0 == 200 && old > 20 && new > 20, "{old} {new}"),
            _ => assert_eq!((new, disk.pending()), (200, 0)),
        }
    }
}
