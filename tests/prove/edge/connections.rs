//! Connections that say too little, too slowly or too much.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Neighbour, attacker, connect_from};
use crate::prove::{Outcome, Run};
use crate::{KEY, PATIENCE, Plan, Rig, bearer, eventually};

/// Descriptors that this process and the server need beside the connections, each.
const SPARE: u64 = 1_500;
/// What an open connection may cost the server.
const KIB_EACH: u64 = 64;

const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

/// How a client is slow, and how it is let go.
#[derive(Clone, Copy)]
enum Slow {
    Silent,
    /// A head that comes octet by octet, and never ends.
    Head,
    /// A head that stops.
    HalfHead,
    /// A body that comes octet by octet, and never ends.
    Body,
    HalfBody,
    /// Asks, and does not take the answers.
    Deaf,
}

const SLOW: [Slow; 6] = [
    Slow::Silent,
    Slow::Head,
    Slow::HalfHead,
    Slow::Body,
    Slow::HalfBody,
    Slow::Deaf,
];

pub async fn slow(run: Run) -> Outcome {
    let mut rig = Rig::start(Plan::default()).await;
    let neighbour = Neighbour::start(&rig);
    let each = run.pick(20, 300);
    let mut clients = JoinSet::new();
    for n in 0..each * SLOW.len() {
        let address = rig.address.clone();
        let slow = SLOW[n % SLOW.len()];
        clients.spawn(async move { one_slow(&address, slow, attacker(n)).await });
    }
    let mut faults = Vec::new();
    while let Some(ended) = clients.join_next().await {
        if let Err(why) = ended.expect("a client that does not panic") {
            faults.push(why);
        }
    }
    neighbour.outcome(&mut rig, each * SLOW.len(), faults).await
}

/// The error is what came in place of the outcome: silence and slow heads are let go without a word, slow bodies
/// with 408, those who do not listen at all with whatever had room.
async fn one_slow(address: &str, slow: Slow, source: [u8; 4]) -> Result<(), String> {
    let mut stream = connect_from(address, source)
        .await
        .map_err(|e| e.to_string())?;
    let body = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\ncontent-length: 1000\r\n\r\n{{",
        bearer(KEY)
    );
    let (say, drip): (Vec<u8>, bool) = match slow {
        Slow::Silent => (Vec::new(), false),
        Slow::Head => (b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: ".to_vec(), true),
        Slow::HalfHead => (b"GET /healthz HTTP/1.1\r\nhost: x\r\n".to_vec(), false),
        Slow::Body => (body.into_bytes(), true),
        Slow::HalfBody => (body.into_bytes(), false),
        Slow::Deaf => {
            return deaf(stream).await;
        }
    };
    stream.write_all(&say).await.map_err(|e| e.to_string())?;
    let (mut reader, mut writer) = stream.split();
    let mut heard = Vec::new();
    let dripping = async {
        while drip && writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // A reset is a way to be let go.
        end = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut heard)) => {
            end.map_err(|_| "a slow client was never let go".to_owned())?.ok();
        }
        () = dripping => {}
    }
    let heard = String::from_utf8_lossy(&heard);
    let good = match slow {
        Slow::Body | Slow::HalfBody => heard.starts_with("HTTP/1.1 408"),
        _ => heard.is_empty(),
    };
    match good {
        true => Ok(()),
        false => Err(format!("a slow client heard {heard:?}")),
    }
}

/// Asks for something large, again and again, and reads nothing until it can say no more: then the server has
/// stopped reading, and lets it go in its time.
async fn deaf(mut stream: TcpStream) -> Result<(), String> {
    let ask = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    let began = Instant::now();
    while let Ok(Ok(())) =
        tokio::time::timeout(Duration::from_secs(3), stream.write_all(&ask)).await
    {
        if began.elapsed() > PATIENCE {
            return Err("who reads no answers is read for ever".to_owned());
        }
    }
    Ok(())
}

pub async fn idle(run: Run) -> Outcome {
    let wanted = run.pick(2_000, 10_000);
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    let fits = usize::try_from(descriptors.saturating_sub(SPARE)).unwrap_or(usize::MAX);
    let many = wanted.min(fits);
    if many < 200 {
        return Outcome::not_run(format!("a process may have {descriptors} files open here"));
    }
    let mut rig = Rig::start(Plan {
        http_extra: format!("max_connections = {many}\nmax_connections_per_ip = 500"),
        ..Plan::default()
    })
    .await;
    let neighbour = Neighbour::start(&rig);
    let rss = rig.rss_mib();
    // More than there are places, from addresses that each keep to their share: the house is full, and the
    // neighbour still comes in by new connections.
    let mut held = Vec::new();
    let mut faults = Vec::new();
    for n in 0..many + many / 10 {
        let source = attacker(n % 40);
        match connect_from(&rig.address, source).await {
            Ok(mut stream) => {
                // Asked once and answered, a connection may rest.
                let asked = stream.write_all(ASK).await;
                held.extend(asked.is_ok().then_some(stream));
            }
            Err(error) => faults.push(format!("connection {n}: {error}")),
        }
    }
    let mut most = 0.0;
    let end = Instant::now() + Duration::from_secs(run.pick(2, 20) as u64);
    while Instant::now() < end {
        let open = rig.metric(&["heliograph_http_connections "]).await;
        most = f64::max(most, open);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if most < many as f64 * 0.4 || most > many as f64 {
        faults.push(format!("{most} connections were open, of {many} places"));
    }
    let grown = rig.rss_mib().saturating_sub(rss);
    if grown > 64 + many as u64 * KIB_EACH / 1024 {
        faults.push(format!("it grew by {grown} MiB"));
    }
    let made_room = rig
        .metric(&["heliograph_http_connections_total", "made_room"])
        .await;
    if made_room == 0.0 {
        faults.push("nobody had to make room: the house was never full".to_owned());
    }
    drop(held);
    eventually("places are given back", async || {
        let open = rig.metric(&["heliograph_http_connections "]).await;
        (open < 20.0).then_some(())
    })
    .await;
    let outcome = neighbour.outcome(&mut rig, many, faults).await;
    let scaled = match many < wanted {
        true => format!("scaled to {many}: a process may have {descriptors} files open here; "),
        false => String::new(),
    };
    let note = format!(
        "{scaled}at most {most} open, {grown} MiB more; {}",
        outcome.note
    );
    outcome.noted(note)
}

pub async fn floods(run: Run) -> Outcome {
    let per_ip = 100;
    let mut rig = Rig::start(Plan {
        http_extra: format!("max_connections_per_ip = {per_ip}"),
        ..Plan::default()
    })
    .await;
    let neighbour = Neighbour::start(&rig);
    let rss = rig.rss_mib();
    let end = Instant::now() + Duration::from_secs(run.pick(2, 20) as u64);
    let mut clients = JoinSet::new();
    for n in 0..16 {
        let address = rig.address.clone();
        clients.spawn(async move { flood(&address, n, end).await });
    }
    // One address that wants more than its share.
    let mut held = Vec::new();
    for _ in 0..per_ip * 3 {
        held.extend(connect_from(&rig.address, attacker(100)).await.ok());
    }
    let mut faults = Vec::new();
    let mut turned_away = 0;
    for mut stream in held {
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        match tokio::time::timeout(PATIENCE, read).await {
            Err(_) => faults.push("a silent connection was kept".to_owned()),
            Ok(_) => turned_away += usize::from(said.starts_with(b"HTTP/1.1 503")),
        }
    }
    let refused = rig
        .metric(&["heliograph_http_connections_total", "refused_per_ip"])
        .await;
    if refused < (per_ip * 2) as f64 {
        faults.push(format!("only {refused} were one too many of their address"));
    }
    let mut answered = 0;
    while let Some(ended) = clients.join_next().await {
        answered += ended.expect("a client that does not panic");
    }
    let grown = rig.rss_mib().saturating_sub(rss);
    if grown > 128 {
        faults.push(format!("it grew by {grown} MiB"));
    }
    if answered == 0 {
        faults.push("the flood was not even read".to_owned());
    }
    let outcome = neighbour.outcome(&mut rig, answered, faults).await;
    let note = format!(
        "{answered} requests of the flood answered, {turned_away} connections told 503; {}",
        outcome.note
    );
    outcome.noted(note)
}

/// As fast as it goes: requests in a row without a key, with a bad one, and octets that are none. How many answers.
async fn flood(address: &str, n: usize, end: Instant) -> usize {
    let keyless: &[u8] = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let wrong: &[u8] = b"GET /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer hg_0000000000000000000000\r\n\r\n";
    let burst = match n % 4 {
        0 => ASK.repeat(50),
        1 => keyless.repeat(50),
        2 => wrong.repeat(50),
        _ => vec![0x16, 3, 1, 0, 0xFF, b'\r', b'\n', b'\r', b'\n'],
    };
    let mut answers = 0;
    while Instant::now() < end {
        let Ok(stream) = connect_from(address, attacker(n)).await else {
            continue;
        };
        let (mut reader, mut writer) = stream.into_split();
        let say = async { while Instant::now() < end && writer.write_all(&burst).await.is_ok() {} };
        let hear = async {
            let mut chunk = vec![0; 64 << 10];
            while let Ok(read @ 1..) = reader.read(&mut chunk).await {
                let text = &chunk[..read];
                answers += text.windows(9).filter(|w| w == b"HTTP/1.1 ").count();
                if Instant::now() >= end {
                    break;
                }
            }
        };
        tokio::select! {
            () = say => {}
            () = hear => {}
        }
    }
    answers
}
