//! What the pipeline knows of a carrier: whether it can take more, how to hand it a message, and
//! what comes back. Knows neither the queue nor policy.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use crate::clock::Timestamp;
use crate::domain::receipt::{Receipt, ReceiptStyle};
use crate::domain::text::{Segmented, TextStyle};
use crate::domain::{Address, CarrierId, Message, ReceiptsWanted, Tlv};

pub mod adapter;
pub mod pace;
pub mod provider_id;
pub mod simulator;
pub mod smpp;
mod smpp_config;
mod smpp_hosts;
mod smpp_inbound;
mod smpp_network;
mod smpp_outbind;
mod smpp_parameters;
mod smpp_query;
mod smpp_seat;
mod smpp_status;
mod smpp_submit;
pub mod verify;

/// One message on its way to one carrier.
pub struct Outgoing<'a> {
    pub message: &'a Message,
    /// The hop's originator where it replaces the message's.
    pub originator: &'a Address,
    pub segmented: &'a Segmented,
    /// The message's TLVs and the hop's; the hop's win.
    pub tlvs: &'a [Tlv],
    pub now: Timestamp,
}

/// How handing over ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Taken: the carrier's message ids in segment order (one id for all where it gives only one).
    Sent {
        ids: Vec<String>,
    },
    /// ESME_RTHROTTLED, ESME_RMSGQFUL, HTTP 429; after `retry_after_ms` where the carrier says so.
    Throttled {
        status: u32,
        retry_after_ms: Option<u32>,
    },
    /// As `Throttled`, `retry_after_ms`.
    Temporary {
        status: u32,
        detail: String,
        retry_after_ms: Option<u32>,
    },
    Permanent {
        status: u32,
        detail: String,
    },
    /// It went out, or may have, and no answer came. `taken` has the carrier's ids of those segments that
    /// it did answer for, in segment order; it is empty where none is told apart.
    Unknown {
        taken: Vec<Option<String>>,
    },
    /// The carrier took some segments (their ids in segment order), and the others have not left: the window
    /// has no place for them until those are written down, or the session has ended.
    Begun {
        taken: Vec<Option<String>>,
    },
    /// It never left.
    Unavailable,
}

/// What became of a message that was handed over.
pub struct Handed {
    pub outcome: SendOutcome,
    /// Kept until `outcome` is durable.
    pub place: Option<Place>,
}

impl From<SendOutcome> for Handed {
    fn from(outcome: SendOutcome) -> Handed {
        Handed {
            outcome,
            place: None,
        }
    }
}

/// What a message takes up of its carrier's window. Dropped, it is given back; what was answered settles it.
pub struct Place {
    permits: Option<OwnedSemaphorePermit>,
    turnover: Arc<Turnover>,
}

/// The place of a message whose outcome is to be written down. It is given back when that is durable and not
/// when the message is answered: to the start after a crash, what was answered and not yet written down is
/// unanswered as well, and no more is to be repeated than the window has places. Dropped, it is given back.
pub struct Settling(Place);

/// Tells when places of one carrier are given back, and how many will be with the next commit.
#[derive(Default)]
struct Turnover {
    changed: Notify,
    settling: AtomicUsize,
}

impl Place {
    fn new(permits: OwnedSemaphorePermit, turnover: &Arc<Turnover>) -> Place {
        Place {
            permits: Some(permits),
            turnover: turnover.clone(),
        }
    }

    /// Its outcome is to be written down.
    pub fn settle(self) -> (Settling, Notice) {
        let turnover = self.turnover.clone();
        turnover.settling.fetch_add(self.count(), Ordering::Relaxed);
        (Settling(self), Notice(turnover))
    }

    fn count(&self) -> usize {
        self.permits.as_ref().map_or(0, |p| p.num_permits())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.permits.take().is_some() {
            self.turnover.changed.notify_waiters();
        }
    }
}

/// To be given when the outcome is on its way to the next commit, which is the earliest that another message can
/// be claimed by: the one that gets the place may then be asked for.
pub struct Notice(Arc<Turnover>);

impl Notice {
    pub fn give(self) {
        self.0.changed.notify_waiters();
    }
}

impl Settling {
    /// Where the store has stopped, the outcome is never durable. The window is then shut, so that whoever waits
    /// for a place in it learns that nothing goes out any more.
    pub fn end(mut self, durable: bool) {
        if !durable && let Some(permits) = self.release() {
            permits.semaphore().close();
            permits.forget();
        }
    }

    fn release(&mut self) -> Option<OwnedSemaphorePermit> {
        let permits = self.0.permits.take()?;
        let count = permits.num_permits();
        self.0.turnover.settling.fetch_sub(count, Ordering::Relaxed);
        Some(permits)
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        drop(self.release());
    }
}

impl Turnover {
    fn settling(&self) -> usize {
        self.settling.load(Ordering::Relaxed)
    }
}

/// What a carrier can take now. Cheap to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CarrierStatus {
    pub connected: bool,
    pub in_flight: u32,
    /// Submissions per second still allowed now.
    pub headroom: f32,
}

/// What the carrier is told about a receipt or a mobile-originated message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Durable: ESME_ROK.
    Taken,
    /// Not now: the carrier is to send it again.
    RetryLater,
}

/// What comes from a carrier. Each is answered once it is durable; a dropped `ack` means `RetryLater`.
#[derive(Debug)]
pub enum CarrierEvent {
    Receipt {
        carrier: CarrierId,
        receipt: Receipt,
        /// How the carrier's receipts are to be read.
        style: ReceiptStyle,
        ack: oneshot::Sender<Ack>,
    },
    Inbound {
        carrier: CarrierId,
        part: InboundPart,
        /// By what the carrier knows it, where a repeat can be told by that.
        provider_id: Option<String>,
        ack: oneshot::Sender<Ack>,
    },
    /// alert_notification (SMPP 3.4, 4.12.1): what is known of a handset has changed.
    Alert {
        carrier: CarrierId,
        /// As the carrier writes it.
        handset: String,
        availability: Availability,
    },
}

/// ms_availability_status (SMPP 3.4, 5.3.2.30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Available,
    /// Suspended, or without short messages.
    Denied,
    Unavailable,
}

impl Availability {
    /// Where the parameter is left out or reserved, the alert itself says that the handset is there.
    pub fn from_status(status: Option<u32>) -> Availability {
        match status {
            Some(1) => Availability::Denied,
            Some(2) => Availability::Unavailable,
            _ => Availability::Available,
        }
    }

    pub fn status(self) -> u8 {
        match self {
            Availability::Available => 0,
            Availability::Denied => 1,
            Availability::Unavailable => 2,
        }
    }
}

/// A mobile-originated message or one segment of it, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundPart {
    pub originator: Address,
    pub recipient: Address,
    /// SMPP 3.4, 5.2.19.
    pub data_coding: u8,
    /// The user data header without its concatenation element, and without its length octet.
    pub udh: Vec<u8>,
    /// What follows the header. Parts are joined before they are decoded, because handsets cut
    /// surrogate and escape pairs in two.
    pub payload: Vec<u8>,
    pub concat: Option<crate::domain::text::Concat>,
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a message at its carrier is to become (replace_sm).
pub struct Exchange<'a> {
    /// As its carrier has it.
    pub message: &'a Message,
    /// The whole text, in the data_coding that the carrier has it in.
    pub short_message: &'a [u8],
    /// Other times; none leaves what there is.
    pub send_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub receipts: Option<ReceiptsWanted>,
    pub now: Timestamp,
}

/// Why a message that a carrier took was not called back, or not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallBackError {
    /// The carrier has no way to, or gave the message no id.
    NotSupported,
    /// It said no: most likely the message has reached its end.
    Refused { status: u32 },
    /// It could not be asked, or did not answer: the message may be canceled or not.
    Unanswered,
}

/// A way to phones. Two kinds: SMPP (`smpp.rs`) and WASM adapters (`adapter.rs`).
pub trait Carrier: Send + Sync {
    fn id(&self) -> &CarrierId;

    fn tags(&self) -> &[String];

    fn status(&self) -> CarrierStatus;

    /// How it wants text.
    fn text_style(&self) -> TextStyle {
        TextStyle::default()
    }

    /// Waits until the carrier is connected and has window and rate to spare; returns how many
    /// messages it could take now, at least 1.
    fn ready(&self) -> BoxFuture<'_, usize>;

    /// Waits until the carrier has been unreachable for a while (at once where it is).
    fn down(&self) -> BoxFuture<'_, ()>;

    fn send<'a>(&'a self, outgoing: Outgoing<'a>) -> BoxFuture<'a, Handed>;

    /// Asks the carrier to forget a message that it took, all of its segments.
    fn call_back<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), CallBackError>> {
        let _ = message;
        Box::pin(async { Err(CallBackError::NotSupported) })
    }

    /// Whether [`Carrier::exchange`] can be tried.
    fn exchanges(&self) -> bool {
        false
    }

    /// Asks the carrier to put another text into a message that it took, in one segment.
    fn exchange<'a>(&'a self, exchange: Exchange<'a>) -> BoxFuture<'a, Result<(), CallBackError>> {
        let _ = exchange;
        Box::pin(async { Err(CallBackError::NotSupported) })
    }

    /// Finishes what is under way, then says goodbye.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}
