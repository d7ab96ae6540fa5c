//! The Merkle tree of RFC 6962, 2.1, with SHA-256. Pure.
//!
//! Leaf hash = SHA-256(0x00 || entry), node = SHA-256(0x01 || left || right), the empty tree is
//! SHA-256 of nothing, and a tree of n leaves splits at the largest power of two below n.
//!
//! What a proof is made from is given by [`Hashes`]: the hash of any *complete* subtree, which
//! never changes once its leaves are there. Everything else is computed.

use sha2::{Digest as _, Sha256};

/// A node of the tree.
pub type Hash = [u8; 32];

/// The root of the empty tree: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Complete subtrees, by height and position: `hash(h, i)` covers leaves `i << h` to `i + 1 << h`.
pub trait Hashes {
    /// Why a hash cannot be had.
    type Error;
    /// The hash of a complete subtree.
    fn hash(&mut self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Hash of an entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// Hash of two subtrees.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the first `size` leaves.
pub fn root<H: Hashes>(size: u64, hashes: &mut H) -> Result<Hash, H::Error> {
    if size == 0 { Ok(EMPTY_ROOT) } else { range_hash(0, size, hashes) }
}

/// The proof that leaf `index` is in the tree of `size` leaves: from its sibling up. `index` is
/// below `size`.
pub fn inclusion_proof<H: Hashes>(
    index: u64,
    size: u64,
    hashes: &mut H,
) -> Result<Vec<Hash>, H::Error> {
    assert!(index < size, "only a leaf of the tree has a proof");
    let (mut from, mut to) = (0, size);
    let mut proof = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            proof.push(range_hash(middle, to, hashes)?);
            to = middle;
        } else {
            proof.push(range_hash(from, middle, hashes)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that `leaf` is at `index` in the tree with that size and root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut index, mut last, mut hash) = (proof.iter(), index, size - 1, *leaf);
    while last > 0 {
        if index % 2 == 1 || index < last {
            let Some(sibling) = node.next() else { return false };
            hash =
                if index % 2 == 1 { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
        }
        // A node without a right sibling is carried up as it is.
        index /= 2;
        last /= 2;
    }
    node.next().is_none() && hash == *root
}

/// The proof that the tree of `from` leaves is the beginning of the tree of `to` leaves, as in
/// RFC 6962, 2.1.2. Empty when there is nothing to prove.
pub fn consistency_proof<H: Hashes>(
    from: u64,
    to: u64,
    hashes: &mut H,
) -> Result<Vec<Hash>, H::Error> {
    assert!(from <= to, "a tree is consistent with a later one");
    let mut proof = Vec::new();
    if from > 0 && from < to {
        subproof(from, (0, to), true, hashes, &mut proof)?;
    }
    Ok(proof)
}

fn subproof<H: Hashes>(
    m: u64,
    (from, to): (u64, u64),
    whole: bool,
    hashes: &mut H,
    proof: &mut Vec<Hash>,
) -> Result<(), H::Error> {
    if m == to {
        if !whole {
            proof.push(range_hash(from, to, hashes)?);
        }
        return Ok(());
    }
    let middle = from + split(to - from);
    if m <= middle {
        subproof(m, (from, middle), whole, hashes, proof)?;
        proof.push(range_hash(middle, to, hashes)?);
    } else {
        subproof(m, (middle, to), false, hashes, proof)?;
        proof.push(range_hash(from, middle, hashes)?);
    }
    Ok(())
}

/// Whether `proof` shows that the tree `old` (size and root) is the beginning of the tree `new`.
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    if old_size == 0 {
        return proof.is_empty() && *old_root == EMPTY_ROOT;
    }
    let mut rest = proof.iter();
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    while at % 2 == 1 {
        at /= 2;
        last /= 2;
    }
    // An old tree that is one complete subtree is not in its own proof.
    let first = if at == 0 { Some(old_root) } else { rest.next() };
    let Some(first) = first else { return false };
    let (mut old_hash, mut new_hash) = (*first, *first);
    while at > 0 || last > 0 {
        if at % 2 == 1 {
            let Some(left) = rest.next() else { return false };
            old_hash = node_hash(left, &old_hash);
            new_hash = node_hash(left, &new_hash);
        } else if at < last {
            let Some(right) = rest.next() else { return false };
            new_hash = node_hash(&new_hash, right);
        }
        at /= 2;
        last /= 2;
    }
    rest.next().is_none() && old_hash == *old_root && new_hash == *new_root
}

/// Hash of the leaves `from` to `to`, a range that the tree has as a node or as its ragged edge.
fn range_hash<H: Hashes>(from: u64, to: u64, hashes: &mut H) -> Result<Hash, H::Error> {
    let count = to - from;
    if count.is_power_of_two() {
        let height = count.trailing_zeros();
        return hashes.hash(height, from >> height);
    }
    let middle = from + split(count);
    let (left, right) = (range_hash(from, middle, hashes)?, range_hash(middle, to, hashes)?);
    Ok(node_hash(&left, &right))
}

/// The largest power of two below `count`, which is 2 or more.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde_json::Value;

    use super::*;

    /// All leaves in memory.
    struct Leaves(Vec<Hash>);

    impl Hashes for Leaves {
        type Error = std::convert::Infallible;

        fn hash(&mut self, height: u32, index: u64) -> Result<Hash, Self::Error> {
            if height == 0 {
                return Ok(self.0[usize::try_from(index).unwrap()]);
            }
            let (left, right) =
                (self.hash(height - 1, 2 * index)?, self.hash(height - 1, 2 * index + 1)?);
            Ok(node_hash(&left, &right))
        }
    }

    fn leaves(count: u64) -> Leaves {
        Leaves((0..count).map(|i| leaf_hash(format!("entry {i}").as_bytes())).collect())
    }

    fn root_of(size: u64) -> Hash {
        let Ok(root) = root(size, &mut leaves(size));
        root
    }

    fn hash_in(value: &Value) -> Hash {
        BASE64.decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
    }

    fn hashes_in(value: &Value) -> Vec<Hash> {
        value.as_array().unwrap().iter().map(hash_in).collect()
    }

    /// Roots and proofs that were made by a path which shares no code with this one.
    #[test]
    fn the_vectors_hold() {
        let text = include_str!("../../tests/vectors/tree.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let mut checked = 0;
        for tree in vectors["trees"].as_array().unwrap() {
            let size = tree["size"].as_u64().unwrap();
            let root = hash_in(&tree["root"]);
            assert_eq!(root_of(size), root, "root of {size}");
            for proof in tree["inclusion"].as_array().unwrap() {
                let (index, hashes) =
                    (proof["index"].as_u64().unwrap(), hashes_in(&proof["proof"]));
                let Ok(made) = inclusion_proof(index, size, &mut leaves(size));
                assert_eq!(made, hashes, "leaf {index} of {size}");
                let leaf = leaf_hash(format!("entry {index}").as_bytes());
                assert!(verify_inclusion(&leaf, index, size, &hashes, &root));
                checked += 1;
            }
            for proof in tree["consistency"].as_array().unwrap() {
                let (from, hashes) = (proof["from"].as_u64().unwrap(), hashes_in(&proof["proof"]));
                let Ok(made) = consistency_proof(from, size, &mut leaves(size));
                assert_eq!(made, hashes, "{from} to {size}");
                assert!(verify_consistency((from, &root_of(from)), (size, &root), &hashes));
                checked += 1;
            }
        }
        assert!(checked > 100, "only {checked} proofs in the vectors");
    }

    /// Every proof of every tree up to 300 leaves holds; with another root, index, size, or one
    /// hash more, less or changed, it does not.
    #[test]
    fn all_proofs_of_small_trees_hold_and_no_other_does() {
        for size in (0..=40).chain([63, 64, 65, 127, 128, 129, 255, 256, 257, 300]) {
            let mut leaves = leaves(size);
            let Ok(root) = root(size, &mut leaves);
            for index in 0..size {
                let Ok(proof) = inclusion_proof(index, size, &mut leaves);
                let leaf = leaves.0[usize::try_from(index).unwrap()];
                let holds = |index, size, proof: &[Hash], root: &Hash| {
                    verify_inclusion(&leaf, index, size, proof, root)
                };
                assert!(holds(index, size, &proof, &root), "leaf {index} of {size}");
                assert!(!holds((index + 1) % size, size, &proof, &root) || size == 1);
                assert!(!holds(index, size, &proof, &EMPTY_ROOT));
                refused_variants(&proof, |proof| holds(index, size, proof, &root));
            }
            for from in 0..=size {
                let Ok(proof) = consistency_proof(from, size, &mut leaves);
                let old = root_of(from);
                let holds = |proof: &[Hash]| verify_consistency((from, &old), (size, &root), proof);
                assert!(holds(&proof), "{from} to {size}");
                refused_variants(&proof, holds);
                if from != size && from != 0 {
                    let wrong = verify_consistency((from, &EMPTY_ROOT), (size, &root), &proof);
                    assert!(!wrong, "{from} to {size} with another old root");
                }
            }
        }
    }

    fn refused_variants(proof: &[Hash], holds: impl Fn(&[Hash]) -> bool) {
        let longer = [proof, &[[7; 32]]].concat();
        assert!(!holds(&longer), "one hash more");
        for at in 0..proof.len() {
            let mut changed = proof.to_vec();
            changed[at][at % 32] ^= 1;
            assert!(!holds(&changed), "hash {at} changed");
            let mut shorter = proof.to_vec();
            shorter.remove(at);
            assert!(!holds(&shorter), "hash {at} missing");
        }
    }
}
