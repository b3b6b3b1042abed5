//! Merkle trees of transparency logs (RFC 6962, 2.1; RFC 9162, 2.1.3.2).

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Hashes a leaf.
pub(super) fn leaf(body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(body).finalize().into()
}

fn node(left: &[u8], right: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Computes the root of a tree of `size` leaves from the leaf at `index` and the siblings on its way; `None` where there
/// are too many or too few of them, or they are no hashes.
pub(super) fn root(leaf: &[u8; 32], index: u64, size: u64, siblings: &[Bytes]) -> Option<[u8; 32]> {
    let last = size.checked_sub(1).filter(|last| index <= *last)?;
    // Up to where the ways of this leaf and of the last one meet, siblings are on either side; from there, on the left.
    let inner = u64::BITS - (index ^ last).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    if siblings.len() != (inner + border) as usize || siblings.iter().any(|sibling| sibling.len() != 32) {
        return None;
    }
    let start = (*leaf, 0_u32);
    let (root, _) = siblings.iter().fold(start, |(hash, level), sibling| {
        let is_right = level >= inner || index.checked_shr(level).unwrap_or(0) & 1 == 1;
        let hash = if is_right { node(sibling, &hash) } else { node(&hash, sibling) };
        (hash, level + 1)
    });
    Some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes a tree's root and the siblings of a leaf, as RFC 6962 defines them.
    fn tree(leaves: &[[u8; 32]], index: Option<usize>, siblings: &mut Vec<Bytes>) -> [u8; 32] {
        if let [only] = leaves {
            return *only;
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let in_left = index.filter(|index| *index < half);
        let in_right = index.filter(|index| *index >= half).map(|index| index - half);
        let (left, right) = (tree(left, in_left, siblings), tree(right, in_right, siblings));
        match (in_left, in_right) {
            (Some(_), _) => siblings.push(Bytes::copy_from_slice(&right)),
            (_, Some(_)) => siblings.push(Bytes::copy_from_slice(&left)),
            _ => {}
        }
        node(&left, &right)
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proven_and_no_other() {
        let leaves: Vec<[u8; 32]> = (0..20_u8).map(|n| leaf(&[n])).collect();
        for size in 1..=leaves.len() {
            for index in 0..size {
                let mut siblings = Vec::new();
                let expected = tree(&leaves[..size], Some(index), &mut siblings);
                let found = |at: usize, of: usize, hashes: &[Bytes]| root(&leaves[index], at as u64, of as u64, hashes);
                assert_eq!(found(index, size, &siblings), Some(expected), "{index} of {size}");
                for other in (0..size).filter(|other| *other != index) {
                    assert_ne!(found(other, size, &siblings), Some(expected), "{other} for {index} of {size}");
                }
                assert_eq!(found(size, size, &siblings), None, "beyond the tree");
                siblings.push(Bytes::from_static(&[0; 32]));
                assert_eq!(found(index, size, &siblings), None, "one too many");
            }
        }
        assert_eq!(root(&leaves[0], 0, 0, &[]), None);
        assert_eq!(root(&leaves[0], 0, 2, &[Bytes::from_static(b"short")]), None);
        let longest = vec![Bytes::from_static(&[0; 32]); 64];
        assert!(root(&leaves[0], 0, u64::MAX, &longest).is_some());
        assert!(root(&leaves[0], u64::MAX, u64::MAX, &longest).is_none());
    }
}
