//! Answers in the place of guests: where a server is simulated, the simulation says what its plugins
//! answer, and when. All that is around a call stays as it is: limits, breakers, fail modes, counters.

use std::future::Future;
use std::pin::Pin;

use super::answer::{Bad, Raised};
use super::{CarrierView, Fault};
use crate::domain::{
    Context, Enriched, Inbound, InboundAction, Message, RecipientProfile, Routing, Ruling, Verdict,
};

pub type Played<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// Stands in for every component of an engine; see [`super::Engine::played_by`].
pub trait Player: Send + Sync {
    fn enrich<'a>(&'a self, message: &'a Message, context: &'a Context) -> Played<'a, Enriched>;

    fn inspect<'a>(&'a self, message: &'a Message, context: &'a Context) -> Played<'a, Verdict>;

    fn check<'a>(
        &'a self,
        message: &'a Message,
        recipient: &'a RecipientProfile,
        context: &'a Context,
    ) -> Played<'a, Ruling>;

    fn route<'a>(
        &'a self,
        message: &'a Message,
        carriers: &'a [CarrierView],
        context: &'a Context,
    ) -> Played<'a, Routing>;

    fn receive<'a>(
        &'a self,
        inbound: &'a Inbound,
        context: &'a Context,
    ) -> Played<'a, Vec<InboundAction>>;
}

/// As if a guest had answered so, or failed so.
pub(super) async fn raised<T>(played: Played<'_, T>) -> Raised<T> {
    match played.await {
        Ok(answer) => Ok(Ok(answer)),
        Err(Fault::BadOutput(what)) => Ok(Err(Bad(what))),
        Err(fault) => Err(fault.into()),
    }
}
