//! Why a table or a subjects file is refused.

use std::io;

use super::format::{GRANTS_MAX, RECORDS_MAX, VERSION};

/// Each variant is one thing for an operator to do. The path is not in here: the caller knows it
/// and says it once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The file could not be read, mapped or written.
    #[error("cannot read or write it")]
    Io(#[from] io::Error),
    /// Too short, or it does not begin with the magic bytes: point at another file.
    #[error("not a table")]
    NotATable,
    /// Too short, or it does not begin with the magic bytes of a subjects file.
    #[error("not a subjects file")]
    NotSubjects,
    /// Written by another version: upgrade, or build again.
    #[error("table version {found}, this build reads {VERSION}")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// A part does not have the checksum that was taken when it was written: a torn write or bit
    /// rot. Fetch or build it again.
    #[error("the {part} is damaged: its checksum does not match")]
    Damaged {
        /// The part.
        part: &'static str,
    },
    /// A header field has a value that no writer writes.
    #[error("header field `{name}` has a value that this build does not accept")]
    Field {
        /// The field.
        name: &'static str,
    },
    /// The file was cut or added to: fetch or build it again.
    #[error("should be {expected} bytes, is {actual}")]
    Length {
        /// The length that the header asks for.
        expected: u64,
        /// The length of the file.
        actual: u64,
    },
    /// Bytes that belong to no section are not 0.
    #[error("bytes between the sections are not 0")]
    Padding,
    /// A record breaks a rule of the format: the builder that wrote it is at fault.
    #[error("record {rank}: {rule}")]
    Record {
        /// Rank of the record, from 0.
        rank: usize,
        /// The rule.
        rule: &'static str,
    },
    /// The directory does not lead to the records.
    #[error("line {bucket} of the directory is not that of the records")]
    Directory {
        /// The bucket.
        bucket: usize,
    },
    /// A grant breaks a rule of the format.
    #[error("grant {number}: {rule}")]
    Grant {
        /// Number of the grant, from 0.
        number: usize,
        /// The rule.
        rule: &'static str,
    },
    /// A subject breaks a rule of the format.
    #[error("subject of record {rank}: {rule}")]
    Subject {
        /// Rank of the record, from 0.
        rank: usize,
        /// The rule.
        rule: &'static str,
    },
    /// A table has no room for this many tokens.
    #[error("more than {RECORDS_MAX} tokens do not fit a table")]
    TooManyRecords,
    /// Kind, audience and scopes differ almost from token to token: something unique, such as a
    /// user's name, was put into a scope or an audience. It belongs into the subject.
    #[error("more than {GRANTS_MAX} different grants (kind, audience and scopes together)")]
    TooManyGrants,
}
