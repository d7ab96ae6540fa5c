//! Exit codes (sysexits), and which error has which.

use std::io;

use adamant::builder::{BuildError, ReadError};
use adamant::client::CouldNotAsk;
use adamant::daemon::ServeError;
use adamant::durable::DurableError;
use adamant::issuing::IssuingError;
use adamant::ledger::LedgerError;
use adamant::store::StoreError;

/// It worked; a token is valid.
pub(crate) const OK: u8 = 0;
/// The answer is no: the token is not valid.
pub(crate) const NO: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 64;
/// Bad data, or a bad signature.
pub(crate) const DATA: u8 = 65;
/// A file that should be read is not there.
pub(crate) const NO_INPUT: u8 = 66;
/// The daemon could not be asked.
pub(crate) const UNAVAILABLE: u8 = 69;
/// This request was made before; nothing was done.
pub(crate) const REPEATED: u8 = 73;
/// The operating system refused.
pub(crate) const IO: u8 = 74;
/// Lost a race, or recorded and not published; the same command, or any other, may work now.
pub(crate) const AGAIN: u8 = 75;
/// Not permitted.
pub(crate) const NOT_PERMITTED: u8 = 77;
/// The home or the policy is not as it should be.
pub(crate) const CONFIG: u8 = 78;

/// A mistake on the command line that clap cannot see.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Bad input that is no list.
#[derive(Debug)]
pub(crate) struct Data(pub(crate) String);

impl std::fmt::Display for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Data {}

/// Events are durable, and in no generation yet.
#[derive(Debug)]
pub(crate) struct Unpublished;

impl std::fmt::Display for Unpublished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("recorded in the ledger, but not published; `adamant publish`, or the next command, will publish it")
    }
}

impl std::error::Error for Unpublished {}

/// A request that was made before.
#[derive(Debug)]
pub(crate) struct Repeated {
    pub(crate) request: String,
    pub(crate) event: u64,
    pub(crate) ids: Vec<String>,
}

impl std::fmt::Display for Repeated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Repeated { request, event, ids } = self;
        write!(
            f,
            "request {request} was made before, by event {event}, about {}; nothing was done, and a token is shown only once",
            ids.join(", ")
        )
    }
}

impl std::error::Error for Repeated {}

/// Whether standard output was closed before all was written.
pub(crate) fn is_broken_pipe(err: &anyhow::Error) -> bool {
    let io = err.downcast_ref::<io::Error>();
    io.is_some_and(|err| err.kind() == io::ErrorKind::BrokenPipe)
}

/// The exit code of the outermost error that has one.
pub(crate) fn code_of(err: &anyhow::Error) -> u8 {
    // What a command says of an error goes before what the error says.
    if err.is::<Unpublished>() {
        return AGAIN;
    }
    if err.is::<Data>() {
        return DATA;
    }
    err.chain().find_map(code).unwrap_or(IO)
}

fn code(err: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if err.is::<Usage>() {
        return Some(USAGE);
    }
    if err.is::<Repeated>() {
        return Some(REPEATED);
    }
    if let Some(err) = err.downcast_ref::<IssuingError>() {
        return of_issuing(err);
    }
    if let Some(err) = err.downcast_ref::<LedgerError>() {
        return of_ledger(err);
    }
    if err.is::<CouldNotAsk>() {
        return Some(UNAVAILABLE);
    }
    if let Some(err) = err.downcast_ref::<BuildError>() {
        return of_build(err);
    }
    if let Some(err) = err.downcast_ref::<StoreError>() {
        return of_store(err);
    }
    if let Some(err) = err.downcast_ref::<DurableError>() {
        return Some(of_io(err.kind()));
    }
    if let Some(err) = err.downcast_ref::<ServeError>() {
        return Some(err.exit_code());
    }
    err.downcast_ref::<io::Error>().map(|err| of_io(err.kind()))
}

fn of_issuing(err: &IssuingError) -> Option<u8> {
    match err {
        IssuingError::Ledger(err) => of_ledger(err),
        IssuingError::Store(err) => of_store(err),
        IssuingError::Build(err) => of_build(err),
        IssuingError::Claims(_) | IssuingError::Time | IssuingError::Label => Some(USAGE),
        IssuingError::Randomness(_) => Some(IO),
        _ => Some(DATA),
    }
}

fn of_ledger(err: &LedgerError) -> Option<u8> {
    match err {
        LedgerError::Io { .. } | LedgerError::Durable(_) => None,
        LedgerError::Shorter { .. } | LedgerError::Forked { .. } => Some(CONFIG),
        _ => Some(DATA),
    }
}

fn of_build(err: &BuildError) -> Option<u8> {
    match err {
        BuildError::Rejected { .. } | BuildError::Empty | BuildError::Loss { .. } => Some(DATA),
        BuildError::Read(ReadError::Header(_)) | BuildError::OtherDomain => Some(DATA),
        BuildError::ListBuilt | BuildError::LedgerBuilt => Some(CONFIG),
        BuildError::Ledger(err) => of_ledger(err),
        BuildError::NotFirst { .. } => Some(USAGE),
        BuildError::NoPrevious { .. } => Some(NO_INPUT),
        BuildError::Store(err) => of_store(err),
        // A cause further down says more.
        _ => None,
    }
}

fn of_store(err: &StoreError) -> Option<u8> {
    match err {
        StoreError::Table { .. } | StoreError::File { .. } | StoreError::Refused { .. } => {
            Some(DATA)
        }
        StoreError::Overlay { .. } | StoreError::Gap { .. } | StoreError::DamagedInPlace { .. } => {
            Some(DATA)
        }
        StoreError::Policy { .. } | StoreError::Signer { .. } | StoreError::NoSigner { .. } => {
            Some(CONFIG)
        }
        StoreError::NoHome { .. } | StoreError::HomeExists { .. } | StoreError::Marks { .. } => {
            Some(CONFIG)
        }
        StoreError::Ledger(err) => of_ledger(err),
        StoreError::NoManifest { .. } => Some(NO_INPUT),
        StoreError::LostRace => Some(AGAIN),
        _ => None,
    }
}

fn of_io(kind: io::ErrorKind) -> u8 {
    match kind {
        io::ErrorKind::NotFound => NO_INPUT,
        io::ErrorKind::PermissionDenied => NOT_PERMITTED,
        _ => IO,
    }
}
