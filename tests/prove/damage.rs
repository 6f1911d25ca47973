//! Files of a store that are not what they were: a bit, a page, an end, a file. Each time the server
//! refuses to start, says why and has changed nothing, or it has all that it acknowledged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heliograph::clock::Clock;
use heliograph::domain::State;
use heliograph::store::{Filter, Options, Store};
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::json;

use super::{Outcome, Run};
use crate::{Plan, Rig, run_in, sms};

const HANDSET: &str = "+447700900123";

pub async fn damaged_files(run: Run) -> Outcome {
    let mut rng = run.rng();
    let mut rig = Rig::start(Plan::default()).await;
    // Delivered ones, and others that wait for their time; the second half after a restart, so that the
    // store has a snapshot.
    let mut ids = Vec::new();
    for half in 0..2 {
        for n in 0..150 {
            let mut body = sms(HANDSET, &format!("damaged {half}.{n}"));
            if n % 2 == 0 {
                let later = jiff::Timestamp::now() + Duration::from_secs(3_600);
                body["send_at"] = json!(later.to_string());
            }
            ids.push(rig.submit(body).await);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.terminate().await;
        if half == 0 {
            rig.launch().await;
        }
    }
    let sound = rig.dir.path().join("sound");
    std::fs::rename(rig.data(), &sound).expect("the sound store");
    let rounds = run.pick(12, 200);
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut faults, mut silently_lost, mut saved, mut held) = (Vec::new(), 0, 0, 0);
    for round in 0..rounds {
        let _ = std::fs::remove_dir_all(rig.data());
        copy(&sound, &rig.data());
        let what = harm(&rig.data(), round, &mut rng);
        let before = files(&rig.data());
        rig.spawn();
        match rig.ready_or_gone().await {
            None => {
                *tally.entry("unharmed").or_default() += 1;
                let mut missing = 0;
                for id in &ids {
                    let (status, _) = rig.call("GET", &format!("/v1/messages/{id}"), None).await;
                    missing += usize::from(status == 404);
                }
                if missing > 0 {
                    silently_lost += missing;
                    faults.push(format!(
                        "{what}: {missing} messages are gone and nobody says so"
                    ));
                }
                rig.kill().await;
            }
            Some(Some(exit)) if exit.code() == Some(1) => {
                *tally.entry("refused").or_default() += 1;
                rig.kill().await;
                if files(&rig.data()) != before {
                    faults.push(format!("{what}: refused, and the files were changed"));
                }
                let data = rig.data().display().to_string();
                let (checked, report, error) =
                    run_in(rig.dir.path(), &["store", "check", "--path", &data]).await;
                if checked != Some(1) {
                    faults.push(format!(
                        "{what}: refused, and the check finds nothing: {report}{error}"
                    ));
                }
                let (repaired, report, error) = run_in(
                    rig.dir.path(),
                    &["store", "repair", "--path", &data, "--json"],
                )
                .await;
                if repaired != Some(0) {
                    // Nothing is left to repair, and it says so.
                    let gone =
                        error.contains("nothing to repair") && !rig.data().join("sled/db").exists();
                    if !gone {
                        faults.push(format!("{what}: not repaired: {error}"));
                    }
                    *tally.entry("beyond repair").or_default() += 1;
                    continue;
                }
                let report: serde_json::Value = serde_json::from_str(&report).unwrap_or_default();
                let originals = PathBuf::from(report["originals"].as_str().unwrap_or_default());
                let kept = before
                    .iter()
                    .filter(|(name, _)| name.starts_with("sled/") || *name == "manifest");
                for (name, octets) in kept {
                    if std::fs::read(originals.join(name)).ok().as_ref() != Some(octets) {
                        faults.push(format!("{what}: the original {name} is not kept"));
                    }
                }
                let found = count(&rig.data()).await;
                saved += found;
                held += ids.len();
                let told = [
                    "unreadable",
                    "unreadable_pages",
                    "missing_commits",
                    "missing_live",
                ];
                let told: u64 = told.iter().filter_map(|n| report[*n].as_u64()).sum();
                if found < ids.len() && told == 0 {
                    faults.push(format!(
                        "{what}: repair saved {found} of {} and does not say so",
                        ids.len()
                    ));
                }
            }
            other => {
                faults.push(format!("{what}: {other:?}, {}", last_line(&rig.log())));
                rig.kill().await;
            }
        }
    }
    let tally: Vec<String> = tally
        .iter()
        .map(|(name, n)| format!("{n} {name}"))
        .collect();
    Outcome::judged(rounds, silently_lost, 0, &faults).noted(format!(
        "{}; repair saved {saved} of {held} messages",
        tally.join(", ")
    ))
}

/// Does one harm; says which.
fn harm(data: &Path, round: usize, rng: &mut StdRng) -> String {
    let sled = data.join("sled");
    let db = sled.join("db");
    let snapshot = std::fs::read_dir(&sled)
        .expect("the database")
        .flatten()
        .map(|e| e.path())
        .find(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("snap."))
        });
    let snapshot = snapshot.unwrap_or_else(|| db.clone());
    let remove = |path: &Path| {
        std::fs::remove_file(path).expect("a file");
        format!(
            "{} deleted",
            path.strip_prefix(data).unwrap_or(path).display()
        )
    };
    match round % 12 {
        0 | 3 | 6 | 9 => flip(&db, rng),
        1 => zero(&db, rng),
        7 => zero_near_the_end(&db, rng),
        2 => truncate(&db, rng),
        4 => remove(&db),
        5 => flip(&snapshot, rng),
        8 => match rng.random_range(0..3) {
            0 => remove(&sled.join("conf")),
            1 => remove(&snapshot),
            _ => remove(&data.join("manifest")),
        },
        10 => flip(&data.join("manifest"), rng),
        _ => flip(&sled.join("conf"), rng),
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Up to the last octet that is not zero.
fn written(octets: &[u8]) -> usize {
    octets.iter().rposition(|b| *b != 0).map_or(1, |n| n + 1)
}

fn flip(path: &Path, rng: &mut StdRng) -> String {
    let mut octets = read(path);
    let at = rng.random_range(0..written(&octets));
    octets[at] ^= 1 << rng.random_range(0..8);
    std::fs::write(path, octets).expect("a file");
    format!("a bit of octet {at} of {} flipped", name(path))
}

fn zero(path: &Path, rng: &mut StdRng) -> String {
    let page = rng.random_range(0..written(&read(path)).div_ceil(4096));
    zero_page(path, page)
}

/// Where the last commit is: what sled may take for an end that a crash has torn.
fn zero_near_the_end(path: &Path, rng: &mut StdRng) -> String {
    let pages = written(&read(path)).div_ceil(4096);
    zero_page(path, rng.random_range(pages.saturating_sub(40)..pages))
}

fn zero_page(path: &Path, page: usize) -> String {
    let mut octets = read(path);
    let end = octets.len().min((page + 1) * 4096);
    octets[page * 4096..end].fill(0);
    std::fs::write(path, octets).expect("a file");
    format!("page {page} of {} zeroed", name(path))
}

fn truncate(path: &Path, rng: &mut StdRng) -> String {
    let length = rng.random_range(0..written(&read(path)));
    let file = std::fs::File::options()
        .write(true)
        .open(path)
        .expect("a file");
    file.set_len(length as u64).expect("a file");
    format!("{} truncated at {length}", name(path))
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

/// Files by their names in the folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if let Ok(octets) = std::fs::read(&path) {
                let name = path.strip_prefix(root).unwrap_or(&path);
                found.insert(name.display().to_string(), octets);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

fn copy(from: &Path, to: &Path) {
    for (name, octets) in files(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(to)).expect("a folder");
        std::fs::write(path, octets).expect("a file");
    }
}

/// Messages of a store that opens.
async fn count(data: &Path) -> usize {
    let data = data.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let mut options = Options::new(data);
        options.free_octets_min = 0;
        Store::open(options, Clock::system())
    });
    let store = opened
        .await
        .expect("no panic")
        .expect("the repaired store opens");
    let mut found = 0;
    for state in [
        State::Delivered,
        State::Scheduled,
        State::Enroute,
        State::Queued,
    ] {
        let filter = Filter {
            status: Some(state),
            ..Filter::default()
        };
        let page = store.list(filter, None, 10_000).await.expect("a list");
        found += page.items.len();
    }
    store.shutdown().await;
    found
}
