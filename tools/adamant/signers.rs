//! `adamant signers`: who is trusted for what, and how one signer follows another.
//!
//! A change is an event before it stands in the policy. Every host that verifies needs the new
//! policy before the old signer's time is over.

use std::path::PathBuf;

use adamant::durable;
use adamant::issuing::actor;
use adamant::ledger::{Origin, What};
use adamant::policy::{Policy, Role, TrustedSigner};
use adamant::signers::{Signer, VerifierKey};
use adamant::store::{Home, now_unix_s};
use adamant::time::{parse_span, to_rfc3339};
use serde_json::json;

use crate::{exit, ledger, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show the signers of the policy
    List {
        /// The home
        #[arg(long, env = "ADAMANT_HOME")]
        home: PathBuf,
    },
    /// Trust another signer: a new one, or one whose private half is elsewhere
    Add {
        /// The home
        #[arg(long, env = "ADAMANT_HOME")]
        home: PathBuf,
        /// What it may sign: build, revoke, ledger or witness
        #[arg(long, value_parser = parse_role)]
        role: Role,
        /// Its verifier key, when its private half is elsewhere
        #[arg(long)]
        key: Option<VerifierKey>,
    },
    /// Add a signer, and let those that have the role now retire
    Rotate {
        /// The home
        #[arg(long, env = "ADAMANT_HOME")]
        home: PathBuf,
        /// Whose successor it is: build, revoke or ledger
        #[arg(long, value_parser = parse_role)]
        role: Role,
        /// How long the old ones stay trusted: until every host has the new policy
        #[arg(long, default_value = "7d")]
        overlap: String,
    },
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    match &arguments.action {
        Action::List { home } => list(&Home::open(home)?, json)?,
        Action::Add { home: path, role, key } => {
            let home = Home::open(path)?;
            let mut policy = home.policy().clone();
            let added = add(path, &mut policy, *role, key.clone())?;
            change(path, &home, &policy, vec![added])?;
        }
        Action::Rotate { home: path, role, overlap } => {
            let overlap_s = parse_span(overlap)
                .ok_or_else(|| exit::Usage(format!("--overlap {overlap}: such as 7d or 12h")))?;
            let home = Home::open(path)?;
            let mut policy = home.policy().clone();
            let until = now_unix_s() + overlap_s;
            let mut changes = retire(&mut policy, *role, until);
            changes.push(add(path, &mut policy, *role, None)?);
            change(path, &home, &policy, changes)?;
            say!("the old ones are trusted until {}", to_rfc3339(until))?;
        }
    }
    Ok(exit::OK)
}

fn list(home: &Home, json: bool) -> anyhow::Result<()> {
    for signer in &home.policy().signers {
        let roles: Vec<String> = signer.roles.iter().map(ToString::to_string).collect();
        let until = signer.valid_until.map(to_rfc3339);
        if json {
            output::json(&json!({
                "key": signer.key.to_string(), "roles": roles,
                "valid_from": signer.valid_from.map(to_rfc3339), "valid_until": until,
            }))?;
        } else {
            let until = until.map_or_else(String::new, |until| format!("  until {until}"));
            say!("{}  {}{until}", roles.join(","), signer.key)?;
        }
    }
    Ok(())
}

/// A signer that the policy does not name yet; a new private half is on the disk before it is
/// trusted.
fn add(
    path: &std::path::Path,
    policy: &mut Policy,
    role: Role,
    key: Option<VerifierKey>,
) -> anyhow::Result<What> {
    let key = match key {
        Some(key) => key,
        None => {
            let signer = Signer::generate(&format!("{}/{role}", policy.origin))?;
            let key = signer.verifier_key();
            let id: String = key.id().iter().map(|byte| format!("{byte:02x}")).collect();
            let name = format!("{role}-{id}.key");
            durable::write(&path.join("signers"), &name, signer.to_file().as_bytes(), 0o600)?;
            key
        }
    };
    if policy.signers.iter().any(|signer| signer.key == key) {
        return Err(exit::Usage(format!("the policy names {key} already")).into());
    }
    let what = What::SignerAdded { key: key.to_string(), roles: vec![role.to_string()] };
    policy.signers.push(TrustedSigner {
        key,
        roles: vec![role],
        valid_from: None,
        valid_until: None,
    });
    Ok(what)
}

fn retire(policy: &mut Policy, role: Role, until: i64) -> Vec<What> {
    let of_role = policy.signers.iter_mut().filter(|signer| signer.roles == [role]);
    let serving = of_role.filter(|signer| signer.valid_until.is_none_or(|end| end > until));
    serving
        .map(|signer| {
            signer.valid_until = Some(until);
            What::SignerRetired { key: signer.key.to_string(), at: until }
        })
        .collect()
}

fn change(
    path: &std::path::Path,
    home: &Home,
    policy: &Policy,
    changes: Vec<What>,
) -> anyhow::Result<()> {
    let origin = Origin { actor: actor(), ..Origin::default() };
    let names: Vec<String> = changes.iter().map(in_words).collect();
    if home.has_ledger() {
        let mut registrar = ledger::open(home)?;
        for what in changes {
            registrar.signer(what, &origin)?;
        }
        registrar.commit()?;
    }
    durable::write(path, "policy.toml", policy.to_toml().as_bytes(), 0o644)?;
    for name in &names {
        say!("{name}")?;
    }
    say!("copy {} to every host that verifies", home.policy_path().display())
}

fn in_words(what: &What) -> String {
    match what {
        What::SignerAdded { key, roles } => format!("trusted for {}: {key}", roles.join(", ")),
        What::SignerRetired { key, at } => format!("retires at {}: {key}", to_rfc3339(*at)),
        _ => String::new(),
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    let roles = [Role::Build, Role::Revoke, Role::Ledger, Role::Witness];
    let found = roles.into_iter().find(|role| role.to_string() == text);
    found.ok_or_else(|| "one of build, revoke, ledger, witness".to_owned())
}
