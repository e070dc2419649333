//! A queue whose takers take along what waits, and wait for each other where that is worth it.
//!
//! What is asked of a distant partition costs less the more of it is asked at once. So while one
//! taker is at work and many ask, the others leave what comes to that one, which takes it all when
//! it is back; they step in when [`Taking::enough`] has come together, or when the one at work
//! takes longer than [`Taking::patience`] to come back. While few ask, whoever is free takes what
//! comes at once: nobody waits for a batch to fill.
//!
//! It also saves waking: whoever puts something in wakes a taker only where one has to do something
//! about it, and not for every item.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Items taken at once from which on many are asking.
const MANY: usize = 4;

/// Why an item was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As much waits as may.
    Full,
    /// Nobody takes any more.
    Stopped,
}

/// How much is taken, and when.
#[derive(Clone, Copy, Debug)]
pub struct Taking {
    /// The most that is taken at once, and what is worth taking while others are at work.
    pub enough: usize,
    /// How long what waits is left to those at work.
    pub patience: Duration,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// Takers that wait in here.
    idle: usize,
    /// Those of them that look after what waits for one at work.
    watching: usize,
    /// Takers that have not come back.
    at_work: usize,
    /// What they have taken.
    held: usize,
    /// How much was last taken at once.
    last: usize,
    /// How often something was taken.
    taken: u64,
    stopped: bool,
}

/// The queue.
pub struct Gather<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    taking: Taking,
    queue_max: usize,
}

impl<T> Gather<T> {
    /// An empty one, in which `queue_max` items may wait.
    pub fn new(queue_max: usize, taking: Taking) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            idle: 0,
            watching: 0,
            at_work: 0,
            held: 0,
            last: 0,
            taken: 0,
            stopped: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), taking, queue_max }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Every change of the state is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item in.
    pub fn push(&self, item: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.stopped {
            return Err(Refused::Stopped);
        }
        if state.waiting.len() >= self.queue_max {
            return Err(Refused::Full);
        }
        state.waiting.push_back(item);
        let waiting = state.waiting.len();
        // The first has somebody watch, unless somebody does; the last of enough has somebody take
        // them; those in between find both done.
        let is_watched = state.at_work > 0 && state.watching > 0;
        let tells =
            (waiting == 1 && !is_watched) || waiting == self.taking.enough || state.last < MANY;
        let wakes = tells && state.idle > 0;
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// How much waits, here or with those at work.
    pub fn pending(&self) -> usize {
        let state = self.lock();
        state.waiting.len() + state.held
    }

    /// Lets nothing more in; what waits is still taken.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits for something, and takes it along with what else waits; `None` once it was stopped and
    /// all was taken. The taker is at work for as long as it holds what comes beside the items.
    pub fn take(&self) -> Option<(Vec<T>, AtWork<'_, T>)> {
        let mut state = self.lock();
        loop {
            if state.waiting.is_empty() {
                if state.stopped {
                    return None;
                }
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            }
            let is_left_to_others = state.at_work > 0
                && state.last >= MANY
                && state.waiting.len() < self.taking.enough
                && !state.stopped;
            if !is_left_to_others {
                break;
            }
            let taken = state.taken;
            state.idle += 1;
            state.watching += 1;
            let waited = self.changed.wait_timeout(state, self.taking.patience);
            let (woken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            state.watching -= 1;
            if waited.timed_out() && state.taken == taken && !state.waiting.is_empty() {
                break;
            }
        }
        let count = state.waiting.len().min(self.taking.enough);
        let items: Vec<T> = state.waiting.drain(..count).collect();
        state.at_work += 1;
        state.held += count;
        state.last = count;
        state.taken += 1;
        Some((items, AtWork { queue: self, held: count }))
    }
}

/// A taker that has not come back.
pub struct AtWork<'g, T> {
    queue: &'g Gather<T>,
    held: usize,
}

impl<T> Drop for AtWork<'_, T> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.at_work -= 1;
        state.held -= self.held;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const NEVER: Duration = Duration::from_secs(600);

    fn queue(patience: Duration) -> Gather<usize> {
        Gather::new(100, Taking { enough: 8, patience })
    }

    fn push(queue: &Gather<usize>, items: std::ops::Range<usize>) {
        for item in items {
            queue.push(item).unwrap();
        }
    }

    /// Waits until so many takers wait in the queue.
    fn until_idle(queue: &Gather<usize>, takers: usize) {
        while queue.lock().idle != takers {
            thread::yield_now();
        }
    }

    /// What a second taker gets while the first is at work with as many, once this was done.
    fn second(queue: &Gather<usize>, first: usize, then: impl FnOnce()) -> Option<Vec<usize>> {
        push(queue, 0..first);
        let (items, _at_work) = queue.take().unwrap();
        assert_eq!(items.len(), first);
        thread::scope(|scope| {
            let taker = scope.spawn(|| queue.take().map(|(items, _at_work)| items));
            until_idle(queue, 1);
            then();
            taker.join().unwrap()
        })
    }

    #[test]
    fn whoever_is_alone_takes_all_that_waits_up_to_enough() {
        let queue = queue(NEVER);
        push(&queue, 0..10);
        let (items, at_work) = queue.take().unwrap();
        assert_eq!((items, queue.pending()), ((0..8).collect(), 10));
        drop(at_work);
        assert_eq!(queue.pending(), 2);
        assert_eq!(queue.take().map(|(items, _at_work)| items), Some(vec![8, 9]));
        assert_eq!(queue.pending(), 0);
    }

    #[test]
    fn while_many_ask_what_comes_is_left_to_the_one_at_work() {
        let queue = queue(NEVER);
        push(&queue, 0..MANY);
        let (_, at_work) = queue.take().unwrap();
        thread::scope(|scope| {
            let taker = scope.spawn(|| queue.take().map(|(items, _at_work)| items));
            push(&queue, 10..13);
            until_idle(&queue, 1);
            drop(at_work);
            let (items, _at_work) = queue.take().unwrap();
            assert_eq!(items, [10, 11, 12]);
            queue.stop();
            assert_eq!(taker.join().unwrap(), None);
        });
    }

    #[test]
    fn a_second_steps_in_when_enough_has_come_together() {
        let queue = queue(NEVER);
        let items = second(&queue, MANY, || push(&queue, 10..18));
        assert_eq!(items, Some((10..18).collect()));
    }

    #[test]
    fn a_second_steps_in_when_the_first_is_not_back_in_time() {
        let queue = queue(Duration::from_millis(1));
        let items = second(&queue, MANY, || push(&queue, 10..11));
        assert_eq!(items, Some(vec![10]));
    }

    #[test]
    fn what_comes_when_nobody_is_at_work_is_not_left_to_who_watches() {
        let queue = queue(NEVER);
        push(&queue, 0..MANY);
        let (_, at_work) = queue.take().unwrap();
        thread::scope(|scope| {
            let watcher = scope.spawn(|| queue.take().map(|(items, _at_work)| items));
            push(&queue, 10..11);
            until_idle(&queue, 1);
            drop(at_work);
            let (_, at_work) = queue.take().unwrap();
            drop(at_work);
            queue.lock().last = MANY;
            push(&queue, 20..21);
            assert_eq!(watcher.join().unwrap(), Some(vec![20]));
        });
    }

    #[test]
    fn while_few_ask_nobody_waits() {
        let queue = queue(NEVER);
        let items = second(&queue, MANY - 1, || push(&queue, 10..11));
        assert_eq!(items, Some(vec![10]));
    }

    #[test]
    fn what_waits_is_bounded_and_still_taken_at_the_end() {
        let queue = Gather::new(2, Taking { enough: 8, patience: NEVER });
        push(&queue, 0..2);
        assert_eq!(queue.push(2), Err(Refused::Full));
        queue.stop();
        assert_eq!(queue.push(3), Err(Refused::Stopped));
        assert_eq!(queue.take().map(|(items, _at_work)| items), Some(vec![0, 1]));
        assert!(queue.take().is_none());
    }
}
