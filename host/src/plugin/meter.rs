//! How long a thread worked for a future: the sum of its polls, without the waits between them. The
//! future's span is entered for each poll, so that what is logged meanwhile is joined to it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tracing::Span;

pub(super) struct Metered<F, B> {
    inner: F,
    span: Span,
    bill: B,
}

/// Gives `bill` the nanoseconds of each poll as it ends, so that a call which is given up in the
/// middle was counted as well.
///
/// A guest yields at every epoch tick, so what a busy machine takes away from the thread in the
/// middle of a poll is counted for a tick at most.
pub(super) fn metered<F, B>(span: Span, bill: B, inner: F) -> Metered<F, B>
where
    F: Future + Unpin,
    B: Fn(u64) + Unpin,
{
    Metered { inner, span, bill }
}

impl<F: Future + Unpin, B: Fn(u64) + Unpin> Future for Metered<F, B> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _entered = this.span.enter();
        let started = Instant::now();
        let polled = Pin::new(&mut this.inner).poll(context);
        (this.bill)(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        polled
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
        assert_eq!(metered(Span::none(), bill, pin!(work)).await, 7);
        assert!(nanos.get() >= 20_000_000, "{}", nanos.get());
        assert!(nanos.get() < 200_000_000, "{}", nanos.get());
    }
}
