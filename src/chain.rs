//! An error with its causes, on one line.

use std::error::Error;

/// What `err` says, and after a colon each what its causes say.
pub(crate) fn chain(err: &(dyn Error + 'static)) -> String {
    let mut said = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        said.push_str(": ");
        said.push_str(&err.to_string());
        cause = err.source();
    }
    said
}
