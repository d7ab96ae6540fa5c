//! C2SP signed notes: a text, an empty line, and signatures of it by name.
//!
//! ```text
//! This is an example message.
//!
//! — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
//! ```
//!
//! Source: the C2SP specification `signed-note`. Signatures of unknown signers are ignored, so
//! that signers can rotate; a signature of a *known* signer that does not verify makes the note a
//! forgery, whatever else it bears.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::signers::{Signer, VerifierKey, is_key_name};

/// The largest note that is read. A manifest has a few lines and a few signatures.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Most signatures of a note; the specification asks for at least 16.
pub const SIGNATURES_MAX: usize = 64;

const SIGNATURE_BEGINS: &str = "\u{2014} ";
const KEY_ID_BYTES: usize = 4;
const SEPARATOR: &str = "\n\n";

/// A note whose form is right. Nothing is said about its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: String,
    key_id: [u8; KEY_ID_BYTES],
    bytes: Vec<u8>,
}

impl Note {
    /// Cuts a note into text and signatures.
    pub fn parse(bytes: &[u8]) -> Result<Note, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge);
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::Characters)?;
        if whole.chars().any(|char| char.is_control() && char != '\n') {
            return Err(NoteError::Characters);
        }
        let at = whole.rfind(SEPARATOR).ok_or(NoteError::NoSignature)?;
        // The text keeps its last line break; the empty line belongs to neither.
        let (text, signatures) = (&whole[..=at], &whole[at + SEPARATOR.len()..]);
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::NoSignature)?;
        let signatures: Vec<Signature> =
            signatures.split('\n').map(Signature::parse).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::TooLarge);
        }
        Ok(Note { text: text.to_owned(), signatures })
    }

    /// The signed text, which ends with a line break, if at least one of `trusted` signed it. Also
    /// gives those that did, each once.
    pub fn verify<'k>(
        &self,
        trusted: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<(&str, Vec<&'k VerifierKey>), NoteError> {
        let mut signed_by: Vec<&VerifierKey> = Vec::new();
        for key in trusted {
            let theirs = |signature: &&Signature| {
                signature.name == key.name() && signature.key_id == key.id()
            };
            for signature in self.signatures.iter().filter(theirs) {
                if !key.verifies(self.text.as_bytes(), &signature.bytes) {
                    return Err(NoteError::Forged { name: signature.name.clone() });
                }
                if !signed_by.contains(&key) {
                    signed_by.push(key);
                }
            }
        }
        if signed_by.is_empty() { Err(self.unknown_signers()) } else { Ok((&self.text, signed_by)) }
    }

    /// The text, whoever signed it.
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    /// Names of all signers, known or not.
    pub fn signer_names(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.name.as_str())
    }

    fn unknown_signers(&self) -> NoteError {
        let names: Vec<&str> = self.signer_names().collect();
        NoteError::UnknownSigners { names: names.join(", ") }
    }
}

/// Signs `text`, which ends with a line break, and gives the whole note.
pub fn sign(text: &str, signers: &[&Signer]) -> String {
    assert!(text.ends_with('\n'), "the signed text ends with a line break");
    let mut note = format!("{text}\n");
    for signer in signers {
        let key = signer.verifier_key();
        let mut bytes = key.id().to_vec();
        bytes.extend_from_slice(&signer.sign(text.as_bytes()));
        let encoded = BASE64.encode(bytes);
        note.push_str(&format!("{SIGNATURE_BEGINS}{} {encoded}\n", key.name()));
    }
    note
}

impl Signature {
    fn parse(line: &str) -> Result<Signature, NoteError> {
        let rest = line.strip_prefix(SIGNATURE_BEGINS).ok_or(NoteError::SignatureLine)?;
        let (name, encoded) = rest.split_once(' ').ok_or(NoteError::SignatureLine)?;
        let bytes = BASE64.decode(encoded).map_err(|_| NoteError::SignatureLine)?;
        let (key_id, bytes) =
            bytes.split_first_chunk::<KEY_ID_BYTES>().ok_or(NoteError::SignatureLine)?;
        if !is_key_name(name) || bytes.is_empty() {
            return Err(NoteError::SignatureLine);
        }
        Ok(Signature { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
    }
}

/// Why a note is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Far larger than a note is.
    #[error("larger than a note of {NOTE_BYTES_MAX} bytes and {SIGNATURES_MAX} signatures")]
    TooLarge,
    /// Not text.
    #[error("not UTF-8, or it holds a control character")]
    Characters,
    /// Cut, or stripped of its signatures.
    #[error("no signature at its end")]
    NoSignature,
    /// A line after the text is not a signature.
    #[error("a line after the text is not a signature")]
    SignatureLine,
    /// A trusted signer's signature does not fit the text: one of the two was changed.
    #[error("the signature of {name} does not fit the text")]
    Forged {
        /// The signer.
        name: String,
    },
    /// Nobody that is trusted signed it.
    #[error("signed by {names}, of whom the policy trusts none for this")]
    UnknownSigners {
        /// Who signed.
        names: String,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const VECTOR_KEY: &str =
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const VECTOR: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn signer(name: &str) -> Signer {
        Signer::generate(name).unwrap()
    }

    #[test]
    fn the_vector_of_the_specification_verifies() {
        let key: VerifierKey = VECTOR_KEY.parse().unwrap();
        assert_eq!(key.to_string(), VECTOR_KEY);
        let note = Note::parse(VECTOR.as_bytes()).unwrap();
        let (text, signed_by) = note.verify([&key]).unwrap();
        assert_eq!(text, "This is an example message.\n");
        assert_eq!(signed_by, [&key]);
    }

    #[test]
    fn every_changed_byte_of_the_vector_is_refused() {
        let key: VerifierKey = VECTOR_KEY.parse().unwrap();
        for at in 0..VECTOR.len() {
            for bit in 0..8 {
                let mut bytes = VECTOR.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let verified = Note::parse(&bytes)
                    .and_then(|note| note.verify([&key]).map(|(text, _)| text.to_owned()));
                assert!(verified.is_err(), "bit {bit} of byte {at}");
            }
        }
        for len in 0..VECTOR.len() {
            assert!(Note::parse(&VECTOR.as_bytes()[..len]).is_err(), "cut to {len} bytes");
        }
    }

    #[test]
    fn unknown_signers_are_ignored_and_forgeries_are_not() {
        let (ours, theirs) = (signer("a.example/x"), signer("b.example/y"));
        let (our_key, their_key) = (ours.verifier_key(), theirs.verifier_key());
        let note = Note::parse(sign("text\n", &[&theirs, &ours]).as_bytes()).unwrap();
        assert_eq!(note.verify([&our_key]).unwrap().1, [&our_key]);
        assert_eq!(note.verify([&their_key, &our_key]).unwrap().1.len(), 2);

        // One signature may be good: a bad one of a known signer still spoils the note.
        let mixed =
            sign("text\n", &[&ours]) + sign("other\n", &[&theirs]).split_once("\n\n").unwrap().1;
        let note = Note::parse(mixed.as_bytes()).unwrap();
        assert!(note.verify([&our_key]).is_ok());
        let forged = NoteError::Forged { name: "b.example/y".to_owned() };
        assert_eq!(note.verify([&our_key, &their_key]), Err(forged));
    }

    #[test]
    fn the_same_signature_twice_counts_once() {
        let ours = signer("a.example/x");
        let once = sign("text\n", &[&ours]);
        let twice = once.clone() + once.split_once("\n\n").unwrap().1;
        let key = ours.verifier_key();
        let note = Note::parse(twice.as_bytes()).unwrap();
        assert_eq!(note.verify([&key]).unwrap().1.len(), 1);
    }

    /// The id is a hash over name and key: a signer cannot take another's place with its id.
    #[test]
    fn a_known_name_with_another_key_is_unknown() {
        let (ours, impostor) = (signer("a.example/x"), signer("a.example/x"));
        let note = Note::parse(sign("text\n", &[&impostor]).as_bytes()).unwrap();
        let our_key = ours.verifier_key();
        let refused = note.verify([&our_key]);
        assert!(matches!(refused, Err(NoteError::UnknownSigners { .. })));
    }

    #[test]
    fn a_text_may_have_empty_lines() {
        let ours = signer("a.example/x");
        let note = Note::parse(sign("one\n\ntwo\n", &[&ours]).as_bytes()).unwrap();
        assert_eq!(note.verify([&ours.verifier_key()]).unwrap().0, "one\n\ntwo\n");
    }

    #[test]
    fn a_note_has_a_largest_size_and_a_most_of_signatures() {
        let ours = signer("a.example/x");
        let key = ours.verifier_key();
        let of_bytes = |len: usize| {
            let rest = sign("\n", &[&ours]).len();
            let note = sign(&format!("{}\n", "x".repeat(len - rest)), &[&ours]);
            assert_eq!(note.len(), len);
            Note::parse(note.as_bytes())
        };
        assert!(of_bytes(NOTE_BYTES_MAX).unwrap().verify([&key]).is_ok());
        assert_eq!(of_bytes(NOTE_BYTES_MAX + 1), Err(NoteError::TooLarge));

        let signed_by = |count| Note::parse(sign("text\n", &vec![&ours; count]).as_bytes());
        assert!(signed_by(SIGNATURES_MAX).unwrap().verify([&key]).is_ok());
        assert_eq!(signed_by(SIGNATURES_MAX + 1), Err(NoteError::TooLarge));
    }

    #[test]
    fn a_line_that_is_no_signature_is_refused() {
        let parsed = |line: &str| Note::parse(format!("text\n\n{line}\n").as_bytes());
        // The key id takes four bytes, and one at least is of the signature.
        assert!(parsed("\u{2014} a AAAAAAA=").is_ok());
        for line in ["\u{2014} a AAAAAA==", "\u{2014} a AAAA", "\u{2014} a+b AAAAAAA="] {
            assert_eq!(parsed(line), Err(NoteError::SignatureLine), "{line}");
        }
        for line in ["- a AAAAAAA=", "\u{2014} a", "\u{2014} a AAAAAAA", "\u{2014}  AAAAAAA="] {
            assert_eq!(parsed(line), Err(NoteError::SignatureLine), "{line}");
        }
    }

    #[test]
    fn nobody_signed_what_no_known_signer_did() {
        let ours = signer("a.example/x");
        let note = Note::parse(sign("text\n", &[&ours, &ours]).as_bytes()).unwrap();
        let names = "a.example/x, a.example/x".to_owned();
        assert_eq!(note.verify([]), Err(NoteError::UnknownSigners { names }));
        assert_eq!(note.unverified_text(), "text\n");
        assert_eq!(note.signer_names().collect::<Vec<_>>(), ["a.example/x"; 2]);
    }
}
