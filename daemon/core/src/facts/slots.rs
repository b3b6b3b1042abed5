//! A hash index over rows that lie elsewhere: four bytes a slot, and no key kept twice.

use std::hash::{BuildHasher as _, Hash, RandomState};

/// Stands for "no row".
pub(super) const NONE: u32 = u32::MAX;
const FIRST_SIZE: usize = 16;

/// Finds row numbers by hash. The rows, and what makes two of them equal, are the owner's.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    /// Row numbers at or after the place of their hash; a power of two of them, or none.
    slots: Vec<u32>,
    used: usize,
    // Keyed by chance, so that nobody can choose digests that fall together.
    hasher: RandomState,
}

impl Slots {
    /// Hashes a key.
    pub(super) fn hash<T: Hash>(&self, key: &T) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Returns the row of this hash for which `is` holds.
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = place(hash, mask);
        loop {
            match self.slots.get(at).copied() {
                None | Some(NONE) => return None,
                Some(row) if is(row) => return Some(row),
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    /// Adds a row that is not there; `hash_of` says the hash of any row again, for growing.
    pub(super) fn insert(&mut self, hash: u64, row: u32, hash_of: impl Fn(&RandomState, u32) -> u64) {
        // At most three quarters full, so that a search always meets an empty slot.
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let size = (self.slots.len() * 2).max(FIRST_SIZE);
            let old = std::mem::replace(&mut self.slots, vec![NONE; size]);
            for row in old.into_iter().filter(|&row| row != NONE) {
                self.put(hash_of(&self.hasher, row), row);
            }
        }
        self.put(hash, row);
        self.used += 1;
    }

    fn put(&mut self, hash: u64, row: u32) {
        let mask = self.slots.len() - 1;
        let mut at = place(hash, mask);
        while self.slots[at] != NONE {
            at = (at + 1) & mask;
        }
        self.slots[at] = row;
    }

    /// Returns how many bytes the slots take.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }
}

fn place(hash: u64, mask: usize) -> usize {
    // The low bits are enough: the hash is a keyed one. Truncation is the point.
    hash as usize & mask
}

/// Appends a row and returns its number. Grows by an eighth: doubling would leave half a large table empty.
pub(super) fn push<T>(rows: &mut Vec<T>, row: T) -> u32 {
    const LEAST: usize = 16;
    if rows.len() == rows.capacity() {
        rows.reserve_exact((rows.len() / 8).max(LEAST));
    }
    // Four billion rows do not fit into any memory that this runs in.
    let number = u32::try_from(rows.len()).unwrap_or(NONE);
    rows.push(row);
    number
}

/// Walks a list that is chained through rows.
pub(super) fn chain<'a, T>(
    rows: &'a [T],
    first: u32,
    next: impl Fn(&T) -> u32 + 'a,
) -> impl Iterator<Item = (u32, &'a T)> + 'a {
    let mut at = first;
    std::iter::from_fn(move || {
        let row = rows.get(usize::try_from(at).ok()?)?;
        let number = at;
        at = next(row);
        Some((number, row))
    })
}
