//! Who may ask what: rules over the user and the groups of a peer, as the kernel vouches for them.
//!
//! A peer is judged once, when it connects.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::claims::GrantView;
use crate::peer::{self, Name, Peer, UnknownName};
use crate::token::Kind;

/// All rules, in order.
#[derive(Clone, Debug)]
pub struct Callers {
    rules: Vec<Judged>,
    overflow_uid: u32,
}

/// A rule, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    sockets: Vec<PathBuf>,
    #[serde(default)]
    users: Vec<Name>,
    #[serde(default)]
    groups: Vec<Name>,
    operations: Vec<Operation>,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    audiences: Vec<String>,
}

/// What can be asked of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// VERIFY.
    Verify,
    /// VERIFY_TOKENS.
    VerifyTokens,
    /// Claims beside the verdicts.
    Claims,
    /// STATUS.
    Status,
}

/// A rule whose names are resolved.
#[derive(Clone, Debug)]
struct Judged {
    sockets: Vec<PathBuf>,
    users: Vec<u32>,
    groups: Vec<u32>,
    caller: Arc<Caller>,
}

/// What a caller may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    operations: Vec<Operation>,
    kinds: Vec<Kind>,
    audiences: Vec<String>,
}

impl Callers {
    /// Checks the rules, and resolves their names.
    pub(super) fn new(rules: Vec<Rule>, sockets: &[PathBuf]) -> Result<Callers, RuleError> {
        let rules = rules.into_iter().map(|rule| rule.check(sockets)).collect::<Result<_, _>>()?;
        Ok(Callers { rules, overflow_uid: peer::overflow_uid() })
    }

    /// What the peer of a connection to `socket` may; `None`: nothing.
    pub(super) fn judge(
        &self,
        socket: &Path,
        stream: &impl AsFd,
        peer: &Peer,
    ) -> Option<Arc<Caller>> {
        if peer.uid == self.overflow_uid {
            return None;
        }
        // Asked for once, and only if a rule is about groups.
        let mut groups: Option<Vec<u32>> = None;
        let fits = |rule: &&Judged| {
            let in_group = || {
                let groups = groups.get_or_insert_with(|| peer::groups(stream, peer));
                rule.groups.iter().any(|group| groups.contains(group))
            };
            (rule.sockets.is_empty() || rule.sockets.iter().any(|named| named == socket))
                && (rule.users.is_empty() || rule.users.contains(&peer.uid))
                && (rule.groups.is_empty() || { in_group }())
        };
        self.rules.iter().find(fits).map(|rule| Arc::clone(&rule.caller))
    }
}

impl Callers {
    /// What somebody at a loopback address may, of whom nothing is known; `None`: nothing. A rule
    /// must name the address, and no user or group.
    pub(super) fn judge_loopback(&self, address: SocketAddr) -> Option<Arc<Caller>> {
        let named = PathBuf::from(address.to_string());
        let fits = |rule: &&Judged| {
            rule.sockets.contains(&named) && rule.users.is_empty() && rule.groups.is_empty()
        };
        self.rules.iter().find(fits).map(|rule| Arc::clone(&rule.caller))
    }
}

impl Caller {
    /// A caller who may everything: the daemon itself.
    pub(super) fn anybody() -> Caller {
        let operations =
            vec![Operation::Verify, Operation::VerifyTokens, Operation::Claims, Operation::Status];
        Caller { operations, kinds: Vec::new(), audiences: Vec::new() }
    }

    pub(super) fn may(&self, operation: Operation) -> bool {
        self.operations.contains(&operation)
    }

    /// Whether some tokens are kept from the caller.
    pub(super) fn is_limited(&self) -> bool {
        !self.kinds.is_empty() || !self.audiences.is_empty()
    }

    /// Whether the caller may ask about tokens of that grant.
    pub(super) fn may_ask_about(&self, grant: &GrantView<'_>) -> bool {
        let has = |kind: &Kind| kind.as_str().as_bytes() == grant.kind();
        (self.kinds.is_empty() || self.kinds.iter().any(has))
            && (self.audiences.is_empty()
                || self.audiences.iter().any(|a| a.as_bytes() == grant.audience()))
    }
}

impl Rule {
    fn check(self, sockets: &[PathBuf]) -> Result<Judged, RuleError> {
        if let Some(other) = self.sockets.iter().find(|socket| !sockets.contains(socket)) {
            return Err(RuleError::Socket { path: other.clone() });
        }
        let kind = |kind: String| kind.parse().map_err(|_| RuleError::Kind { kind });
        Ok(Judged {
            users: self.users.into_iter().map(Name::uid).collect::<Result<_, _>>()?,
            groups: self.groups.into_iter().map(Name::gid).collect::<Result<_, _>>()?,
            caller: Arc::new(Caller {
                kinds: self.kinds.into_iter().map(kind).collect::<Result<_, _>>()?,
                audiences: self.audiences,
                operations: self.operations,
            }),
            sockets: self.sockets,
        })
    }
}

/// Why a rule is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A socket that is not listened on.
    #[error("{} is not one of `sockets`, `http_sockets` or `http_loopback`", path.display())]
    Socket {
        /// The path.
        path: PathBuf,
    },
    /// No such user or group.
    #[error(transparent)]
    Name(#[from] UnknownName),
    /// Not a kind of token.
    #[error("`{kind}` is no kind of token: 1 to 8 lower-case letters and digits")]
    Kind {
        /// As it was written.
        kind: String,
    },
}
