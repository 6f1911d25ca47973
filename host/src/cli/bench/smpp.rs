//! `heliograph bench --smpp`: applications submit over SMPP in place of HTTP. SMPP in, policy,
//! durable, SMPP out, the receipt back to the application: without TLS, with it, and with many
//! sessions that only wait.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::esme::{Esme, Stream, connect};
use super::load::Pace;
use super::rig::{ESME_PASSWORD, ESME_SYSTEM_ID, Rig};
use super::{Args, Hooks, Percentiles, carrier_times, print_report};
use crate::tls::{ClientSettings, Connector, server_name};

/// submit_sm without an answer, of one bind.
const WINDOW: usize = 100;

/// The figures of one mode.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    accepted_per_s: f64,
    /// Submission to settled receipt.
    delivered_per_s: f64,
    /// Submission to the receipt in the application's hands.
    receipted_per_s: f64,
    submit_ms: Percentiles,
    carrier_ms: Percentiles,
    cpu_s_per_1000: f64,
    messages: u64,
    refused: u64,
    lost: i64,
    duplicated: u64,
    receipts_lost: i64,
}

/// Binds without TLS and with it in turn, so that a machine that changes its pace does so for both.
pub async fn run(args: &Args) -> Result<(), String> {
    let mut modes = [("plain", false, Vec::new()), ("tls", true, Vec::new())];
    for _ in 0..args.runs.max(1) {
        for (_, tls, runs) in &mut modes {
            runs.push(measure(args, *tls).await?);
        }
    }
    let mut report = serde_json::Map::new();
    let mut reached = Vec::new();
    for (name, _, mut runs) in modes {
        runs.sort_by(|a, b| a.receipted_per_s.total_cmp(&b.receipted_per_s));
        let median = runs.swap_remove(runs.len() / 2);
        reached.push(median.receipted_per_s);
        let value = serde_json::to_value(&median).map_err(|e| e.to_string())?;
        report.insert(name.to_owned(), value);
    }
    if let [plain, tls] = reached[..] {
        report.insert("tls_ratio".to_owned(), serde_json::json!(tls / plain));
    }
    print_report(args, &serde_json::Value::Object(report));
    Ok(())
}

async fn measure(args: &Args, tls: bool) -> Result<Figures, String> {
    let rig = Rig::start(args, args.hooks.unwrap_or(Hooks::On), true).await?;
    let esme = bind(&rig, args.binds_of_load, tls).await?;
    let warm = esme.run(Duration::from_secs(2), Pace::Closed, 0).await?;
    esme.receipted(warm.accepted).await;
    let cpu_before = rig.server_cpu_seconds()?;
    let start = Instant::now();
    let duration = Duration::from_secs(args.seconds);
    let closed = esme.run(duration, Pace::Closed, 1_000_000).await?;
    let sum = warm.accepted + closed.accepted;
    let (settled, receipted) = tokio::join!(rig.drained(sum), esme.receipted(sum));
    let delivered_in = settled?.duration_since(start);
    let receipted_in = receipted.duration_since(start);
    let cpu = rig.server_cpu_seconds()? - cpu_before;
    let accepted_per_s = closed.accepted as f64 / closed.took.as_secs_f64();

    let rate = args.rate.unwrap_or(accepted_per_s / 2.0);
    let open = esme.run(duration, Pace::Open(rate), 11_000_000).await?;
    let total = sum + open.accepted;
    rig.drained(total).await?;
    esme.receipted(total).await;
    let counters = rig.counters().await?;
    let figures = Figures {
        accepted_per_s,
        delivered_per_s: closed.accepted as f64 / delivered_in.as_secs_f64(),
        receipted_per_s: closed.accepted as f64 / receipted_in.as_secs_f64(),
        submit_ms: Percentiles {
            p50: open.submit_percentile_ms(50.0),
            p99: open.submit_percentile_ms(99.0),
        },
        carrier_ms: carrier_times(&rig, &open).await?,
        cpu_s_per_1000: cpu * 1000.0 / closed.accepted.max(1) as f64,
        messages: total,
        refused: closed.refused + open.refused + closed.failed + open.failed,
        lost: total as i64 - counters.unique as i64,
        duplicated: counters.duplicated,
        receipts_lost: total as i64 - esme.receipts() as i64,
    };
    drop(esme);
    rig.stop().await;
    Ok(figures)
}

/// Memory of sessions that are bound and silent, and whether they stay.
pub async fn idle(args: &Args, binds: usize) -> Result<(), String> {
    let rig = Rig::start(args, Hooks::On, true).await?;
    // What the first sessions bring with them is no session's own.
    let _first = bind(&rig, 16, false).await?;
    let before = rig.server_rss_mib("VmRSS")?;
    let start = Instant::now();
    let mut held = Vec::new();
    while held.len() * 50 < binds {
        held.push(bind(&rig, 50, false).await?);
    }
    let took = start.elapsed();
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let after = rig.server_rss_mib("VmRSS")?;
    let alive = held.iter().map(Esme::alive).sum::<usize>();
    let report = serde_json::json!({
        "binds": held.len() * 50,
        "still_bound": alive,
        "bind_s": took.as_secs_f64(),
        "kib_per_bind": (after - before) * 1024.0 / (held.len() * 50) as f64,
    });
    print_report(args, &report);
    drop(held);
    rig.stop().await;
    Ok(())
}

async fn bind(rig: &Rig, binds: usize, tls: bool) -> Result<Esme, String> {
    let mut streams: Vec<Box<dyn Stream>> = Vec::with_capacity(binds);
    let connector = Connector::new(ClientSettings {
        insecure: true,
        ..ClientSettings::default()
    })
    .map_err(|e| e.to_string())?;
    for _ in 0..binds {
        if tls {
            let stream = connect(rig.esme_tls_address()).await?;
            let name = server_name("bench.invalid").map_err(|e| e.to_string())?;
            let stream = connector.connect(stream, name).await;
            streams.push(Box::new(stream.map_err(|e| e.to_string())?));
        } else {
            streams.push(Box::new(connect(rig.esme_address()).await?));
        }
    }
    Esme::bind(streams, ESME_SYSTEM_ID, ESME_PASSWORD, WINDOW).await
}
