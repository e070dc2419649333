//! The rows of a partition in memory: in the order of their keys, and each by its key alone.
//!
//! Lists and scans need the order; point reads need one row, and a search through an ordered tree
//! compares a score of keys, each somewhere else in memory. So there is an index by hash beside the
//! tree, as persistent as the tree: a clone of both costs two counts, and both hold the same rows.
//! What a read waits for is memory, so it touches little of it: a small value lies beside its key
//! and is copied.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::shared_ptr::DefaultSharedPtr;

use super::tree::Tree;
use crate::record::{Body, Key, Record};

/// Values up to here lie beside their keys.
const PACKED_BYTES_MAX: usize = 1024;

/// All rows; a clone shares what neither changes.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    ordered: Tree<Key, Arc<Record>>,
    hashed: Hashed,
}

/// By hash. Seeded for each process: nobody can prepare keys that share a place.
type Hashed = imbl::GenericHashMap<ByKey, (), foldhash::quality::RandomState, DefaultSharedPtr>;

/// A row that is looked for by its key.
#[derive(Clone, Debug)]
struct ByKey(Arc<Record>);

impl Borrow<Key> for ByKey {
    fn borrow(&self) -> &Key {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Hash::hash(&self.0.key, state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl Rows {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.ordered.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    /// The row of a key.
    pub fn get(&self, key: &Key) -> Option<&Record> {
        self.hashed.get_key_value(key).map(|(row, ())| row.0.as_ref())
    }

    /// Whether a key has a row.
    pub fn contains_key(&self, key: &Key) -> bool {
        self.hashed.contains_key(key)
    }

    /// Puts a row in the place of whatever its key had.
    pub fn insert(&mut self, row: Record) {
        let row = Arc::new(packed(row));
        // What is found by its key would keep its place, and be the old row.
        self.hashed.remove(&row.key);
        self.hashed.insert(ByKey(Arc::clone(&row)), ());
        self.ordered.insert(row.key.clone(), row);
    }

    /// Takes a key's row away.
    pub fn remove(&mut self, key: &Key) {
        self.hashed.remove(key);
        self.ordered.remove(key);
    }

    /// All rows in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Record)> {
        self.from(Bound::Unbounded)
    }

    /// All rows in the order of their keys, without these.
    pub fn values(&self) -> impl Iterator<Item = &Record> {
        self.iter().map(|(_, row)| row)
    }

    /// The rows from a key on.
    pub fn from<'a>(&'a self, from: Bound<&Key>) -> impl Iterator<Item = (&'a Key, &'a Record)> {
        self.ordered.from(from).map(|(key, row)| (key, row.as_ref()))
    }
}

/// The row with key and value in one piece of memory, if the value is small: whoever has compared
/// the key has the value at hand, too. A large one stays where it is, shared.
fn packed(mut row: Record) -> Record {
    let Some(body) = row.body.as_mut().filter(|body| body.value.len() <= PACKED_BYTES_MAX) else {
        return row;
    };
    let key = row.key.bytes().len();
    let piece = Bytes::from([row.key.bytes().as_ref(), &body.value].concat());
    body.value = piece.slice(key..);
    row.key = Key::stored(row.key.space(), piece.slice(..key));
    row
}

/// The same row for a reader who asked for it by `key`. Small values are copied: their counts lie
/// elsewhere in memory, and all readers would write there.
pub fn read(row: &Record, key: &Key) -> Record {
    let body = row.body.as_ref().map(|body| match body.value.len() {
        0..=PACKED_BYTES_MAX => Body {
            value: Bytes::copy_from_slice(&body.value),
            content_type: body.content_type.clone(),
            expires_at: body.expires_at,
        },
        _ => body.clone(),
    });
    Record { stored_at: row.stored_at, ..Record::new(key.clone(), row.version, row.origin, body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Space, StoredAt};
    use crate::version::{PartitionId, Version};

    fn key(nth: u32) -> Key {
        Key::stored(Space::Data, format!("k{nth:03}"))
    }

    fn row(nth: u32, bytes: usize) -> Record {
        let value = vec![b'v'; bytes].into();
        let body = Body { value, content_type: "text/plain".into(), expires_at: Some(7) };
        let body = (!bytes.is_multiple_of(3)).then_some(body);
        let stored_at = StoredAt(5);
        Record { stored_at, ..Record::new(key(nth), Version::ZERO, PartitionId(1), body) }
    }

    #[test]
    fn a_row_is_read_as_it_was_put() {
        for bytes in [0, 1, 100, PACKED_BYTES_MAX, PACKED_BYTES_MAX + 1] {
            let mut rows = Rows::default();
            rows.insert(row(2, 4));
            let put = row(2, bytes);
            rows.insert(put.clone());
            assert_eq!(rows.get(&put.key), Some(&put), "the newest");
            assert_eq!(rows.values().collect::<Vec<_>>(), [&put]);
            let read = read(rows.get(&put.key).unwrap(), &put.key);
            assert_eq!((&read, read.stored_at.0), (&put, put.stored_at.0));
        }
    }

    #[test]
    fn both_ways_lead_to_the_same_rows() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut rows, mut before) = (Rows::default(), Rows::default());
        for _ in 0..4_000 {
            let nth = random.u32(0..200);
            if random.u32(0..10) == 0 {
                before = rows.clone();
            }
            let held = before.len();
            match random.bool() {
                true => rows.insert(row(nth, random.usize(0..2 * PACKED_BYTES_MAX))),
                false => rows.remove(&key(nth)),
            }
            assert_eq!(before.len(), held, "what is shared does not change");
            let listed: Vec<&Key> = rows.iter().map(|(key, _)| key).collect();
            assert!(listed.is_sorted() && listed.len() == rows.len());
            assert_eq!(rows.hashed.len(), rows.len());
            assert!(listed.iter().all(|key| rows.get(key).is_some_and(|row| row.key == **key)));
        }
        let first = rows.values().next().unwrap().key.clone();
        assert!(!rows.is_empty() && rows.contains_key(&first));
    }
}
