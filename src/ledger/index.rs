//! From a token's id, its digest, or a request's id to the last event about it. Made from the
//! ledger, never trusted beyond it, and made anew when it is missing.
//!
//! ```text
//! private/index/base     sorted rows of the oldest events
//! private/index/upper    sorted rows of later ones
//! private/index/tail     rows of the latest, as they came
//! ```
//!
//! | bytes | field of a sorted file | |
//! |------:|---|---|
//! | 8 | magic | `ADMI\r\n\x1a\n` |
//! | 4 | version | 1 |
//! | 4 | reserved | 0 |
//! | 8 | events that it covers, from the first on | little-endian |
//! | 8 | rows | little-endian |
//! | 32 | root of the ledger of that many events | |
//! | 24 each | rows: key (16 bytes), event (u64, little-endian) | ascending by key, one a key |
//!
//! A tail's row has the check in the top 16 bits of its event: it is appended without an fsync, and
//! rows that a crash has torn are read from the ledger again.
//!
//! Keys are hashes, so a row is found by its key's share of the key space and a short search from
//! there: no directory, 24 bytes a row, and a file opens at once at any size. A hit is confirmed by
//! the entry that it names.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, BufWriter, Read, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::event::{Event, What};
use super::tiles::Tiles;
use super::tree::{self, Hash};
use super::{LedgerError, read_event};
use crate::durable::{self, NewFile};
use crate::table::{Load, Map};
use crate::token::{Digest, TokenId};

const MAGIC: [u8; 8] = *b"ADMI\r\n\x1a\n";
const VERSION: u32 = 1;
/// Rows of a tail file: read and hashed by every command, 1 ms at most.
const TAIL_ROWS_MAX: usize = 16_384;
/// Rows that wait in memory during a long append: 48 MiB.
const HELD_ROWS_MAX: usize = 1 << 20;
/// The upper file moves down when it has this many rows, and this share of those below.
const UPPER_ROWS_MIN: u64 = 1 << 18;
const UPPER_SHARE: u64 = 8;
/// How often a guess is made better, and by how many rows a search begins to widen.
const REFINED: usize = 2;
const WIDENED: usize = 8;
/// Where a tail's row has its check, above an event that has 48 bits.
const CHECK_SHIFT: u32 = 48;
const EVENT_MASK: u64 = (1 << CHECK_SHIFT) - 1;

/// What a row is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// Of a token.
    pub fn id(id: &TokenId) -> Key {
        Key::of(b'i', &id.bytes())
    }

    /// Of a digest.
    pub fn digest(digest: &Digest) -> Key {
        Key::of(b'd', digest)
    }

    /// Of a manifest that was published.
    pub fn manifest(hash: &[u8; 32]) -> Key {
        Key::of(b'm', hash)
    }

    /// Of a request.
    pub fn request(request: &str) -> Key {
        Key::of(b'r', request.as_bytes())
    }

    fn of(kind: u8, bytes: &[u8]) -> Key {
        let hash = blake3::Hasher::new().update(&[kind]).update(bytes).finalize();
        Key(*hash.as_bytes().first_chunk().expect("16 of 32 bytes"))
    }
}

/// A key is a hash already.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The length of the array comes first, and decides nothing.
        if let Some(head) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*head);
        }
    }
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Row {
    key: [u8; 16],
    event: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    reserved: U32,
    events: U64,
    rows: U64,
    root: Hash,
}

const _: () = assert!(size_of::<Header>() == 64 && size_of::<Row>() == 24);

/// Makes the rows of events, in their order.
#[derive(Debug, Default)]
struct Rows {
    /// A request's row is that of its first event; those of one request follow each other.
    request: Option<String>,
}

impl Rows {
    fn each(&mut self, index: u64, event: &Event, mut add: impl FnMut(Key, u64)) {
        if let Some(id) = event.token() {
            add(Key::id(&id), index);
        }
        if let What::Issue(issued) = &event.what {
            add(Key::digest(&issued.digest), index);
        }
        if let What::Publish { manifest, .. } = &event.what {
            add(Key::manifest(manifest), index);
        }
        if event.origin.request != self.request {
            self.request.clone_from(&event.origin.request);
            if let Some(request) = &self.request {
                add(Key::request(request), index);
            }
        }
    }
}

/// A sorted file.
#[derive(Debug)]
struct Sorted {
    map: Map,
    events: u64,
}

impl Sorted {
    /// `None` when there is none, or none of this ledger.
    fn open(path: &Path, tiles: &mut Tiles) -> Result<Option<Sorted>, LedgerError> {
        let file = match File::open(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|err| LedgerError::io("open", path, err))?,
        };
        let map = Map::of(&file, Load::Lazy).map_err(|err| LedgerError::io("map", path, err))?;
        let Ok((header, rest)) = Header::ref_from_prefix(&map) else { return Ok(None) };
        let fits = header.magic == MAGIC
            && header.version.get() == VERSION
            && header.rows.get().checked_mul(24) == Some(rest.len() as u64)
            && header.events.get() <= tiles.size()
            && tree::root(header.events.get(), tiles)? == header.root;
        let events = header.events.get();
        Ok(fits.then_some(Sorted { map, events }))
    }

    fn rows(&self) -> &[Row] {
        <[Row]>::ref_from_bytes(&self.map[size_of::<Header>()..]).expect("checked by open")
    }

    fn get(&self, key: &Key) -> Option<u64> {
        let rows = self.rows();
        let count = rows.len() as u128;
        let head = u64::from_be_bytes(*key.0.first_chunk().expect("8 of 16 bytes"));
        let place = |head: u64| (u128::from(head) * count) >> 64;
        let mut guess = usize::try_from(place(head)).expect("a row");
        if rows.is_empty() {
            return None;
        }
        // Hashes stray from their share by the square root of the count; from a row near by, by
        // the square root of the distance.
        for _ in 0..REFINED {
            let found = u64::from_be_bytes(*rows[guess].key.first_chunk().expect("8 of 16 bytes"));
            let off = usize::try_from(place(head.abs_diff(found))).expect("rows");
            let next =
                if head >= found { guess.saturating_add(off) } else { guess.saturating_sub(off) };
            guess = next.min(rows.len() - 1);
        }
        // Widen until the key must lie between, then search.
        let (mut from, mut to, mut step) = (guess, guess, WIDENED);
        while from > 0 && rows[from].key > key.0 {
            from = from.saturating_sub(step);
            step *= 4;
        }
        step = WIDENED;
        while to < rows.len() && rows[to].key <= key.0 {
            to = to.saturating_add(step).min(rows.len());
            step *= 4;
        }
        let between = &rows[from..to];
        let at = between.binary_search_by(|row| row.key.cmp(&key.0)).ok()?;
        Some(between[at].event.get())
    }
}

/// The index of a ledger.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    base: Option<Sorted>,
    upper: Option<Sorted>,
    tail: HashMap<Key, u64, BuildHasherDefault<KeyHasher>>,
    /// Good bytes of the tail's file.
    tail_bytes: u64,
    /// Rows that are in the tail and not yet in its file.
    unwritten: Vec<(Key, u64)>,
    maker: Rows,
    /// Events that it covers.
    events: u64,
}

impl Index {
    /// Opens the index in `folder` and brings it up to all of `tiles`. What is missing, or of
    /// another ledger, is made from the entries; `progress` is told how far that is.
    pub fn open(
        folder: &Path,
        tiles: &mut Tiles,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Index, LedgerError> {
        durable::create_folder(folder, 0o700)?;
        let base = Sorted::open(&folder.join("base"), tiles)?;
        let below = base.as_ref().map_or(0, |base| base.events);
        let upper = Sorted::open(&folder.join("upper"), tiles)?;
        // One without what lies beneath it knows half.
        let upper = upper.filter(|upper| upper.events >= below && (base.is_some() || below == 0));
        let mut index = Index {
            folder: folder.to_owned(),
            events: upper.as_ref().map_or(below, |upper| upper.events),
            base,
            upper,
            tail: HashMap::default(),
            tail_bytes: 0,
            unwritten: Vec::new(),
            maker: Rows::default(),
        };
        index.read_tail(tiles.size())?;
        index.catch_up(tiles, progress)?;
        // So much is not read again by every command until the next event.
        if index.unwritten.len() > TAIL_ROWS_MAX / 4 {
            index.write(tiles)?;
        }
        Ok(index)
    }

    /// The last event about what `key` names; for a request, its first.
    pub fn get(&self, key: &Key) -> Option<u64> {
        let sorted = |file: &Option<Sorted>| file.as_ref().and_then(|file| file.get(key));
        let tail = self.tail.get(key).copied();
        tail.or_else(|| sorted(&self.upper)).or_else(|| sorted(&self.base))
    }

    /// As [`Index::get`], of the latest events alone.
    pub fn get_latest(&self, key: &Key) -> Option<u64> {
        self.tail.get(key).copied()
    }

    /// Where it is, for messages.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the next event.
    pub fn push(&mut self, index: u64, event: &Event) {
        assert_eq!(index, self.events, "events in their order");
        let (tail, unwritten) = (&mut self.tail, &mut self.unwritten);
        self.maker.each(index, event, |key, event| {
            tail.insert(key, event);
            unwritten.push((key, event));
        });
        self.events += 1;
    }

    /// Writes what was pushed: appended to the tail, or, when that is long, moved down. `tiles`
    /// has at least the events that were pushed.
    pub fn write(&mut self, tiles: &mut Tiles) -> Result<(), LedgerError> {
        if self.tail.len() > TAIL_ROWS_MAX {
            return self.move_down(tiles);
        }
        let path = self.folder.join("tail");
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|err| LedgerError::io("open", &path, err))?;
        let mut bytes = Vec::with_capacity(self.unwritten.len() * size_of::<Row>());
        for (key, event) in self.unwritten.drain(..) {
            let event = event | u64::from(check(&key, event)) << CHECK_SHIFT;
            bytes.extend_from_slice(Row { key: key.0, event: event.into() }.as_bytes());
        }
        // What a crash left after the good rows is cut, so that the rows stay one run.
        file.set_len(self.tail_bytes)
            .and_then(|()| file.write_all_at(&bytes, self.tail_bytes))
            .map_err(|err| LedgerError::io("write", &path, err))?;
        self.tail_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Whether so much waits in memory that [`Index::write`] is due.
    pub fn is_full(&self) -> bool {
        self.tail.len() > HELD_ROWS_MAX
    }

    fn read_tail(&mut self, size: u64) -> Result<(), LedgerError> {
        let path = self.folder.join("tail");
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|err| LedgerError::io("read", &path, err))?,
        };
        let whole = bytes.len() / size_of::<Row>() * size_of::<Row>();
        let rows = <[Row]>::ref_from_bytes(&bytes[..whole]).expect("whole rows");
        let mut good = Vec::with_capacity(rows.len());
        for row in rows {
            let (key, event) = (Key(row.key), row.event.get() & EVENT_MASK);
            let is_right = row.event.get() >> CHECK_SHIFT == u64::from(check(&key, event));
            let follows = good.last().is_none_or(|(_, last)| event >= *last);
            if !is_right || !follows || event >= size {
                break;
            }
            good.push((key, event));
        }
        let Some(&(_, last)) = good.last() else { return Ok(()) };
        // The last event may have more rows than were written: it is read again.
        good.truncate(good.partition_point(|(_, event)| *event < last));
        self.tail_bytes = (good.len() * size_of::<Row>()) as u64;
        let from = self.events;
        self.events = last.max(from);
        self.tail.extend(good.into_iter().filter(|(_, event)| *event >= from));
        Ok(())
    }

    fn catch_up(
        &mut self,
        tiles: &mut Tiles,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), LedgerError> {
        if self.events > 0 && self.events < tiles.size() {
            self.maker.request = read_event(tiles, self.events - 1)?.origin.request;
        }
        while self.events < tiles.size() {
            let bundle = tiles.bundle_of(self.events)?;
            for (index, entry) in bundle.entries() {
                if index < self.events || index >= tiles.size() {
                    continue;
                }
                let event = Event::parse(entry);
                let event = event.map_err(|source| LedgerError::Event { index, source })?;
                self.push(index, &event);
            }
            progress(self.events);
            if self.is_full() {
                self.write(tiles)?;
            }
        }
        Ok(())
    }

    /// Merges the tail into the upper file, and that into the base when it has become large.
    fn move_down(&mut self, tiles: &mut Tiles) -> Result<(), LedgerError> {
        let mut tail: Vec<(Key, u64)> = self.tail.drain().collect();
        tail.sort_unstable();
        self.unwritten.clear();
        let rows = |file: &Option<Sorted>| file.as_ref().map_or(0, |file| file.rows().len() as u64);
        let above = tail.len() as u64 + rows(&self.upper);
        let is_large = above >= UPPER_ROWS_MIN && above >= rows(&self.base) / UPPER_SHARE;
        let upper = self.upper.take();
        let empty: &[Row] = &[];
        let beneath = upper.as_ref().map_or(empty, |upper| upper.rows());
        let tail: Vec<Row> =
            tail.into_iter().map(|(key, event)| Row { key: key.0, event: event.into() }).collect();
        if is_large {
            let merged = merge(&tail, beneath).copied().collect::<Vec<_>>();
            let base = self.base.take();
            let beneath = base.as_ref().map_or(empty, |base| base.rows());
            self.write_sorted("base", merge(&merged, beneath), tiles)?;
            let _ = fs::remove_file(self.folder.join("upper"));
        } else {
            self.write_sorted("upper", merge(&tail, beneath), tiles)?;
        }
        let path = self.folder.join("tail");
        fs::write(&path, []).map_err(|err| LedgerError::io("empty", &path, err))?;
        self.tail_bytes = 0;
        self.base = Sorted::open(&self.folder.join("base"), tiles)?;
        self.upper = Sorted::open(&self.folder.join("upper"), tiles)?;
        Ok(())
    }

    fn write_sorted<'r>(
        &self,
        name: &str,
        rows: impl Iterator<Item = &'r Row>,
        tiles: &mut Tiles,
    ) -> Result<(), LedgerError> {
        let new = NewFile::create(&self.folder)?;
        let io = |err| LedgerError::io("write", &self.folder.join(name), err);
        let mut out = BufWriter::with_capacity(1 << 20, new.file());
        let mut header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            reserved: 0.into(),
            events: self.events.into(),
            rows: 0.into(),
            root: tree::root(self.events, tiles)?,
        };
        out.write_all(header.as_bytes()).map_err(io)?;
        let mut count = 0_u64;
        for row in rows {
            out.write_all(row.as_bytes()).map_err(io)?;
            count += 1;
        }
        out.flush().map_err(io)?;
        drop(out);
        header.rows.set(count);
        new.file().write_all_at(header.as_bytes(), 0).map_err(io)?;
        new.replace(name, 0o600)?;
        Ok(())
    }
}

/// Two sorted runs as one; of equal keys the row `above` stays.
fn merge<'r>(above: &'r [Row], below: &'r [Row]) -> impl Iterator<Item = &'r Row> {
    let (mut a, mut b) = (above.iter().peekable(), below.iter().peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(x), Some(y)) => match x.key.cmp(&y.key) {
            Ordering::Less => a.next(),
            Ordering::Greater => b.next(),
            Ordering::Equal => {
                b.next();
                a.next()
            }
        },
        (Some(_), None) => a.next(),
        (None, _) => b.next(),
    })
}

fn check(key: &Key, event: u64) -> u16 {
    let row = Row { key: key.0, event: event.into() };
    // Never 0, so that zeros are no row.
    (xxh3_64(row.as_bytes()) >> CHECK_SHIFT) as u16 | 1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        Key::of(b't', &number.to_le_bytes())
    }

    fn sorted(rows: &[(Key, u64)]) -> Vec<Row> {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows.into_iter().map(|(key, event)| Row { key: key.0, event: event.into() }).collect()
    }

    #[test]
    fn of_two_runs_the_upper_row_of_a_key_stays() {
        let below = sorted(&[(key(1), 1), (key(2), 2), (key(3), 3)]);
        let above = sorted(&[(key(2), 20), (key(4), 40)]);
        let mut events: Vec<u64> = merge(&above, &below).map(|row| row.event.get()).collect();
        events.sort_unstable();
        assert_eq!(events, [1, 3, 20, 40]);
        assert!(merge(&above, &below).map(|row| row.key).is_sorted());
    }

    #[test]
    fn a_sorted_file_finds_what_it_has_and_nothing_else() {
        for count in [0_u64, 1, 2, 63, 64, 65, 1000, 50_000] {
            let folder = tempfile::tempdir().unwrap();
            let mut tiles = Tiles::new(folder.path(), 0);
            let index = Index::open(folder.path(), &mut tiles, &mut |_| {}).unwrap();
            let rows = sorted(&(0..count).map(|i| (key(i), i)).collect::<Vec<_>>());
            index.write_sorted("base", rows.iter(), &mut tiles).unwrap();
            let base = Sorted::open(&folder.path().join("base"), &mut tiles).unwrap().unwrap();
            for i in 0..count {
                assert_eq!(base.get(&key(i)), Some(i));
            }
            for i in count..count + 1000 {
                assert_eq!(base.get(&key(i)), None);
            }
            assert_eq!(base.get(&Key([0; 16])), None);
            assert_eq!(base.get(&Key([255; 16])), None);
        }
    }
}
