//! The threads that read: sled may go to the disk, which no async thread waits for. They are the same few from the
//! opening on; those of tokio's pool are as many as a rush once made them, and stay while there is any to read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

/// Reads at once.
const THREADS: usize = 16;
/// Reads that wait in line; who asks beyond waits to be let in.
const LINE: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// They end when this is dropped.
pub(super) struct Readers {
    jobs: mpsc::Sender<Job>,
}

impl Readers {
    pub fn start() -> std::io::Result<Readers> {
        let (jobs, line) = mpsc::channel::<Job>(LINE);
        let line = Arc::new(Mutex::new(line));
        for _ in 0..THREADS {
            let line = line.clone();
            std::thread::Builder::new()
                .name("store-read".into())
                .spawn(move || serve(&line))?;
        }
        Ok(Readers { jobs })
    }

    /// Nothing where the read panicked.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let job = move || {
            // Who has gone away meanwhile wants nothing any more.
            if !reply.is_closed() {
                let _ = reply.send(read());
            }
        };
        self.jobs.send(Box::new(job)).await.ok()?;
        answer.await.ok()
    }
}

fn serve(line: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // One waits for the next read, the others for that place.
        let Some(job) = line.lock().blocking_recv() else {
            return;
        };
        // The panic has been told by the hook; the reader is told by the answer that never comes.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_thousand_reads_are_answered_by_so_many_threads() {
        let readers = Arc::new(Readers::start().unwrap());
        let at_once = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let reads: Vec<_> = (0..1_000)
            .map(|n| {
                let (readers, at_once) = (readers.clone(), at_once.clone());
                tokio::spawn(async move {
                    let read = move || {
                        let now = at_once[0].fetch_add(1, SeqCst) + 1;
                        at_once[1].fetch_max(now, SeqCst);
                        std::thread::yield_now();
                        at_once[0].fetch_sub(1, SeqCst);
                        n
                    };
                    assert_eq!(readers.read(read).await, Some(n));
                })
            })
            .collect();
        for read in reads {
            read.await.unwrap();
        }
        assert!((1..=THREADS).contains(&at_once[1].load(SeqCst)));
    }

    #[tokio::test]
    async fn reads_that_panic_end_no_thread() {
        let readers = Readers::start().unwrap();
        for _ in 0..2 * THREADS {
            let panicked: Option<()> = readers.read(|| panic!("a planted defect")).await;
            assert_eq!(panicked, None);
        }
        assert_eq!(readers.read(|| 7).await, Some(7));
    }

    thread_local! {
        static HELD: RefCell<Option<Arc<()>>> = const { RefCell::new(None) };
    }

    #[tokio::test]
    async fn the_threads_end_with_their_owner() {
        let kept = Arc::new(());
        let readers = Arc::new(Readers::start().unwrap());
        let all_at_once = Arc::new(Barrier::new(THREADS));
        let reads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (readers, all, held) = (readers.clone(), all_at_once.clone(), kept.clone());
                let read = move || {
                    HELD.set(Some(held));
                    all.wait();
                };
                tokio::spawn(async move { readers.read(read).await })
            })
            .collect();
        for read in reads {
            read.await.unwrap().unwrap();
        }
        assert_eq!(Arc::strong_count(&kept), 1 + THREADS);
        drop(readers);
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while Arc::strong_count(&kept) > 1 {
            assert!(std::time::Instant::now() < end, "threads are left");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
