//! Hints that something may have changed. Only hints: what they say is not believed.
//!
//! inotify follows the inode, so folders are watched and not files; its events are not looked at,
//! since a queue that overflowed reports no paths; and a slow poll finds what no event told.

use std::path::Path;
use std::sync::Arc;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::mpsc::{Receiver, SyncSender, sync_channel};
use super::systemd;

/// Fills the reconsider cell. A full cell stays full: one look sees all changes before it.
#[derive(Clone, Debug)]
pub struct Trigger {
    cell: SyncSender<()>,
    /// systemd waits to be told that the look it asked for has ended.
    pub(super) is_awaited: Arc<AtomicBool>,
}

impl Trigger {
    pub(super) fn new() -> (Trigger, Receiver<()>) {
        let (send, receive) = sync_channel(1);
        (Trigger { cell: send, is_awaited: Arc::default() }, receive)
    }

    /// Asks for a look at store and policy, soon.
    pub fn pull(&self) {
        let _ = self.cell.try_send(());
    }

    /// As [`Trigger::pull`], and systemd is told when the look has begun and ended.
    pub(super) fn pull_for_systemd(&self) {
        systemd::reloading();
        self.is_awaited.store(true, Ordering::Release);
        self.pull();
    }

    /// Whether systemd waits; it does not any more.
    pub(super) fn take_awaited(&self) -> bool {
        self.is_awaited.swap(false, Ordering::AcqRel)
    }
}

/// Watches the folders of manifest and policy while it lives.
pub(super) struct Watch {
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Where watching is not to be had, the poll remains.
    pub(super) fn start(store: &Path, policy: &Path, trigger: &Trigger) -> Watch {
        if cfg!(shuttle) {
            // Nothing is told from outside of a schedule.
            return Watch { _watcher: None };
        }
        match watch(store, policy, trigger.clone()) {
            Ok(watcher) => Watch { _watcher: Some(watcher) },
            Err(err) => {
                tracing::warn!(error = %err, "cannot watch the store; relying on the poll");
                Watch { _watcher: None }
            }
        }
    }
}

fn watch(store: &Path, policy: &Path, trigger: Trigger) -> notify::Result<RecommendedWatcher> {
    let heard = move |event: notify::Result<Event>| {
        // Looking at the files is an event too, and would be a reason to look again.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            trigger.pull();
        }
    };
    let mut watcher = notify::recommended_watcher(heard)?;
    watcher.watch(store, RecursiveMode::NonRecursive)?;
    let folder = policy.parent().filter(|folder| !folder.as_os_str().is_empty());
    watcher.watch(folder.unwrap_or(Path::new(".")), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
