//! Which signers are trusted, for what, and until when: `policy.toml`.
//!
//! The policy is never read from inside a store: whoever can replace the tables must not be able
//! to replace what they are judged by. It is public, and the same on the host that issues and on
//! every host that verifies.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::signers::VerifierKey;
use crate::time::{from_rfc3339, to_rfc3339};
use crate::token::{Domain, DomainKey, Prefix};

/// The largest policy that is read.
pub const POLICY_BYTES_MAX: u64 = 64 << 10;
/// How long a manifest may live when a policy does not say otherwise.
pub const LIFETIME_DAYS_DEFAULT: u32 = 7;
/// Most signers of a policy.
pub const SIGNERS_MAX: usize = 64;

/// A policy, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// First line of every note, before the slash and what kind of note it is.
    pub origin: String,
    /// Key and prefix of the deployment; `foreign` is for the table to say.
    pub domain: Domain,
    /// The epoch that manifests must be of.
    pub epoch: u64,
    /// The least generation that is accepted.
    pub generation_floor: u64,
    /// What to do when a manifest has expired.
    pub stale: Stale,
    /// The longest time from a manifest's `issued` to its `expires`, in seconds.
    pub lifetime_s_max: i64,
    /// How many witnesses must have cosigned a checkpoint before an audit calls it clean.
    pub witnesses_min: u32,
    /// The trusted signers.
    pub signers: Vec<TrustedSigner>,
}

/// What to do with a generation whose manifest has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stale {
    /// Answer `unavailable`.
    Refuse,
    /// Answer from it, and say with every answer that it is stale.
    ServeFlagged,
}

/// A signer and what it is trusted for.
#[derive(Clone, Debug, PartialEq)]
pub struct TrustedSigner {
    /// Its key.
    pub key: VerifierKey,
    /// What it may sign.
    pub roles: Vec<Role>,
    /// Trusted from this Unix second on.
    pub valid_from: Option<i64>,
    /// Trusted until before this Unix second.
    pub valid_until: Option<i64>,
}

/// What a signer may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Manifests.
    Build,
    /// Revocations notes.
    Revoke,
    /// Checkpoints of the ledger.
    Ledger,
    /// Cosignatures of checkpoints.
    Witness,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Revoke => "revoke",
            Self::Ledger => "ledger",
            Self::Witness => "witness",
        })
    }
}

impl Policy {
    /// Reads a policy file.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        let file: File = toml::from_str(text).map_err(|err| PolicyError::Toml(Box::new(err)))?;
        if file.signer.len() > SIGNERS_MAX {
            return Err(PolicyError::Field { name: "signer", rule: "more than 64 of them" });
        }
        if file.origin.is_empty() || file.origin.chars().any(|c| c.is_whitespace() || c == '+') {
            let rule = "it must not be empty or have spaces or a plus sign";
            return Err(PolicyError::Field { name: "origin", rule });
        }
        if file.epoch == 0 {
            return Err(PolicyError::Field { name: "epoch", rule: "it begins at 1" });
        }
        let prefix: Prefix = file.prefix.parse().map_err(|_| PolicyError::Field {
            name: "prefix",
            rule: "2 to 10 lower-case letters and digits, a letter first",
        })?;
        let key = blake3::Hash::from_hex(&file.domain_key)
            .map_err(|_| PolicyError::Field { name: "domain_key", rule: "64 hex digits" })?;
        Ok(Policy {
            origin: file.origin,
            domain: Domain { key: DomainKey(*key.as_bytes()), prefix, foreign: None },
            epoch: file.epoch,
            generation_floor: file.generation_floor,
            stale: file.stale,
            witnesses_min: file.witnesses_min,
            lifetime_s_max: i64::from(file.manifest_lifetime_days_max) * 86_400,
            signers: file.signer.into_iter().map(TrustedSigner::of).collect::<Result<_, _>>()?,
        })
    }

    /// What [`Policy::parse`] reads.
    pub fn to_toml(&self) -> String {
        let file = File {
            origin: self.origin.clone(),
            prefix: self.domain.prefix.to_string(),
            domain_key: format!("{:?}", self.domain.key),
            epoch: self.epoch,
            generation_floor: self.generation_floor,
            stale: self.stale,
            witnesses_min: self.witnesses_min,
            manifest_lifetime_days_max: u32::try_from(self.lifetime_s_max / 86_400)
                .expect("made from days"),
            signer: self.signers.iter().map(SignerFile::of).collect(),
        };
        let body = toml::to_string(&file).expect("a policy is plain tables and strings");
        format!("{POLICY_BEGINS}{body}")
    }

    /// The signers that are trusted with `role` at that Unix second.
    pub fn trusted(&self, role: Role, now_unix_s: i64) -> impl Iterator<Item = &VerifierKey> {
        self.signers
            .iter()
            .filter(move |signer| signer.roles.contains(&role) && signer.is_valid(now_unix_s))
            .map(|signer| &signer.key)
    }
}

const POLICY_BEGINS: &str = "\
# Who is trusted for what. The same file stands on the host that issues and on every host that
# verifies; it holds no secret. Roles: build, revoke, ledger, witness.
";

impl TrustedSigner {
    fn is_valid(&self, now_unix_s: i64) -> bool {
        self.valid_from.is_none_or(|from| from <= now_unix_s)
            && self.valid_until.is_none_or(|until| now_unix_s < until)
    }

    fn of(file: SignerFile) -> Result<TrustedSigner, PolicyError> {
        let time = |name, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => match from_rfc3339(&text) {
                Some((unix_s, _)) => Ok(Some(unix_s)),
                None => Err(PolicyError::Field { name, rule: "an RFC 3339 time with its offset" }),
            },
        };
        let key: VerifierKey = file.key.parse().map_err(|_| PolicyError::Field {
            name: "signer.key",
            rule: "a verifier key, name+id+base64",
        })?;
        // They sign different things with it, so neither can stand for the other.
        if file.roles.iter().any(|role| (*role == Role::Witness) != key.is_witness()) {
            let rule = "a witness has a key of type 4 (cosignature), all other roles one of type 1";
            return Err(PolicyError::Field { name: "signer.roles", rule });
        }
        Ok(TrustedSigner {
            key,
            roles: file.roles,
            valid_from: time("signer.valid_from", file.valid_from)?,
            valid_until: time("signer.valid_until", file.valid_until)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    origin: String,
    prefix: String,
    domain_key: String,
    epoch: u64,
    #[serde(default)]
    generation_floor: u64,
    #[serde(default = "stale_default")]
    stale: Stale,
    #[serde(default = "lifetime_default")]
    manifest_lifetime_days_max: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    witnesses_min: u32,
    #[serde(default)]
    signer: Vec<SignerFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignerFile {
    key: String,
    roles: Vec<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
}

impl SignerFile {
    fn of(signer: &TrustedSigner) -> SignerFile {
        SignerFile {
            key: signer.key.to_string(),
            roles: signer.roles.clone(),
            valid_from: signer.valid_from.map(to_rfc3339),
            valid_until: signer.valid_until.map(to_rfc3339),
        }
    }
}

fn stale_default() -> Stale {
    Stale::Refuse
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn lifetime_default() -> u32 {
    LIFETIME_DAYS_DEFAULT
}

/// Why a policy is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not TOML, or a field that is missing, misspelt or of another type.
    #[error("{}", .0.to_string().trim_end())]
    Toml(Box<toml::de::Error>),
    /// A field breaks a rule.
    #[error("`{name}`: {rule}")]
    Field {
        /// The field.
        name: &'static str,
        /// The rule.
        rule: &'static str,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::signers::Signer;

    fn sample() -> Policy {
        let key = Signer::generate("acme/adamant/build").unwrap().verifier_key();
        Policy {
            origin: "acme/adamant".to_owned(),
            domain: Domain {
                key: DomainKey([0xAB; 32]),
                prefix: "acme".parse().unwrap(),
                foreign: None,
            },
            epoch: 1,
            generation_floor: 3,
            stale: Stale::ServeFlagged,
            witnesses_min: 0,
            lifetime_s_max: 2 * 86_400,
            signers: vec![TrustedSigner {
                key,
                roles: vec![Role::Build, Role::Ledger],
                valid_from: Some(1_700_000_000),
                valid_until: Some(1_800_000_000),
            }],
        }
    }

    #[test]
    fn a_policy_survives_its_file() {
        let policy = sample();
        assert_eq!(Policy::parse(&policy.to_toml()).unwrap(), policy);
    }

    #[test]
    fn a_signer_is_trusted_for_its_roles_and_within_its_time() {
        let policy = sample();
        let count = |role, now| policy.trusted(role, now).count();
        assert_eq!(count(Role::Build, 1_700_000_000), 1);
        assert_eq!(count(Role::Build, 1_699_999_999), 0);
        assert_eq!(count(Role::Build, 1_799_999_999), 1);
        assert_eq!(count(Role::Build, 1_800_000_000), 0);
        assert_eq!(count(Role::Revoke, 1_750_000_000), 0);
    }

    #[test]
    fn a_role_is_called_as_it_is_written() {
        for role in [Role::Build, Role::Revoke, Role::Ledger, Role::Witness] {
            assert_eq!(format!("\"{role}\""), serde_json::to_string(&role).unwrap());
        }
    }

    #[test]
    fn wrong_fields_are_named() {
        let text = sample().to_toml();
        let refused = |from: &str, to: &str| {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "nothing replaced");
            Policy::parse(&changed).unwrap_err().to_string()
        };
        assert!(refused("epoch = 1", "epoch = 0").contains("`epoch`"));
        assert!(refused("epoch = 1", "epock = 1").contains("epock"));
        assert!(refused("\"acme\"", "\"a\"").contains("`prefix`"));
        assert!(refused("abab", "zz").contains("`domain_key`"));
        assert!(refused("serve-flagged", "serve").contains("serve"));
        assert!(refused("acme/adamant/build+", "acme/adamant/build-").contains("`signer.key`"));
        assert!(refused("2027-01-15", "2027-13-15").contains("`signer.valid_until`"));
        assert!(refused("\"build\"", "\"builder\"").contains("builder"));
    }

    #[test]
    fn what_a_policy_leaves_out_is_as_documented() {
        let signer = Signer::generate("a").unwrap().verifier_key();
        let text = format!(
            "origin = \"acme/adamant\"\nprefix = \"acme\"\ndomain_key = \"{}\"\nepoch = 1\n\
             [[signer]]\nkey = \"{signer}\"\nroles = [\"build\"]\n",
            "ab".repeat(32),
        );
        let policy = Policy::parse(&text).unwrap();
        assert_eq!(policy.stale, Stale::Refuse);
        assert_eq!(policy.lifetime_s_max, 7 * 86_400);
        assert_eq!((policy.generation_floor, policy.witnesses_min), (0, 0));
        assert_eq!((policy.signers[0].valid_from, policy.signers[0].valid_until), (None, None));
        assert_eq!(policy.trusted(Role::Build, i64::MIN).count(), 1);
        assert!(!policy.to_toml().contains("witnesses_min"));

        let asks = Policy { witnesses_min: 2, ..policy };
        assert_eq!(Policy::parse(&asks.to_toml()).unwrap(), asks);
    }

    #[test]
    fn an_origin_is_one_word_without_a_plus_sign() {
        for origin in ["", "acme adamant", "acme\tadamant", "acme+adamant"] {
            let refused =
                Policy::parse(&Policy { origin: origin.to_owned(), ..sample() }.to_toml());
            let said = refused.unwrap_err().to_string();
            assert!(said.starts_with("`origin`"), "{said}");
        }
    }

    #[test]
    fn a_policy_has_a_most_of_signers() {
        let with = |count| {
            let signers = vec![sample().signers[0].clone(); count];
            Policy::parse(&Policy { signers, ..sample() }.to_toml())
        };
        assert!(with(SIGNERS_MAX).is_ok());
        assert!(with(0).is_ok());
        assert!(with(SIGNERS_MAX + 1).unwrap_err().to_string().starts_with("`signer`"));
    }

    /// A witness has a key of another kind, and each kind is for its own roles.
    #[test]
    fn a_key_is_for_the_roles_of_its_kind() {
        let witness = crate::signers::tests::witness("w");
        let with = |key: &VerifierKey, roles: &[Role]| {
            let mut policy = sample();
            policy.signers[0].key = key.clone();
            policy.signers[0].roles = roles.to_vec();
            Policy::parse(&policy.to_toml()).map(|read| assert_eq!(read, policy))
        };
        let plain = sample().signers[0].key.clone();
        assert!(with(&plain, &[Role::Build, Role::Revoke, Role::Ledger]).is_ok());
        assert!(with(&witness, &[Role::Witness]).is_ok());
        for role in [Role::Build, Role::Revoke, Role::Ledger] {
            for refused in [
                with(&witness, &[role]),
                with(&witness, &[Role::Witness, role]),
                with(&plain, &[role, Role::Witness]),
            ] {
                let said = refused.unwrap_err().to_string();
                assert!(said.starts_with("`signer.roles`"), "{said}");
            }
        }
    }
}
