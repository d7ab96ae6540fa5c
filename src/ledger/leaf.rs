//! JSON as leaves are written: one object, fields in a fixed order, no spaces, numbers without sign
//! or fraction, and in a string no escape but `\"` and `\\`, since a leaf has no control characters.
//!
//! A general parser would read every text that means the same, and a build spends most of its time
//! here: this reads the one text that the writer writes, and refuses all others.

use std::borrow::Cow;

use super::event::EventError;
use crate::time::{from_rfc3339, to_rfc3339};
use crate::token::TokenId;

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Value of a byte that is no lower-case hexadecimal digit.
const NO_DIGIT: u8 = 0xFF;

const HEX_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0_u8;
    while (value as usize) < HEX.len() {
        values[HEX[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Writes a leaf, field by field.
pub(super) struct LeafWriter<'a>(&'a mut Vec<u8>);

impl<'a> LeafWriter<'a> {
    /// Begins with the schema.
    pub(super) fn begin(out: &'a mut Vec<u8>, schema: u32) -> LeafWriter<'a> {
        out.extend_from_slice(b"{\"schema\":");
        out.extend_from_slice(schema.to_string().as_bytes());
        LeafWriter(out)
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.string(text);
    }

    pub(super) fn optional_text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub(super) fn texts<'t>(&mut self, name: &str, texts: impl Iterator<Item = &'t str>) {
        self.name(name);
        self.0.push(b'[');
        for (at, text) in texts.enumerate() {
            if at > 0 {
                self.0.push(b',');
            }
            self.string(text);
        }
        self.0.push(b']');
    }

    pub(super) fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.0.extend_from_slice(number.to_string().as_bytes());
    }

    pub(super) fn time(&mut self, name: &str, unix_s: i64) {
        self.text(name, &to_rfc3339(unix_s));
    }

    pub(super) fn id(&mut self, name: &str, id: TokenId) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(&id.chars());
        self.0.push(b'"');
    }

    pub(super) fn hash(&mut self, name: &str, hash: &[u8; 32]) {
        self.name(name);
        let mut hex = [b'"'; 66];
        for (two, byte) in hex[1..65].as_chunks_mut::<2>().0.iter_mut().zip(hash) {
            *two = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        }
        self.0.extend_from_slice(&hex);
    }

    pub(super) fn end(self) {
        self.0.push(b'}');
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn string(&mut self, text: &str) {
        self.0.push(b'"');
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            self.0.extend_from_slice(&rest[..at]);
            self.0.extend_from_slice(&[b'\\', rest[at]]);
            rest = &rest[at + 1..];
        }
        self.0.extend_from_slice(rest);
        self.0.push(b'"');
    }
}

/// Reads a leaf, field by field, in the order in which they were written.
pub(super) struct LeafReader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> LeafReader<'a> {
    /// Reads the schema.
    pub(super) fn begin(entry: &'a [u8]) -> Result<(LeafReader<'a>, u64), EventError> {
        let broken = |err: std::str::Utf8Error| EventError::Json { column: err.valid_up_to() };
        let mut reader = LeafReader { text: std::str::from_utf8(entry).map_err(broken)?, at: 0 };
        if !reader.take("{\"schema\":") {
            return Err(reader.broken());
        }
        let schema = reader.digits()?;
        Ok((reader, schema))
    }

    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, EventError> {
        self.name(name).then(|| self.string()).transpose()
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Cow<'a, str>, EventError> {
        self.optional_text(name)?.ok_or(EventError::Field { name })
    }

    pub(super) fn optional_texts(&mut self, name: &str) -> Result<Option<Vec<String>>, EventError> {
        if !self.name(name) {
            return Ok(None);
        }
        let mut texts = Vec::new();
        if !self.take("[") {
            return Err(self.broken());
        }
        loop {
            texts.push(self.string()?.into_owned());
            if self.take("]") {
                return Ok(Some(texts));
            }
            if !self.take(",") {
                return Err(self.broken());
            }
        }
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<u64, EventError> {
        if self.name(name) { self.digits() } else { Err(EventError::Field { name }) }
    }

    pub(super) fn optional_time(&mut self, name: &'static str) -> Result<Option<i64>, EventError> {
        let Some(text) = self.optional_text(name)? else { return Ok(None) };
        let time = from_rfc3339(&text).ok_or(EventError::Field { name })?;
        Ok(Some(time.0))
    }

    pub(super) fn time(&mut self, name: &'static str) -> Result<i64, EventError> {
        self.optional_time(name)?.ok_or(EventError::Field { name })
    }

    pub(super) fn optional_id(
        &mut self,
        name: &'static str,
    ) -> Result<Option<TokenId>, EventError> {
        let Some(text) = self.optional_text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| EventError::Field { name })
    }

    pub(super) fn id(&mut self, name: &'static str) -> Result<TokenId, EventError> {
        self.optional_id(name)?.ok_or(EventError::Field { name })
    }

    pub(super) fn optional_hash(
        &mut self,
        name: &'static str,
    ) -> Result<Option<[u8; 32]>, EventError> {
        let Some(text) = self.optional_text(name)? else { return Ok(None) };
        unhex(text.as_bytes()).map(Some).ok_or(EventError::Field { name })
    }

    pub(super) fn hash(&mut self, name: &'static str) -> Result<[u8; 32], EventError> {
        self.optional_hash(name)?.ok_or(EventError::Field { name })
    }

    /// Nothing may follow.
    pub(super) fn end(mut self) -> Result<(), EventError> {
        if self.take("}") && self.at == self.text.len() { Ok(()) } else { Err(self.broken()) }
    }

    fn broken(&self) -> EventError {
        EventError::Json { column: self.at }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, expected: &str) -> bool {
        let is_there = self.rest().as_bytes().starts_with(expected.as_bytes());
        self.at += if is_there { expected.len() } else { 0 };
        is_there
    }

    /// Whether the next field is that one; then its value comes next.
    fn name(&mut self, name: &str) -> bool {
        let rest = self.rest().as_bytes().strip_prefix(b",\"");
        let rest = rest.and_then(|rest| rest.strip_prefix(name.as_bytes()));
        let is_next = rest.is_some_and(|rest| rest.starts_with(b"\":"));
        self.at += if is_next { name.len() + 4 } else { 0 };
        is_next
    }

    fn digits(&mut self) -> Result<u64, EventError> {
        let rest = self.rest();
        let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..end].parse().map_err(|_| self.broken())?;
        self.at += end;
        Ok(number)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, EventError> {
        if !self.take("\"") {
            return Err(self.broken());
        }
        let mut unescaped = String::new();
        loop {
            let rest = self.rest();
            let special = |byte: u8| matches!(byte, b'"' | b'\\') || byte < b' ';
            let end = rest.bytes().position(special).ok_or_else(|| self.broken())?;
            self.at += end;
            match &rest.as_bytes()[end..] {
                [b'"', ..] if unescaped.is_empty() => {
                    self.at += 1;
                    return Ok(Cow::Borrowed(&rest[..end]));
                }
                [b'"', ..] => {
                    self.at += 1;
                    unescaped.push_str(&rest[..end]);
                    return Ok(Cow::Owned(unescaped));
                }
                [b'\\', escaped @ (b'"' | b'\\'), ..] => {
                    self.at += 2;
                    unescaped.push_str(&rest[..end]);
                    unescaped.push(char::from(*escaped));
                }
                _ => return Err(self.broken()),
            }
        }
    }
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.try_into().ok()?;
    let mut hash = [0; 32];
    let mut all = 0;
    for (byte, [high, low]) in hash.iter_mut().zip(text.as_chunks::<2>().0) {
        let (high, low) = (HEX_VALUES[usize::from(*high)], HEX_VALUES[usize::from(*low)]);
        all |= high | low;
        *byte = (high << 4) | low;
    }
    (all < 16).then_some(hash)
}
