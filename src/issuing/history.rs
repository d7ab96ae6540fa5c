//! What the events of one token add up to.

use super::IssuingError;
use crate::ledger::{Event, Issued, What};
use crate::token::TokenId;

/// All events about a token, oldest first: an issue, and then what was done to it.
#[derive(Clone, Debug)]
pub struct History {
    /// The events with their indices.
    pub events: Vec<(u64, Event)>,
    state: State,
}

/// What a token is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What is frozen.
    pub issued: Issued,
    /// When trust ends, Unix seconds.
    pub doom: Option<i64>,
    /// The event that says so.
    pub revoked_by: Option<u64>,
    /// When that event was.
    revoked_on: i64,
    /// The event that made its subject forgotten.
    pub erased_by: Option<u64>,
}

impl State {
    /// The token as its issue made it.
    pub fn new(issued: Issued) -> State {
        State { issued, doom: None, revoked_by: None, revoked_on: 0, erased_by: None }
    }

    /// Takes the next event about the token.
    pub fn take(&mut self, index: u64, event: &Event) {
        match event.what {
            What::Revoke { at, .. } => {
                self.doom = Some(self.doom.map_or(at, |doom| doom.min(at)));
                self.revoked_by = Some(index);
                self.revoked_on = event.time;
            }
            What::Erase { .. } => self.erased_by = Some(index),
            _ => {}
        }
    }

    /// Whether the event that revoked it ended trust at once: no clock brings it back.
    pub fn is_dead_by_event(&self) -> bool {
        self.doom.is_some_and(|doom| doom <= self.revoked_on)
    }

    /// Whether it is revoked at that Unix second.
    pub fn is_dead(&self, now: i64) -> bool {
        self.doom.is_some_and(|doom| doom <= now)
    }

    /// One word for what it is at that Unix second.
    pub fn name(&self, now: i64) -> &'static str {
        if self.is_dead(now) {
            "revoked"
        } else if self.issued.not_before.is_some_and(|from| now < from) {
            "not_yet_valid"
        } else if self.issued.expires.is_some_and(|at| at <= now) {
            "expired"
        } else {
            "valid"
        }
    }
}

impl History {
    /// Follows the events of `id` back from the last one.
    pub(super) fn of(
        id: &TokenId,
        last: u64,
        read: impl Fn(u64) -> Result<Event, IssuingError>,
    ) -> Result<History, IssuingError> {
        let mut events = Vec::new();
        let mut next = Some(last);
        while let Some(index) = next {
            let event = read(index)?;
            if event.token() != Some(*id) {
                return Err(IssuingError::Unknown { id: *id });
            }
            // Downwards only, so that a chain ends whatever a ledger says.
            next = event.previous().filter(|previous| *previous < index);
            events.push((index, event));
        }
        events.reverse();
        let (_, first) = &events[0];
        let What::Issue(issued) = &first.what else {
            return Err(IssuingError::Unknown { id: *id });
        };
        let mut state = State::new(issued.clone());
        events[1..].iter().for_each(|(index, event)| state.take(*index, event));
        Ok(History { events, state })
    }

    /// What the token is now.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The event that issued it.
    pub fn first(&self) -> u64 {
        self.events[0].0
    }

    /// When it was issued, Unix seconds.
    pub fn issued_at(&self) -> i64 {
        self.events[0].1.time
    }

    /// The last event about it.
    pub fn last(&self) -> u64 {
        self.events[self.events.len() - 1].0
    }
}
