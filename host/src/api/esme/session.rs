//! One bound session of an ESME: takes its requests as they come and answers each as soon as it is
//! durable, in whatever order that is. How many are under way is the window's business, which the
//! link keeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Esme;
use super::binds::Bound;
use super::operations;
use super::refusal::Refused;
use super::submit;
use super::system::System;
use crate::domain::Address;
use crate::domain::address::AddressError;
use crate::pipeline::EventKind;
use crate::smpp::link::Responder;
use crate::smpp::pdu::{Body, SmResp, TlvBuf, command_id, decode, tag};
use crate::smpp::server::{Request, ServerSession};
use crate::smpp::status;

/// Requests taken from the link at a time.
const BATCH: usize = 64;
/// Versions that know optional parameters in every response.
const VERSION_5_0: u8 = 0x50;
/// SMPP 5.0, 4.8.4.2.
const STATUS_TEXT_MAX: usize = 255;

/// Until the session ends; then everything it asked for is finished all the same.
pub async fn run(esme: Arc<Esme>, session: ServerSession, mut stop: watch::Receiver<bool>) {
    let ServerSession {
        peer,
        tls,
        mode,
        system_id,
        system_type,
        interface_version,
        link,
        mut requests,
        ..
    } = session;
    let Some(party) = esme.binds.party(&system_id).cloned() else {
        link.abort();
        return;
    };
    let system = party.system.clone();
    system.counters.binds.fetch_add(1, Ordering::Relaxed);
    let since = esme.pipeline.clock.now();
    let bound = esme.binds.bound(
        system.clone(),
        peer,
        tls,
        mode,
        interface_version,
        system_type,
        since,
        link.clone(),
    );
    let detail = format!("{} from {}", mode.name(), peer.ip());
    if party.enter(bound.clone()) {
        let events = &esme.pipeline.events;
        events.emit(EventKind::EsmeBound, &*system.id, detail.clone());
    }
    let visit = Arc::new(Visit {
        esme: esme.clone(),
        bound: bound.clone(),
    });
    let mut under_way = JoinSet::new();
    let mut batch = Vec::new();
    let mut stopping = false;
    loop {
        while under_way.try_join_next().is_some() {}
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                // What comes from now on is answered that it should come again.
                requests.close();
                continue;
            }
            count = requests.recv_many(&mut batch, BATCH) => if count == 0 { break },
        }
        for request in batch.drain(..) {
            let visit = visit.clone();
            under_way.spawn(async move { visit.answer(request).await });
        }
    }
    while under_way.join_next().await.is_some() {}
    if stopping {
        link.unbind();
    }
    let reason = link.closed().await;
    if party.leave(bound.id) {
        let events = &esme.pipeline.events;
        events.emit(EventKind::EsmeUnbound, &*system.id, reason.to_string());
    }
    tracing::info!(system_id = %system.id, bind = bound.id, %reason, "an ESME's session ended");
}

/// What one request needs to know of its session.
pub struct Visit {
    pub esme: Arc<Esme>,
    pub bound: Arc<Bound>,
}

impl Visit {
    pub fn system(&self) -> &Arc<System> {
        &self.bound.system
    }

    /// As the account's numbers are read over HTTP too.
    pub fn read_number(&self, text: &str) -> Result<Address, AddressError> {
        let numbers = &self.esme.pipeline.numbers;
        numbers.recipient(text, &numbers.rules(&self.system().account.id, None))
    }

    async fn answer(&self, request: Request) {
        let (frame, responder) = request.into_parts();
        match self.response(&frame).await {
            Ok(Response::MessageId(id)) => responder.message_id(id),
            Ok(Response::Status) => responder.status(status::ESME_ROK),
            Ok(Response::Encoded { body, command_id }) => {
                let body = Body::Other {
                    command_id: command_id | command_id::RESPONSE,
                    octets: &body,
                };
                send(responder, status::ESME_ROK, &body);
            }
            Err(refused) => self.refuse(responder, &refused),
        }
    }

    async fn response(&self, frame: &Bytes) -> Result<Response, Refused> {
        // Read once before: the link gives on what it could read.
        let pdu = decode(frame)
            .map_err(|e| Refused::new(e.command_status, format!("bad {}", e.field)))?;
        match pdu.body {
            Body::SubmitSm(sm) => submit::submit(self, &sm, frame).await,
            Body::DataSm(data_sm) => submit::submit(self, &data_sm.as_sm(), frame).await,
            Body::Other {
                command_id: command_id::SUBMIT_MULTI,
                octets,
            } => submit::submit_multi(self, octets, frame).await,
            Body::QuerySm(query) => operations::query(self, &query).await,
            Body::CancelSm(cancel) => operations::cancel(self, &cancel).await,
            Body::ReplaceSm(replace) => operations::replace(self, &replace).await,
            _ => Err(Refused::new(status::ESME_RINVCMDID, "not a request for us")),
        }
    }

    fn refuse(&self, responder: Responder, refused: &Refused) {
        let counters = &self.system().counters;
        let counter = match refused.command_status {
            status::ESME_RTHROTTLED | status::ESME_RMSGQFUL => &counters.throttled,
            _ => &counters.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(system_id = %self.system().id, command = command_id::name(responder.command_id()), status = %status::describe(refused.command_status), "refused");
        // A response that says an error has no body in 3.4 (4.4.2), but for data_sm_resp (4.7.2).
        let explains = self.bound.interface_version >= VERSION_5_0
            || responder.command_id() == command_id::DATA_SM;
        let text = refused.why.as_bytes();
        let mut tlvs = TlvBuf::new();
        let mut value = text[..text.len().min(STATUS_TEXT_MAX)].to_vec();
        value.push(0);
        if !explains
            || value.iter().any(|octet| !octet.is_ascii())
            || tlvs.push(tag::ADDITIONAL_STATUS_INFO_TEXT, &value).is_err()
        {
            return responder.status(refused.command_status);
        }
        let resp = SmResp {
            message_id: b"",
            tlvs: tlvs.as_tlvs(),
        };
        match responder.command_id() {
            command_id::SUBMIT_SM => {
                send(responder, refused.command_status, &Body::SubmitSmResp(resp))
            }
            command_id::DATA_SM => send(responder, refused.command_status, &Body::DataSmResp(resp)),
            _ => responder.status(refused.command_status),
        }
    }
}

/// What a request that was granted is answered.
pub enum Response {
    /// submit_sm_resp, data_sm_resp.
    MessageId(String),
    /// cancel_sm_resp, replace_sm_resp.
    Status,
    /// query_sm_resp, submit_multi_resp: encoded, to the request of that command_id.
    Encoded { body: Vec<u8>, command_id: u32 },
}

fn send(responder: Responder, command_status: u32, body: &Body<'_>) {
    // Bodies are made of what fits: an error would be a bug of ours, and leaves the peer unanswered.
    if let Err(error) = responder.body(command_status, body) {
        tracing::error!(%error, "a response could not be encoded");
    }
}
