//! The real service beside a real daemon, over real sockets.

#![allow(clippy::unwrap_used)]

mod clients;
mod document;
mod load;
mod support;
mod tokens;
#[expect(dead_code, reason = "shared with the tests of the daemon, which use more of it")]
#[path = "../../../../tests/integration/web.rs"]
mod web;
