//! Peers that we did not write: smpplib, node's smpp and Kannel talk to us over recorded sockets, and
//! Wireshark's dissector judges every octet. `make peers` installs them.
//!
//! A peer that is missing fails its tests, unless HELIOGRAPH_WITHOUT_PEERS names it.

mod carriers;
mod kannel;
mod server;
mod simulator;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use heliograph::carrier::simulator::{Settings, Simulator};
use heliograph::clock::Clock;
use heliograph_tests::binary;
use heliograph_tests::capture::Capture;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a peer's whole conversation may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Whether the tests are to go without one of `peers`; says so where they are.
fn without(peers: &[&str]) -> bool {
    let named = std::env::var("HELIOGRAPH_WITHOUT_PEERS").unwrap_or_default();
    let gone = named.split(',').find(|n| peers.contains(&n.trim()));
    if let Some(peer) = gone {
        eprintln!("SKIPPED: HELIOGRAPH_WITHOUT_PEERS names {peer}");
    }
    gone.is_some()
}

/// Where `make peers` puts what it installs.
fn installed(what: &str) -> PathBuf {
    let target = binary().parent().and_then(Path::parent).map(Path::to_owned);
    let path = target.expect("the target folder").join("peers").join(what);
    assert!(
        path.exists(),
        "{} is missing: run `make peers`, or name the peer in HELIOGRAPH_WITHOUT_PEERS",
        path.display()
    );
    path
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
}

fn python(name: &str) -> Command {
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(script(name));
    command
}

fn node(name: &str) -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed("node_modules"));
    command.arg(script(name));
    command
}

/// Runs a peer to its end: the JSON that it printed.
async fn conversation(mut peer: Command) -> Value {
    peer.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, peer.output()).await;
    let output = output.expect("the peer ends").expect("the peer runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the peer failed: {errors}");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {:?}: {errors}", output.stdout))
}

/// A peer that runs on, and prints a line of JSON for what happens to it.
struct Running {
    lines: Lines<BufReader<ChildStdout>>,
    input: ChildStdin,
    _child: Child,
}

impl Running {
    fn start(mut peer: Command) -> Running {
        peer.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = peer.kill_on_drop(true).spawn().expect("the peer runs");
        Running {
            lines: BufReader::new(child.stdout.take().expect("its output")).lines(),
            input: child.stdin.take().expect("its input"),
            _child: child,
        }
    }

    /// The next line that has the field `name`.
    async fn hear(&mut self, name: &str) -> Value {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
            let line = line
                .unwrap_or_else(|_| panic!("the peer never said {name}"))
                .expect("its output")
                .unwrap_or_else(|| panic!("the peer ended before it said {name}"));
            let value: Value = serde_json::from_str(&line).expect("JSON");
            assert!(value.get("error").is_none(), "the peer failed: {value}");
            if value.get(name).is_some() {
                return value;
            }
        }
    }

    async fn say(&mut self, value: Value) {
        let line = format!("{value}\n");
        self.input.write_all(line.as_bytes()).await.expect("a peer");
    }
}

/// A simulator behind a recording proxy.
struct Recorded {
    dir: TempDir,
    simulator: Simulator,
    capture: Capture,
}

impl Recorded {
    async fn start(settings: Settings) -> Recorded {
        let dir = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let simulator =
            Simulator::start(settings, Clock::system(), listener, None).expect("a simulator");
        let target = simulator.address().to_string();
        let capture = Capture::start(&target, &dir.path().join("smpp.pcap")).await;
        Recorded {
            dir,
            simulator,
            capture,
        }
    }
}

/// The value of a capture's field, by `name`, in the object that a peer printed.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}
