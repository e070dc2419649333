//! A copy of what is followed: of each key the greater version (FEED-1).

use std::collections::BTreeMap;

use super::follow::{Change, Item};
use crate::version::Version;

/// What changed in the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// This stands now.
    Put(Item),
    /// Nothing stands under this key any more.
    Delete(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Known {
    version: Version,
    /// What stands; `None`: it was deleted, and no older event brings it back.
    item: Option<Item>,
    /// In which life of the follower it was told.
    life: u64,
}

/// A copy. It also remembers the versions of deleted keys, until the next reset.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    known: BTreeMap<Vec<u8>, Known>,
    /// Counts resets.
    life: u64,
    /// Whether keys of an earlier life may still be there.
    is_renewing: bool,
}

impl Mirror {
    /// Takes what a follower was told; tells what that changed.
    pub fn take(&mut self, change: Change) -> Vec<Update> {
        match change {
            Change::Put(item) => {
                let (key, version) = (item.key.clone(), item.version);
                self.note(key, version, Some(item))
            }
            Change::Delete { key, version, .. } => self.note(key, version, None),
            Change::Reset => {
                self.life += 1;
                self.is_renewing = true;
                Vec::new()
            }
            Change::Current => self.forget_earlier_lives(),
        }
    }

    /// What stands under a key.
    pub fn get(&self, key: &[u8]) -> Option<&Item> {
        self.known.get(key)?.item.as_ref()
    }

    /// All that stands, in the order of the keys.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.known.values().filter_map(|known| known.item.as_ref())
    }

    fn note(&mut self, key: Vec<u8>, version: Version, item: Option<Item>) -> Vec<Update> {
        let life = self.life;
        let before = self.known.get_mut(&key);
        // After a reset versions may begin anew.
        let is_old = |known: &Known| known.life == life && known.version >= version;
        if before.as_ref().is_some_and(|known| is_old(known)) {
            return Vec::new();
        }
        let stood = before.as_ref().and_then(|known| known.item.clone());
        let known = Known { version, item: item.clone(), life };
        self.known.insert(key.clone(), known);
        match item {
            // The same as before the reset.
            Some(item) if stood.as_ref() == Some(&item) => Vec::new(),
            Some(item) => vec![Update::Put(item)],
            None if stood.is_some() => vec![Update::Delete(key)],
            None => Vec::new(),
        }
    }

    /// The snapshot after a reset is through: what it did not tell of is gone.
    fn forget_earlier_lives(&mut self) -> Vec<Update> {
        if !std::mem::take(&mut self.is_renewing) {
            return Vec::new();
        }
        let life = self.life;
        let gone = self.known.extract_if(.., |_, known| known.life != life);
        let stood = gone.filter(|(_, known)| known.item.is_some());
        stood.map(|(key, _)| Update::Delete(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, version: &str) -> Item {
        Item {
            key: key.into(),
            version: version.parse().unwrap(),
            partition: "a".into(),
            content_type: None,
            value: None,
            expires_at: None,
        }
    }

    fn put(key: &str, version: &str) -> Change {
        Change::Put(item(key, version))
    }

    fn delete(key: &str, version: &str) -> Change {
        let version = version.parse().unwrap();
        Change::Delete { key: key.into(), version, partition: "a".into() }
    }

    fn keys(mirror: &Mirror) -> Vec<&[u8]> {
        mirror.items().map(|item| item.key.as_slice()).collect()
    }

    #[test]
    fn the_greater_version_stays() {
        let mut mirror = Mirror::default();
        assert_eq!(mirror.take(put("k", "1.5")), [Update::Put(item("k", "1.5"))]);
        for old in [put("k", "1.5"), put("k", "1.4"), delete("k", "1.3")] {
            assert_eq!(mirror.take(old), []);
        }
        assert_eq!(mirror.take(delete("k", "2.1")), [Update::Delete(b"k".to_vec())]);
        assert_eq!(mirror.take(put("k", "1.9")), [], "a delete stays");
        assert_eq!(mirror.get(b"k"), None);
        assert_eq!(mirror.take(delete("k", "2.2")), []);
        assert_eq!(mirror.take(put("k", "2.3")), [Update::Put(item("k", "2.3"))]);
        assert_eq!(mirror.get(b"k"), Some(&item("k", "2.3")));
    }

    #[test]
    fn a_reset_ends_with_what_the_snapshot_told() {
        let mut mirror = Mirror::default();
        for key in ["a", "b", "c"] {
            mirror.take(put(key, "3.5"));
        }
        mirror.take(delete("c", "3.6"));
        assert_eq!(mirror.take(Change::Current), []);
        assert_eq!(mirror.take(Change::Reset), []);
        assert_eq!(keys(&mirror), [b"a", b"b"], "nothing is missing meanwhile");
        assert_eq!(mirror.take(put("a", "3.5")), [], "the same");
        assert_eq!(mirror.take(put("c", "1.1")), [Update::Put(item("c", "1.1"))], "another set");
        assert_eq!(mirror.take(Change::Current), [Update::Delete(b"b".to_vec())]);
        assert_eq!(mirror.take(Change::Current), []);
        assert_eq!(keys(&mirror), [b"a", b"c"]);
    }
}
