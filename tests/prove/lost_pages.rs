//! The power cut without root: what was written to the store's file since its last sync reaches the disk
//! or not, page by page, at random. Here the store runs in this process, so that its syncs can be seen;
//! sled's own syncs are taken for nothing, which is harder than any disk.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heliograph::clock::Clock;
use heliograph::domain::{Lane, MessageId, Reason, State};
use heliograph::store::{Options, Store};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::message::queued;
use super::{Outcome, Run};

const PAGE: usize = 4096;

/// The store's file is read whole at each sync, so it begins anew now and then.
const CUTS_OF_ONE_STORE: usize = 10;

pub async fn cuts(run: Run) -> Outcome {
    let mut rng = run.rng();
    let cuts = run.pick(6, 50);
    let (mut told, mut faults, mut lost) = (0, Vec::new(), 0);
    let mut done = 0;
    while done < cuts && faults.is_empty() {
        let mut disk = Disk::new(tempfile::tempdir().expect("a folder"));
        let mut ledger = Vec::new();
        for _ in 0..CUTS_OF_ONE_STORE.min(cuts - done) {
            let store = match disk.open() {
                Ok(store) => store,
                Err(error) => {
                    faults.push(format!(
                        "after {done} cuts the store does not open: {error}"
                    ));
                    break;
                }
            };
            let load = Load::start(&store);
            tokio::time::sleep(Duration::from_millis(rng.random_range(100..500))).await;
            let after = {
                let held = disk.gate.clone();
                let _held = held.lock().expect("the gate");
                std::thread::sleep(Duration::from_millis(5));
                ledger.extend(load.told());
                disk.after_cut(&mut rng)
            };
            load.end(store).await;
            disk = after;
            done += 1;
        }
        told += ledger.len();
        match disk.open() {
            Ok(store) => {
                for id in &ledger {
                    lost += usize::from(!matches!(store.find(*id).await, Ok(Some(_))));
                }
                store.shutdown().await;
            }
            Err(error) => faults.push(format!(
                "after {done} cuts the store does not open: {error}"
            )),
        }
    }
    if lost > 0 {
        faults.push(format!("{lost} acknowledged messages are gone"));
    }
    Outcome::judged(done, lost, 0, &faults).noted(format!("{told} acknowledged"))
}

/// A folder, what of its store's file is on the disk for certain, and a gate that no sync passes while it
/// is held.
struct Disk {
    folder: tempfile::TempDir,
    durable: Arc<Mutex<Vec<u8>>>,
    gate: Arc<Mutex<()>>,
}

impl Disk {
    fn new(folder: tempfile::TempDir) -> Disk {
        Disk {
            folder,
            durable: Arc::default(),
            gate: Arc::default(),
        }
    }

    fn open(&self) -> Result<Store, String> {
        let mut options = Options::new(self.folder.path());
        options.free_octets_min = 0;
        let (durable, gate) = (self.durable.clone(), self.gate.clone());
        options.probes.sync = Arc::new(move |file| {
            drop(gate.lock());
            // What is there as the sync begins is on the disk once it has returned.
            let written = whole(file)?;
            file.sync_data()?;
            *durable.lock().expect("the durable octets") = written;
            Ok(())
        });
        Store::open(options, Clock::system()).map_err(|e| e.to_string())
    }

    /// The disk as it is found after the power came back.
    fn after_cut(&self, rng: &mut StdRng) -> Disk {
        let folder = tempfile::tempdir().expect("a folder");
        copy(self.folder.path(), folder.path());
        let path = folder.path().join("sled").join("db");
        let written = std::fs::read(&path).expect("the store's file");
        let durable = self.durable.lock().expect("the durable octets").clone();
        std::fs::write(&path, torn(durable, &written, rng)).expect("the store's file");
        Disk::new(folder)
    }
}

/// What is found of a file after its power failed: what was durable, and of what was written since any pages.
pub(super) fn torn(durable: Vec<u8>, written: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let survives = [0.0, 0.1, 0.5, 0.9][rng.random_range(0..4)];
    let mut found = durable;
    // The length is metadata, and a write beyond the old end may have changed it or not.
    if rng.random_bool(0.5) {
        found.resize(written.len(), 0);
    }
    for (page, octets) in found.chunks_mut(PAGE).enumerate() {
        let new = written.get(page * PAGE..).unwrap_or_default();
        let n = octets.len().min(new.len());
        if octets[..n] != new[..n] && rng.random_bool(survives) {
            octets[..n].copy_from_slice(&new[..n]);
        }
    }
    found
}

pub(super) fn whole(file: &File) -> std::io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut octets = vec![0; length];
    let mut at = 0;
    while at < length {
        match file.read_at(&mut octets[at..], at as u64)? {
            0 => break,
            n => at += n,
        }
    }
    octets.truncate(at);
    Ok(octets)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from)
        .expect("the store's folder")
        .flatten()
    {
        let target = to.join(entry.file_name());
        // What sled deletes meanwhile is not there.
        let _ = match entry.path().is_dir() {
            true => {
                copy(&entry.path(), &target);
                Ok(0)
            }
            false => std::fs::copy(entry.path(), target),
        };
    }
}

/// Submitters and a carrier's worker, without any carrier.
struct Load {
    told: Arc<Mutex<Vec<MessageId>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(store: &Store) -> Load {
        let told: Arc<Mutex<Vec<MessageId>>> = Arc::default();
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let (store, told) = (store.clone(), told.clone());
            tasks.push(tokio::spawn(async move {
                loop {
                    let message = queued("sim0", "lost pages");
                    let id = message.id;
                    match store.accept(Box::new(message), None).await {
                        Ok(_) => told.lock().expect("the ledger").push(id),
                        Err(_) => return,
                    }
                }
            }));
        }
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let lane = Lane::Carrier("sim0".into());
            loop {
                for mut message in store.claim(&lane, 50).await {
                    let now = Clock::system().now();
                    message.due = None;
                    message.enter(now, State::Rejected, Reason::CarrierPermanentFailure, "");
                    store.settle(&message, None).await;
                }
            }
        }));
        Load { told, tasks }
    }

    fn told(&self) -> Vec<MessageId> {
        self.told.lock().expect("the ledger").clone()
    }

    async fn end(self, store: Store) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
        store.shutdown().await;
    }
}
