//! Webhook targets that lead into the server's own machine or network, however they are written: none is called.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{HANDSET, Neighbour};
use crate::prove::{Outcome, Run};
use crate::{Plan, Rig, eventually, sms};

/// A listener that counts who comes, and sends everybody on where it is told to.
struct Trap {
    port: u16,
    visits: Arc<AtomicUsize>,
}

impl Trap {
    async fn on(address: &str, location: Option<String>) -> Option<Trap> {
        let listener = TcpListener::bind(address).await.ok()?;
        let port = listener.local_addr().ok()?.port();
        let visits = Arc::new(AtomicUsize::new(0));
        let count = visits.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let n = count.fetch_add(1, Relaxed);
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let status = [301, 302, 303, 307, 308][n % 5];
                let answer = match &location {
                    Some(to) => format!(
                        "HTTP/1.1 {status} Elsewhere\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    ),
                    None => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                        .to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Some(Trap { port, visits })
    }

    fn visits(&self) -> usize {
        self.visits.load(Relaxed)
    }
}

/// Ways to write this machine and its networks.
fn hosts() -> Vec<String> {
    let own = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let mut hosts: Vec<String> = [
        "127.0.0.1",
        "127.0.0.1.",
        "127.255.255.254",
        // Decimal, octal, hexadecimal and short, as inet_aton(3) reads them.
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "0",
        "0.0.0.0",
        "localhost",
        "LocalHost.",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25lo]",
        "[fc00::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "2852039166",
        "224.0.0.1",
        "255.255.255.255",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "\u{24db}ocalhost",
        "example.com@127.0.0.1",
        "127.0.0.1%2f@example.com",
        "127.0.0.1\\@example.com",
    ]
    .map(str::to_owned)
    .to_vec();
    hosts.extend(Some(own.trim().to_owned()).filter(|name| !name.is_empty()));
    hosts
}

pub async fn private(run: Run) -> Outcome {
    let mut rig = Rig::start(Plan {
        webhooks_private: false,
        ..Plan::default()
    })
    .await;
    let neighbour = Neighbour::start(&rig);
    let v4 = Trap::on("0.0.0.0:0", None).await.expect("a port");
    // The same port of IPv6, where there is any.
    let v6 = Trap::on(&format!("[::1]:{}", v4.port), None).await;
    let mut faults = Vec::new();
    let hosts = hosts();
    let rounds = run.pick(1, 5);
    let (mut taken, mut refused) = (0, 0);
    for host in hosts.iter().cycle().take(hosts.len() * rounds) {
        let mut body = sms(HANDSET, "told to a trap");
        body["receipt_url"] = json!(format!("http://{host}:{}/hook", v4.port));
        match rig.call("POST", "/v1/messages", Some(body)).await {
            (202, _) => taken += 1,
            (400, problem) if problem["errors"][0]["pointer"] == "/receipt_url" => refused += 1,
            (status, problem) => faults.push(format!("{host}: {status} {problem}")),
        }
    }
    // Every attempt ends at its target's address, and is told with its event's id.
    let told = eventually("every webhook is tried", async || {
        let log = rig.log();
        let lines = log
            .lines()
            .filter(|l| l.contains("a webhook was not taken"));
        let told: BTreeSet<String> = lines
            .filter_map(|line| Some(line.split_once("event=")?.1.split(' ').next()?.to_owned()))
            .collect();
        (told.len() >= taken).then_some(told)
    })
    .await;
    let called = v4.visits() + v6.as_ref().map_or(0, Trap::visits);
    if called > 0 {
        faults.push(format!("private targets were called {called} times"));
    }
    let outcome = neighbour
        .outcome(&mut rig, hosts.len() * rounds, faults)
        .await;
    let followed = redirects().await;
    let note = format!(
        "{refused} refused at once, {} never called; {}",
        told.len(),
        outcome.note
    );
    outcome.with_faults(followed).noted(note)
}

/// A target that is called, and sends on into the network, is not followed.
async fn redirects() -> Vec<String> {
    let rig = Rig::start(Plan::default()).await;
    let trap = Trap::on("127.0.0.1:0", None).await.expect("a port");
    let inside = format!("http://127.0.0.1:{}/inside", trap.port);
    let door = Trap::on("127.0.0.1:0", Some(inside)).await.expect("a port");
    for _ in 0..5 {
        let mut body = sms(HANDSET, "told to who sends on");
        body["receipt_url"] = json!(format!("http://127.0.0.1:{}/hook", door.port));
        rig.submit(body).await;
    }
    eventually("every kind of redirect is told as a failure", async || {
        let failed = rig.log().matches("a webhook was not taken").count();
        (failed >= 5 && door.visits() >= 5).then_some(())
    })
    .await;
    match trap.visits() {
        0 => Vec::new(),
        n => vec![format!("{n} redirects were followed")],
    }
}
