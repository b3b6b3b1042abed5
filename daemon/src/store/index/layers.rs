//! Rows in layers: what is not written to sled yet lies in memory above it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Rows that were put (`Some`) or removed (`None`) and are not in the tree yet.
pub(super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Says that the tree is not to be believed any more, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(pub(super) String);

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

/// Calls sled, which panics where its files are damaged.
pub(super) fn guard<T>(call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(Fault("its files are damaged".into())))
}

/// A row as it is read.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// Layers of changes above a tree, the uppermost first.
#[derive(Clone, Copy)]
pub(super) struct Layers<'a> {
    pub(super) upper: &'a Changes,
    pub(super) lower: Option<&'a Changes>,
    pub(super) tree: &'a sled::Tree,
}

impl Layers<'_> {
    /// Returns a row.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let layers = std::iter::once(self.upper).chain(self.lower);
        if let Some(change) = layers.filter_map(|layer| layer.get(key)).next() {
            return Ok(change.clone());
        }
        guard(|| Ok(self.tree.get(key)?.map(|value| value.to_vec())))
    }

    /// Returns the rows whose keys begin with `prefix`, from `from` on, at most `limit`.
    pub(super) fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Row>, Fault> {
        guard(|| self.scan_unguarded(prefix, from.max(prefix), limit))
    }

    fn scan_unguarded(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Row>, Fault> {
        let mut rows = Vec::new();
        let mut changes = Changes::new();
        // The layers in memory are small: they are joined, the upper one last, so that it wins.
        for layer in self.lower.into_iter().chain(std::iter::once(self.upper)) {
            let within = layer.range(from.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
            changes.extend(within.map(|(key, value)| (key.clone(), value.clone())));
        }
        let mut changes = changes.into_iter().peekable();
        let mut below = self.tree.range(from.to_vec()..);
        let mut next_below = below.next().transpose()?;
        while rows.len() < limit {
            let in_tree = next_below.as_ref().filter(|(key, _)| key.starts_with(prefix)).map(|(key, _)| key.as_ref());
            let changed = changes.peek().map(|(key, _)| key.as_slice());
            let take_change = match (changed, in_tree) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(changed), Some(in_tree)) => {
                    let shadows = changed == in_tree;
                    let first = changed <= in_tree;
                    if shadows {
                        next_below = below.next().transpose()?;
                    }
                    first
                }
            };
            if take_change {
                if let Some((key, Some(value))) = changes.next() {
                    rows.push((key, value));
                }
            } else if let Some((key, value)) = next_below.take() {
                rows.push((key.to_vec(), value.to_vec()));
                next_below = below.next().transpose()?;
            }
        }
        Ok(rows)
    }
}

/// Changes being made: reads see them at once.
pub(super) struct Draft<'a> {
    pub(super) changes: Changes,
    pub(super) pending: &'a Changes,
    pub(super) tree: &'a sled::Tree,
}

impl Draft<'_> {
    fn layers(&self) -> Layers<'_> {
        Layers { upper: &self.changes, lower: Some(self.pending), tree: self.tree }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.layers().get(key)
    }

    pub(super) fn scan(&self, prefix: &[u8]) -> Result<Vec<Row>, Fault> {
        self.layers().scan(prefix, prefix, usize::MAX)
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_layers_win_and_order_holds() {
        let db = sled::Config::new().temporary(true).open().expect("a db");
        for key in ["a1", "a3", "a5", "b"] {
            db.insert(key, "tree").expect("a row");
        }
        let change = |key: &str, value: Option<&str>| (key.as_bytes().to_vec(), value.map(|value| value.into()));
        let lower = Changes::from([change("a2", Some("lower")), change("a3", None), change("a5", Some("lower"))]);
        let upper = Changes::from([change("a0", Some("upper")), change("a5", None), change("a6", Some("upper"))]);
        let layers = Layers { upper: &upper, lower: Some(&lower), tree: &db };
        let text = |rows: Vec<Row>| -> Vec<String> {
            rows.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
        };
        assert_eq!(text(layers.scan(b"a", b"", 9).expect("rows")), ["a0", "a1", "a2", "a6"]);
        assert_eq!(text(layers.scan(b"a", b"a1\0", 1).expect("rows")), ["a2"]);
        assert_eq!(layers.get(b"a5").expect("a look-up"), None);
        assert_eq!(layers.get(b"b").expect("a look-up"), Some(b"tree".to_vec()));
        assert!(guard::<()>(|| panic!("as sled does")).is_err());
    }
}
