//! Several jobs of the lab, some at a time, shown while they run.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use anyhow::Result;

use super::progress::{self, Progress};

/// Works off a list, `at_a_time` of it, each by `work`, which may tell of its steps and returns how it ended. `show` is given everything
/// that is told, until all have ended; if it fails, those that have not begun are left.
///
/// # Errors
/// What `show` returns.
pub fn run<T: Copy + Send + Sync, E: Send>(
    list: &[T],
    at_a_time: u8,
    work: impl Fn(usize, T, &mpsc::Sender<E>) -> E + Sync,
    mut show: impl FnMut(E, &mut Progress) -> Result<()>,
) -> Result<()> {
    let queue: Mutex<VecDeque<(usize, T)>> = Mutex::new(list.iter().copied().enumerate().collect());
    let (tell, hear) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            let (tell, queue, work) = (tell.clone(), &queue, &work);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((index, job)) = next else { return };
                    // Nobody hears when the run has been given up.
                    if tell.send(work(index, job, &tell)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        let mut progress = Progress::new();
        let end = loop {
            match hear.recv_timeout(progress::TICK) {
                Ok(told) => {
                    if let Err(error) = show(told, &mut progress) {
                        break Err(error);
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break Ok(()),
            }
            progress.draw();
        };
        if end.is_err() {
            queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        progress.clear();
        end
    })
}
