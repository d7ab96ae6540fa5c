//! Ed25519 signing keys, in the text forms of the C2SP specification `signed-note`.
//!
//! - verifier key, public: `<name>+<key id, 8 hex digits>+<base64(0x01 || 32-byte public key)>`
//! - signer, private: `PRIVATE+KEY+<name>+<key id>+<base64(0x01 || 32-byte seed)>`
//!
//! The key id is the first four bytes of SHA-256(name || 0x0A || 0x01 || public key). The key of a
//! witness has 0x04 in the place of 0x01: what it signs is not the text alone, but when it saw it
//! (C2SP `tlog-cosignature`). A file with
//! a private key that its group or others can read is refused: whoever signs manifests with it
//! decides which tokens are valid.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Ed25519 in the notes' numbering of algorithms.
const ED25519: u8 = 1;
/// A witness's timestamped Ed25519.
const COSIGNATURE: u8 = 4;
const PRIVATE_BEGINS: &str = "PRIVATE+KEY+";

/// A public key, by which signatures are checked.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    algorithm: u8,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, algorithm: u8, key: VerifyingKey) -> VerifierKey {
        let hash = Sha256::new()
            .chain_update(name.as_bytes())
            .chain_update([b'\n', algorithm])
            .chain_update(key.as_bytes())
            .finalize();
        let id = std::array::from_fn(|i| hash[i]);
        VerifierKey { name: name.to_owned(), algorithm, id, key }
    }

    /// Whose key it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A short hash of name and key.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Whether it is a witness's.
    pub fn is_witness(&self) -> bool {
        self.algorithm == COSIGNATURE
    }

    /// Whether `signature` is this key's over the text of a note. Strict, as RFC 8032 allows and
    /// ZIP 215 does not: one message, one set of bytes that verify.
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        if !self.is_witness() {
            return self.verifies_message(text, signature);
        }
        let Some((time, signature)) = signature.split_first_chunk() else { return false };
        let time = u64::from_be_bytes(*time);
        let cosigned = [format!("cosignature/v1\ntime {time}\n").as_bytes(), text].concat();
        self.verifies_message(&cosigned, signature)
    }

    fn verifies_message(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl FromStr for VerifierKey {
    type Err = SignerError;

    fn from_str(text: &str) -> Result<VerifierKey, SignerError> {
        let (name, id, algorithm, key) = split_key(text)?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| SignerError::NotAKey)?;
        let key = VerifierKey::new(name, algorithm, key);
        if hex_id(key.id) != id {
            return Err(SignerError::KeyId { name: name.to_owned() });
        }
        Ok(key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join_key(&self.name, self.id, self.algorithm, self.key.as_bytes()))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private key. Never printed; wiped on drop.
pub struct Signer {
    name: String,
    key: SigningKey,
}

impl Signer {
    /// A new key from the operating system's randomness.
    pub fn generate(name: &str) -> Result<Signer, SignerError> {
        if !is_key_name(name) {
            return Err(SignerError::Name { name: name.to_owned() });
        }
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|err| SignerError::Io(err.into()))?;
        Ok(Signer { name: name.to_owned(), key: SigningKey::from_bytes(&seed) })
    }

    /// Reads a file that holds a private key and a line break.
    pub fn load(path: &Path) -> Result<Signer, SignerError> {
        let mode = fs::metadata(path)?.mode();
        if mode & 0o077 != 0 {
            return Err(SignerError::Readable { mode: mode & 0o777 });
        }
        let text = Zeroizing::new(fs::read_to_string(path)?);
        let text = text.trim_end_matches('\n');
        let rest = text.strip_prefix(PRIVATE_BEGINS).ok_or(SignerError::NotAKey)?;
        let (name, id, algorithm, seed) = split_key(rest)?;
        if algorithm != ED25519 {
            return Err(SignerError::NotAKey);
        }
        let signer =
            Signer { name: name.to_owned(), key: SigningKey::from_bytes(&Zeroizing::new(seed)) };
        if hex_id(signer.verifier_key().id) != id {
            return Err(SignerError::KeyId { name: name.to_owned() });
        }
        Ok(signer)
    }

    /// What [`Signer::load`] reads.
    pub fn to_file(&self) -> Zeroizing<String> {
        let id = self.verifier_key().id;
        let key = Zeroizing::new(join_key(&self.name, id, ED25519, &self.key.to_bytes()));
        Zeroizing::new(format!("{PRIVATE_BEGINS}{}\n", *key))
    }

    /// The public half.
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey::new(&self.name, ED25519, self.key.verifying_key())
    }

    /// Ed25519 over `message` (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "private half of {}", self.verifier_key())
    }
}

/// Whether a signer may be called that: not empty, no white space, no plus sign.
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|char: char| char.is_whitespace() || char == '+')
}

fn split_key(text: &str) -> Result<(&str, &str, u8, [u8; 32]), SignerError> {
    let mut fields = text.splitn(3, '+');
    let (Some(name), Some(id), Some(encoded)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(SignerError::NotAKey);
    };
    if !is_key_name(name) {
        return Err(SignerError::Name { name: name.to_owned() });
    }
    let bytes = Zeroizing::new(BASE64.decode(encoded).map_err(|_| SignerError::NotAKey)?);
    match bytes.split_first() {
        Some((&algorithm @ (ED25519 | COSIGNATURE), key)) => {
            Ok((name, id, algorithm, key.try_into().map_err(|_| SignerError::NotAKey)?))
        }
        _ => Err(SignerError::NotAKey),
    }
}

fn join_key(name: &str, id: [u8; 4], algorithm: u8, key: &[u8; 32]) -> String {
    let mut bytes = Zeroizing::new(vec![algorithm]);
    bytes.extend_from_slice(key);
    format!("{name}+{}+{}", hex_id(id), BASE64.encode(&*bytes))
}

fn hex_id(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

/// Why a key is refused. No variant holds key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// The file could not be read.
    #[error("cannot read the key")]
    Io(#[from] io::Error),
    /// Not one of the two text forms.
    #[error("not a signed-note Ed25519 key")]
    NotAKey,
    /// The key id does not belong to the key: a character was lost or changed.
    #[error("the key of {name} does not have the id that it says")]
    KeyId {
        /// The signer.
        name: String,
    },
    /// Not a name of a signer.
    #[error("`{name}` is no name for a signer: it must not be empty or have spaces or a plus sign")]
    Name {
        /// What was given.
        name: String,
    },
    /// Others can read the private key.
    #[error(
        "a private key with mode {mode:04o}: others can read it, so make it 0600 and consider rotating it"
    )]
    Readable {
        /// The mode found.
        mode: u32,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// The key of a witness, for tests of those who trust one.
    pub(crate) fn witness(name: &str) -> VerifierKey {
        let key = Signer::generate(name).unwrap().key.verifying_key();
        VerifierKey::new(name, COSIGNATURE, key)
    }

    #[test]
    fn a_private_key_survives_its_file_and_never_prints() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("build.key");
        let signer = Signer::generate("acme/adamant/build").unwrap();
        fs::write(&path, &*signer.to_file()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let loaded = Signer::load(&path).unwrap();
        assert_eq!(loaded.verifier_key(), signer.verifier_key());
        let secret = signer.to_file().trim().rsplit('+').next().unwrap().to_owned();
        let said = format!("{loaded:?}");
        assert!(!said.contains(&secret));
        assert_eq!(said, format!("private half of {}", signer.verifier_key()));
        assert_eq!(format!("{:?}", signer.verifier_key()), signer.verifier_key().to_string());
    }

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("build.key");
        fs::write(&path, &*Signer::generate("a").unwrap().to_file()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Signer::load(&path).unwrap_err();
        assert!(refused.to_string().contains("mode 0640"), "{refused}");
    }

    /// As the specification says, byte for byte: type 4, a time of eight bytes, and a signature over
    /// header, time and text.
    #[test]
    fn a_witness_signs_a_time_with_the_text() {
        let signer = Signer::generate("witness.example/w").unwrap();
        let key = signer.key.verifying_key();
        let key = VerifierKey::new("witness.example/w", COSIGNATURE, key);
        let key: VerifierKey = key.to_string().parse().unwrap();
        assert!(key.is_witness());
        assert_eq!(key.name(), "witness.example/w");
        let text = b"a/ledger\n3\nroot\n";
        let message = [&b"cosignature/v1\ntime 1795582800\n"[..], text].concat();
        let signature = [&1_795_582_800_u64.to_be_bytes()[..], &signer.sign(&message)].concat();
        assert!(key.verifies(text, &signature));
        let mut later = signature.clone();
        later[7] ^= 1;
        assert!(!key.verifies(text, &later));
        assert!(!key.verifies(text, &signer.sign(text)));
        // Its owner's plain signature is of another key.
        assert!(!signer.verifier_key().verifies(text, &signature));
    }

    #[test]
    fn a_key_with_another_id_is_refused() {
        let key = Signer::generate("a").unwrap().verifier_key().to_string();
        let (name, rest) = key.split_once('+').unwrap();
        let wrong = format!("{name}+00000000+{}", rest.split_once('+').unwrap().1);
        assert!(matches!(wrong.parse::<VerifierKey>(), Err(SignerError::KeyId { .. })));
        for text in ["", "a", "a+b", "a+00000000+", "a b+00000000+AQ==", &key[..key.len() - 4]] {
            assert!(text.parse::<VerifierKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_one_word_without_a_plus_sign() {
        assert!(Signer::generate("acme/adamant/build").is_ok());
        for name in ["", "a b", "a\tb", "a+b", "+", " "] {
            let refused = Signer::generate(name).unwrap_err();
            assert!(matches!(refused, SignerError::Name { .. }), "{name}: {refused}");
        }
    }

    /// A file that is not what it says: another id, the key of a witness, or no private key.
    #[test]
    fn a_private_key_that_is_not_what_it_says_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("build.key");
        let load = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            Signer::load(&path)
        };
        let signer = Signer::generate("a").unwrap();
        let good = signer.to_file();
        assert!(load(&good).is_ok());
        let id = hex_id(signer.verifier_key().id());
        let refused = load(&good.replace(&id, "00000000")).unwrap_err();
        assert!(matches!(refused, SignerError::KeyId { .. }), "{refused}");
        let witness = join_key("a", signer.verifier_key().id(), COSIGNATURE, &[7; 32]);
        for text in [&format!("{PRIVATE_BEGINS}{witness}\n"), "", "a+b\n", &good[1..]] {
            assert!(matches!(load(text).unwrap_err(), SignerError::NotAKey), "{text}");
        }
    }

    #[test]
    fn a_key_of_another_algorithm_or_length_is_refused() {
        let key = Signer::generate("a").unwrap().verifier_key();
        for algorithm in [ED25519, COSIGNATURE] {
            let key = VerifierKey::new("a", algorithm, key.key);
            assert_eq!(key.to_string().parse::<VerifierKey>().unwrap(), key);
            assert_eq!(key.is_witness(), algorithm == COSIGNATURE);
        }
        let public = key.key.as_bytes();
        for algorithm in [0, 2, 3, 5, 255] {
            let text = join_key("a", key.id(), algorithm, public);
            assert!(matches!(text.parse::<VerifierKey>(), Err(SignerError::NotAKey)));
        }
        for encoded in [&public[..], &[&[ED25519], &public[..31]].concat(), &[]] {
            let text = format!("a+{}+{}", hex_id(key.id()), BASE64.encode(encoded));
            assert!(text.parse::<VerifierKey>().is_err());
        }
    }
}
