//! How much of a job is read and not judged yet, which bounds what is in memory.

use super::read::RUN_STRIP;
use std::sync::mpsc::Receiver;

/// Strips between reading and the end of judging, so that every stage has one and another waits for it. There may be more
/// where they are small.
const UNDER_WAY: usize = 4;

/// A strip that was judged: how much it was, and the memory of its source's stored weights.
pub(super) struct Judged {
    pub(super) elements: usize,
    pub(super) stored: Vec<u8>,
}

/// The strips that were read and not judged yet.
pub(super) struct UnderWay {
    judged: Receiver<Judged>,
    strips: usize,
    elements: usize,
    /// Of earlier strips.
    memory: Vec<Vec<u8>>,
}

impl UnderWay {
    pub(super) fn new(judged: Receiver<Judged>) -> Self {
        Self {
            judged,
            strips: 0,
            elements: 0,
            memory: Vec::new(),
        }
    }

    /// Waits for room for one of so many elements, and gives memory for it; `None` when nobody judges any more.
    pub(super) fn add(&mut self, elements: usize) -> Option<Vec<u8>> {
        while let Ok(judged) = self.judged.try_recv() {
            self.remove(judged);
        }
        while self.strips >= UNDER_WAY && self.elements + elements > RUN_STRIP {
            let judged = self.judged.recv().ok()?;
            self.remove(judged);
        }
        self.strips += 1;
        self.elements += elements;
        // A large strip's memory is not kept for small ones, of which there may be many.
        let fits = |memory: &Vec<u8>| memory.capacity() <= 8 * elements;
        Some(self.memory.pop().filter(fits).unwrap_or_default())
    }

    pub(super) fn remove(&mut self, judged: Judged) {
        self.strips -= 1;
        self.elements -= judged.elements;
        self.memory.push(judged.stored);
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::REFERENCE_STRIP;
    use super::*;
    use std::sync::mpsc::channel;

    /// Strips of so many elements that are let through before one is judged.
    fn let_through(elements: usize) -> usize {
        let (judge, judged) = channel();
        let mut under_way = UnderWay::new(judged);
        let room = |under_way: &UnderWay| {
            under_way.strips < UNDER_WAY || under_way.elements + elements <= RUN_STRIP
        };
        let mut strips = 0;
        while room(&under_way) {
            assert_eq!(under_way.add(elements), Some(Vec::new()));
            strips += 1;
        }
        // With the one that is judged there is room for one more, in its memory.
        let stored = vec![7; elements];
        judge.send(Judged { elements, stored }).unwrap();
        assert_eq!(under_way.add(elements).map(|m| m.len()), Some(elements));
        // Without a judge there is none.
        drop(judge);
        assert_eq!(under_way.add(elements), None);
        strips
    }

    #[test]
    fn a_few_strips_are_under_way_and_more_where_they_are_small() {
        assert_eq!(let_through(RUN_STRIP), UNDER_WAY);
        assert_eq!(let_through(RUN_STRIP / 2), UNDER_WAY);
        assert_eq!(let_through(REFERENCE_STRIP), RUN_STRIP / REFERENCE_STRIP);
    }

    #[test]
    fn a_large_strips_memory_is_not_kept_for_a_small_one() {
        let (judge, judged) = channel();
        let mut under_way = UnderWay::new(judged);
        for (elements, reused) in [(1000, false), (1000, true), (10, false), (10, true)] {
            let memory = under_way.add(elements).unwrap();
            assert_eq!(memory.capacity() > 0, reused, "{elements}");
            let stored = vec![0; 4 * elements];
            judge.send(Judged { elements, stored }).unwrap();
        }
    }
}
