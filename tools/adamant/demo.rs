//! `adamant demo`.

#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> anyhow::Result<u8> {
    anyhow::bail!("not here yet")
}
