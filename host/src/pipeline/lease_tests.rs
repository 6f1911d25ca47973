//! A fault of ours costs one attempt, and nothing of what waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::*;
use crate::carrier::{BoxFuture, Carrier, CarrierStatus, Handed, Outgoing, SendOutcome};
use crate::clock::{Clock, Timestamp};
use crate::domain::{
    AccountId, Address, Body, CarrierId, OnUnknown, SmParameters, Source, State, TrafficClass,
};
use crate::pipeline::numbers::Numbers;
use crate::pipeline::submit::Submission;
use crate::pipeline::{Account, Accounts, Carriers, Limits, Parts, Policy, dispatch, notify};
use crate::plugin::{Engine, EngineLimits, Host, HyperClient, MemoryState};
use crate::store::{self, Store};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Panics as often as told, then takes everything.
struct Faulty {
    id: CarrierId,
    panics_ready: AtomicUsize,
    panics_send: AtomicUsize,
    clock: Clock,
}

fn maybe_panic(left: &AtomicUsize) {
    let panics = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    assert!(panics.is_err(), "as planned");
}

impl Carrier for Faulty {
    fn id(&self) -> &CarrierId {
        &self.id
    }

    fn tags(&self) -> &[String] {
        &[]
    }

    fn status(&self) -> CarrierStatus {
        CarrierStatus {
            connected: true,
            in_flight: 0,
            headroom: 10.0,
        }
    }

    fn ready(&self) -> BoxFuture<'_, usize> {
        Box::pin(async {
            maybe_panic(&self.panics_ready);
            10
        })
    }

    fn down(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn send<'a>(&'a self, _: Outgoing<'a>) -> BoxFuture<'a, Handed> {
        Box::pin(async {
            maybe_panic(&self.panics_send);
            let ids = vec![self.clock.now().0.to_string()];
            SendOutcome::Sent { ids }.into()
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Rig {
    pipeline: Arc<Pipeline>,
    clock: Clock,
    _stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn start(panics_ready: usize, panics_send: usize) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOW);
        let mut options = store::Options::new(folder.path().join("data"));
        options.free_octets_min = 0;
        options.sync = false;
        let opening = clock.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(options, opening));
        let store = opened.await.unwrap().unwrap();
        let http = Arc::new(HyperClient::new().unwrap());
        let host = Host {
            engine: Engine::new(EngineLimits::default()).unwrap(),
            state: Arc::new(MemoryState::new(clock.clone())),
            http: http.clone(),
            pseudonym_key: [0; 32],
        };
        let policy = Policy::open(
            host,
            store.clone(),
            clock.clone(),
            ["north".to_owned()],
            folder.path().to_owned(),
        );
        let policy = policy.await.unwrap();
        let north: Arc<dyn Carrier> = Arc::new(Faulty {
            id: CarrierId::from("north"),
            panics_ready: panics_ready.into(),
            panics_send: panics_send.into(),
            clock: clock.clone(),
        });
        let pipeline = Pipeline::new(Parts {
            carriers: Carriers::new(vec![north], store.clone(), clock.clone()),
            store,
            policy,
            accounts: Accounts::new([Account {
                id: AccountId::from("acme"),
                default_class: TrafficClass::Transactional,
                receipt_url: None,
                inbound_url: None,
                inbound_esme: None,
                webhook_secret: None,
                numbers: Vec::new(),
                throughput: None,
                text: Default::default(),
                silent: false,
            }]),
            numbers: Numbers::new(BTreeMap::new()).unwrap(),
            clock: clock.clone(),
            limits: Limits::default(),
            recorder: None,
            seed: 1,
            webhooks: http,
        });
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(dispatch::run(pipeline.clone(), stopped));
        Rig {
            pipeline,
            clock,
            _stop: stop,
            _folder: folder,
        }
    }

    async fn submit(&self, to: &str) -> MessageId {
        self.submit_telling(to, None).await
    }

    async fn submit_telling(&self, to: &str, receipt_url: Option<&str>) -> MessageId {
        let account = self.pipeline.accounts.get(&AccountId::from("acme"));
        let submission = Submission {
            originator: Address::originator("Acme").unwrap(),
            recipient: Address::international(to).unwrap(),
            body: Body::Text("hello".to_owned()),
            class: None,
            send_at: None,
            validity_seconds: None,
            receipt_url: receipt_url.map(str::to_owned),
            reference: String::new(),
            metadata: Vec::new(),
            tlvs: Vec::new(),
            sm: SmParameters::default(),
            source: Source::Http,
            on_unknown: OnUnknown::Resend,
        };
        let submitted = self
            .pipeline
            .submit(account.unwrap(), submission, None)
            .await;
        submitted.unwrap().message.id
    }

    async fn reaches(&self, id: MessageId, state: State) -> Message {
        for _ in 0..3_000 {
            let message = self.pipeline.store.find(id).await.unwrap().unwrap();
            if message.state == state {
                return message;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} does not become {state:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_within_an_attempt_costs_that_attempt_and_no_other() {
    let rig = Rig::start(0, 2).await;
    let first = rig.submit("447700900123").await;
    let message = rig.reaches(first, State::SubmitUnknown).await;
    // It may be on the wire.
    assert!(message.duplicate_risk);
    assert_eq!(message.attempts[0].outcome, AttemptOutcome::TimedOut);
    assert_eq!(
        message.due.as_ref().map(|d| d.at),
        Some(NOW.plus(Duration::from_secs(10)))
    );
    // The second repetition comes later than the first.
    rig.clock.set(NOW.plus(Duration::from_secs(10)));
    for _ in 0..3_000 {
        let message = rig.pipeline.store.find(first).await.unwrap().unwrap();
        if message.attempts.len() == 2 {
            let due = message.due.as_ref().map(|d| d.at);
            assert_eq!(due, Some(NOW.plus(Duration::from_secs(70))));
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = rig.submit("447700900124").await;
    rig.reaches(second, State::Enroute).await;
    rig.clock.set(NOW.plus(Duration::from_secs(70)));
    let message = rig.reaches(first, State::Enroute).await;
    assert_eq!(message.attempts.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carriers_task_that_panics_begins_anew() {
    let rig = Rig::start(2, 0).await;
    let id = rig.submit("447700900123").await;
    let message = rig.reaches(id, State::Enroute).await;
    assert!(!message.duplicate_risk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_whose_task_panics_is_brought_again() {
    let rig = Rig::start(0, 0).await;
    let id = rig
        .submit_telling("447700900123", Some("http://127.0.0.1:9/"))
        .await;
    rig.reaches(id, State::Enroute).await;
    let ended = rig.pipeline.store.update(id, |message| {
        message.enter(NOW, State::Delivered, Reason::Receipt, "");
    });
    ended.await.unwrap();
    let (panics, (told, mut rendered)) = (AtomicUsize::new(1), tokio::sync::mpsc::channel(8));
    let render: notify::Render = Arc::new(move |entry, _| {
        told.try_send(entry.attempts).unwrap();
        maybe_panic(&panics);
        Vec::new()
    });
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(notify::run(rig.pipeline.clone(), render, stopped));
    assert_eq!(rendered.recv().await, Some(0));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(rendered.is_empty(), "not at once");
    // Due a while after it was given back, whenever that was.
    for minutes in 1..1_000 {
        rig.clock.set(NOW.plus(PAUSE * minutes));
        let again = tokio::time::timeout(Duration::from_millis(20), rendered.recv());
        if let Ok(attempts) = again.await {
            assert_eq!(attempts, Some(1));
            return;
        }
    }
    panic!("it is never brought again");
}
