//! `heliograph bench --hostile`: what plugins that loop, trap, eat memory and flood the log do to
//! everybody else. The same load in turn without them, with them beside the bundled plugins, with them as one
//! account's own, and while components that keep the compiler busy are uploaded. What four more plugins cost that
//! do nothing is no harm of hostility: those beside the bundled ones are held against the very same plugins on
//! whose mark nothing comes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::load::{self, MARKS, Pace, Run, Target};
use super::rig::{Rig, TENANT};
use super::{Args, Hooks, Percentiles};

/// One submission of so many is a hostile plugin's; of those, each plugin has its turn.
const MARKED_EVERY: u64 = 20;
/// Stands in no text.
const NO_MARK: char = '~';
const WARM_UP: Duration = Duration::from_secs(2);
const BETWEEN_UPLOADS: Duration = Duration::from_millis(200);
/// Near the limit, so that the compiler has something to do.
const BOMB_FUNCTIONS: usize = 15_000;

/// Who stands beside the bundled plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbours {
    None,
    /// The hostile plugins in everybody's policy, and nothing with their mark.
    Tame,
    /// In everybody's policy.
    Plugins,
    /// The plugins of the account that sends what has a mark.
    Tenant,
    Uploads,
}

/// What the others had of one run.
#[derive(Clone, Debug, Default, Serialize)]
struct Others {
    submit_ms: Percentiles,
    carrier_ms: Percentiles,
    plugin_us: BTreeMap<String, Percentiles>,
    lost: i64,
    duplicated: u64,
    refused: u64,
    restarts: u32,
    /// Of the hostile ones: faults by kind.
    faults: BTreeMap<String, Value>,
    uploads: u64,
}

pub async fn run(args: &Args) -> Result<(), String> {
    let rate = match args.rate {
        Some(rate) => rate,
        None => half_of_peak(args).await?,
    };
    let (mut quiet, mut tame, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    let (mut tenant, mut uploading) = (Vec::new(), Vec::new());
    for _ in 0..args.runs.max(1) {
        quiet.push(measure(args, rate, Neighbours::None).await?);
        tame.push(measure(args, rate, Neighbours::Tame).await?);
        beside.push(measure(args, rate, Neighbours::Plugins).await?);
        tenant.push(measure(args, rate, Neighbours::Tenant).await?);
        uploading.push(measure(args, rate, Neighbours::Uploads).await?);
    }
    let report = json!({
        "rate_per_s": rate,
        "pairs": quiet.len(),
        "marked_share": 1.0 / MARKED_EVERY as f64,
        "without": whole(&quiet),
        "with_tame": whole(&tame),
        "with_hostile": whole(&beside),
        "with_tenants_own": whole(&tenant),
        "with_uploads": whole(&uploading),
        "ratio_tame": ratios(&quiet, &tame),
        "ratio_hostile": ratios(&tame, &beside),
        "ratio_tenants_own": ratios(&quiet, &tenant),
        "ratio_uploads": ratios(&quiet, &uploading),
    });
    if args.json {
        println!("{report}");
    } else {
        print_text(&report);
    }
    Ok(())
}

async fn half_of_peak(args: &Args) -> Result<f64, String> {
    let rig = Rig::start(args, Hooks::On, true).await?;
    let time = Duration::from_secs(4);
    let peak = load::run(&rig.target(), args.connections, time, Pace::Closed, 0).await?;
    rig.stop().await;
    Ok(peak.accepted as f64 / peak.took.as_secs_f64() / 2.0)
}

async fn measure(args: &Args, rate: f64, neighbours: Neighbours) -> Result<Others, String> {
    // Made before the load begins: making them is no work of the server's.
    let bombs = match neighbours {
        Neighbours::Uploads => bombs(args.seconds)?,
        Neighbours::None | Neighbours::Tame | Neighbours::Plugins | Neighbours::Tenant => {
            Vec::new()
        }
    };
    let mut rig = Rig::start(args, Hooks::On, true).await?;
    let whose = match neighbours {
        Neighbours::Tame | Neighbours::Plugins => Some(String::new()),
        Neighbours::Tenant => Some(format!("accounts = [\"{TENANT}\"]\n")),
        Neighbours::None | Neighbours::Uploads => None,
    };
    if let Some(whose) = whose {
        let component = component(NEIGHBOUR, "")?;
        let meets = neighbours != Neighbours::Tame;
        rig.let_in(&component, &entries(&whose, meets)).await?;
    }
    let target = Target {
        marked_every: MARKED_EVERY,
        ..rig.target()
    };
    // Half the rate, so that what the load meets is warm and what it leaves behind is not a queue.
    let warm = load::run(
        &target,
        args.connections,
        WARM_UP,
        Pace::Open(rate / 2.0),
        0,
    )
    .await?;
    let time = Duration::from_secs(args.seconds);
    let loaded = load::run(
        &target,
        args.connections,
        time,
        Pace::Open(rate),
        10_000_000,
    );
    let (run, uploads) = match neighbours {
        Neighbours::None | Neighbours::Tame | Neighbours::Plugins | Neighbours::Tenant => {
            (loaded.await?, 0)
        }
        Neighbours::Uploads => {
            let (run, uploads) = tokio::join!(loaded, upload_all(&target, &bombs, time));
            (run?, uploads?)
        }
    };
    let total = warm.accepted + run.accepted;
    rig.drained(total).await?;
    let counters = rig.counters().await?;
    let arrived = rig.arrivals().await?;
    let mut others = Others {
        lost: total as i64 - counters.unique as i64,
        duplicated: counters.duplicated,
        refused: run.refused + run.failed,
        restarts: u32::from(!rig.is_running()),
        uploads,
        ..times(&target, &run, &arrived)
    };
    for (name, stats) in rig.plugin_stats().await? {
        if name.starts_with("hostile-") {
            others.faults.insert(name, stats["faults"].clone());
        } else if stats["calls"].as_u64() > Some(0) {
            let us = |field: &str| stats[field].as_f64().unwrap_or(0.0) / 1000.0;
            let percentiles = Percentiles {
                p50: us("p50_ns"),
                p99: us("p99_ns"),
            };
            others.plugin_us.insert(name, percentiles);
        }
    }
    rig.stop().await;
    Ok(others)
}

/// Of the submissions without a mark.
fn times(target: &Target, run: &Run, arrived: &std::collections::HashMap<String, u64>) -> Others {
    let good = || {
        run.samples
            .iter()
            .filter(|s| target.mark(s.number).is_none())
    };
    let mut submit: Vec<u64> = good().map(|s| s.took_us).collect();
    let mut carrier: Vec<u64> = good()
        .filter_map(|s| {
            let at_us = arrived.get(&load::recipient(s.number))?;
            Some(at_us.saturating_sub(run.started_unix_us + s.sent_us))
        })
        .collect();
    let both = |times: &mut Vec<u64>| Percentiles {
        p50: load::percentile_ms(times, 50.0),
        p99: load::percentile_ms(times, 99.0),
    };
    Others {
        submit_ms: both(&mut submit),
        carrier_ms: both(&mut carrier),
        ..Others::default()
    }
}

/// One for each second, each another one.
fn bombs(seconds: u64) -> Result<Vec<Vec<u8>>, String> {
    let function = "(func (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3)))";
    let functions = function.repeat(BOMB_FUNCTIONS);
    (0..seconds.max(1))
        .map(|n| {
            let more = format!("{functions} (func (result i32) (i32.const {n}))");
            component(NEIGHBOUR, &more)
        })
        .collect()
}

/// Uploads one component after the other until the time is over; how many were answered.
async fn upload_all(target: &Target, bombs: &[Vec<u8>], time: Duration) -> Result<u64, String> {
    let end = Instant::now() + time;
    let mut answered = 0;
    for bytes in bombs {
        if Instant::now() >= end {
            break;
        }
        upload(target, bytes).await?;
        answered += 1;
        tokio::time::sleep(BETWEEN_UPLOADS).await;
    }
    Ok(answered)
}

async fn upload(target: &Target, bytes: &[u8]) -> Result<(), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(&target.address).await?;
        let head = format!(
            "POST /v1/plugins HTTP/1.1\r\nhost: bench\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-type: application/wasm\r\ncontent-length: {}\r\n\r\n",
            target.key,
            bytes.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), exchange).await;
    let answer = answer
        .map_err(|_| "an upload is not answered".to_owned())?
        .map_err(|e| format!("an upload: {e}"))?;
    match answer.get(9..12) {
        Some(b"201" | b"422") => Ok(()),
        _ => Err(format!(
            "an upload: {}",
            String::from_utf8_lossy(&answer[..answer.len().min(300)])
        )),
    }
}

/// The hostile entries: one component, told by its configuration at which mark to do what. `meets`: whether
/// what is sent has those marks.
fn entries(whose: &str, meets: bool) -> String {
    let names = ["loops", "traps", "eats-memory", "floods"];
    let entry = |(n, name): (usize, &&str)| {
        format!(
            "\n[[plugin]]\nname = \"hostile-{name}\"\npath = \"neighbour.wasm\"\nfail = \"open\"\nconfig = {{ does = {n}, on = \"{}\" }}\n{whose}",
            if meets { MARKS[n] } else { NO_MARK }
        )
    };
    names.iter().enumerate().map(entry).collect()
}

/// A content filter in core WebAssembly. Its configuration is `{"does":N,"on":"!"}`: the octet at 8 is
/// a digit and the one at 16 the mark. The message's text stands at 84 of its arguments.
const NEIGHBOUR: &str = r#"
    (global $does (mut i32) (i32.const 0))
    (global $mark (mut i32) (i32.const 0))
    (func (export "heliograph:sms/plugin@0.1.0#configure") (param $config i32) (param $length i32) (result i32)
        (global.set $does (i32.load8_u offset=8 (local.get $config)))
        (global.set $mark (i32.load8_u offset=16 (local.get $config)))
        (i32.const 2048))
    (func (export "heliograph:sms/content-filter@0.1.0#inspect") (param $args i32) (result i32)
        (global.set $next (i32.const 65536))
        (if (i32.ne (i32.load8_u (i32.load offset=84 (local.get $args))) (global.get $mark))
            (then (return (i32.const 2048))))
        (if (i32.eq (global.get $does) (i32.const 48)) (then (loop $l (br $l))))
        (if (i32.eq (global.get $does) (i32.const 50)) (then
            (loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))))
        (if (i32.eq (global.get $does) (i32.const 51)) (then (loop $l
            (call $log (i32.const 1) (i32.const 1056) (i32.const 13) (i32.const 0) (i32.const 0))
            (br $l))))
        (unreachable))"#;

fn component(body: &str, more: &str) -> Result<Vec<u8>, String> {
    let schema = "{}";
    let manifest: String = [1024, 9, 1040, 5, 1056, 13, 4096, schema.len() as u32]
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .map(|octet| format!("\\{octet:02x}"))
        .collect();
    let text = format!(
        r#"(module
            (import "heliograph:sms/logging@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))
            (memory (export "memory") 4)
            (global $next (mut i32) (i32.const 65536))
            (data (i32.const 1024) "neighbour")
            (data (i32.const 1040) "1.0.0")
            (data (i32.const 1056) "Means no good")
            (data (i32.const 1200) "{manifest}")
            (data (i32.const 4096) "{schema}")
            (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $length i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and
                    (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                    (i32.sub (i32.const 0) (local.get $align))))
                (global.set $next (i32.add (local.get $at) (local.get $length)))
                (local.get $at))
            (func (export "heliograph:sms/plugin@0.1.0#describe") (result i32) (i32.const 1200))
            {body}
            {more})"#
    );
    let failed = |e: &dyn std::fmt::Display| format!("the hostile component: {e}");
    let mut module = wat::parse_str(text).map_err(|e| failed(&e))?;
    let mut resolve = wit_parser::Resolve::default();
    resolve
        .push_source("sms.wit", include_str!("../../../../wit/v0.1/sms.wit"))
        .map_err(|e| failed(&e))?;
    let world = "package bench:neighbour;
        world neighbour {
            import heliograph:sms/logging@0.1.0;
            export heliograph:sms/plugin@0.1.0;
            export heliograph:sms/content-filter@0.1.0;
        }";
    let package = resolve
        .push_source("neighbour.wit", world)
        .map_err(|e| failed(&e))?;
    let world = resolve
        .select_world(&[package], Some("neighbour"))
        .map_err(|e| failed(&e))?;
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8)
        .map_err(|e| failed(&e))?;
    wit_component::ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .map_err(|e| failed(&e))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Medians of times, sums of what must not happen.
fn whole(runs: &[Others]) -> Others {
    let middle = |of: &dyn Fn(&Others) -> Percentiles| Percentiles {
        p50: median(runs.iter().map(|r| of(r).p50).collect()),
        p99: median(runs.iter().map(|r| of(r).p99).collect()),
    };
    let names = runs
        .first()
        .map(|r| r.plugin_us.clone())
        .unwrap_or_default();
    Others {
        submit_ms: middle(&|r| r.submit_ms),
        carrier_ms: middle(&|r| r.carrier_ms),
        plugin_us: names
            .into_keys()
            .map(|name| {
                let of = |r: &Others| r.plugin_us.get(&name).copied().unwrap_or_default();
                (name.clone(), middle(&of))
            })
            .collect(),
        lost: runs.iter().map(|r| r.lost).sum(),
        duplicated: runs.iter().map(|r| r.duplicated).sum(),
        refused: runs.iter().map(|r| r.refused).sum(),
        restarts: runs.iter().map(|r| r.restarts).sum(),
        faults: runs.last().map(|r| r.faults.clone()).unwrap_or_default(),
        uploads: runs.iter().map(|r| r.uploads).sum(),
    }
}

/// With to without, the median over pairs: each pair met the same state of the machine.
fn ratios(without: &[Others], with: &[Others]) -> Value {
    let ratio = |of: &dyn Fn(&Others) -> f64| {
        let pairs = without.iter().zip(with).filter(|(a, _)| of(a) > 0.0);
        (median(pairs.map(|(a, b)| of(b) / of(a)).collect()) * 100.0).round() / 100.0
    };
    let names = without
        .first()
        .map(|r| r.plugin_us.clone())
        .unwrap_or_default();
    let plugins: BTreeMap<String, f64> = names
        .into_keys()
        .map(|name| {
            let p99 = |r: &Others| r.plugin_us.get(&name).map_or(0.0, |p| p.p99);
            (name.clone(), ratio(&p99))
        })
        .collect();
    json!({
        "submit_p50": ratio(&|r| r.submit_ms.p50),
        "submit_p99": ratio(&|r| r.submit_ms.p99),
        "carrier_p99": ratio(&|r| r.carrier_ms.p99),
        "plugin_p99": plugins,
    })
}

fn print_text(report: &Value) {
    println!(
        "{:.0} submissions a second, {} pairs; 1 of {MARKED_EVERY} meets a hostile plugin, the figures are of the others",
        report["rate_per_s"].as_f64().unwrap_or(0.0),
        report["pairs"]
    );
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    for mode in [
        "without",
        "with_tame",
        "with_hostile",
        "with_tenants_own",
        "with_uploads",
    ] {
        let o = &report[mode];
        println!("{mode}");
        println!(
            "  submit        {:>8.1} ms p50, {:.1} ms p99",
            number(&o["submit_ms"]["p50"]),
            number(&o["submit_ms"]["p99"])
        );
        println!(
            "  to carrier    {:>8.1} ms p50, {:.1} ms p99",
            number(&o["carrier_ms"]["p50"]),
            number(&o["carrier_ms"]["p99"])
        );
        for (name, us) in o["plugin_us"].as_object().into_iter().flatten() {
            println!(
                "  {name:<20} {:>6.2} µs p50, {:.2} µs p99",
                number(&us["p50"]),
                number(&us["p99"])
            );
        }
        println!(
            "  {} lost, {} duplicated, {} refused, {} restarts, {} uploads",
            o["lost"], o["duplicated"], o["refused"], o["restarts"], o["uploads"]
        );
        for (name, faults) in o["faults"].as_object().into_iter().flatten() {
            println!("  {name:<20} {faults}");
        }
    }
    for ratio in [
        "ratio_tame",
        "ratio_hostile",
        "ratio_tenants_own",
        "ratio_uploads",
    ] {
        println!("{ratio:<16} {}", report[ratio]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(p99: f64) -> Others {
        Others {
            submit_ms: Percentiles { p50: 1.0, p99 },
            ..Others::default()
        }
    }

    #[test]
    fn ratios_are_the_median_over_pairs() {
        let without = [took(10.0), took(100.0), took(10.0)];
        let with = [took(11.0), took(110.0), took(90.0)];
        assert_eq!(ratios(&without, &with)["submit_p99"], 1.1);
    }

    #[test]
    fn the_hostile_component_is_one() {
        let bytes = component(NEIGHBOUR, "").unwrap();
        assert!(wasmparser::Parser::is_component(&bytes));
    }
}
