//! `heliograph bench --trials`: what it costs to record decisions and to shadow a second set, how fast a
//! replay is, and how long a policy takes to come into force.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::load::{self, Pace};
use super::rig::Rig;
use super::{Args, Hooks, print_report};

/// Activations of which the median is told.
const ACTIVATIONS: usize = 15;

/// One way to run the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    Recording,
    Shadowed,
}

/// Throughput and cost of one run.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cost {
    delivered_per_s: f64,
    cpu_s_per_1000: f64,
}

/// The modes take turns, so that whatever else the machine does falls on all of them.
pub async fn run(args: &Args) -> Result<(), String> {
    let modes = [Mode::Plain, Mode::Recording, Mode::Shadowed];
    let mut costs: [Vec<Cost>; 3] = Default::default();
    let mut replayed = json!(null);
    let mut shadow = json!(null);
    for _ in 0..args.runs.max(1) {
        for (mode, costs) in modes.iter().zip(&mut costs) {
            let rig = Rig::start_as(args, Hooks::On, true, *mode != Mode::Plain).await?;
            costs.push(measure(args, &rig, *mode).await?);
            match mode {
                Mode::Plain => {}
                Mode::Recording => replayed = replay(&rig).await?,
                Mode::Shadowed => shadow = shadow_report(&rig).await?,
            }
            rig.stop().await;
        }
    }
    let [plain, recording, shadowed] = costs.map(median);
    let activation = activation(args).await?;
    let report = json!({
        "plain": plain,
        "recording": recording,
        "shadowed": shadowed,
        "recording_to_plain": recording.delivered_per_s / plain.delivered_per_s,
        "shadowed_to_recording": shadowed.delivered_per_s / recording.delivered_per_s,
        "shadow": shadow,
        "replay": replayed,
        "activation": activation,
    });
    print_report(args, &report);
    Ok(())
}

async fn measure(args: &Args, rig: &Rig, mode: Mode) -> Result<Cost, String> {
    if mode == Mode::Shadowed {
        // The policy in force in its own shadow: the same work once more.
        rig.must("PUT", "/v1/policy/shadow", &json!({})).await?;
    }
    let target = rig.target();
    let warm = Duration::from_secs(2);
    let warm = load::run(&target, args.connections, warm, Pace::Closed, 0).await?;
    rig.drained(warm.accepted).await?;
    let cpu_before = rig.server_cpu_seconds()?;
    let start = Instant::now();
    let duration = Duration::from_secs(args.seconds);
    let next = 1_000_000;
    let closed = load::run(&target, args.connections, duration, Pace::Closed, next).await?;
    let drained = rig.drained(warm.accepted + closed.accepted).await?;
    let cpu = rig.server_cpu_seconds()? - cpu_before;
    Ok(Cost {
        delivered_per_s: closed.accepted as f64 / drained.duration_since(start).as_secs_f64(),
        cpu_s_per_1000: cpu * 1000.0 / closed.accepted.max(1) as f64,
    })
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.delivered_per_s.total_cmp(&b.delivered_per_s));
    costs.swap_remove(costs.len() / 2)
}

/// All that was recorded, through the set that decided it.
async fn replay(rig: &Rig) -> Result<serde_json::Value, String> {
    let started = Instant::now();
    let body = json!({ "limit": 100_000, "examples": 3 });
    let report = rig.must("POST", "/v1/policy/replay", &body).await?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({
        "decisions": report["replayed"],
        "different": report["different"],
        "by_change": report["by_change"],
        "not_comparable": report["not_comparable"],
        "per_s": report["replayed"].as_f64().unwrap_or_default() / seconds,
    }))
}

async fn shadow_report(rig: &Rig) -> Result<serde_json::Value, String> {
    let report = rig.must("DELETE", "/v1/policy/shadow", &json!({})).await?;
    Ok(json!({
        "shown": report["shown"],
        "not_shown": report["not_shown"],
        "different": report["different"],
    }))
}

/// Five plugins: compiled from their bytes, and from the cache with one configuration changed.
async fn activation(args: &Args) -> Result<serde_json::Value, String> {
    let rig = Rig::start_as(args, Hooks::Off, false, true).await?;
    let mut from_bytes = 0.0;
    let mut warm = Vec::new();
    for generation in 0..=ACTIVATIONS {
        let policy = rig.five_plugins(u32::try_from(generation).unwrap_or(0))?;
        let started = Instant::now();
        rig.must("PUT", "/v1/policy", &policy).await?;
        let took = started.elapsed().as_secs_f64() * 1_000.0;
        match generation {
            0 => from_bytes = took,
            _ => warm.push(took),
        }
    }
    rig.stop().await;
    warm.sort_by(f64::total_cmp);
    Ok(json!({
        "from_bytes_ms": from_bytes,
        "warm_p50_ms": warm[warm.len() / 2],
        "warm_max_ms": warm[warm.len() - 1],
    }))
}
