//! Files of a store that nobody has open: sound ones, damaged ones, and what is saved of them.

use super::*;
use crate::store::salvage::{self, Item};

/// Sound files of a closed store: messages in several states, settled and not, an opt-out, an orphan.
async fn closed() -> (Rig, Vec<MessageId>) {
    let rig = Rig::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(rig.accept().await);
    }
    rig.send("north", &["1", "2", "3"]).await;
    for _ in 0..597 {
        ids.push(rig.accept().await);
    }
    rig.receipt("1", PartState::Delivered).await;
    rig.receipt("nobody's", PartState::Delivered).await;
    let everything = OptOutScope::Everything;
    let set = rig
        .store
        .set_opt_out(everything, "+447700900999", true, START, "test");
    set.await.unwrap();
    rig.store.shutdown().await;
    (rig, ids)
}

/// A copy of its files, which nobody holds.
fn files(rig: &Rig) -> Arc<tempfile::TempDir> {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    copy(rig.directory.path(), directory.path());
    directory
}

fn exported(directory: &Path) -> Vec<Item> {
    let mut items = Vec::new();
    let take = |item| -> Result<(), ()> {
        items.push(item);
        Ok(())
    };
    salvage::export(directory, None, take).unwrap().unwrap();
    items
}

#[tokio::test]
async fn a_sound_store_is_read_whole_without_being_opened() {
    let (rig, ids) = closed().await;
    let files = files(&rig);
    let report = salvage::check(files.path(), None).unwrap();
    assert!(report.is_sound(), "{report:#?}");
    assert!(report.closed_in_order);
    assert_eq!((report.messages, report.live_messages), (600, 599));
    assert_eq!(report.entries["queue entries"], 597);
    let items = exported(files.path());
    let mut found: Vec<MessageId> = Vec::new();
    let (mut receipts, mut opt_outs) = (0, 0);
    for item in items {
        match item {
            Item::Message(message) => found.push(message.id),
            Item::Receipt(_) => receipts += 1,
            Item::OptOut(_) => opt_outs += 1,
            other => panic!("{other:?}"),
        }
    }
    found.sort();
    assert_eq!(found, ids);
    assert_eq!((receipts, opt_outs), (1, 1));
}

#[tokio::test]
async fn a_crashed_store_is_read_whole_too() {
    let rig = Rig::new();
    rig.accept().await;
    rig.accept().await;
    rig.send("north", &["1", "2"]).await;
    for _ in 0..298 {
        rig.accept().await;
    }
    let directory = files(&rig);
    let report = salvage::check(directory.path(), None).unwrap();
    assert!(report.is_sound(), "{report:#?}");
    assert_eq!(report.messages, 300);
    assert!(!report.closed_in_order);
}

#[tokio::test]
async fn a_snapshot_that_sled_left_half_written_keeps_nobody_from_opening() {
    let rig = Rig::new();
    rig.accept().await;
    let directory = files(&rig);
    let unfinished = directory
        .path()
        .join("sled/snap.00000000FFFFFFFF.generating");
    std::fs::write(&unfinished, b"a part of a snapshot").unwrap();
    assert!(salvage::check(directory.path(), None).unwrap().is_sound());
    let again = rig.reopen(directory);
    assert!(!unfinished.exists());
    assert_eq!(again.store.stats().live, 1);
}

#[tokio::test]
async fn a_store_in_use_is_left_alone() {
    let rig = Rig::new();
    rig.accept().await;
    let refused = salvage::check(rig.directory.path(), None);
    assert!(matches!(refused, Err(StoreError::Limit(why)) if why.contains("in use")));
}

#[tokio::test]
async fn a_store_that_is_just_being_left_is_waited_for() {
    let (rig, _) = closed().await;
    let files = files(&rig);
    let held = std::fs::File::open(files.path().join("sled/db")).unwrap();
    fs2::FileExt::lock_exclusive(&held).unwrap();
    let leaving = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(held);
    });
    let checked = salvage::check(files.path(), None);
    leaving.join().unwrap();
    assert_eq!(checked.unwrap().messages, 600);
}

/// Every `step` octets of the log one bit is flipped: each time the store is refused and its files are
/// left as they are, or nothing is missing.
#[tokio::test]
async fn a_flipped_bit_is_refused_or_does_no_harm_and_repair_saves_the_rest() {
    let (rig, ids) = closed().await;
    let original = std::fs::read(rig.directory.path().join("sled/db")).unwrap();
    let written = original.iter().rposition(|b| *b != 0).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for offset in (10..written).step_by(written / 40) {
        let directory = files(&rig);
        let path = directory.path().join("sled/db");
        let mut octets = original.clone();
        octets[offset] ^= 0x10;
        std::fs::write(&path, &octets).unwrap();
        match Store::open(options(directory.path()), rig.clock.clone()) {
            Ok(store) => {
                harmless += 1;
                for id in &ids {
                    let found = store.find(*id).await.unwrap();
                    assert!(
                        found.is_some(),
                        "offset {offset}: {id} is gone and nobody says so"
                    );
                }
                store.shutdown().await;
            }
            Err(error) => {
                refused += 1;
                assert!(
                    matches!(error, StoreError::Corrupt(_) | StoreError::Lost(_)),
                    "offset {offset}: {error}"
                );
                assert_eq!(std::fs::read(&path).unwrap(), octets, "offset {offset}");
                assert!(!salvage::check(directory.path(), None).unwrap().is_sound());
                let repaired = salvage::repair(directory.path(), "damaged", None).unwrap();
                let aside = std::fs::read(repaired.originals.join("sled/db")).unwrap();
                assert_eq!(aside, octets, "offset {offset}");
                let report = salvage::check(directory.path(), None).unwrap();
                assert!(report.is_sound(), "offset {offset}: {report:#?}");
                let store = Store::open(options(directory.path()), rig.clock.clone()).unwrap();
                let mut there = 0;
                for id in &ids {
                    there += u64::from(store.find(*id).await.unwrap().is_some());
                }
                assert_eq!(there, repaired.messages);
                store.shutdown().await;
            }
        }
    }
    assert!(refused > 0, "{refused} refused, {harmless} harmless");
}

#[tokio::test]
async fn what_repair_saved_goes_on_where_it_was() {
    let (rig, ids) = closed().await;
    let files = files(&rig);
    let repaired = salvage::repair(files.path(), "damaged", None).unwrap();
    assert_eq!(
        (
            repaired.messages,
            repaired.unreadable,
            repaired.missing_live
        ),
        (600, 0, 0)
    );
    assert_eq!(repaired.requeued, 0);
    let after = rig.reopen(files);
    assert_eq!(after.store.queued(&lane("north")), 597);
    assert!(
        after
            .store
            .opted_out(&"acme".into(), "60777", "+447700900999")
    );
    after.receipt("2", PartState::Delivered).await;
    assert_eq!(after.find(ids[1]).await.state, State::Delivered);
    assert_eq!(after.claim("north").await.len(), 100);
}

#[tokio::test]
async fn a_database_that_is_gone_is_refused_and_none_is_made() {
    let (rig, _) = closed().await;
    std::fs::remove_dir_all(rig.directory.path().join("sled")).unwrap();
    let opened = Store::open(options(rig.directory.path()), rig.clock.clone());
    assert!(matches!(opened.err(), Some(StoreError::Lost(_))));
    assert!(!rig.directory.path().join("sled").exists());
}
