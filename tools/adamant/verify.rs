//! `adamant verify`: asks the daemon about a token.
//!
//! The token comes from standard input or a hidden prompt. As an argument it would stand in the
//! process list and in the shell's history, so there it is refused.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use adamant::claims::Requirement;
use adamant::client::{Answer, Client, DEFAULT_SOCKET, Evidence};
use adamant::time::to_rfc3339;
use adamant::token::TEXT_BYTES_MAX;
use anyhow::Context;
use serde_json::json;
use zeroize::Zeroizing;

use crate::{exit, output};

/// A person waits here, not a request.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Nothing, or - for standard input. Never a token
    from: Option<String>,
    /// Where the daemon listens
    #[arg(long, env = "ADAMANT_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// The kind that it must be of
    #[arg(long)]
    kind: Option<String>,
    /// The audience that it must be for
    #[arg(long)]
    audience: Option<String>,
    /// A scope that it must have; may be given several times
    #[arg(long)]
    scope: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    if arguments.from.as_deref().is_some_and(|from| from != "-") {
        let why = "a token must not be an argument: other users see it in the process list, and it \
                   stays in the shell's history. Pipe it in, or type it at the prompt. If it was a \
                   real token, rotate it";
        return Err(exit::Usage(why.to_owned()).into());
    }
    let token = read_token(arguments.from.is_none())?;
    let need = Requirement {
        kind: arguments.kind.clone(),
        audience: arguments.audience.clone(),
        scopes: arguments.scope.clone(),
    };
    let mut client = Client::with_timeout(&arguments.socket, TIMEOUT)
        .with_context(|| format!("cannot ask {}", arguments.socket.display()))?;
    let answer = client.verify_with_claims(token.trim_ascii_end(), &need)?;
    if json {
        print_json(&answer)?
    } else {
        print_plain(&answer)?
    }
    Ok(if answer.is_valid() { exit::OK } else { exit::NO })
}

fn read_token(may_prompt: bool) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if may_prompt && io::stdin().is_terminal() {
        return Ok(Zeroizing::new(rpassword::prompt_password("token: ")?.into_bytes()));
    }
    // One byte more than any token has, so that a longer text stays a longer text.
    let mut token = Zeroizing::new(Vec::with_capacity(TEXT_BYTES_MAX + 2));
    io::stdin().lock().take(TEXT_BYTES_MAX as u64 + 2).read_to_end(&mut token)?;
    Ok(token)
}

fn print_plain(answer: &Answer) -> anyhow::Result<()> {
    say!("{}", answer.verdict())?;
    match answer {
        Answer::Denied(denial) => {
            if let Some(id) = denial.id {
                say!("  id          {id}")?;
            }
            if let Some(evidence) = &denial.evidence {
                print_evidence(evidence)?;
            }
        }
        Answer::Valid(access) => {
            say!("  id          {}", access.id)?;
            if let Some(claims) = &access.claims {
                say!("  kind        {}", claims.kind)?;
                for (name, value) in [("subject", &claims.subject), ("audience", &claims.audience)]
                {
                    if !value.is_empty() {
                        say!("  {name:<10}  {value}")?;
                    }
                }
                if !claims.scopes.is_empty() {
                    say!("  scopes      {}", claims.scopes.join(" "))?;
                }
            }
            if let Some(expires) = access.expires_unix_s {
                say!("  expires     {}", to_rfc3339(expires))?;
            }
            print_evidence(&access.evidence)?;
        }
    }
    Ok(())
}

fn print_evidence(evidence: &Evidence) -> anyhow::Result<()> {
    let stale = if evidence.stale { ", STALE" } else { "" };
    say!("  generation  {}, {} s old{stale}", evidence.generation.number, evidence.age.as_secs())
}

fn print_json(answer: &Answer) -> anyhow::Result<()> {
    let mut value = json!({ "valid": answer.is_valid(), "verdict": answer.verdict().name() });
    let evidence = match answer {
        Answer::Denied(denial) => {
            if let Some(id) = denial.id {
                value["id"] = id.to_string().into();
            }
            denial.evidence
        }
        Answer::Valid(access) => {
            value["id"] = access.id.to_string().into();
            if let Some(expires) = access.expires_unix_s {
                value["expires"] = to_rfc3339(expires).into();
            }
            if let Some(claims) = &access.claims {
                value["kind"] = claims.kind.as_str().into();
                value["subject"] = claims.subject.as_str().into();
                value["audience"] = claims.audience.as_str().into();
                value["scopes"] = claims.scopes.clone().into();
                value["meta"] = claims.meta.as_str().into();
            }
            Some(access.evidence)
        }
    };
    if let Some(evidence) = evidence {
        value["epoch"] = evidence.generation.epoch.into();
        value["generation"] = evidence.generation.number.into();
        value["age_s"] = evidence.age.as_secs().into();
        value["stale"] = evidence.stale.into();
    }
    output::json(&value)
}
