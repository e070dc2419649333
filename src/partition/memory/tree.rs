//! A sorted map whose clones share what they have in common.
//!
//! A B-tree of shared nodes: a clone costs one count, and a change to a clone copies the nodes on
//! its way down and no others. So whoever reads holds a state of the past that nobody changes,
//! while the next one is made beside it. Nodes are split where they grow too large and removed
//! where they are empty; nodes that shrink are not joined, which costs a little room and nothing
//! else.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// The most entries of a node: few enough that copying one costs about as much as finding it.
const NODE_MAX: usize = 32;

/// The map.
pub struct Tree<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

#[derive(Clone)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    /// Children, each with a key that is at or below all of its own and above all of those before
    /// it; the first child's key is not looked at.
    Branch(Vec<Child<K, V>>),
}

type Child<K, V> = (K, Arc<Node<K, V>>);

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = self.root.as_ref();
        loop {
            match node {
                Node::Branch(children) => node = &children[child_of(children, key)].1,
                Node::Leaf(entries) => {
                    let place = entries.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
                    return Some(&entries[place].1);
                }
            }
        }
    }

    /// Whether a key has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Gives a key a value; an equal key that is there goes with its value.
    pub fn insert(&mut self, key: K, value: V) {
        let (added, split) = put(Arc::make_mut(&mut self.root), key, value);
        self.len += usize::from(added);
        if let Some((key, right)) = split {
            let first = smallest(&self.root).unwrap_or_else(|| key.clone());
            let left = Arc::clone(&self.root);
            self.root = Arc::new(Node::Branch(vec![(first, left), (key, right)]));
        }
    }

    /// Takes a key's value away.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if !self.contains_key(key) {
            return;
        }
        take(Arc::make_mut(&mut self.root), key);
        self.len -= 1;
        // A branch with one child is a detour.
        while let Node::Branch(children) = self.root.as_ref() {
            let [(_, child)] = children.as_slice() else { break };
            self.root = Arc::clone(child);
        }
    }

    /// All entries in the order of their keys.
    pub fn iter(&self) -> Range<'_, K, V> {
        self.from(Bound::<&K>::Unbounded)
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entries from a key on.
    pub fn from<Q: Ord + ?Sized>(&self, from: Bound<&Q>) -> Range<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let mut range = Range { branches: Vec::new(), leaf: [].iter() };
        let mut node = self.root.as_ref();
        loop {
            match node {
                Node::Branch(children) => {
                    let first = match from {
                        Bound::Included(key) | Bound::Excluded(key) => child_of(children, key),
                        Bound::Unbounded => 0,
                    };
                    range.branches.push(children[first + 1..].iter());
                    node = &children[first].1;
                }
                Node::Leaf(entries) => {
                    let first = entries.partition_point(|(key, _)| match from {
                        Bound::Included(from) => key.borrow() < from,
                        Bound::Excluded(from) => key.borrow() <= from,
                        Bound::Unbounded => false,
                    });
                    range.leaf = entries[first..].iter();
                    return range;
                }
            }
        }
    }

    /// The last entry at or below a key.
    pub fn last_upto<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        last_upto(&self.root, key)
    }
}

/// Which child a key belongs to.
fn child_of<K: Borrow<Q>, V, Q: Ord + ?Sized>(children: &[(K, V)], key: &Q) -> usize {
    children.partition_point(|(first, _)| first.borrow() <= key).saturating_sub(1)
}

fn smallest<K: Clone, V>(node: &Node<K, V>) -> Option<K> {
    match node {
        Node::Leaf(entries) => entries.first().map(|(key, _)| key.clone()),
        Node::Branch(children) => children.first().and_then(|(_, child)| smallest(child)),
    }
}

fn last_upto<'a, K: Borrow<Q>, V, Q: Ord + ?Sized>(
    node: &'a Node<K, V>,
    key: &Q,
) -> Option<(&'a K, &'a V)> {
    match node {
        Node::Leaf(entries) => {
            let above = entries.partition_point(|(k, _)| k.borrow() <= key);
            entries[..above].last().map(|(key, value)| (key, value))
        }
        Node::Branch(children) => {
            // The keys of a child may be gone, all but those above: then it is in one before.
            let nth = child_of(children, key);
            children[..=nth].iter().rev().find_map(|(_, child)| last_upto(child, key))
        }
    }
}

/// What a node that has grown too large gives away: its upper half, and the key that begins it.
type Split<K, V> = Option<Child<K, V>>;

/// Whether the key is new, and what the node gives away.
fn put<K: Ord + Clone, V: Clone>(node: &mut Node<K, V>, key: K, value: V) -> (bool, Split<K, V>) {
    match node {
        Node::Leaf(entries) => {
            let added = match entries.binary_search_by(|(k, _)| k.cmp(&key)) {
                Ok(place) => {
                    entries[place] = (key, value);
                    false
                }
                Err(place) => {
                    entries.insert(place, (key, value));
                    true
                }
            };
            (added, halve(entries).map(|(key, upper)| (key, Arc::new(Node::Leaf(upper)))))
        }
        Node::Branch(children) => {
            let nth = child_of(children, &key);
            let (added, split) = put(Arc::make_mut(&mut children[nth].1), key, value);
            if let Some(split) = split {
                children.insert(nth + 1, split);
            }
            (added, halve(children).map(|(key, upper)| (key, Arc::new(Node::Branch(upper)))))
        }
    }
}

/// Cuts a node in two where it is too large.
fn halve<K: Clone, T>(entries: &mut Vec<(K, T)>) -> Option<(K, Vec<(K, T)>)> {
    if entries.len() <= NODE_MAX {
        return None;
    }
    let upper = entries.split_off(entries.len() / 2);
    upper.first().map(|(key, _)| key.clone()).map(|key| (key, upper))
}

/// Takes a key that is there out of a node; whether the node is empty then.
fn take<K: Ord + Clone + Borrow<Q>, V: Clone, Q: Ord + ?Sized>(
    node: &mut Node<K, V>,
    key: &Q,
) -> bool {
    match node {
        Node::Leaf(entries) => {
            if let Ok(place) = entries.binary_search_by(|(k, _)| k.borrow().cmp(key)) {
                entries.remove(place);
            }
            entries.is_empty()
        }
        Node::Branch(children) => {
            let nth = child_of(children, key);
            if take(Arc::make_mut(&mut children[nth].1), key) && children.len() > 1 {
                children.remove(nth);
            }
            false
        }
    }
}

/// Entries in the order of their keys.
pub struct Range<'a, K, V> {
    /// What is left of each branch on the way down.
    branches: Vec<std::slice::Iter<'a, Child<K, V>>>,
    leaf: std::slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iterator for Range<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            let mut node = loop {
                match self.branches.last_mut()?.next() {
                    Some((_, child)) => break child.as_ref(),
                    None => drop(self.branches.pop()),
                }
            };
            while let Node::Branch(children) = node {
                let mut children = children.iter();
                let (_, first) = children.next()?;
                self.branches.push(children);
                node = first;
            }
            if let Node::Leaf(entries) = node {
                self.leaf = entries.iter();
            }
        }
    }
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

impl<K, V> Clone for Tree<K, V> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root), len: self.len }
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u32),
        Remove(u16),
        Keep,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..400_u16, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
            4 => (0..400_u16).prop_map(Step::Remove),
            1 => Just(Step::Keep),
        ];
        prop::collection::vec(step, 0..2000)
    }

    fn same(tree: &Tree<u16, u32>, map: &BTreeMap<u16, u32>) {
        assert_eq!(tree.len(), map.len());
        assert!(tree.iter().eq(map.iter()));
        for key in [0, 1, 57, 200, 399, 400] {
            assert_eq!(tree.get(&key), map.get(&key));
            assert_eq!(tree.last_upto(&key), map.range(..=key).next_back());
            let from = Bound::Excluded(&key);
            assert!(tree.from(from).eq(map.range((from, Bound::Unbounded))), "above {key}");
            assert!(tree.from(Bound::Included(&key)).eq(map.range(key..)), "from {key}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// It is what the standard library's map is, and so are all the clones of the past.
        #[test]
        fn it_does_what_a_map_does_and_clones_stay_as_they_were(steps in steps()) {
            let (mut tree, mut map) = (Tree::default(), BTreeMap::new());
            let mut kept = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        tree.insert(key, value);
                        map.insert(key, value);
                    }
                    Step::Remove(key) => {
                        tree.remove(&key);
                        map.remove(&key);
                    }
                    Step::Keep => kept.push((tree.clone(), map.clone())),
                }
            }
            same(&tree, &map);
            for (tree, map) in &kept {
                same(tree, map);
            }
        }
    }

    #[test]
    fn it_empties_and_fills_again() {
        let mut tree = Tree::default();
        for round in 0..3 {
            for key in 0..2000_u32 {
                tree.insert(key, round);
            }
            assert_eq!((tree.len(), tree.iter().count()), (2000, 2000));
            for key in (0..2000).rev() {
                tree.remove(&key);
            }
            assert!(tree.is_empty() && tree.iter().next().is_none());
        }
    }
}
