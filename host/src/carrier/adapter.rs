//! A carrier spoken to by a WASM adapter: window and pace are ours, the protocol is the plugin's.
//! Knows which entry of the policy set in force speaks for it; does no HTTP itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::pace::Pacer;
use super::provider_id::IdPlaces;
use super::verify::{self, Verification};
use super::{
    Ack, BoxFuture, Carrier, CarrierEvent, CarrierStatus, Handed, InboundPart, Outgoing, Place,
    SendOutcome, Turnover,
};
use crate::clock::Clock;
use crate::domain::receipt::{Evidence, IdForm, Per, Receipt, ReceiptStyle, Report};
use crate::domain::{Address, CarrierId, Context, Hook, PartState, Phase};
use crate::plugin::{
    AdapterEvent, AdapterState, CallbackAnswer, Fault, HttpRequest, HttpResponse, PolicySet,
    SubmitError,
};

/// The policy set in force.
pub type ActiveSet = Arc<dyn Fn() -> Arc<PolicySet> + Send + Sync>;

/// A WASM-adapter carrier as its operator describes it.
#[derive(Clone, Debug)]
pub struct AdapterConfig {
    pub id: CarrierId,
    /// The entry's name in the policy.
    pub plugin: String,
    pub window: usize,
    /// Messages per second; 0: no limit.
    pub throughput: u32,
    pub tags: Vec<String>,
    /// How call-backs are told from anybody's. None: the plugin looks at them as they come.
    pub verification: Option<Verification>,
    /// Where the provider's own ids of texts from handsets stand in a call-back.
    pub inbound_ids: IdPlaces,
}

/// A running adapter carrier.
pub struct AdapterCarrier {
    config: AdapterConfig,
    active: ActiveSet,
    clock: Clock,
    events: mpsc::Sender<CarrierEvent>,
    permits: Arc<Semaphore>,
    pacer: Mutex<Pacer>,
    turnover: Arc<Turnover>,
    counters: CallbackCounters,
}

/// What became of a carrier's call-backs.
#[derive(Debug, Default)]
pub struct CallbackCounters {
    pub taken: AtomicU64,
    /// Not the carrier's, as far as its signature tells.
    pub forged: AtomicU64,
    pub refused: AtomicU64,
    /// To be sent again.
    pub postponed: AtomicU64,
}

/// Why a call-back was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackError {
    /// Its signature or secret is missing, wrong or too old.
    NotVerified(verify::Reason),
    /// The carrier's fault, or a stranger's: sending it again does not help.
    NotUnderstood(String),
    /// Ours: the carrier is to send it again.
    NotNow(String),
}

/// With no throughput agreed, an idle carrier's headroom.
const HEADROOM_UNLIMITED: f32 = 10_000.0;

/// `ready` looks again at least that often: the policy set may have changed.
const RECHECK: Duration = Duration::from_millis(200);

impl AdapterCarrier {
    pub fn new(
        config: AdapterConfig,
        active: ActiveSet,
        clock: Clock,
        events: mpsc::Sender<CarrierEvent>,
    ) -> Arc<AdapterCarrier> {
        let pacer = Pacer::new(config.throughput, clock.monotonic());
        Arc::new(AdapterCarrier {
            permits: Arc::new(Semaphore::new(config.window)),
            config,
            active,
            clock,
            events,
            pacer: Mutex::new(pacer),
            turnover: Arc::default(),
            counters: CallbackCounters::default(),
        })
    }

    pub fn counters(&self) -> &CallbackCounters {
        &self.counters
    }

    /// Hands a carrier's call-back to the plugin, and what it told to the pipeline. The answer waits
    /// until that is durable, so that the carrier repeats what we could not keep. The plugin sees no
    /// call-back that is not verified.
    pub async fn callback(&self, request: &HttpRequest) -> Result<HttpResponse, CallbackError> {
        let answer = match &self.config.verification {
            Some(verification) => verification
                .verify(request, self.clock.now())
                .map_err(CallbackError::NotVerified),
            None => Ok(()),
        };
        let answer = match answer {
            Ok(()) => self.verified(request).await,
            Err(error) => Err(error),
        };
        let counter = match &answer {
            Ok(_) => &self.counters.taken,
            Err(CallbackError::NotVerified(_)) => &self.counters.forged,
            Err(CallbackError::NotUnderstood(_)) => &self.counters.refused,
            Err(CallbackError::NotNow(_)) => &self.counters.postponed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }

    async fn verified(&self, request: &HttpRequest) -> Result<HttpResponse, CallbackError> {
        let not_now = |why: String| CallbackError::NotNow(why);
        let set = (self.active)();
        let entry = set
            .entries(Hook::CarrierAdapter)
            .find(|e| e.name() == self.config.plugin)
            .ok_or_else(|| not_now(format!("no plugin {:?} is active", self.config.plugin)))?;
        let (answer, _) = entry.callback(request, &self.context()).await;
        let CallbackAnswer { response, events } = answer
            .map_err(|fault| not_now(fault.to_string()))?
            .map_err(CallbackError::NotUnderstood)?;
        let texts = events.iter().filter(|e| is_text(e)).count();
        let mut ids = self.ids_of_texts(request, texts).into_iter();
        for event in events {
            let id = if is_text(&event) { ids.next() } else { None };
            let (ack, taken) = oneshot::channel();
            let event = self
                .translated(event, id, ack)
                .map_err(CallbackError::NotUnderstood)?;
            let gone = || not_now("the server is shutting down".to_owned());
            self.events.send(event).await.map_err(|_| gone())?;
            match taken.await {
                Ok(Ack::Taken) => {}
                Ok(Ack::RetryLater) | Err(_) => {
                    return Err(not_now("it could not be stored".to_owned()));
                }
            }
        }
        Ok(response)
    }

    /// By what a repeat of each text is known: the provider's own ids where there is one for each, else
    /// the whole call-back where that is signed. Else nothing tells a repeated text from a new one.
    fn ids_of_texts(&self, request: &HttpRequest, texts: usize) -> Vec<String> {
        if texts == 0 {
            return Vec::new();
        }
        let ids = self.config.inbound_ids.find(request);
        if ids.len() == texts {
            return ids;
        }
        let tells = |v: &&Verification| v.tells_repeats();
        if self.config.verification.as_ref().filter(tells).is_none() {
            return Vec::new();
        }
        let hash = Sha256::new()
            .chain_update(&request.method)
            .chain_update([0u8])
            .chain_update(&request.url)
            .chain_update([0u8])
            .chain_update(&request.body)
            .finalize();
        let digest: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
        (0..texts).map(|n| format!("sha256:{digest}#{n}")).collect()
    }

    fn translated(
        &self,
        event: AdapterEvent,
        provider_id: Option<String>,
        ack: oneshot::Sender<Ack>,
    ) -> Result<CarrierEvent, String> {
        match event {
            AdapterEvent::Receipt {
                carrier_message_id,
                state,
                error,
                at,
            } => Ok(CarrierEvent::Receipt {
                carrier: self.config.id.clone(),
                receipt: Receipt {
                    id: carrier_message_id,
                    report: Report {
                        state: part_state(state),
                        error: error.unwrap_or_default(),
                        network_type: None,
                        done_at: at,
                    },
                    evidence: Evidence::default(),
                },
                style: ReceiptStyle {
                    id_form: IdForm::AsIs,
                    per: Per::Auto,
                },
                ack,
            }),
            AdapterEvent::Inbound {
                originator,
                recipient,
                text,
                at: _,
            } => {
                let address = |field: &str, value: &str| {
                    Address::originator(value).map_err(|e| format!("{field} {e}"))
                };
                let mut payload = Vec::with_capacity(text.len() * 2);
                crate::domain::text::encode_ucs2(&text, &mut payload);
                Ok(CarrierEvent::Inbound {
                    carrier: self.config.id.clone(),
                    part: InboundPart {
                        originator: address("originator", &originator)?,
                        recipient: address("recipient", &recipient)?,
                        data_coding: 8,
                        udh: Vec::new(),
                        payload,
                        concat: None,
                    },
                    provider_id,
                    ack,
                })
            }
        }
    }

    fn context(&self) -> Context {
        Context {
            now: self.clock.now(),
            random: 0,
            phase: Phase::Dispatch,
        }
    }

    fn is_active(&self) -> bool {
        (self.active)()
            .entries(Hook::CarrierAdapter)
            .any(|e| e.name() == self.config.plugin)
    }

    /// Takes a token of the pace, waiting for it.
    async fn pace(&self) {
        loop {
            let wait = {
                let mut pacer = self.pacer.lock().unwrap_or_else(PoisonError::into_inner);
                pacer.take(self.clock.monotonic(), 1)
            };
            match wait {
                Ok(()) => return,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    async fn submit(&self, outgoing: &Outgoing<'_>) -> SendOutcome {
        let set = (self.active)();
        let entry = set
            .entries(Hook::CarrierAdapter)
            .find(|e| e.name() == self.config.plugin);
        let Some(entry) = entry else {
            return SendOutcome::Unavailable;
        };
        self.pace().await;
        let mut message = outgoing.message.clone();
        message.originator = outgoing.originator.clone();
        message.tlvs = outgoing.tlvs.to_vec();
        let (answer, _) = entry.submit(&message, &self.context()).await;
        match answer {
            Ok(Ok(ids)) => SendOutcome::Sent { ids },
            Ok(Err(SubmitError::Throttled(ms))) => {
                let mut pacer = self.pacer.lock().unwrap_or_else(PoisonError::into_inner);
                pacer.complaint(self.clock.monotonic());
                SendOutcome::Throttled {
                    status: 429,
                    retry_after_ms: Some(ms),
                }
            }
            Ok(Err(SubmitError::Temporary(detail))) => SendOutcome::Temporary {
                status: 0,
                detail,
                retry_after_ms: None,
            },
            Ok(Err(SubmitError::Permanent(detail))) => SendOutcome::Permanent { status: 0, detail },
            Ok(Err(SubmitError::Unknown(_))) => SendOutcome::Unknown { taken: Vec::new() },
            // Never called, so nothing went out.
            Err(Fault::Skipped | Fault::Quota(_) | Fault::Busy { .. } | Fault::Internal(_)) => {
                SendOutcome::Unavailable
            }
            // It may have sent the request before it failed.
            Err(
                Fault::Trap(_)
                | Fault::Timeout { .. }
                | Fault::MemoryLimit { .. }
                | Fault::BadOutput(_)
                | Fault::HostCallLimit(_),
            ) => SendOutcome::Unknown { taken: Vec::new() },
        }
    }
}

impl Carrier for AdapterCarrier {
    fn id(&self) -> &CarrierId {
        &self.config.id
    }

    fn tags(&self) -> &[String] {
        &self.config.tags
    }

    fn status(&self) -> CarrierStatus {
        let mut pacer = self.pacer.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = pacer.available(self.clock.monotonic());
        let free = self.permits.available_permits();
        CarrierStatus {
            connected: self.is_active(),
            in_flight: u32::try_from(self.config.window - free).unwrap_or(u32::MAX),
            headroom: if free == 0 {
                0.0
            } else {
                rate.map_or(HEADROOM_UNLIMITED, |r| r as f32)
            },
        }
    }

    fn ready(&self) -> BoxFuture<'_, usize> {
        Box::pin(async move {
            loop {
                let free = self.permits.available_permits() + self.turnover.settling();
                if free > 0 && self.is_active() {
                    return free;
                }
                let _ = tokio::time::timeout(RECHECK, self.turnover.changed.notified()).await;
            }
        })
    }

    fn down(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while self.is_active() {
                tokio::time::sleep(RECHECK).await;
            }
        })
    }

    fn send<'a>(&'a self, outgoing: Outgoing<'a>) -> BoxFuture<'a, Handed> {
        Box::pin(async move {
            let Ok(permit) = self.permits.clone().acquire_owned().await else {
                return SendOutcome::Unavailable.into();
            };
            let place = Place::new(permit, &self.turnover);
            Handed {
                outcome: self.submit(&outgoing).await,
                place: Some(place),
            }
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Calls under way end within their deadline.
            let all = u32::try_from(self.config.window).unwrap_or(u32::MAX);
            let drained = self.permits.acquire_many(all);
            let _ = tokio::time::timeout(Duration::from_secs(15), drained).await;
        })
    }
}

fn is_text(event: &AdapterEvent) -> bool {
    matches!(event, AdapterEvent::Inbound { .. })
}

fn part_state(state: AdapterState) -> PartState {
    match state {
        AdapterState::Enroute | AdapterState::Accepted => PartState::Enroute,
        AdapterState::Delivered => PartState::Delivered,
        AdapterState::Expired => PartState::Expired,
        AdapterState::Deleted | AdapterState::Undeliverable => PartState::Undeliverable,
        AdapterState::Unknown => PartState::Unknown,
        AdapterState::Rejected => PartState::Rejected,
    }
}
