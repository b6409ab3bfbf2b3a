//! Work done ahead of its consumer on background threads, and handed over in order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, Result};

/// Yields `work(start)`, `work(start + 1)`, ... up to `end`, computed up to `ahead` items early. What is yielded does not depend on
/// the number of threads. An error ends the sequence; a panic of `work` becomes an error.
pub(super) struct Pipeline<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
    end: u64,
    ahead: u64,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Signalled when an item is ready.
    ready: Condvar,
    /// Signalled when a worker may start another item, or must stop.
    room: Condvar,
}

struct State<T> {
    items: BTreeMap<u64, Result<T>>,
    /// The next item to be computed.
    next_work: u64,
    /// The next item to be yielded.
    next_item: u64,
    /// No item from here on is started: `next_item + ahead`, so that no more than `ahead` items wait.
    horizon: u64,
    closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item to compute, or none when the pipeline is closed or its end is reached.
    fn claim(&self, end: u64) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.closed || state.next_work >= end {
                return None;
            }
            if state.next_work < state.horizon {
                state.next_work += 1;
                return Some(state.next_work - 1);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T: Send + 'static> Pipeline<T> {
    pub(super) fn start<F>(items: std::ops::Range<u64>, threads: usize, ahead: usize, work: F) -> Result<Self>
    where
        F: Fn(u64) -> Result<T> + Send + Sync + 'static,
    {
        let (end, ahead, work) = (items.end, ahead.max(1) as u64, Arc::new(work));
        let horizon = items.start.saturating_add(ahead);
        let state = State { items: BTreeMap::new(), next_work: items.start, next_item: items.start, horizon, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), ready: Condvar::new(), room: Condvar::new() });
        let mut pipeline = Self { shared, workers: Vec::new(), end, ahead };
        for number in 0..threads.max(1) {
            let (shared, work) = (pipeline.shared.clone(), work.clone());
            let body = move || {
                while let Some(item) = shared.claim(end) {
                    let result = catch_unwind(AssertUnwindSafe(|| work(item))).unwrap_or_else(|panic| Err(panicked(&*panic)));
                    shared.lock().items.insert(item, result);
                    shared.ready.notify_all();
                }
            };
            let worker = std::thread::Builder::new().name(format!("data-{number}")).spawn(body);
            pipeline.workers.push(worker.map_err(|error| Error::config(format!("a data thread could not be started: {error}")))?);
        }
        Ok(pipeline)
    }

    /// The next item, once it is there; none after the last one or after an error.
    pub(super) fn next(&mut self) -> Option<Result<T>> {
        let mut state = self.shared.lock();
        let item = state.next_item;
        if state.closed || item >= self.end {
            return None;
        }
        let result = loop {
            match state.items.remove(&item) {
                Some(result) => break result,
                None => state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        state.next_item += 1;
        state.horizon = state.next_item.saturating_add(self.ahead);
        state.closed = result.is_err();
        self.shared.room.notify_all();
        Some(result)
    }
}

impl<T> Drop for Pipeline<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its work, so that joining cannot fail.
            let _ = worker.join();
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::Training(format!("preparing a batch panicked: {}", text.unwrap_or("without a message")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn drain(threads: usize, ahead: usize) -> Vec<u64> {
        let work = |item: u64| {
            std::thread::sleep(std::time::Duration::from_micros(item * 7919 % 300));
            Ok(item)
        };
        let mut pipeline = Pipeline::start(5..60, threads, ahead, work).unwrap();
        std::iter::from_fn(|| pipeline.next().map(Result::unwrap)).collect()
    }

    #[test]
    fn items_come_in_order_whatever_the_threads_and_the_lead() {
        for (threads, ahead) in [(1, 1), (3, 1), (2, 4), (4, 100)] {
            assert_eq!(drain(threads, ahead), (5..60).collect::<Vec<_>>(), "{threads} threads, {ahead} ahead");
        }
    }

    #[test]
    fn no_more_is_computed_than_the_lead_allows() {
        let computed = Arc::new(AtomicU64::new(0));
        let counter = computed.clone();
        let count = move |item| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(item)
        };
        let mut pipeline = Pipeline::start(0..u64::MAX, 3, 4, count).unwrap();
        for taken in 1..50 {
            assert_eq!(pipeline.next().unwrap().unwrap(), taken - 1);
            assert!(computed.load(Ordering::SeqCst) <= taken + 4);
        }
    }

    #[test]
    fn a_panic_is_an_error_that_ends_the_sequence() {
        let work = |item| if item == 3 { panic!("item {item} is bad") } else { Ok(item) };
        let mut pipeline = Pipeline::start(0..10, 2, 2, work).unwrap();
        for item in 0..3 {
            assert_eq!(pipeline.next().unwrap().unwrap(), item);
        }
        let error = pipeline.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("item 3 is bad"), "{error}");
        assert!(pipeline.next().is_none());
    }
}
