//! Exit codes (sysexits), and which error has which.

use std::io;

use adamant::builder::{BuildError, ReadError};
use adamant::client::CouldNotAsk;
use adamant::daemon::ServeError;
use adamant::durable::DurableError;
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
/// The operating system refused.
pub(crate) const IO: u8 = 74;
/// Lost a race; the same command may work now.
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

/// The exit code of the outermost error that has one.
pub(crate) fn code_of(err: &anyhow::Error) -> u8 {
    err.chain().find_map(code).unwrap_or(IO)
}

fn code(err: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if err.is::<Usage>() {
        return Some(USAGE);
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

fn of_build(err: &BuildError) -> Option<u8> {
    match err {
        BuildError::Rejected { .. } | BuildError::Empty | BuildError::Loss { .. } => Some(DATA),
        BuildError::Read(ReadError::Header(_)) | BuildError::OtherDomain => Some(DATA),
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
        StoreError::Overlay { .. } | StoreError::Gap { .. } | StoreError::DamagedInPlace { .. } => Some(DATA),
        StoreError::Policy { .. } | StoreError::Signer { .. } | StoreError::NoSigner { .. } => {
            Some(CONFIG)
        }
        StoreError::NoHome { .. } | StoreError::HomeExists { .. } | StoreError::Marks { .. } => {
            Some(CONFIG)
        }
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
