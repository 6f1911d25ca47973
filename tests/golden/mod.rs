//! Stores as releases wrote them, one folder a format. Every later release opens them and finds in them
//! what was put in (upgrade); a newer format than this release's is refused by name (downgrade).
//!
//! A folder holds the store's files, `sled/db` without the zeros at its end, and `expected.jsonl`: what
//! `heliograph store export` said of it then. Folders are written once, by `write_the_golden_store`, and
//! never again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use heliograph::clock::{Clock, Timestamp};
use heliograph::domain::receipt::{Evidence, Receipt, ReceiptStyle, Report};
use heliograph::domain::text::Concat;
use heliograph::domain::{
    Address, Attempt, AttemptOutcome, Body, Inbound, Lane, Message, MessageId, Part, PartState,
    Reason, State,
};
use heliograph::store::{
    Accepted, Fragment, Idempotency, InboundRecord, OptOutScope, Options, Store, StoreError,
    WebhookOutcome,
};
use heliograph_tests::prove::message::queued_at;
use heliograph_tests::run_in;
use serde_json::Value;

/// When all of it happened.
const THEN: Timestamp = Timestamp(1_700_000_000_000);
const BLOB: &str = "0123456789abcdef0123456789abcdef";
const KEY: [u8; 32] = [7; 32];

fn golden(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(format)
}

/// A copy that may be opened.
fn unpacked(format: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&golden(format), folder.path());
    std::fs::remove_file(folder.path().join("expected.jsonl")).expect("what is expected");
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("a file")),
        }
    }
}

fn open(folder: &Path) -> Result<Store, StoreError> {
    let mut options = Options::new(folder);
    options.free_octets_min = 0;
    Store::open(options, Clock::manual(THEN))
}

fn message(n: u64, text: &str) -> Message {
    let mut message = queued_at(THEN, "north", text);
    message.id = MessageId::new(THEN, n.into());
    message
}

fn id(n: u64) -> MessageId {
    MessageId::new(THEN, n.into())
}

fn carrier_took(message: &mut Message, carrier_message_id: &str) {
    message.record_attempt(Attempt {
        carrier: "north".into(),
        at: THEN,
        outcome: AttemptOutcome::Sent,
    });
    message.parts = vec![Part {
        carrier: "north".into(),
        carrier_message_id: carrier_message_id.to_owned(),
        state: PartState::Enroute,
        error: String::new(),
        network_type: None,
        done_at: None,
    }];
    message.due = None;
    message.enter(THEN, State::Enroute, Reason::TakenByCarrier, "");
}

fn receipt(id: &str) -> Receipt {
    Receipt {
        id: id.to_owned(),
        report: Report::of(PartState::Delivered),
        evidence: Evidence::default(),
    }
}

fn idempotency() -> Idempotency {
    Idempotency {
        account: "acme".into(),
        key: "order-1".into(),
        fingerprint: KEY,
    }
}

/// Something of every kind.
async fn fill(store: &Store) {
    let north = Lane::Carrier("north".into());
    let mut first = message(1, "delivered, and a webhook owed");
    first.receipt_url = Some("https://example.com/receipts".to_owned());
    store
        .accept(Box::new(first), Some(idempotency()))
        .await
        .expect("accepted");
    store
        .accept(Box::new(message(2, "enroute")), None)
        .await
        .expect("accepted");
    let mut claimed = store.claim(&north, 2).await;
    for (n, message) in claimed.iter_mut().enumerate() {
        carrier_took(message, &format!("{}", n + 1));
    }
    store.settle_many(claimed).await;
    for id in ["1", "nobody's"] {
        let matched = store.receipt("north".into(), receipt(id), ReceiptStyle::default());
        matched.await.expect("a receipt");
    }
    let mut later = message(3, "scheduled: ümläut, 漢字");
    later.send_at = THEN.plus(Duration::from_secs(7_200));
    later.enter(THEN, State::Scheduled, Reason::ScheduledByClient, "");
    later.wait(north, later.send_at);
    store.accept(Box::new(later), None).await.expect("accepted");
    let mut binary = message(4, "");
    binary.body = Body::Binary {
        udh: vec![5, 0, 3, 1, 2, 1],
        data: vec![0, 255, 128],
    };
    binary.metadata = vec![("order".to_owned(), "17".to_owned())];
    store
        .accept(Box::new(binary), None)
        .await
        .expect("accepted");
    let (handset, number) = ("+447700900123", "60777");
    let inbound = InboundRecord {
        inbound: Inbound {
            id: id(5),
            carrier: "north".into(),
            originator: Address::international(handset).expect("a number"),
            recipient: Address::originator(number).expect("a number"),
            body: Body::Text("hello back".to_owned()),
            received_at: THEN,
            opted_out: false,
        },
        account: Some("acme".into()),
        labels: vec!["greeting".to_owned()],
        consumed: false,
        webhook_url: Some("https://example.com/inbound".to_owned()),
        in_reply_to: Some(id(1)),
        system_id: Some("app".to_owned()),
    };
    store
        .insert_inbound(inbound, &[], None)
        .await
        .expect("inserted");
    let fragment = Fragment {
        carrier: "north".into(),
        originator: Address::international(handset).expect("a number"),
        recipient: Address::originator(number).expect("a number"),
        data_coding: 0,
        udh: vec![5, 0, 3, 9, 2, 1],
        payload: b"half of it".to_vec(),
        concat: Concat {
            reference: 9,
            total: 2,
            index: 1,
        },
        received_at: THEN,
    };
    store.put_fragment(&fragment).await.expect("put");
    for (scope, recipient) in [
        (OptOutScope::Number(number.to_owned()), handset),
        (OptOutScope::Account("acme".into()), "+447700900124"),
        (OptOutScope::Everything, "+447700900125"),
    ] {
        let set = store.set_opt_out(scope, recipient, true, THEN, "STOP");
        set.await.expect("set");
    }
    store
        .state_set("plugin", "key", b"value".to_vec(), None, 1 << 10)
        .expect("set");
    store
        .put_meta("policy/1", b"a policy".to_vec())
        .await
        .expect("put");
    store
        .put_blob(BLOB, b"a component".to_vec())
        .await
        .expect("put");
    // One of the two webhooks that are owed is given up.
    let owed = store.claim_webhooks(1).await;
    for entry in owed {
        store
            .settle_owed(entry, WebhookOutcome::Dead)
            .await
            .expect("settled");
    }
}

async fn exported(folder: &Path) -> Vec<Value> {
    let path = folder.display().to_string();
    let (code, out, error) = run_in(folder, &["store", "export", "--path", &path]).await;
    assert_eq!(code, Some(0), "{error}");
    out.lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect()
}

/// Whether everything that was said then is still said; a later release may say more.
fn says(now: &Value, then: &Value) -> bool {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => then
            .iter()
            .all(|(name, value)| now.get(name).is_some_and(|n| says(n, value))),
        (Value::Array(now), Value::Array(then)) => {
            now.len() == then.len() && now.iter().zip(then).all(|(n, t)| says(n, t))
        }
        (now, then) => now == then,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_1_is_sound_and_says_what_it_said() {
    let folder = unpacked("format-1");
    let path = folder.path().display().to_string();
    let (code, out, error) = run_in(folder.path(), &["store", "check", "--path", &path]).await;
    assert_eq!(code, Some(0), "{out}{error}");
    let expected = std::fs::read_to_string(golden("format-1").join("expected.jsonl"));
    let expected = expected.expect("what is expected");
    let now = exported(folder.path()).await;
    assert_eq!(now.len(), expected.lines().count());
    for then in expected.lines() {
        let then: Value = serde_json::from_str(then).expect("JSON");
        assert!(
            now.iter().any(|n| says(n, &then)),
            "{then:#}\nis not in\n{now:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_1_opens_and_goes_on() {
    let folder = unpacked("format-1");
    let store = open(folder.path()).expect("it opens");
    let state = async |n| {
        store
            .find(id(n))
            .await
            .expect("a read")
            .expect("a message")
            .state
    };
    assert_eq!(state(1).await, State::Delivered);
    assert_eq!(state(2).await, State::Enroute);
    assert_eq!(state(3).await, State::Scheduled);
    let receipt = store.receipt("north".into(), receipt("2"), ReceiptStyle::default());
    receipt.await.expect("a receipt");
    assert_eq!(state(2).await, State::Delivered);
    let due = store.claim(&Lane::Carrier("north".into()), 10).await;
    assert_eq!(due.iter().map(|m| m.id).collect::<Vec<_>>(), [id(4)]);
    let again = store
        .accept(Box::new(message(9, "again")), Some(idempotency()))
        .await;
    assert!(matches!(again, Ok(Accepted::Replay(m)) if m.id == id(1)));
    assert!(store.opted_out(&"acme".into(), "60777", "+447700900123"));
    assert!(store.opted_out(&"acme".into(), "Acme", "+447700900124"));
    assert!(store.opted_out(&"other".into(), "Acme", "+447700900125"));
    let inbound = store
        .find_inbound(id(5))
        .await
        .expect("a read")
        .expect("a message");
    assert_eq!(inbound.in_reply_to, Some(id(1)));
    assert_eq!(store.fragments().await.len(), 1);
    assert_eq!(store.state_get("plugin", "key"), Some(b"value".to_vec()));
    assert_eq!(
        store.get_meta("policy/1").await,
        Ok(Some(b"a policy".to_vec()))
    );
    assert_eq!(
        store.get_blob(BLOB).await,
        Ok(Some(b"a component".to_vec()))
    );
    assert_eq!(store.list_dead(None, 10).await.expect("a list").len(), 1);
    assert_eq!(store.claim_webhooks(10).await.len(), 1);
    assert_eq!(store.claim_deliveries(&"app".into(), 10).await.len(), 1);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_format_is_refused_by_name_and_left_alone() {
    let folder = unpacked("format-1");
    let manifest = folder.path().join("manifest");
    let text = std::fs::read_to_string(&manifest).expect("the manifest");
    std::fs::write(&manifest, text.replace("format 1", "format 2")).expect("the manifest");
    let db = std::fs::read(folder.path().join("sled/db")).expect("the database");
    let refused = open(folder.path()).err();
    assert!(
        matches!(&refused, Some(StoreError::Format(why)) if why.contains("format 2") && why.contains("format 1")),
        "{refused:?}"
    );
    let path = folder.path().display().to_string();
    for command in ["check", "repair", "export"] {
        let (code, out, error) = run_in(folder.path(), &["store", command, "--path", &path]).await;
        assert_eq!(code, Some(1), "{command}: {out}");
        assert!(error.contains("format 2"), "{command}: {error}");
    }
    assert_eq!(
        std::fs::read(folder.path().join("sled/db")).expect("the database"),
        db
    );
}

/// Run by hand where a release changes the format: `cargo test -p heliograph-tests --test all
/// write_the_golden_store -- --ignored`, after the folder's name here was changed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the fixture of a new format"]
async fn write_the_golden_store() {
    let target = golden("format-1");
    assert!(!target.exists(), "{} is there already", target.display());
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path()).expect("a new store");
    fill(&store).await;
    store.shutdown().await;
    drop(store);
    let db = folder.path().join("sled/db");
    let mut octets = std::fs::read(&db).expect("the database");
    octets.truncate(octets.iter().rposition(|b| *b != 0).map_or(0, |n| n + 1));
    std::fs::write(&db, octets).expect("the database");
    copy(folder.path(), &target);
    let lines: Vec<String> = exported(&target)
        .await
        .iter()
        .map(Value::to_string)
        .collect();
    std::fs::write(target.join("expected.jsonl"), lines.join("\n") + "\n").expect("written");
}
