//! What the clients in other languages add to a question: each beside the same bytes over a bare
//! socket in the same language.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::programs::Program;
use crate::report::{Figure, Report};
use crate::settings::Settings;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    report.section("One question at a time, with claims, by clients in other languages");
    let folder = tempfile::tempdir()?;
    let (home, socket) = (folder.path().join("home"), folder.path().join("socket"));
    let home = home.to_str().context("a plain path")?;
    let adamant = Program::find()?;
    adamant.run(&["init", home, "--prefix", "bench"])?;
    let claims = ["--scope", "orders:read", "--audience", "api", "--subject", "customer-42"];
    let issue = ["issue", "--home", home, "--kind", "live"];
    let token = adamant.run(&[&issue[..], &claims].concat())?;
    let _daemon = adamant.serve(Path::new(home), &socket)?;
    crate::programs::connect(&socket)?;
    for (language, program, script) in
        [("Python", "python3", "verify.py"), ("Node", "node", "verify.mjs")]
    {
        if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("  {program} is missing: {language} is not measured");
            continue;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
        let mut command = Command::new(program);
        command.arg(script).arg(&socket).arg((settings.questions / 4).to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("it was piped")?.write_all(token.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "the {language} client failed");
        let found: Value = serde_json::from_slice(&output.stdout)?;
        let figure = |name: &str| Some(Figure::of(vec![found[name].as_f64()?]));
        let bare = figure("raw_us").context("no figure")?;
        report.base(&format!("{language}, the bare socket"), "us", &bare);
        let full = figure("client_us").context("no figure")?;
        report.figure(&format!("{language}, the client"), "us", &full, ("bare socket", &bare));
    }
    Ok(())
}
