//! Statement 10. What is confidential stays so on the wire, on disk and after it was to be forgotten, and what
//! administrators did cannot be changed unnoticed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heliograph::carrier::simulator::Mo;
use heliograph::clock::Timestamp;
use heliograph::smpp::pdu::Sm;
use heliograph::store::{cases, verify_audit};
use rand::Rng as _;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Outcome, Part, Run, Statement};
use crate::esme::{Esme, Mode};
use crate::tls::{Certificates, certificates};
use crate::{Connection, KEY, Pace, Plan, Rig, bearer, eventually, free_address, sms};

pub const STATEMENT: Statement = Statement {
    number: 10,
    name: "At rest and in flight",
    parts: &[
        Part {
            name: "certificates of API and SMPP replaced under traffic",
            run: |run| Box::pin(replaced_certificates(run)),
        },
        Part {
            name: "no text and no number in the store's octets; keys changed",
            run: |run| Box::pin(sealed(run)),
        },
        Part {
            name: "what is older than retention",
            run: |run| Box::pin(retained(run)),
        },
        Part {
            name: "numbers forgotten",
            run: |run| Box::pin(forgotten(run)),
        },
        Part {
            name: "flipped bits and lost lines in the audit log",
            run: |run| Box::pin(audit(run)),
        },
    ],
};

const SENDER: &[u8] = b"60777";

async fn over_tls(address: &str, made: &Certificates) -> Option<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.ok()?;
    let name = ServerName::try_from("localhost").expect("a name");
    made.connector().connect(name, stream).await.ok()
}

async fn replaced_certificates(run: Run) -> Outcome {
    let (api, smpp) = (free_address().await, free_address().await);
    let mut made = certificates(|_| {});
    let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let rig = Rig::start(Plan {
        http_extra: format!("tls_listen = \"{api}\"\ncertificate = \"our.crt\"\nkey = \"our.key\""),
        config_extra: format!(
            "[smpp]\ntls_listen = \"{smpp}\"\ncertificate = \"our.crt\"\nkey = \"our.key\"\n"
        ),
        account_extra: "[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:secret\"\n"
            .to_owned(),
        files: vec![
            file("our.crt", &made.certificate_pem),
            file("our.key", &made.key_pem),
        ],
        ..Plan::default()
    })
    .await;
    // Both stay connected throughout, and neither is told a word of it.
    let stream = over_tls(&api, &made).await.expect("TLS");
    let mut client = Connection::over(stream, "localhost").await.expect("HTTP");
    let stream = over_tls(&smpp, &made).await.expect("TLS");
    let mut esme = Esme::over(Box::new(stream));
    let status = esme.bind(Mode::Transmitter, "app", "secret").await;
    assert_eq!(status, rusmpp::CommandStatus::EsmeRok);
    let key = bearer(KEY);
    let headers = [("authorization", key.as_str())];
    let (mut faults, mut sent) = (Vec::new(), Vec::new());
    let replacements = run.pick(2, 20);
    for n in 0..replacements {
        let next = certificates(|_| {});
        let write = |name: &str, text: &str| {
            let (new, name) = (rig.dir.path().join("new"), rig.dir.path().join(name));
            std::fs::write(&new, text).expect("a file");
            std::fs::rename(new, name).expect("a file");
        };
        write("our.crt", &next.certificate_pem);
        write("our.key", &next.key_pem);
        if n % 2 == 0 {
            rig.signal("-HUP").await;
        }
        let (mut api_done, mut smpp_done) = (false, false);
        let end = std::time::Instant::now() + crate::PATIENCE;
        while !(api_done && smpp_done) {
            if std::time::Instant::now() > end {
                faults.push(format!("certificate {n} never came into use"));
                break;
            }
            let text = format!("over HTTPS {}", sent.len());
            let body = Some(sms("+447700900123", &text).to_string().into_bytes());
            match client.call("POST", "/v1/messages", body, &headers).await {
                Ok((202, _, _)) => sent.push(text),
                other => {
                    faults.push(format!("the kept connection of the API: {other:?}"));
                    break;
                }
            }
            let text = format!("over SMPP {}", sent.len());
            esme.submit(&Sm {
                source_addr: SENDER,
                dest_addr_ton: 1,
                dest_addr_npi: 1,
                destination_addr: b"447700900123",
                short_message: text.as_bytes(),
                ..Sm::default()
            })
            .await;
            sent.push(text);
            api_done = api_done || over_tls(&api, &next).await.is_some();
            smpp_done = smpp_done || over_tls(&smpp, &next).await.is_some();
        }
        for (name, address) in [("the API", &api), ("SMPP", &smpp)] {
            if over_tls(address, &made).await.is_some() {
                faults.push(format!(
                    "the certificate before {n} is still in use at {name}"
                ));
            }
        }
        made = next;
    }
    eventually("all have arrived", async || {
        (rig.taken(0).len() >= sent.len()).then_some(())
    })
    .await;
    let (lost, duplicated) = compared(&rig, &sent);
    Outcome::judged(replacements, lost, duplicated, &faults).noted(format!(
        "{} submitted meanwhile over two connections that stayed",
        sent.len()
    ))
}

/// Texts that no carrier has, and copies beyond one.
fn compared(rig: &Rig, sent: &[String]) -> (usize, usize) {
    let taken: Vec<String> = rig.taken(0).into_iter().filter_map(|sm| sm.text).collect();
    let unique: BTreeSet<&String> = taken.iter().collect();
    let lost = sent.iter().filter(|text| !unique.contains(text)).count();
    (lost, taken.len() - unique.len())
}

const NUMBERS: [&str; 2] = ["447700900123", "447700900456"];
/// Words of every kind that a message carries.
const WORDS: [&str; 4] = [
    "in confidence",
    "order 17",
    "patient file",
    "from the phone",
];

fn keys(numbers: &[usize]) -> String {
    let keys: Vec<String> = numbers
        .iter()
        .map(|n| format!("{{ id = \"k{n}\", key = \"file:k{n}\" }}"))
        .collect();
    format!("[store.encryption]\nkeys = [{}]\n", keys.join(", "))
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(files_of(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Files below a folder that have a word or number in them, in whatever way it is written.
fn found_in(folder: &Path) -> Vec<String> {
    found_of(folder, NUMBERS.iter().chain(&WORDS))
}

fn found_of<'a>(folder: &Path, secrets: impl Iterator<Item = &'a &'a str>) -> Vec<String> {
    let mut found = Vec::new();
    let files = files_of(folder);
    for secret in secrets {
        let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        let wide = |octets: fn(u16) -> [u8; 2]| secret.encode_utf16().flat_map(octets).collect();
        let forms: [Vec<u8>; 5] = [
            secret.as_bytes().to_vec(),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
            wide(u16::to_be_bytes),
            wide(u16::to_le_bytes),
        ];
        for path in &files {
            let octets = std::fs::read(path).unwrap_or_default();
            let holds = |form: &Vec<u8>| octets.windows(form.len()).any(|w| w == form);
            if forms.iter().any(holds) {
                found.push(format!("{secret:?} in {}", path.display()));
            }
        }
    }
    found
}

/// A message of every kind, by every way in. The id of one that is delivered.
async fn confide(rig: &Rig) -> String {
    let to = format!("+{}", NUMBERS[0]);
    let mut body = sms(&to, "in confidence");
    body["reference"] = json!("order 17");
    body["metadata"] = json!({ "note": "patient file", "phone": to });
    let mut later = body.clone();
    let at = heliograph::clock::Clock::system().now().0 + 3_600_000;
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at).expect("a time"));
    later["send_at"] = json!(at.expect("a time").to_string());
    rig.submit(later).await;
    let id = rig.submit(body).await;
    rig.wait_for(&id, "delivered").await;
    let before = rig.items("/v1/inbound").await.len();
    rig.text_in(&Mo {
        from: NUMBERS[1].to_owned(),
        to: "60777".to_owned(),
        text: "from the phone".to_owned(),
        ..Mo::default()
    })
    .await;
    eventually("the text", async || {
        (rig.items("/v1/inbound").await.len() > before).then_some(())
    })
    .await;
    let wish = json!({ "recipient": format!("+{}", NUMBERS[1]), "scope": "everything" });
    assert_eq!(rig.admin("PUT", "/v1/opt-outs", Some(wish)).await.0, 200);
    id
}

async fn sealed(run: Run) -> Outcome {
    let changes = run.pick(2, 10);
    let key = |n: usize| format!("{n:064x}").into_bytes();
    let files = (0..=changes).map(|n| (format!("k{n}"), key(n + 1)));
    let mut faults = Vec::new();
    // What is looked for is found where nothing is sealed.
    let mut open = Rig::start(Plan::default()).await;
    confide(&open).await;
    open.terminate().await;
    let shown = found_in(&open.data());
    if shown.is_empty() {
        faults.push("an open store shows nothing: this test sees nothing".to_owned());
    }
    let mut rig = Rig::start(Plan {
        config_extra: keys(&[0]),
        files: files.collect(),
        ..Plan::default()
    })
    .await;
    let config = std::fs::read_to_string(rig.config_path()).expect("the configuration");
    let mut ids = vec![confide(&rig).await];
    let mut lost = 0;
    for n in 1..=changes {
        // In order or not, what is on disk tells nothing.
        match n % 2 {
            0 => drop(rig.terminate().await),
            _ => rig.kill().await,
        }
        faults.extend(found_in(&rig.data()));
        let with = config.replace(&keys(&[0]), &keys(&[n, n - 1]));
        std::fs::write(rig.config_path(), with).expect("the configuration");
        rig.launch().await;
        ids.push(confide(&rig).await);
        let (old, new) = (format!("key=\"k{}\"", n - 1), format!("key=\"k{n}\""));
        eventually("the key before is not needed", async || {
            let needed = "heliograph_store_key_needed";
            let old = rig.metric(&[needed, &old]).await;
            let new = rig.metric(&[needed, &new]).await;
            (old == 0.0 && new == 1.0).then_some(())
        })
        .await;
        rig.terminate().await;
        faults.extend(found_in(&rig.data()));
        // Without the key that is needed nothing starts; with it, the one before is not missed.
        let without = config.replace(&keys(&[0]), &keys(&[n - 1]));
        std::fs::write(rig.config_path(), without).expect("the configuration");
        let path = rig.config_path().display().to_string();
        let (code, _, error) = rig.run(&["serve", "--config", &path]).await;
        if code != Some(1) || !error.contains("store.encryption") && !error.contains("fingerprint")
        {
            faults.push(format!("without its key: {code:?} {error}"));
        }
        let with = config.replace(&keys(&[0]), &keys(&[n]));
        std::fs::write(rig.config_path(), with).expect("the configuration");
        rig.launch().await;
        for id in &ids {
            let (status, message) = rig.call("GET", &format!("/v1/messages/{id}"), None).await;
            if status != 200 || message["reference"] != "order 17" {
                lost += 1;
                faults.push(format!("{id} is not what it was: {status} {message}"));
            }
        }
    }
    Outcome::judged(changes, lost, 0, &faults).noted(format!(
        "{} messages read under every key; an open store shows {} of what was looked for",
        ids.len(),
        shown.len()
    ))
}

/// Of the first day alone; a message has it in every part that a client writes.
const FIRST_DAY: [&str; 4] = [
    "first day's text",
    "first day's ref",
    "4477001",
    "first day's reply",
];

/// A store that keeps one day, through several: what is older is told by nobody, is in no file of recorded decisions,
/// and is gone from the octets once they have been used again.
async fn retained(run: Run) -> Outcome {
    let day = Duration::from_secs(6);
    let pace = Pace::of_days(day, Duration::from_secs(2));
    let count = run.pick(40, 200);
    let mut rig = Rig::start(Plan {
        pace: Some(pace),
        store_extra: "retention_days = 1".to_owned(),
        config_extra: "[recording]\nretain_hours = 24\n".to_owned(),
        ..Plan::default()
    })
    .await;
    let until_midnight = Duration::from_millis(DAY_MS - pace.now_ms() % DAY_MS);
    tokio::time::sleep(pace.lasts(until_midnight)).await;
    let first = Timestamp(pace.now_ms()).day();
    let mut ids = Vec::new();
    for n in 0..count {
        let number = format!("4477001{n:05}");
        let mut body = sms(&format!("+{number}"), &format!("first day's text {n}"));
        body["reference"] = json!(format!("first day's ref {n}"));
        ids.push(rig.submit(body).await);
        if n % 10 == 0 {
            rig.text_in(&Mo {
                from: number,
                to: "60777".to_owned(),
                text: format!("first day's reply {n}"),
                ..Mo::default()
            })
            .await;
        }
    }
    rig.wait_for_all(&ids, "delivered").await;
    let mut faults = Vec::new();
    if Timestamp(pace.now_ms()).day() != first {
        return Outcome::not_run("this machine is too slow: the first day was over too soon");
    }
    let shown = found_of(&rig.data(), FIRST_DAY.iter());
    for what in FIRST_DAY {
        if !shown.iter().any(|found| found.contains(what)) {
            faults.push(format!(
                "{what:?} is nowhere on the first day: this test sees nothing"
            ));
        }
    }
    // It is kept for the day after, and dropped on the one that follows.
    eventually("the day is dropped", async || {
        let dropped = rig.metric(&["heliograph_store_days_dropped_total"]).await;
        (dropped >= 1.0).then_some(())
    })
    .await;
    if Timestamp(pace.now_ms()).day() < first + 2 {
        faults.push("it was dropped too early".to_owned());
    }
    eventually("conversations and lists follow", async || {
        for list in ["/v1/messages", "/v1/inbound", "/v1/threads"] {
            if !rig.items(&format!("{list}?limit=200")).await.is_empty() {
                return None;
            }
        }
        Some(())
    })
    .await;
    for id in &ids {
        let (status, _) = rig.call("GET", &format!("/v1/messages/{id}"), None).await;
        if status != 404 {
            faults.push(format!("{id} is still told: {status}"));
        }
    }
    // The store's file is used again by whatever comes.
    let mut more = 0;
    let mut left = Vec::new();
    for n in 0..ROUNDS {
        let submissions: Vec<Value> = (0..2_000)
            .map(|k| sms("+447700900999", &format!("another day {n} {k} {:120}", "")))
            .collect();
        for piece in submissions.chunks(500) {
            let batch = Some(Value::from(piece));
            let (status, answer) = rig.call("POST", "/v1/batches", batch).await;
            assert_eq!(status, 200, "{answer}");
        }
        more += submissions.len();
        tokio::time::sleep(day / 2).await;
        left = found_of(&rig.data(), FIRST_DAY.iter());
        if left.is_empty() {
            break;
        }
    }
    faults.extend(
        left.iter()
            .map(|found| format!("after {more} more messages, {found}")),
    );
    rig.terminate().await;
    let since = Timestamp(u64::from(first) * DAY_MS);
    let recorded = cases(
        &rig.data().join("recording"),
        None,
        since,
        since.plus(Duration::from_millis(DAY_MS)),
        u64::MAX,
    );
    match recorded {
        Ok(cases) if cases.recorded.decisions == 0 => {}
        Ok(cases) => faults.push(format!(
            "{} decisions of the first day are still recorded",
            cases.recorded.decisions
        )),
        Err(error) => faults.push(format!("the recorded decisions: {error}")),
    }
    Outcome::judged(count, 0, 0, &faults)
        .noted(format!("gone from the octets after {more} more messages"))
}

const DAY_MS: u64 = 86_400_000;
/// So often two thousand messages, after which the first day's octets must have been used again.
const ROUNDS: usize = 8;

async fn forgotten(run: Run) -> Outcome {
    let rig = Rig::start(Plan::default()).await;
    let rounds = run.pick(3, 50);
    let (mut faults, mut lost) = (Vec::new(), 0);
    let kept = rig.submit(sms("+447700900999", "somebody else's")).await;
    rig.wait_for(&kept, "delivered").await;
    for n in 0..rounds {
        let number = format!("4477009{n:05}");
        let mut body = sms(&format!("+{number}"), &format!("private {number}"));
        body["reference"] = json!(format!("ref {number}"));
        body["metadata"] = json!({ "phone": number });
        let id = rig.submit(body).await;
        rig.wait_for(&id, "delivered").await;
        rig.text_in(&Mo {
            from: number.clone(),
            to: "60777".to_owned(),
            text: format!("I am {number}"),
            ..Mo::default()
        })
        .await;
        eventually("the text", async || {
            let all = rig.items("/v1/inbound?limit=1").await.pop()?;
            (all["from"].as_str()?.contains(&number)).then_some(())
        })
        .await;
        let path = format!("/v1/numbers/+{number}/data");
        let mut cursor = String::new();
        loop {
            let piece = match cursor.as_str() {
                "" => path.clone(),
                cursor => format!("{path}?cursor={cursor}"),
            };
            let (status, counts) = rig.admin("DELETE", &piece, None).await;
            if status != 200 {
                faults.push(format!("{status} {counts}"));
                break;
            }
            match counts["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        for list in [
            "/v1/messages?limit=200",
            "/v1/inbound?limit=200",
            "/v1/threads?limit=200",
            "/v1/opt-outs",
            "/v1/audit?limit=200",
            "/v1/events?format=json",
        ] {
            let all = Value::from(rig.items(list).await).to_string();
            if all.contains(&number) {
                faults.push(format!("{list} still tells of {number}"));
            }
        }
        let message = rig.message(&id).await.to_string();
        if message.contains(&number) || !message.contains("erased") {
            faults.push(format!("the message still tells: {message}"));
        }
    }
    let other = rig.message(&kept).await;
    if other["text"] != "somebody else's" {
        lost += 1;
        faults.push(format!("somebody else's message is {other}"));
    }
    Outcome::judged(rounds, lost, 0, &faults)
}

async fn audit(run: Run) -> Outcome {
    let mut rng = run.rng();
    let rig = Rig::start(Plan::default()).await;
    for n in 0..8 {
        let wish = json!({ "recipient": format!("+4477009001{n:02}"), "scope": "everything" });
        assert_eq!(rig.admin("PUT", "/v1/opt-outs", Some(wish)).await.0, 200);
    }
    let (status, _) = rig.put_policy("default_route = [\"nowhere\"]\n").await;
    assert_eq!(status, 422);
    let log = rig.data().join("audit.jsonl");
    let whole = eventually("the server's own acts", async || {
        let text = std::fs::read(&log).ok()?;
        String::from_utf8_lossy(&text)
            .contains("policy.refused")
            .then_some(text)
    })
    .await;
    let copy = rig.dir.path().join("copy.jsonl");
    let mut faults = Vec::new();
    let mut runs = 0;
    let judged = |octets: &[u8]| {
        std::fs::write(&copy, octets).expect("a copy");
        verify_audit(&copy)
    };
    let head = match judged(&whole) {
        Ok(sound) => sound.hash,
        Err(error) => return Outcome::judged(1, 0, 0, &[format!("as it was written: {error}")]),
    };
    // Every octet, each in one bit of it: in the long form in all.
    let mut missed = Vec::new();
    for at in 0..whole.len() {
        let bits: Vec<u8> = match run.long {
            true => (0..8).collect(),
            false => vec![rng.random_range(0..8)],
        };
        for bit in bits {
            runs += 1;
            let mut octets = whole.clone();
            octets[at] ^= 1 << bit;
            let unseen = judged(&octets).is_ok_and(|sound| sound.hash == head);
            missed.extend(unseen.then(|| format!("bit {bit} of octet {at}")));
        }
    }
    if let Some(first) = missed.first() {
        faults.push(format!(
            "{} flipped bits go unnoticed, the first is {first}",
            missed.len()
        ));
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
    for gone in 0..lines.len() {
        runs += 1;
        let mut rest = lines.clone();
        rest.remove(gone);
        if judged(&rest.concat()).is_ok_and(|sound| sound.hash == head) {
            faults.push(format!("line {} is gone and nobody notices", gone + 1));
        }
    }
    for n in 1..lines.len() {
        runs += 1;
        let mut swapped = lines.clone();
        swapped.swap(n - 1, n);
        if judged(&swapped.concat()).is_ok() {
            faults.push(format!("lines {n} and {} changed places", n + 1));
        }
    }
    // The command says the same of the whole, of a flipped bit, and of an end that is gone.
    let file = copy.display().to_string();
    let mut flipped = whole.clone();
    let at = rng.random_range(0..whole.len());
    flipped[at] ^= 1;
    for (what, octets, code) in [
        ("the whole", whole.clone(), 0),
        ("a flipped bit", flipped, 1),
        ("a lost end", lines[..lines.len() - 1].concat(), 1),
    ] {
        runs += 1;
        std::fs::write(&copy, octets).expect("a copy");
        let (got, _, error) = rig.run(&["audit", "verify", &file, "--head", &head]).await;
        if got != Some(code) {
            faults.push(format!("audit verify of {what}: {got:?} {error}"));
        }
    }
    Outcome::judged(runs, 0, 0, &faults).noted(format!("{} entries", lines.len()))
}
