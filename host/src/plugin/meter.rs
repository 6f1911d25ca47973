//! How long a thread worked for a future: the sum of its polls, without the waits between them. The
//! future's span is entered for each poll, so that what is logged meanwhile is joined to it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tracing::Span;

/// The moment, by the clock of the runtime's timers: a simulation moves that.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(super) struct Metered<F, B> {
    inner: F,
    span: Span,
    bill: B,
    /// Of the first poll: reading the clock is a good part of a fast call.
    started: Option<Instant>,
}

/// Gives `bill` the nanoseconds of each poll as it ends, so that a call which is given up in the
/// middle was counted as well. `started` is now; with the future's answer comes when that was.
///
/// A guest yields at every epoch tick, so what a busy machine takes away from the thread in the
/// middle of a poll is counted for a tick at most.
pub(super) fn metered<F, B>(span: Span, bill: B, started: Instant, inner: F) -> Metered<F, B>
where
    F: Future + Unpin,
    B: Fn(u64) + Unpin,
{
    Metered {
        inner,
        span,
        bill,
        started: Some(started),
    }
}

impl<F: Future + Unpin, B: Fn(u64) + Unpin> Future for Metered<F, B> {
    type Output = (F::Output, Instant);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _entered = this.span.enter();
        let started = this.started.take().unwrap_or_else(now);
        let polled = Pin::new(&mut this.inner).poll(context);
        let ended = now();
        let worked = ended.saturating_duration_since(started).as_nanos();
        (this.bill)(u64::try_from(worked).unwrap_or(u64::MAX));
        polled.map(|answer| (answer, ended))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn waits_are_not_counted_and_work_is() {
        let work = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(20) {}
            7
        };
        let nanos = Cell::new(0);
        let bill = |more| nanos.set(nanos.get() + more);
        let begun = Instant::now();
        let (answer, ended) = metered(Span::none(), bill, begun, pin!(work)).await;
        assert_eq!(answer, 7);
        assert!(ended.duration_since(begun) >= Duration::from_millis(220));
        assert!(nanos.get() >= 20_000_000, "{}", nanos.get());
        assert!(nanos.get() < 200_000_000, "{}", nanos.get());
    }
}
