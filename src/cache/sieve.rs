//! SIEVE: a queue, a hand, and one bit per entry.
//!
//! New entries enter at the head. To evict, the hand moves from the tail towards the head, clears the bit of every
//! visited entry that it passes and takes the first one that was not visited; it stays where it was for the next
//! time. A hit only sets a bit, nothing moves, and an entry that is read once does not survive one round, so a scan
//! does not push out what is in use. (Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is Simpler than LRU", NSDI 2024,
//! section 3.)

/// The queue. The visited bits live with the entries; [`evict`](Sieve::evict) is told how to read and clear them.
#[derive(Debug)]
pub(super) struct Sieve<K> {
    links: Vec<Link<K>>,
    free: Vec<usize>,
    head: Option<usize>,
    tail: Option<usize>,
    hand: Option<usize>,
}

/// An entry's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node(usize);

#[derive(Debug)]
struct Link<K> {
    key: Option<K>,
    newer: Option<usize>,
    older: Option<usize>,
}

impl<K> Sieve<K> {
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), free: Vec::new(), head: None, tail: None, hand: None }
    }

    /// Puts `key` at the head.
    pub(super) fn push(&mut self, key: K) -> Node {
        let link = Link { key: Some(key), newer: None, older: self.head };
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(slot) = self.links.get_mut(at) {
                    *slot = link;
                }
                at
            }
            None => {
                self.links.push(link);
                self.links.len() - 1
            }
        };
        match self.head {
            Some(head) => self.set_newer(head, Some(at)),
            None => self.tail = Some(at),
        }
        self.head = Some(at);
        Node(at)
    }

    /// Takes an entry out, wherever it is.
    pub(super) fn remove(&mut self, Node(at): Node) -> Option<K> {
        let link = self.links.get_mut(at)?;
        let key = link.key.take()?;
        let (newer, older) = (link.newer.take(), link.older.take());
        match newer {
            Some(newer) => self.set_older(newer, older),
            None => self.head = older,
        }
        match older {
            Some(older) => self.set_newer(older, newer),
            None => self.tail = newer,
        }
        if self.hand == Some(at) {
            self.hand = newer;
        }
        self.free.push(at);
        Some(key)
    }

    /// Takes out the entry that is least worth keeping. `visited` returns an entry's bit and clears it.
    pub(super) fn evict(&mut self, mut visited: impl FnMut(&K) -> bool) -> Option<K> {
        let mut at = self.hand.or(self.tail)?;
        // One round clears every bit, so the second one ends at the latest.
        while let Some(link) = self.links.get(at) {
            if !link.key.as_ref().is_some_and(&mut visited) {
                break;
            }
            at = link.newer.or(self.tail)?;
        }
        self.hand = self.links.get(at).and_then(|link| link.newer);
        self.remove(Node(at))
    }

    fn set_newer(&mut self, at: usize, newer: Option<usize>) {
        if let Some(link) = self.links.get_mut(at) {
            link.newer = newer;
        }
    }

    fn set_older(&mut self, at: usize, older: Option<usize>) {
        if let Some(link) = self.links.get_mut(at) {
            link.older = older;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn visited_entries_are_passed_over_once() {
        let mut sieve = Sieve::new();
        for c in "ABCDEFG".chars() {
            sieve.push(c);
        }
        let mut visited: HashSet<char> = "ABG".chars().collect();
        assert_eq!(sieve.evict(|c| visited.remove(c)), Some('C'), "A and B were visited");
        sieve.push('H');
        visited.extend("AD".chars());
        assert_eq!(sieve.evict(|c| visited.remove(c)), Some('E'), "the hand went on from D");
        assert!(visited.contains(&'A'), "the hand has not come round to A yet");
    }

    /// SIEVE as one would write it on a blackboard.
    #[derive(Default)]
    struct Oracle {
        newest_first: VecDeque<u8>,
        hand: Option<u8>,
    }

    impl Oracle {
        fn evict(&mut self, visited: &mut HashSet<u8>) -> Option<u8> {
            let newer = |queue: &VecDeque<u8>, k: u8| {
                let at = queue.iter().position(|&x| x == k).unwrap();
                (at > 0).then(|| queue[at - 1])
            };
            let mut at = self.hand.or_else(|| self.newest_first.back().copied())?;
            while visited.remove(&at) {
                at = newer(&self.newest_first, at).unwrap_or(*self.newest_first.back().unwrap());
            }
            self.hand = newer(&self.newest_first, at);
            self.newest_first.retain(|&x| x != at);
            Some(at)
        }
    }

    proptest! {
        #[test]
        fn it_does_what_the_blackboard_says(ops in prop::collection::vec((0u8..4, 0u8..20), 0..200)) {
            let (mut sieve, mut oracle) = (Sieve::new(), Oracle::default());
            let (mut nodes, mut visited) = (HashMap::new(), HashSet::new());
            for (op, key) in ops {
                match op {
                    0 if !nodes.contains_key(&key) => {
                        nodes.insert(key, sieve.push(key));
                        oracle.newest_first.push_front(key);
                    }
                    1 => {
                        let mut bits = visited.clone();
                        let victim = sieve.evict(|k| visited.remove(k));
                        prop_assert_eq!(victim, oracle.evict(&mut bits));
                        prop_assert_eq!(&visited, &bits);
                        victim.and_then(|victim| nodes.remove(&victim));
                    }
                    2 => {
                        if let Some(node) = nodes.remove(&key) {
                            prop_assert_eq!(sieve.remove(node), Some(key));
                            if oracle.hand == Some(key) {
                                let at = oracle.newest_first.iter().position(|&x| x == key).unwrap();
                                oracle.hand = (at > 0).then(|| oracle.newest_first[at - 1]);
                            }
                            oracle.newest_first.retain(|&x| x != key);
                            visited.remove(&key);
                        }
                    }
                    _ => {
                        if nodes.contains_key(&key) {
                            visited.insert(key);
                        }
                    }
                }
            }
        }
    }
}
