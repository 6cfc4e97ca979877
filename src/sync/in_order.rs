//! One point that pieces of work pass in order, on whatever threads they run.

use std::sync::{Condvar, Mutex, PoisonError};

/// The point.
#[derive(Debug, Default)]
pub(crate) struct InOrder {
    /// The number of the piece that passes next, or is there.
    next: Mutex<usize>,
    passed: Condvar,
}

/// A piece's place. Dropping it lets the next one pass, once those before have: so one that panics keeps nobody
/// waiting.
#[derive(Debug)]
#[must_use = "it keeps the next one waiting until it is dropped"]
pub(crate) struct Place<'a> {
    order: &'a InOrder,
    number: usize,
}

impl InOrder {
    /// Takes the place of a piece; the first one has the number 0, and each is taken once.
    pub(crate) fn place(&self, number: usize) -> Place<'_> {
        Place { order: self, number }
    }
}

impl Place<'_> {
    /// Waits until all before it have passed.
    pub(crate) fn wait(&self) {
        drop(self.waited());
    }

    fn waited(&self) -> std::sync::MutexGuard<'_, usize> {
        let next = self.order.next.lock().unwrap_or_else(PoisonError::into_inner);
        let is_early = |next: &mut usize| *next < self.number;
        self.order.passed.wait_while(next, is_early).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.waited() += 1;
        self.order.passed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn pieces_pass_in_order_also_when_one_panics() {
        let (order, seen) = (InOrder::default(), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            // The last one is there first.
            for number in (0..8).rev() {
                let (order, seen) = (&order, &seen);
                scope.spawn(move || {
                    let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        let place = order.place(number);
                        assert!(number != 3, "before it waits");
                        place.wait();
                        seen.lock().unwrap().push(number);
                    }));
                    assert_eq!(passed.is_err(), number == 3);
                });
            }
        });
        assert_eq!(seen.into_inner().unwrap(), [0, 1, 2, 4, 5, 6, 7]);
    }
}
