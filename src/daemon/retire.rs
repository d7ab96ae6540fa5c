//! Lets go of what was served, once nobody reads it any more.
//!
//! Unmapping gigabytes takes milliseconds, which no worker has. So a thread holds every generation
//! that was swapped out until it is the last to do so, and it is that thread which drops it.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::sync::mpsc::{self, Sender};
use super::sync::{limit, pause, thread};
use crate::store::{Generation, Layer};

/// How often it is looked whether a generation has lost its last reader. A tick of a worker is a
/// millisecond or two.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long the next generation waits for that.
const RETIRES_WITHIN: Duration = limit(Duration::from_secs(5));

/// What was served and may still be read.
pub(super) struct Retiring {
    queue: Sender<Arc<Generation>>,
    /// The base that was served before, while its map may still be there. Generations are let go of
    /// in their order: when it is gone, so are those before it.
    base: Weak<Layer>,
}

impl Retiring {
    /// Starts the thread, which ends when this is dropped and all that was retired is gone.
    pub(super) fn start() -> io::Result<Retiring> {
        let (queue, retired) = mpsc::channel::<Arc<Generation>>();
        let body = move || {
            for generation in retired {
                while Arc::strong_count(&generation) > 1 {
                    pause(LOOK_AGAIN);
                }
            }
        };
        thread::Builder::new().name("retire".to_owned()).spawn(body)?;
        Ok(Retiring { queue, base: Weak::new() })
    }

    /// Takes what was served until `served` took its place, which may be the same, served on under
    /// another policy: then there is nothing to let go of.
    pub(super) fn retire(&mut self, old: &Arc<Generation>, served: Option<&Arc<Generation>>) {
        if served.is_some_and(|served| Arc::ptr_eq(served, old)) {
            return;
        }
        if served.is_none_or(|served| !Arc::ptr_eq(served.base(), old.base())) {
            self.base = Arc::downgrade(old.base());
        }
        let _ = self.queue.send(Arc::clone(old));
    }

    /// Never more than two bases in memory: the one before the served one goes first.
    pub(super) fn wait(&self) {
        let began = Instant::now();
        while self.base.strong_count() > 0 && began.elapsed() < RETIRES_WITHIN {
            pause(LOOK_AGAIN);
        }
    }
}
