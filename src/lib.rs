//! Adamant checks API tokens at memory speed, with no database, no cache and no TTL behind the
//! check.
//!
//! A builder turns a list of tokens into a *table*: one sorted, immutable, signed file of token
//! digests. The daemon maps it, swaps whole generations in atomically, and answers local services
//! over a Unix socket. A service needs the feature `client` and nothing else:
//!
//! ```no_run
//! use adamant::client::{Answer, Client};
//! use adamant::claims::Requirement;
//!
//! # fn main() -> Result<(), adamant::client::CouldNotAsk> {
//! let mut client = Client::connect("/run/adamant/adamant.sock")?;
//! let need = Requirement::any().scope("orders:read");
//! match client.verify(b"acme_live_1...", &need)? {
//!     Answer::Valid(access) => println!("welcome, {}", access.id),
//!     Answer::Denied(denial) => println!("no: {}", denial.verdict),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # The map, in reading order
//!
//! | module | what is in it | may use |
//! |---|---|---|
//! | [`time`] | seconds since 2020, the only clock of the formats | nothing |
//! | [`token`] | mint, parse, redact, digest | nothing |
//! | [`claims`] | kind, audience, scopes: canonical bytes, requirements | `token` |
//! | [`verdict`] | the one decision | `time`, `claims` |
//! | [`wire`] | frames, no I/O | `verdict`, `claims`, `token` |
//! | [`client`] | ask a daemon: blocking; from tokio, in tower and axum; a fake for tests | `wire` |
#![cfg_attr(
    feature = "store",
    doc = "
| [`durable`] | the only fsync, rename and lock | nothing |
| [`peer`], [`socket`], [`wiping`] | who is at the other end; a socket with a name; memory that is given back | nothing |
| [`note`], [`signers`] | signed notes, Ed25519 keys | nothing |
| [`policy`] | who is trusted for what | `signers` |
| [`table`] | the file: format, look-up, map, writer, sort, subjects | the above |
| [`ledger`] | events, their tree, proofs, the index of tokens | `table`, `note` |
| [`manifest`] | what a generation consists of | `note` |
| [`revocations`] | what kills tokens when nothing else can be published | `manifest` |
| [`store`] | the folder that travels: open, judge, publish | `manifest`, `table`, `policy` |
| [`builder`] | ledger range or token list -> tables + manifest | `store` |
| [`issuing`] | issue, revoke, rotate, import, erase | `builder`, `ledger` |
| [`audit`] | a store checked by somebody who trusts nobody | `builder`, `ledger` |
"
)]
#![cfg_attr(
    feature = "daemon",
    doc = "
| [`daemon`] | load, swap, answer frames and HTTP, drain | all of it |
"
)]
//!
//! # The laws, and the file that keeps each
//!
//! 1. A token never changes: `builder/merge.rs` refuses a changed frozen field.
//! 2. One id, one value, for ever: `table/sort.rs` and `builder/merge.rs`.
//! 3. Trust only shrinks: `builder/merge.rs` keeps the stricter of two generations, and
//!    `store/succession.rs` compares them before a daemon swaps.
//! 4. Rotation is issue and revoke: nothing in the crate can edit a record.
//! 5. A table is a pure function of what it was built from: `table/writer.rs`.
//! 6. A reader sees one whole generation: `daemon/live.rs`, and the order that `client` checks.
//! 7. No evidence, no answer: `daemon/loader.rs`.
//! 8. The verdict path takes no lock and allocates nothing per token: `daemon/worker.rs`,
//!    `table/lookup.rs`.

pub mod claims;
pub mod time;
pub mod token;
pub mod verdict;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod wire;

#[cfg(feature = "store")]
pub mod audit;
#[cfg(feature = "store")]
pub mod builder;
#[cfg(feature = "store")]
mod chain;
#[cfg(feature = "store")]
pub mod durable;
#[cfg(feature = "store")]
pub mod issuing;
#[cfg(feature = "store")]
pub mod ledger;
#[cfg(feature = "store")]
pub mod manifest;
#[cfg(feature = "store")]
pub mod note;
#[cfg(feature = "store")]
pub mod peer;
#[cfg(feature = "store")]
pub mod policy;
#[cfg(feature = "store")]
pub mod revocations;
#[cfg(feature = "store")]
pub mod signers;
#[cfg(feature = "store")]
pub mod socket;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "store")]
pub mod table;

#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "store")]
pub mod wiping;
