//! The grants of a block of lines. Most lines say one that a line before said: what is written the
//! same way is understood once.

use std::collections::HashMap;

use super::list::Scopes;
use crate::claims::Grant;
use crate::token::Kind;

/// Grants, numbered in the order in which they came.
#[derive(Default)]
pub(super) struct Grants {
    /// Number by canonical bytes.
    numbers: HashMap<Vec<u8>, u32>,
    /// Canonical bytes by number.
    canonical: Vec<Vec<u8>>,
    /// Number by what lines say.
    said: HashMap<Vec<u8>, u32>,
    text: Vec<u8>,
}

/// Bytes that no UTF-8 text has, before what follows.
const SCOPES_SEPARATED: u8 = 0xFE;
const NEXT: u8 = 0xFF;

impl Grants {
    /// The number of the grant that a line says.
    pub(super) fn number(
        &mut self,
        kind: Kind,
        audience: &str,
        scopes: Option<Scopes<'_>>,
    ) -> Result<u32, String> {
        self.write_text(kind, audience, scopes.as_ref());
        if let Some(&number) = self.said.get(&self.text) {
            return Ok(number);
        }
        let scopes = scopes.map_or_else(Vec::new, Scopes::into_list);
        let grant = Grant::new(kind, audience, scopes).map_err(|err| err.to_string())?;
        let mut bytes = Vec::new();
        grant.encode(&mut bytes);
        let next = u32::try_from(self.canonical.len()).expect("a block has fewer lines");
        let number = *self.numbers.entry(bytes).or_insert_with_key(|bytes| {
            self.canonical.push(bytes.clone());
            next
        });
        self.said.insert(self.text.clone(), number);
        Ok(number)
    }

    /// Canonical bytes of all, by their numbers.
    pub(super) fn into_canonical(self) -> Vec<Vec<u8>> {
        self.canonical
    }

    fn write_text(&mut self, kind: Kind, audience: &str, scopes: Option<&Scopes<'_>>) {
        let text = &mut self.text;
        text.clear();
        text.extend_from_slice(kind.as_str().as_bytes());
        text.push(NEXT);
        text.extend_from_slice(audience.as_bytes());
        match scopes {
            None => {}
            Some(Scopes::Separated(scopes)) => {
                text.push(SCOPES_SEPARATED);
                text.extend_from_slice(scopes.as_bytes());
            }
            Some(Scopes::Array(scopes)) => {
                for scope in scopes {
                    text.push(NEXT);
                    text.extend_from_slice(scope.as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_grant_has_one_number_however_it_is_written() {
        let mut grants = Grants::default();
        let mut number = |audience, scopes| {
            let kind = "live".parse().unwrap();
            grants.number(kind, audience, scopes)
        };
        let separated = |text: &'static str| Some(Scopes::Separated(text.into()));
        let array = |scopes: &[&str]| {
            Some(Scopes::Array(scopes.iter().map(|&scope| scope.to_owned()).collect()))
        };
        assert_eq!(number("", None).unwrap(), 0);
        assert_eq!(number("", separated("a b")).unwrap(), 1);
        assert_eq!(number("", array(&["b", "a"])).unwrap(), 1);
        assert_eq!(number("", separated("a  b a")).unwrap(), 1);
        assert_eq!(number("", array(&[])).unwrap(), 0);
        assert_eq!(number("a", separated("b")).unwrap(), 2);
        // What two columns say is not what one says.
        assert_eq!(number("a", array(&["b"])).unwrap(), 2);
        assert_eq!(number("", array(&["a"])).unwrap(), 3);
        number("", array(&["a b"])).unwrap_err();
        assert_eq!(number("", separated("a b")).unwrap(), 1);
        let canonical = grants.into_canonical();
        assert_eq!(canonical.len(), 4);
        assert_eq!(Grant::decode(&canonical[1]).unwrap().scopes, ["a", "b"]);
    }
}
