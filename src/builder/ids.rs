//! The ids of a table, looked through for one that stands twice.

use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use xxhash_rust::xxh3::xxh3_64;

use super::Rejects;
use super::read::Reject;
use crate::table::Sorter;
use crate::token::{ID_BYTES, TokenId};

/// A hash of the id, which spreads the sorter's buckets, and the id; the line follows.
const KEY_BYTES: usize = size_of::<u64>() + ID_BYTES;
/// Ids that are handed on at once.
const TOGETHER: usize = 8192;
/// Such that wait.
const WAITING: usize = 4;

type Id = [u8; ID_BYTES];

/// Takes ids, and sorts them on a thread of its own meanwhile.
pub(super) struct Ids {
    held: Vec<(Id, u64)>,
    ids: SyncSender<Vec<(Id, u64)>>,
    thread: JoinHandle<io::Result<Sorter>>,
}

impl Ids {
    /// Within about `memory_bytes`, with a scratch file in `folder` if need be.
    pub(super) fn new(memory_bytes: usize, folder: &Path) -> io::Result<Ids> {
        let (ids, taken) = sync_channel::<Vec<(Id, u64)>>(WAITING);
        let mut sorter = Sorter::new(KEY_BYTES, memory_bytes, folder);
        let sort = move || {
            for (id, line) in taken.into_iter().flatten() {
                let hash = xxh3_64(&id).to_be_bytes();
                sorter.push_parts(&[&hash, &id, &line.to_le_bytes()])?;
            }
            Ok(sorter)
        };
        let thread = thread::Builder::new().name("ids".to_owned()).spawn(sort)?;
        Ok(Ids { held: Vec::with_capacity(TOGETHER), ids, thread })
    }

    /// Takes the id of the token on that line; 0: of a generation before.
    pub(super) fn push(&mut self, id: Id, line: u64) {
        self.held.push((id, line));
        if self.held.len() == TOGETHER {
            self.hand_on(Vec::with_capacity(TOGETHER));
        }
    }

    /// Refuses the lines whose id stands on another one too.
    pub(super) fn check(mut self, rejects: &mut Rejects) -> io::Result<()> {
        self.hand_on(Vec::new());
        drop(self.ids);
        let sorter = self.thread.join().expect("to hash and to sort does not panic")?;
        let mut last: Option<(Id, u64)> = None;
        sorter.drain(&mut |item| {
            let (id, line) = item[size_of::<u64>()..].split_first_chunk().expect("as pushed");
            let line = u64::from_le_bytes(line.try_into().expect("as pushed"));
            if let Some((_, other)) = last.filter(|(last, _)| last == id) {
                rejects.push(twice(id, line, other));
            }
            last = Some((*id, line));
            Ok(())
        })
    }

    fn hand_on(&mut self, empty: Vec<(Id, u64)>) {
        // A thread that takes no more has failed; `check` says why.
        let _ = self.ids.send(std::mem::replace(&mut self.held, empty));
    }
}

fn twice(id: &[u8; ID_BYTES], line: u64, other: u64) -> Reject {
    let id = TokenId::from_bytes(*id).map_or_else(String::new, |id| id.to_string());
    let (line, other) = (line.max(other), line.min(other));
    let reason = if other == 0 {
        format!("id {id} was issued before with another value: one id, one value, for ever")
    } else {
        format!("id {id} stands on line {other} too, with another value")
    };
    Reject { line, reason }
}
