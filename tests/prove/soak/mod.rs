//! Statement 11. Days at half of what the server can do, with all that befalls a server in a day: nothing is lost,
//! and what it uses on the last day is what it used on the second.
//!
//! Time is injected: the server under test is the server, its program this one (`prove serve`), because only the
//! clock differs, and no operator is to have such a clock. Records, retries, schedules, expiry and retention live by
//! that clock; sockets and their timers by the machine's. Several days, because what is kept goes by whole
//! days: within a single one nothing can be given back, and nothing is known of what grows.

mod books;
mod gauges;
mod programme;
mod traffic;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heliograph::carrier::simulator::{Keep, Settings};
use parking_lot::Mutex;

use self::books::Books;
use self::gauges::Sample;
use self::programme::{CERTIFICATE, CERTIFICATE_KEY, Done, Programme};
use self::traffic::{Clients, Fate, Load, receiver};
use super::{Outcome, Part, Run, Statement};
use crate::tls::certificates;
use crate::{ADMIN_KEY, Pace, Plan, Rig, bearer, free_address, http};

pub const STATEMENT: Statement = Statement {
    number: 11,
    name: "Soak",
    parts: &[Part {
        name: "days of flaps, outages, reloads and restarts",
        run: |run| Box::pin(soak(run)),
    }],
};

/// Unanswered submit_sm of one session.
const WINDOW: usize = 20;
const SESSIONS: usize = 2;
/// The carrier that has its troubles.
const FLAPPING: usize = 2;
/// The form of `make prove`.
const EIGHT_MINUTES: Duration = Duration::from_secs(480);
/// What `make test` runs: days too short to be held against one another, and long enough for what goes by the machine's
/// time, as the finding of a carrier's rate does: in seven seconds a day was over, and some messages with it.
const SHORT: Duration = Duration::from_secs(60);
const SHORT_PER_SECOND: f64 = 30.0;

/// Of what is offered, what may be left out beside what comes while the server is started again, twice.
const LEFT_OUT_MAX: f64 = 0.02;
const RESTARTS: Duration = Duration::from_secs(8);

const POLICY: &str = r#"
[tables.rates]
file = "rates.csv"
[[plugin]]
name = "router"
path = "{plugins}/least-cost-router.wasm"
grants = { tables = ["rates"] }
config = { deck = "rates" }
"#;

const FILTER: &str = r#"
[[plugin]]
name = "filter"
path = "{plugins}/content-filter.wasm"
config = { rules = [{ name = "scams", kind = "words", words = ["free spins"] }] }
"#;

/// Prefixes to carriers: `sim0` is good, `sim1` late, `sim2` flaps.
fn deck() -> String {
    let row = |fate: Fate, prices: &str| format!("44770{},{prices}\n", fate.prefix());
    [
        row(Fate::Good, "sim0=1"),
        row(Fate::Late, "sim1=1"),
        row(Fate::FailOver, "sim2=1; sim0=100"),
        row(Fate::Waiting, "sim2=1"),
        row(Fate::Away, "sim0=1"),
        row(Fate::Undeliverable, "sim0=1"),
        row(Fate::Expires, "sim1=1"),
        row(Fate::Mute, "sim0=1"),
    ]
    .concat()
}

fn settings(pace: Pace) -> Vec<Settings> {
    let rule = |fate: Fate, outcome: &str| {
        let rule = format!("44770{}={outcome}", fate.prefix());
        rule.parse().expect("a rule")
    };
    let hours = |n: u64| {
        let ms = pace.lasts(Duration::from_secs(n * 3_600)).as_millis();
        u32::try_from(ms).unwrap_or(u32::MAX)
    };
    let common = Settings {
        latency_ms: 2,
        latency_jitter_ms: 8,
        keep: Keep::Keys,
        keys_max: 100_000_000,
        receipt_duplicate_rate: 0.01,
        rules: vec![
            rule(Fate::Away, "0x64"),
            rule(Fate::Undeliverable, "UNDELIV:001"),
            rule(Fate::Expires, "EXPIRED:002"),
            rule(Fate::Mute, "no-receipt"),
        ],
        ..Settings::default()
    };
    let late = Settings {
        receipt_delay_ms: hours(1),
        receipt_jitter_ms: hours(5),
        ..common.clone()
    };
    vec![common.clone(), late, common]
}

async fn soak(run: Run) -> Outcome {
    let whole = match run.long {
        true => run.soak.unwrap_or(EIGHT_MINUTES),
        false => SHORT,
    };
    let days = match run.long {
        true => gauges::DAYS,
        false => gauges::DAYS_SHORT,
    };
    let day = whole / days;
    // Time for the first messages and for what the server can do to be found out.
    let eve = Duration::from_secs(run.pick(4, 45) as u64);
    let pace = Pace::of_days(day, eve);
    let books = Arc::new(Books::default());
    let (smpp, tls) = (free_address().await, free_address().await);
    let target = books::target(books.clone()).await;
    let (settings, made) = (settings(pace), certificates(|_| {}));
    let well = settings[FLAPPING].clone();
    let mut rig = Rig::start(Plan {
        simulators: settings,
        carrier_extra: format!("window = {WINDOW}\nsessions = {SESSIONS}\nresponse_timeout_ms = 2000"),
        policy: POLICY.to_owned(),
        files: vec![
            ("rates.csv".to_owned(), deck().into_bytes()),
            (CERTIFICATE.to_owned(), made.certificate_pem.into_bytes()),
            (CERTIFICATE_KEY.to_owned(), made.key_pem.into_bytes()),
        ],
        http_extra: format!(
            "tls_listen = \"{tls}\"\ncertificate = \"{CERTIFICATE}\"\nkey = \"{CERTIFICATE_KEY}\""
        ),
        config_extra: format!(
            "[messages]\ndefault_validity_seconds = 86400\n[recording]\nretain_hours = 24\n[smpp]\nlisten = \"{smpp}\"\n"
        ),
        account_extra: format!(
            "receipt_url = \"{target}\"\ninbound_url = \"{target}\"\n[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:secret\"\nmax_binds = 32\ndeliver_window = 100\n"
        ),
        pace: Some(pace),
        // What is full on the first day does not grow on the last.
        environment: vec![("HELIOGRAPH_STORE__CACHE_MIB".to_owned(), "16".to_owned())],
        // A day is kept, and dropped on the day after the next.
        store_extra: "retention_days = 1".to_owned(),
        ..Plan::default()
    })
    .await;
    let clients = Arc::new(Clients {
        books: books.clone(),
        http: rig.address.clone(),
        smpp,
        mute: AtomicBool::new(false),
        receiver_away: AtomicBool::new(false),
        now_ms: Box::new(move || pace.now_ms()),
        skipped: AtomicU64::new(0),
    });
    let receiving = tokio::spawn(receiver(clients.clone()));
    let began = Instant::now();
    let mut load = Load::start(&clients);
    let per_second = match run.long {
        true => half_of_capacity(&mut load, &books).await,
        false => SHORT_PER_SECOND,
    };
    tokio::time::sleep(eve.saturating_sub(began.elapsed())).await;

    let samples = Arc::new(Mutex::new(Vec::new()));
    let pid = Arc::new(AtomicU32::new(rig.pid()));
    let looking = tokio::spawn(watch(
        (rig.address.clone(), rig.data(), pid.clone()),
        (clients.clone(), day),
        samples.clone(),
    ));
    let mut programme = Programme {
        clients: clients.clone(),
        policies: [POLICY.to_owned(), format!("{POLICY}{FILTER}")],
        tls,
        well,
        throttled: throttled(per_second),
        pid,
        done: Done::default(),
    };
    let whole = day * days;
    tokio::join!(
        programme.run(&mut rig, day, days),
        load.days(per_second, day, whole, &clients.skipped)
    );
    looking.abort();
    load.stop().await;

    // The last receipts come hours later, and a webhook that was refused is repeated after hours too.
    let end =
        Instant::now() + pace.lasts(Duration::from_secs(30 * 3_600)) + Duration::from_secs(60);
    while books.open() > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    receiving.abort();
    let mut faults = books.faults();
    if !rig.terminate().await.success() {
        faults.push("the server did not end in order".to_owned());
    }
    let (lost, duplicated) = balance(&rig, &books, &programme.done, &mut faults);
    let mut notes = vec![format!(
        "{days} days in {:.0} s, {:.0} messages/s at the mean: {} acknowledged, {} cut off, {} refused, {} skipped, {} webhooks again",
        whole.as_secs_f64(),
        per_second,
        books.accepted.load(Relaxed),
        books.unanswered.load(Relaxed),
        books.refused.load(Relaxed),
        clients.skipped.load(Relaxed),
        books.again.load(Relaxed),
    )];
    let (growth, flat) = gauges::judge(&samples.lock(), days);
    if run.long {
        faults.extend(growth);
        let left_out = clients.left_out();
        let offered = per_second * whole.as_secs_f64();
        if left_out as f64 > offered * LEFT_OUT_MAX + per_second * RESTARTS.as_secs_f64() {
            faults.push(format!(
                "{left_out} of {offered:.0} messages were refused, or waited for those before them: this is no half of its capacity"
            ));
        }
    }
    notes.extend(flat);
    if let Some(folder) = std::env::var_os("HELIOGRAPH_SOAK_KEEP") {
        keep(&PathBuf::from(folder), &rig, &faults, &samples.lock());
    }
    Outcome::judged(1, lost, duplicated, &faults).noted(notes.join("; "))
}

/// For who wants to see why: every fault, the curves and the server's log.
fn keep(folder: &Path, rig: &Rig, faults: &[String], samples: &[Sample]) {
    for (name, text) in [
        ("faults", faults.join("\n")),
        ("samples.tsv", gauges::table(samples)),
        ("server.log", rig.log()),
    ] {
        std::fs::write(folder.join(name), text).expect("a file of HELIOGRAPH_SOAK_KEEP");
    }
}

/// What is lost, and which copies nothing explains.
fn balance(rig: &Rig, books: &Books, done: &Done, faults: &mut Vec<String>) -> (usize, usize) {
    let keys: Vec<_> = rig.simulators.iter().map(|s| s.received_keys()).collect();
    let (lost, unknown) = books.lost(&keys, faults);
    let mut copies = std::collections::HashMap::new();
    for (key, taken) in keys.iter().flatten() {
        *copies.entry(*key).or_insert(0_usize) += *taken as usize;
    }
    let duplicated: usize = copies.values().map(|n| n - 1).sum();
    // What was in a window that broke goes out again; where its phone never answers, nobody knows of the first time.
    if duplicated + unknown > done.in_windows {
        faults.push(format!(
            "{duplicated} copies and {unknown} whose end is unknown, {} segments were in windows that broke",
            done.in_windows
        ));
    }
    if books.accepted.load(Relaxed) == 0 {
        faults.push("nothing was acknowledged".to_owned());
    }
    let inbound = books.inbound.load(Relaxed);
    if inbound < done.texts {
        faults.push(format!(
            "{inbound} of {} texts from phones came on",
            done.texts
        ));
    }
    (lost, duplicated)
}

/// Half of what comes through to the end in a second, webhooks and all, as many clients as there are at work. A
/// server that has just begun does more than it can go on with.
async fn half_of_capacity(load: &mut Load, books: &Books) -> f64 {
    load.flood(Duration::from_secs(5)).await;
    let (before, began) = (books.accepted.load(Relaxed), Instant::now());
    load.flood(Duration::from_secs(10)).await;
    // Three quarters have their end as soon as they can.
    let enough = books.accepted.load(Relaxed) * 7 / 10;
    while books.ended() < enough && began.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (books.accepted.load(Relaxed) - before) as f64 / began.elapsed().as_secs_f64() / 2.0
}

/// Less than the flapping carrier is sent by day, where all of its messages go to it.
fn throttled(per_second: f64) -> u32 {
    let share = 1.0 / traffic::SMPP_SHARE as f64;
    let sent = 0.13 * (1.0 - share) + 0.4 * share;
    ((per_second * sent * 0.8) as u32).max(5)
}

async fn watch(
    (address, data, pid): (String, std::path::PathBuf, Arc<AtomicU32>),
    (clients, day): (Arc<Clients>, Duration),
    samples: Arc<Mutex<Vec<Sample>>>,
) {
    let began = Instant::now();
    let key = bearer(ADMIN_KEY);
    loop {
        tokio::time::sleep(gauges::interval(day)).await;
        let at = began.elapsed().as_secs_f64() / day.as_secs_f64();
        let (folder, of) = (data.clone(), pid.load(Relaxed));
        let looked = tokio::task::spawn_blocking(move || gauges::look(of, &folder)).await;
        let Ok(Some(mut values)) = looked else {
            continue;
        };
        let headers = [("authorization", key.as_str())];
        if let Ok((200, _, page)) = http(&address, "GET", "/metrics", None, &headers).await {
            values.extend(gauges::tables(&String::from_utf8_lossy(&page)));
        }
        values.insert(gauges::LEFT_OUT, clients.left_out() as f64);
        samples.lock().push(Sample { at, values });
    }
}
