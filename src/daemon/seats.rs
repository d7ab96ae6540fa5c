//! How many connections there may be, all together and of one user. Taken when a connection is
//! accepted, given back when it is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use super::sync::{Mutex, PoisonError};

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    all_max: usize,
    uid_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_uid: HashMap<u32, usize>,
}

/// The right of one connection to be there.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    uid: u32,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// There are as many connections as there may be.
    #[error("the daemon has all the connections that it takes: ask again later")]
    All,
    /// This user has as many as one may have.
    #[error("this user has all the connections that one may have: ask again later")]
    Uid,
}

impl Seats {
    pub(super) fn new(all_max: usize, uid_max: usize) -> Arc<Seats> {
        Arc::new(Seats { all_max, uid_max, taken: Mutex::default() })
    }

    pub(super) fn take(self: &Arc<Seats>, uid: u32) -> Result<Seat, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.all_max {
            return Err(Full::All);
        }
        let of_uid = taken.by_uid.entry(uid).or_default();
        if *of_uid >= self.uid_max {
            return Err(Full::Uid);
        }
        *of_uid += 1;
        taken.all += 1;
        Ok(Seat { seats: Arc::clone(self), uid })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(of_uid) = taken.by_uid.get_mut(&self.uid) {
            *of_uid -= 1;
            if *of_uid == 0 {
                taken.by_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_by_user_and_given_back() {
        let seats = Seats::new(3, 2);
        let first = seats.take(1).unwrap();
        let _second = seats.take(1).unwrap();
        assert_eq!(seats.take(1).unwrap_err(), Full::Uid);
        let third = seats.take(2).unwrap();
        assert_eq!(seats.take(3).unwrap_err(), Full::All);
        drop(first);
        let _fourth = seats.take(1).unwrap();
        drop(third);
        assert_eq!(seats.take(1).unwrap_err(), Full::Uid);
        assert!(!seats.taken.lock().unwrap().by_uid.contains_key(&2));
    }
}
