//! The inclusion proofs of every tree of 0 to 300 leaves, made here and checked by the second
//! verifier, which shares no code with us.

use std::convert::Infallible;
use std::io::Write as _;
use std::process::{Command, Stdio};

use adamant::ledger::tree::{Hash, Hashes, inclusion_proof, leaf_hash, node_hash, root};

const LEAVES: u64 = 300;

/// Reads `size root leaf...` and then `size index proof...` lines, in hexadecimal, and says how many
/// proofs lead to the root of their tree. Any that does not ends it.
const CHECK: &str = "
import sys
sys.path.insert(0, sys.argv[1])
from verify_evidence import path_root, tree_root
roots, leaves, proofs = {}, [], 0
for line in sys.stdin:
    sort, size, *words = line.split()
    if sort == 'leaf':
        leaves.append(bytes.fromhex(words[0]))
    elif sort == 'root':
        roots[int(size)] = bytes.fromhex(words[0])
        assert tree_root(leaves[:int(size)]) == roots[int(size)], f'root of {size}'
    else:
        index, path = int(words[0]), [bytes.fromhex(word) for word in words[1:]]
        assert path_root(index, int(size), leaves[index], path) == roots[int(size)], line
        wrong = path[:-1] + [bytes(32)] if path else [bytes(32)]
        try:
            assert path_root(index, int(size), leaves[index], wrong) != roots[int(size)]
        except ValueError:
            pass
        proofs += 1
print(proofs)
";

struct Leaves(Vec<Hash>);

impl Hashes for Leaves {
    type Error = Infallible;

    fn hash(&mut self, height: u32, index: u64) -> Result<Hash, Infallible> {
        if height == 0 {
            return Ok(self.0[usize::try_from(index).unwrap()]);
        }
        let left = self.hash(height - 1, 2 * index)?;
        Ok(node_hash(&left, &self.hash(height - 1, 2 * index + 1)?))
    }
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn both_verifiers_agree_on_every_tree_up_to_300_leaves() {
    let mut leaves = Leaves((0..LEAVES).map(|n| leaf_hash(&n.to_le_bytes())).collect());
    let mut lines = String::new();
    for leaf in &leaves.0 {
        lines.push_str(&format!("leaf 0 {}\n", hex(leaf)));
    }
    for size in 0..=LEAVES {
        let Ok(root) = root(size, &mut leaves);
        lines.push_str(&format!("root {size} {}\n", hex(&root)));
        for index in 0..size {
            let Ok(proof) = inclusion_proof(index, size, &mut leaves);
            let proof: Vec<String> = proof.iter().map(hex).collect();
            lines.push_str(&format!("proof {size} {index} {}\n", proof.join(" ")));
        }
    }
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/tools");
    let mut command = Command::new("python3");
    command.args(["-B", "-c", CHECK, tools]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the second verifier disagrees: see standard error");
    let proofs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(proofs.trim().parse::<u64>().unwrap(), LEAVES * (LEAVES + 1) / 2);
}
