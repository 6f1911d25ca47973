//! What goes over the wire, recorded and judged by a dissector that is not ours: a TCP proxy that
//! writes a packet capture, one PDU a packet, and tshark that reads it. Understands nothing of a PDU
//! but its length.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;

/// The port that the capture shows for whom was connected to: the one by which SMPP is known.
const SMSC_PORT: u16 = 2775;
/// Payload of one packet at most: an IPv4 packet has a 16-bit length.
const PACKET_MAX: usize = 60_000;

/// A recording proxy in front of `target`.
pub struct Capture {
    address: String,
    file: PathBuf,
    recorded: Arc<Mutex<Pcap>>,
    task: JoinHandle<()>,
}

impl Capture {
    pub async fn start(target: &str, file: &Path) -> Capture {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let recorded = Arc::new(Mutex::new(Pcap::default()));
        let task = tokio::spawn(accept(listener, target.to_owned(), Arc::clone(&recorded)));
        Capture {
            address,
            file: file.to_owned(),
            recorded,
            task,
        }
    }

    /// Connect here in place of the target.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn port(&self) -> u16 {
        let port = self.address.rsplit(':').next().and_then(|p| p.parse().ok());
        port.expect("a port")
    }

    /// Writes what was recorded so far, has tshark read it, and fails where it finds fault. Returns
    /// every PDU as tshark decoded it.
    pub async fn judge(self) -> Vec<Seen> {
        self.task.abort();
        let (octets, pdus) = {
            // Peers may go on talking.
            let recorded = self.recorded.lock().expect("the recording");
            (recorded.file(), recorded.pdus)
        };
        std::fs::write(&self.file, octets).expect("the capture file");
        let faults = tshark(
            &self.file,
            // Warnings and errors of the dissector, not its notes (PI_WARN, PI_ERROR).
            "_ws.malformed || _ws.expert.severity == \"Error\" || _ws.expert.severity == \"Warning\"",
            &["frame.number", "_ws.col.Info", "_ws.expert.message"],
        )
        .await;
        assert!(faults.is_empty(), "tshark finds fault: {faults:#?}");
        let fields = [
            "tcp.dstport",
            "smpp.command_id",
            "smpp.command_status",
            "smpp.sequence_number",
            "smpp.data_coding",
            "smpp.message_id",
            "smpp.esm.submit.msg_type",
            "smpp.opt_param_tag",
        ];
        let rows = tshark(&self.file, "smpp", &fields).await;
        let seen: Vec<Seen> = rows.iter().map(|row| Seen::of(row)).collect();
        assert_eq!(seen.len(), pdus, "tshark sees as many PDUs as there were");
        seen
    }
}

/// One PDU, as tshark decoded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Sent by whoever connected.
    pub from_client: bool,
    pub command_id: u32,
    pub command_status: Option<u32>,
    pub sequence_number: u32,
    pub data_coding: Option<u32>,
    pub message_id: Option<String>,
    pub tags: Vec<u32>,
}

impl Seen {
    fn of(row: &[String]) -> Seen {
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        Seen {
            from_client: number(&row[0]) == Some(u32::from(SMSC_PORT)),
            command_id: number(&row[1]).expect("a command_id"),
            command_status: number(&row[2]),
            sequence_number: number(&row[3]).expect("a sequence_number"),
            data_coding: number(&row[4]),
            message_id: Some(row[5].clone()).filter(|id| !id.is_empty()),
            tags: row[7].split(',').filter_map(number).collect(),
        }
    }
}

/// Those with that command_id.
pub fn of_command(seen: &[Seen], command_id: u32) -> Vec<&Seen> {
    seen.iter().filter(|s| s.command_id == command_id).collect()
}

/// Fields of the packets that match.
async fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(["-Y", filter, "-T", "fields"]);
    command.args(["-E", "separator=/t", "-E", "occurrence=a"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().await.expect("tshark runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {errors}");
    let rows = String::from_utf8_lossy(&output.stdout).into_owned();
    rows.lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

async fn accept(listener: TcpListener, target: String, recorded: Arc<Mutex<Pcap>>) {
    let mut client_port = 40_000;
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&target).await else {
            continue;
        };
        let connection = Arc::new(Mutex::new(Sequence::default()));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        client_port += 1;
        for (from, to, outward) in [
            (from_client, to_server, true),
            (from_server, to_client, false),
        ] {
            let side = Side {
                recorded: Arc::clone(&recorded),
                connection: Arc::clone(&connection),
                client_port,
                outward,
            };
            tokio::spawn(pump(from, to, side));
        }
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, side: Side) {
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        buffer.extend_from_slice(&chunk[..read]);
        side.record(&mut buffer, read == 0);
        if read == 0 || to.write_all(&chunk[..read]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// Octets sent so far, each way.
#[derive(Default)]
struct Sequence {
    client: u32,
    server: u32,
}

struct Side {
    recorded: Arc<Mutex<Pcap>>,
    connection: Arc<Mutex<Sequence>>,
    client_port: u16,
    outward: bool,
}

impl Side {
    /// Takes whole PDUs out of `buffer`; at the end, or where the length cannot be, all of it.
    fn record(&self, buffer: &mut Vec<u8>, end: bool) {
        loop {
            let length = buffer
                .first_chunk()
                .map(|l| u32::from_be_bytes(*l) as usize);
            let whole = match length {
                Some(length) if (16..=65_536).contains(&length) => {
                    (buffer.len() >= length).then_some(length)
                }
                Some(_) => Some(buffer.len()),
                None => None,
            };
            let Some(length) =
                whole.or_else(|| (end && !buffer.is_empty()).then_some(buffer.len()))
            else {
                return;
            };
            let pdu: Vec<u8> = buffer.drain(..length).collect();
            let mut connection = self.connection.lock().expect("the connection");
            let mut recorded = self.recorded.lock().expect("the recording");
            recorded.pdus += 1;
            for part in pdu.chunks(PACKET_MAX) {
                recorded.packet(self.client_port, self.outward, &connection, part);
                let sent = if self.outward {
                    &mut connection.client
                } else {
                    &mut connection.server
                };
                *sent += part.len() as u32;
            }
        }
    }
}

/// Packets in the format that all capture tools read: https://www.tcpdump.org/manpages/pcap-savefile.5.html
#[derive(Default)]
struct Pcap {
    packets: Vec<u8>,
    pdus: usize,
}

impl Pcap {
    fn file(&self) -> Vec<u8> {
        let mut file = Vec::with_capacity(24 + self.packets.len());
        file.extend_from_slice(&0xA1B2_C3D4_u32.to_le_bytes());
        file.extend_from_slice(&2_u16.to_le_bytes());
        file.extend_from_slice(&4_u16.to_le_bytes());
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(&262_144_u32.to_le_bytes());
        // LINKTYPE_RAW: a packet begins with its IP header.
        file.extend_from_slice(&101_u32.to_le_bytes());
        file.extend_from_slice(&self.packets);
        file
    }

    /// One TCP segment with `payload`, from 127.0.0.1 to 127.0.0.2 or back.
    fn packet(&mut self, client_port: u16, outward: bool, at: &Sequence, payload: &[u8]) {
        let (from, to, ports, sequence, acknowledged) = if outward {
            (1, 2, (client_port, SMSC_PORT), at.client, at.server)
        } else {
            (2, 1, (SMSC_PORT, client_port), at.server, at.client)
        };
        let length = (40 + payload.len()) as u16;
        let mut packet = Vec::with_capacity(usize::from(length));
        // IPv4 without options; time to live 64, protocol TCP. Checksums stay 0: nobody checks them.
        packet.extend_from_slice(&[0x45, 0]);
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, from, 127, 0, 0, to]);
        packet.extend_from_slice(&ports.0.to_be_bytes());
        packet.extend_from_slice(&ports.1.to_be_bytes());
        packet.extend_from_slice(&(1 + sequence).to_be_bytes());
        packet.extend_from_slice(&(1 + acknowledged).to_be_bytes());
        // A header of five words; PSH and ACK; a window; no checksum, nothing urgent.
        packet.extend_from_slice(&[0x50, 0x18, 0xFF, 0xFF, 0, 0, 0, 0]);
        packet.extend_from_slice(payload);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        for word in [
            now.as_secs() as u32,
            now.subsec_micros(),
            packet.len() as u32,
            packet.len() as u32,
        ] {
            self.packets.extend_from_slice(&word.to_le_bytes());
        }
        self.packets.extend_from_slice(&packet);
    }
}
