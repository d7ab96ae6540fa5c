//! What the process gives up before it reads its first byte from outside: core dumps, and with
//! Landlock (Linux 5.13) every file that it does not need. systemd does more, and this holds where
//! there is none too.
//!
//! It is best effort, and said: what could not be given up is in the log and the status.

use std::io;
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::Config;

/// What the rules are written for. Older kernels enforce what they know of it.
const WRITTEN_FOR: ABI = ABI::V5;

/// How much of a sandbox there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Landlock holds all rules that this kernel knows.
    Landlock,
    /// There is no Landlock here.
    Nothing,
}

impl Sandbox {
    /// The word in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Nothing => "none",
        }
    }
}

/// No core of this process is written, and no other process of its user may look into it.
pub(super) fn forbid_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Gives up all files but those of `config`, for this thread and those that it starts: so it is
/// called before any is started.
pub(super) fn enter(config: &Config) -> Result<Sandbox, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_write(WRITTEN_FOR) | read;
    let sockets = AccessFs::MakeSock | AccessFs::RemoveFile | AccessFs::ReadDir;
    let beside = |paths: &[PathBuf]| paths.iter().map(|path| folder_of(path)).collect::<Vec<_>>();
    let bound = [beside(&config.sockets), beside(&config.http_sockets)].concat();
    // A store or a policy that is renamed into place is another file: so the folder around it.
    let around = [folder_of(&config.store), folder_of(&config.policy)];
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WRITTEN_FOR))?
        .create()?
        .add_rules(allow(&around, read))?
        .add_rules(allow(from_ref(&config.store), read))?
        // What the kernel tells of this process and of its limits.
        .add_rules(allow(&["/proc".into(), "/sys/fs/cgroup".into()], read))?
        // The descriptor in reserve.
        .add_rules(allow(&["/dev/null".into()], AccessFs::ReadFile.into()))?
        .add_rules(allow(from_ref(&config.state), write))?
        .add_rules(allow(&bound, sockets))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::NotEnforced => Sandbox::Nothing,
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Sandbox::Landlock,
    })
}

/// A rule for each path that is there; what is not there needs none.
fn allow(
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> impl Iterator<Item = Result<landlock::PathBeneath<landlock::PathFd>, RulesetError>> {
    path_beneath_rules(paths.to_vec(), access)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
