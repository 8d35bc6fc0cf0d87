//! Work that is begun before it is asked for, on whatever threads have nothing else to do.

use crate::error::{Error, Result};
use rayon::{ScopeFifo, Yield};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a thread sleeps that waits and finds no other work.
const SLEEP: Duration = Duration::from_micros(50);

/// What some work will come to.
pub struct Promise<T>(Arc<Mutex<Option<T>>>);

impl<T> Promise<T> {
    /// Begins work; of works that wait for a thread the first begun is the first done.
    pub fn new<'scope>(scope: &ScopeFifo<'scope>, work: impl FnOnce() -> T + Send + 'scope) -> Self
    where
        T: Send + 'scope,
    {
        let made = Arc::new(Mutex::new(None));
        let kept = made.clone();
        scope.spawn_fifo(move |_| {
            let made = work();
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        });
        Promise(made)
    }

    /// Waits, and does other work meanwhile. `None` if the work panicked, which the scope tells of when it ends.
    pub fn take(self) -> Option<T> {
        loop {
            // Whoever makes it lets it go afterwards.
            let is_over = Arc::strong_count(&self.0) == 1;
            let made = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            if made.is_some() || is_over {
                return made;
            }
            if rayon::yield_now() != Some(Yield::Executed) {
                std::thread::sleep(SLEEP);
            }
        }
    }
}

/// Makes the same of several numbers, on all threads, and gives what each comes to, in their order, as soon as that is made.
pub fn in_order<T: Send>(
    numbers: Range<usize>,
    make: &(dyn Fn(usize) -> Result<T> + Sync),
    take: &mut dyn FnMut(T) -> Result<()>,
) -> Result<()> {
    rayon::in_place_scope_fifo(|scope| {
        let mut begun: VecDeque<Promise<Result<T>>> = VecDeque::new();
        let mut rest = numbers;
        loop {
            // One more than there are threads, so that none waits while what is made is taken.
            let room = rayon::current_num_threads() + 1 - begun.len();
            begun.extend(rest.by_ref().take(room).map(|number| Promise::new(scope, move || make(number))));
            let Some(first) = begun.pop_front() else { return Ok(()) };
            take(first.take().unwrap_or(Err(Error::Interrupted))?)?;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_taken_in_any_order() {
        rayon::in_place_scope_fifo(|scope| {
            let promises: Vec<Promise<u32>> =
                (0..100).map(|number| Promise::new(scope, move || number * number)).collect();
            let made: Vec<Option<u32>> = promises.into_iter().rev().map(Promise::take).collect();
            assert!(made.into_iter().eq((0..100).rev().map(|number| Some(number * number))));
        });
    }

    #[test]
    fn nobody_waits_for_work_that_panicked() {
        let ended = std::panic::catch_unwind(|| {
            rayon::in_place_scope_fifo(|scope| {
                let promise: Promise<u32> = Promise::new(scope, || unreachable!("this work ends early"));
                assert_eq!(promise.take(), None);
            });
        });
        assert!(ended.is_err());
    }
}
