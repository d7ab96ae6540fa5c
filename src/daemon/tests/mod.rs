//! What is served is changed by one thread and read by many: tried under thousands of schedules,
//! with the crate shuttle. `tools/check.sh schedules` builds and runs them; no other build does.
//!
//! Real are the store, the notes, the policy, the tables and their maps, the loader, its thread,
//! the thread that retires, and what answers. Left out are the sockets and what hints come from.
//! All steps between threads are in one order, as with sequentially consistent atomics; what
//! arc-swap does within a step is not looked into.

#![allow(clippy::unwrap_used)]

mod schedules;
mod world;
