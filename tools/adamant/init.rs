//! `adamant init HOME`: a home, and a first generation without tokens.

use std::path::PathBuf;

use adamant::builder::publish_empty;
use adamant::store::Home;
use adamant::token::Prefix;
use serde_json::json;

use crate::{exit, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder to make
    home: PathBuf,
    /// What tokens begin with: 2 to 10 lower-case letters and digits, a letter first
    #[arg(long)]
    prefix: Prefix,
    /// The name of the deployment in signed notes, such as example.com/adamant
    #[arg(long)]
    origin: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let origin = arguments.origin.clone();
    let origin = origin.unwrap_or_else(|| format!("{}/adamant", arguments.prefix));
    if origin.is_empty() || origin.contains(|c: char| c.is_whitespace() || c == '+') {
        let said = "--origin must not be empty or have spaces or a plus sign";
        return Err(exit::Usage(said.to_owned()).into());
    }
    let home = Home::init(&arguments.home, arguments.prefix, &origin)?;
    let published = publish_empty(&home)?;
    if json {
        output::json(&json!({
            "home": arguments.home,
            "policy": home.policy_path(),
            "store": home.store().root(),
            "generation": published.manifest.generation,
        }))?;
    } else {
        say!("home    {}", arguments.home.display())?;
        say!(
            "policy  {}  (public: copy it to every host that verifies)",
            home.policy_path().display()
        )?;
        say!("signer  {}  (private: keep it here)", arguments.home.join("signers").display())?;
        say!(
            "store   {}  generation {}",
            home.store().root().display(),
            published.manifest.generation
        )?;
    }
    Ok(exit::OK)
}
