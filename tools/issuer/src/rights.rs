//! Who may issue, revoke and read what: rules over the user and the groups of a peer. What no rule
//! allows is refused.
//!
//! ```toml
//! [[right]]
//! users = ["shop"]               # or numbers; with groups: either is enough
//! groups = []
//! may = ["issue", "revoke", "read"]
//! kinds = ["live", "test"]       # "*": any
//! audiences = ["orders"]         # "" stands for tokens without one
//! scopes = ["orders:read"]       # a token may have these and no others
//! ```
//!
//! To rotate a token takes the rights to revoke and to issue it.

use adamant::claims::Grant;
use adamant::peer::{Name, Peer, UnknownName, overflow_uid};
use serde::Deserialize;

/// The longest file of rules that is read.
pub(crate) const RIGHTS_BYTES_MAX: u64 = 256 << 10;
/// Any kind, audience or scope.
const ANY: &str = "*";

/// What can be asked of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Right {
    Issue,
    Revoke,
    Read,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    right: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    users: Vec<Name>,
    #[serde(default)]
    groups: Vec<Name>,
    may: Vec<Right>,
    kinds: Vec<String>,
    audiences: Vec<String>,
    scopes: Vec<String>,
}

/// All rules, their names resolved.
pub(crate) struct Rights(Vec<Resolved>);

struct Resolved {
    users: Vec<u32>,
    groups: Vec<u32>,
    extent: Extent,
}

/// What a rule allows.
#[derive(Clone, Debug)]
struct Extent {
    may: Vec<Right>,
    kinds: Vec<String>,
    audiences: Vec<String>,
    scopes: Vec<String>,
}

/// What one caller may; by default nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallerRights(Vec<Extent>);

impl Rights {
    /// Reads a file of rules.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Rights> {
        let file: File = toml::from_str(text)?;
        Ok(Rights(file.right.into_iter().map(Rule::resolve).collect::<Result<_, _>>()?))
    }

    /// What a peer with those groups may; `None`: nothing at all.
    pub(crate) fn of(&self, peer: &Peer, groups: &[u32]) -> Option<CallerRights> {
        if peer.uid == overflow_uid() {
            return None;
        }
        let fits = |rule: &&Resolved| {
            rule.users.contains(&peer.uid) || rule.groups.iter().any(|it| groups.contains(it))
        };
        let extents: Vec<Extent> =
            self.0.iter().filter(fits).map(|rule| rule.extent.clone()).collect();
        (!extents.is_empty()).then_some(CallerRights(extents))
    }
}

impl Rule {
    fn resolve(self) -> Result<Resolved, UnknownName> {
        Ok(Resolved {
            users: self.users.into_iter().map(Name::uid).collect::<Result<_, _>>()?,
            groups: self.groups.into_iter().map(Name::gid).collect::<Result<_, _>>()?,
            extent: Extent {
                may: self.may,
                kinds: self.kinds,
                audiences: self.audiences,
                scopes: self.scopes,
            },
        })
    }
}

impl CallerRights {
    /// Whether one rule allows that to tokens of that grant.
    pub(crate) fn allow(&self, right: Right, grant: &Grant) -> bool {
        self.0.iter().any(|extent| extent.allows(right, grant))
    }
}

impl Extent {
    fn allows(&self, right: Right, grant: &Grant) -> bool {
        let names = |list: &[String], text: &str| list.iter().any(|it| it == ANY || it == text);
        self.may.contains(&right)
            && names(&self.kinds, grant.kind.as_str())
            && names(&self.audiences, &grant.audience)
            && grant.scopes.iter().all(|scope| names(&self.scopes, scope))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn grant(kind: &str, audience: &str, scopes: &[&str]) -> Grant {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Grant::new(kind.parse().unwrap(), audience, scopes).unwrap()
    }

    #[test]
    fn what_no_rule_allows_is_refused() {
        let rights = Rights::parse(
            "[[right]]\nusers = [1000]\nmay = [\"issue\", \"read\"]\nkinds = [\"live\"]\n\
             audiences = [\"api\"]\nscopes = [\"a:read\", \"b\"]\n\
             [[right]]\ngroups = [50]\nmay = [\"revoke\"]\nkinds = [\"*\"]\naudiences = [\"*\"]\n\
             scopes = [\"*\"]\n",
        )
        .unwrap();
        let peer = |uid| Peer { uid, gid: uid, pid: 1 };
        let caller = rights.of(&peer(1000), &[1000]).unwrap();
        assert!(caller.allow(Right::Issue, &grant("live", "api", &["a:read"])));
        assert!(caller.allow(Right::Read, &grant("live", "api", &[])));
        for refused in [
            grant("test", "api", &["a:read"]),
            grant("live", "", &["a:read"]),
            grant("live", "other", &["a:read"]),
            grant("live", "api", &["a:read", "a:write"]),
        ] {
            assert!(!caller.allow(Right::Issue, &refused), "{refused:?}");
        }
        assert!(!caller.allow(Right::Revoke, &grant("live", "api", &[])));
        let member = rights.of(&peer(7), &[7, 50]).unwrap();
        assert!(member.allow(Right::Revoke, &grant("test", "", &["x"])));
        assert!(!member.allow(Right::Issue, &grant("test", "", &[])));
        assert!(rights.of(&peer(7), &[7]).is_none());
        assert!(rights.of(&peer(overflow_uid()), &[50]).is_none());
        assert!(Rights::parse("").unwrap().of(&peer(0), &[0]).is_none());
    }

    #[test]
    fn a_rule_says_what_it_allows_or_is_refused() {
        for (text, said) in [
            ("[[right]]\nusers = [1]\nmay = [\"issue\"]", "missing field `kinds`"),
            ("[[right]]\nusers = [1]\nmay = [\"all\"]\n", "unknown variant `all`"),
            ("[[rights]]\n", "unknown field `rights`"),
            (
                "[[right]]\nusers = [\"nobody here\"]\nmay = []\nkinds = []\naudiences = []\n\
                 scopes = []",
                "`nobody here` is not in /etc/passwd",
            ),
        ] {
            let found = Rights::parse(text).err().unwrap().to_string();
            assert!(found.contains(said), "{found}");
        }
    }
}
