//! What commands print: JSON for programs, a few plain lines for people.
//!
//! `say!` and `tell!` take what `println!` takes, which would panic where nothing can be written.

use std::fmt;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line on standard output; a failure is the command's.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

/// Prints a line on standard error; where it cannot be written, nobody can be told so.
macro_rules! tell {
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}

pub(crate) fn line(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        // Whoever read our output has seen enough of it. The exit code still is the answer.
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context(UNWRITABLE),
    }
}

pub(crate) fn note(text: fmt::Arguments<'_>) {
    // In one piece, so that lines of several commands stay lines.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// What failed, when standard output did.
pub(crate) const UNWRITABLE: &str = "cannot write to standard output";

/// Prints one JSON object on a line.
pub(crate) fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    line(format_args!("{value}"))
}

/// A counter on standard error for work of over a second; nothing where that is no terminal.
pub(crate) fn counter(unit: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = format!("{{human_pos}} {unit}  {{per_sec}}  {{elapsed}}");
    if let Ok(style) = ProgressStyle::with_template(&style) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A number with its thousands apart: 1,000,000.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
