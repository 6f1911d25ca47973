//! A store that is sealed: nothing on disk can be read, everything else is as ever, and keys change.

use super::threads::received;
use super::*;
use crate::store::salvage::{self, Item};
use crate::store::{SealingKey, Seals};

const NUMBER: &str = "447700900123";
/// What must not be found on the disk of a sealed store.
const SECRETS: [&str; 6] = [
    NUMBER,
    "in confidence",
    "order 17",
    "my secret",
    "a part of it",
    "counter-of",
];

fn seals(octets: &[u8]) -> Option<Seals> {
    let key = |octet: &u8| SealingKey {
        id: format!("key-{octet}"),
        octets: [*octet; 32],
    };
    let keys: Vec<SealingKey> = octets.iter().map(key).collect();
    (!keys.is_empty()).then(|| Seals::new(&keys).unwrap())
}

impl Rig {
    fn sealed(keys: &[u8]) -> Rig {
        Rig::with(|o| {
            o.seals = seals(keys);
            o.two_way = TwoWay(Arc::new(|number| number == "60777"));
        })
    }

    fn try_reopen(
        &self,
        directory: &Arc<tempfile::TempDir>,
        keys: &[u8],
    ) -> Result<Rig, StoreError> {
        let options = Options {
            seals: seals(keys),
            two_way: TwoWay(Arc::new(|number| number == "60777")),
            ..options(directory.path())
        };
        Ok(Rig {
            store: Store::open(options, self.clock.clone())?,
            clock: self.clock.clone(),
            directory: directory.clone(),
            next: AtomicU64::new(1_000),
        })
    }

    /// As after a kill.
    fn crashed(&self, keys: &[u8]) -> Rig {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        copy(self.directory.path(), directory.path());
        self.try_reopen(&directory, keys).unwrap()
    }

    /// After an orderly end.
    async fn ended(self, keys: &[u8]) -> Result<Rig, StoreError> {
        self.store.shutdown().await;
        let (directory, clock) = (self.directory.clone(), self.clock.clone());
        drop(self.store);
        let another = Rig {
            clock,
            ..Rig::new()
        };
        another.try_reopen(&directory, keys)
    }

    /// One of everything that holds a number or a text; the message's id.
    async fn fill(&self) -> MessageId {
        let store = &self.store;
        let mut message = self.message();
        message.originator = Address::originator("60777").unwrap();
        message.recipient = Address::international(NUMBER).unwrap();
        message.body = Body::Text("in confidence".into());
        message.reference = "order 17".into();
        let id = message.id;
        let accepted = store.accept(message, Some(idempotency())).await;
        assert!(matches!(accepted, Ok(Accepted::Fresh(_))));
        let record = received(1, "my secret", NUMBER);
        store.insert_inbound(record, &[], None).await.unwrap();
        let fragment = Fragment {
            carrier: "north".into(),
            originator: Address::international(NUMBER).unwrap(),
            recipient: Address::originator("60777").unwrap(),
            data_coding: 0,
            udh: Vec::new(),
            payload: b"a part of it".to_vec(),
            concat: Concat {
                reference: 7,
                total: 2,
                index: 1,
            },
            received_at: self.clock.now(),
        };
        store.put_fragment(&fragment).await.unwrap();
        let (scope, at) = (OptOutScope::Number("60777".into()), self.clock.now());
        store
            .set_opt_out(scope, NUMBER, true, at, "STOP")
            .await
            .unwrap();
        let name = format!("counter-of-{NUMBER}");
        store
            .state_set("guard", &name, b"17".to_vec(), None, 1_000)
            .unwrap();
        // Rides with the next commit.
        store.put_meta("after", b"x".to_vec()).await.unwrap();
        id
    }

    /// All of it is there and can be found.
    async fn is_full(&self, id: MessageId) {
        let store = &self.store;
        let account = AccountId::from("acme");
        assert_eq!(self.find(id).await.recipient.value, NUMBER);
        let mut again = self.message();
        again.originator = Address::originator("60777").unwrap();
        let replay = store.accept(again, Some(idempotency())).await.unwrap();
        assert!(matches!(replay, Accepted::Replay(m) if m.id == id));
        let threads = store.threads(&account, None, None, None, 10).await.unwrap();
        let handsets: Vec<&str> = threads.items.iter().map(|t| &*t.handset).collect();
        assert_eq!(handsets, [NUMBER]);
        let talk = store.thread(&account, "60777", NUMBER, None, 10).await;
        assert_eq!(talk.unwrap().items.len(), 2);
        assert_eq!(store.fragments().await.len(), 1);
        assert!(store.opted_out(&account, "60777", NUMBER));
        let wishes = store.list_opt_outs(None, 10).await.unwrap();
        assert_eq!((wishes.len(), &*wishes[0].recipient), (1, NUMBER));
        let rest = store.list_opt_outs(Some(wishes[0].clone()), 10).await;
        assert_eq!(rest, Ok(Vec::new()));
        let name = format!("counter-of-{NUMBER}");
        assert_eq!(store.state_get("guard", &name), Some(b"17".to_vec()));
    }

    async fn all_is_sealed_newly(&self) {
        self.until("sealed under the first key", async |s| {
            s.key_uses().iter().all(|k| k.needed == k.seals)
        })
        .await;
    }
}

fn idempotency() -> Idempotency {
    Idempotency {
        account: "acme".into(),
        key: format!("order 17 for {NUMBER}"),
        fingerprint: [3; 32],
    }
}

/// What is found of `secrets` in any file or file name below a folder.
fn found_in(folder: &Path, secrets: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(found_in(&path, secrets));
            continue;
        }
        let octets = std::fs::read(&path).unwrap();
        for secret in secrets {
            if octets.windows(secret.len()).any(|w| w == secret.as_bytes()) {
                found.push(format!("{secret} in {}", path.display()));
            }
        }
    }
    found
}

#[tokio::test]
async fn nothing_on_the_disk_of_a_sealed_store_can_be_read() {
    let plain = Rig::sealed(&[]);
    plain.fill().await;
    for secret in SECRETS {
        let found = found_in(plain.directory.path(), &[secret]);
        assert!(!found.is_empty(), "the search does not find {secret}");
    }

    let rig = Rig::sealed(&[1]);
    let id = rig.fill().await;
    // The journal, then the trees.
    assert_eq!(found_in(rig.directory.path(), &SECRETS), [""; 0]);
    let crashed = rig.crashed(&[1]);
    crashed.is_full(id).await;
    let again = crashed.ended(&[1]).await.unwrap();
    again.is_full(id).await;
    assert_eq!(found_in(again.directory.path(), &SECRETS), [""; 0]);
}

#[tokio::test]
async fn a_store_is_sealed_at_its_next_opening_and_finds_everything() {
    let plain = Rig::sealed(&[]);
    let id = plain.fill().await;
    // With all in the journal still, and with all in the trees.
    let from_journal = plain.crashed(&[1]);
    from_journal.is_full(id).await;
    let from_trees = plain.ended(&[1]).await.unwrap();
    from_trees.is_full(id).await;
    from_trees.all_is_sealed_newly().await;
    from_trees.is_full(id).await;
    let again = from_trees.ended(&[1]).await.unwrap();
    again.is_full(id).await;
}

#[tokio::test]
async fn a_new_key_takes_over_and_the_old_one_can_go() {
    let old = Rig::sealed(&[1]);
    let id = old.fill().await;
    let both = old.ended(&[2, 1]).await.unwrap();
    both.is_full(id).await;
    let crashed = Arc::new(tempfile::tempdir().unwrap());
    copy(both.directory.path(), crashed.path());
    let early = both.try_reopen(&crashed, &[2]).err();
    let needed = early.is_some_and(|e| e.to_string().contains("fingerprint"));
    assert!(
        needed,
        "the old key is needed while anything is sealed under it"
    );
    both.all_is_sealed_newly().await;
    let ids: Vec<(String, bool)> = both
        .store
        .key_uses()
        .into_iter()
        .map(|k| (k.id, k.needed))
        .collect();
    assert_eq!(
        ids,
        [("key-2".to_owned(), true), ("key-1".to_owned(), false)]
    );
    let new = both.ended(&[2]).await.unwrap();
    new.is_full(id).await;
}

#[tokio::test]
async fn without_its_key_a_store_does_not_open_and_is_not_harmed() {
    let rig = Rig::sealed(&[1]);
    let id = rig.fill().await;
    rig.store.shutdown().await;
    let (directory, clock) = (rig.directory.clone(), rig.clock.clone());
    drop(rig);
    let other = Rig {
        clock,
        ..Rig::new()
    };
    for keys in [&[][..], &[2], &[2, 3]] {
        let error = other.try_reopen(&directory, keys).err().expect("refused");
        assert!(matches!(error, StoreError::Format(_)), "{error}");
        assert!(
            error.to_string().contains("store.encryption.keys"),
            "{error}"
        );
    }
    other
        .try_reopen(&directory, &[1])
        .unwrap()
        .is_full(id)
        .await;
}

/// A copy of its files, which nobody holds.
fn files(rig: &Rig) -> Arc<tempfile::TempDir> {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    copy(rig.directory.path(), directory.path());
    directory
}

fn exported(directory: &Path, keys: &[u8]) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::new();
    let take = |item| -> Result<(), ()> {
        items.push(item);
        Ok(())
    };
    salvage::export(directory, seals(keys).as_ref(), take).map(|done| {
        done.unwrap();
        items
    })
}

/// What is exported of all that `fill` puts in.
fn is_all_of(items: &[Item]) -> bool {
    let [mut message, mut inbound, mut opt_out] = [false; 3];
    for item in items {
        match item {
            Item::Message(m) => message |= m.body == Body::Text("in confidence".into()),
            Item::Inbound(i) => inbound |= i.inbound.body == Body::Text("my secret".into()),
            Item::OptOut(wish) => opt_out |= wish.recipient == NUMBER,
            Item::Receipt(_) | Item::Owed(_) => {}
            Item::Unreadable(..) => return false,
        }
    }
    message && inbound && opt_out
}

#[tokio::test]
async fn the_files_of_a_sealed_store_are_read_with_its_keys_alone() {
    let rig = Rig::sealed(&[1]);
    rig.fill().await;
    let crashed = files(&rig);
    rig.store.shutdown().await;
    for directory in [crashed, files(&rig)] {
        let path = directory.path();
        let without = salvage::check(path, None).unwrap();
        assert!(without.is_closed && without.is_sound(), "{without:#?}");
        let refused = exported(path, &[]).unwrap_err();
        assert!(refused.to_string().contains("--config"), "{refused}");
        let refused = salvage::repair(path, "damaged", None).unwrap_err();
        assert!(refused.to_string().contains("--config"), "{refused}");
        for wrong in [&[2][..], &[2, 3]] {
            for refused in [
                salvage::check(path, seals(wrong).as_ref()).err(),
                exported(path, wrong).err(),
                salvage::repair(path, "damaged", seals(wrong).as_ref()).err(),
            ] {
                let text = refused.expect("refused").to_string();
                assert!(text.contains("store.encryption.keys"), "{text}");
            }
        }
        let report = salvage::check(path, seals(&[1]).as_ref()).unwrap();
        assert!(report.is_sound() && report.is_sealed, "{report:#?}");
        assert!(!report.is_closed);
        assert_eq!((report.messages, report.inbound), (1, 1));
        for name in ["opt-outs", "plugin state", "queue entries"] {
            assert_eq!(report.entries[name], 1, "{name}");
        }
        assert!(is_all_of(&exported(path, &[1]).unwrap()));
    }
}

#[tokio::test]
async fn a_store_of_two_keys_is_read_with_both() {
    let old = Rig::sealed(&[1]);
    old.fill().await;
    let both = old.ended(&[2, 1]).await.unwrap();
    both.accept().await;
    let directory = files(&both);
    let report = salvage::check(directory.path(), seals(&[2, 1]).as_ref()).unwrap();
    assert!(report.is_sound(), "{report:#?}");
    assert_eq!(report.messages, 2);
    assert!(is_all_of(&exported(directory.path(), &[1, 2]).unwrap()));
}

#[tokio::test]
async fn what_was_repaired_is_sealed_again_and_finds_everything() {
    let rig = Rig::sealed(&[1]);
    let id = rig.fill().await;
    let crashed = files(&rig);
    rig.store.shutdown().await;
    for directory in [crashed, files(&rig)] {
        let path = directory.path();
        // The first of the keys seals it, and the old one is not needed any more.
        let keys = seals(&[2, 1]);
        let repaired = salvage::repair(path, "damaged", keys.as_ref()).unwrap();
        assert_eq!(
            (repaired.messages, repaired.inbound, repaired.unreadable),
            (1, 1, 0)
        );
        assert_eq!(found_in(path, &SECRETS), [""; 0]);
        let report = salvage::check(path, seals(&[2]).as_ref()).unwrap();
        assert!(report.is_sound() && report.is_sealed, "{report:#?}");
        let after = rig.try_reopen(&directory, &[2]).unwrap();
        after.is_full(id).await;
        after.store.shutdown().await;
    }
}

/// Every `step` octets of the log one bit is flipped: each time the store is refused or nothing is missing, and
/// whatever is repaired is sound and as sealed as before.
#[tokio::test]
async fn a_flipped_bit_of_a_sealed_store_is_found_and_the_rest_is_saved() {
    let rig = Rig::sealed(&[1]);
    rig.fill().await;
    let mut ids = Vec::new();
    for _ in 0..300 {
        ids.push(rig.accept().await);
    }
    rig.store.shutdown().await;
    let original = std::fs::read(rig.directory.path().join("sled/db")).unwrap();
    let written = original.iter().rposition(|b| *b != 0).unwrap();
    let (mut saved, mut beyond) = (0, 0);
    for offset in (10..written).step_by(written / 24) {
        let directory = files(&rig);
        let path = directory.path().join("sled/db");
        let mut octets = original.clone();
        octets[offset] ^= 0x10;
        std::fs::write(&path, &octets).unwrap();
        if let Ok(rig) = rig.try_reopen(&directory, &[1]) {
            for id in &ids {
                let found = rig.store.find(*id).await.unwrap();
                assert!(found.is_some(), "offset {offset}: {id} is gone");
            }
            rig.store.shutdown().await;
            continue;
        }
        assert_eq!(std::fs::read(&path).unwrap(), octets, "offset {offset}");
        let keys = seals(&[1]);
        let repaired = match salvage::repair(directory.path(), "damaged", keys.as_ref()) {
            Ok(repaired) => repaired,
            // The page of the header itself: then its contents can be had all the same.
            Err(StoreError::Corrupt(why)) if why.contains("header of its seal") => {
                beyond += 1;
                assert!(!exported(directory.path(), &[1]).unwrap().is_empty());
                continue;
            }
            Err(error) => panic!("offset {offset}: {error}"),
        };
        assert_eq!(found_in(directory.path(), &SECRETS), [""; 0]);
        let report = salvage::check(directory.path(), keys.as_ref()).unwrap();
        assert!(report.is_sound(), "offset {offset}: {report:#?}");
        let after = rig.try_reopen(&directory, &[1]).unwrap();
        let mut there = 0;
        for id in &ids {
            there += u64::from(after.store.find(*id).await.unwrap().is_some());
        }
        assert!(there + 1 >= repaired.messages, "offset {offset}");
        saved += 1;
        after.store.shutdown().await;
    }
    assert!(saved > 0, "{saved} saved, {beyond} beyond repair");
}
