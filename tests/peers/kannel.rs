//! Kannel's boxes as an ESME: messages go in over smsbox's HTTP and out over bearerbox's SMPP, receipts
//! and texts from handsets come back the same way.

use std::path::Path;
use std::sync::{Arc, Mutex};

use heliograph::carrier::simulator::{Mo, Settings};
use heliograph_tests::capture::of_command;
use heliograph_tests::{eventually, free_address, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::{Recorded, without};

/// The boxes, and what Kannel tells the application.
pub struct Kannel {
    sendsms: String,
    told: Arc<Mutex<Vec<String>>>,
    hook: String,
    _boxes: [Child; 2],
}

impl Kannel {
    /// Binds to `port` as `system_id`, whose password is `secret`.
    pub async fn start(dir: &Path, port: u16, system_id: &str) -> Kannel {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hook = application(Arc::clone(&told)).await;
        let mut ports = Vec::new();
        for _ in 0..3 {
            let address = free_address().await;
            ports.push(address.rsplit(':').next().expect("a port").to_owned());
        }
        let [admin, smsbox, sendsms] = ports.try_into().expect("three ports");
        let folder = dir.display();
        let text = format!(
            r#"
group = core
admin-port = {admin}
admin-password = bar
admin-interface = 127.0.0.1
smsbox-port = {smsbox}
smsbox-interface = 127.0.0.1
box-allow-ip = "127.0.0.1"
log-file = "{folder}/bearerbox.log"
log-level = 0
dlr-storage = internal
store-type = file
store-location = "{folder}/store"

group = smsc
smsc = smpp
smsc-id = heliograph
host = 127.0.0.1
port = {port}
transceiver-mode = true
smsc-username = {system_id}
smsc-password = secret
system-type = ""
address-range = ""
source-addr-ton = 5
source-addr-npi = 0
dest-addr-ton = 1
dest-addr-npi = 1
source-addr-autodetect = false
enquire-link-interval = 1
reconnect-delay = 1

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
log-file = "{folder}/smsbox.log"
log-level = 0

group = sendsms-user
username = tester
password = foobar
max-messages = 10
concatenation = true

group = sms-service
keyword = default
catch-all = true
max-messages = 0
get-url = "http://{hook}/mo?from=%p&to=%P&text=%a&coding=%c"
"#
        );
        let file = dir.join("kannel.conf");
        std::fs::write(&file, text).expect("the configuration");
        let bearerbox = start("bearerbox", &file);
        eventually("bearerbox serves", async || {
            tokio::net::TcpStream::connect(format!("127.0.0.1:{smsbox}"))
                .await
                .ok()
        })
        .await;
        let kannel = Kannel {
            sendsms: format!("127.0.0.1:{sendsms}"),
            told,
            hook,
            _boxes: [bearerbox, start("smsbox", &file)],
        };
        eventually("smsbox serves", async || {
            tokio::net::TcpStream::connect(&kannel.sendsms).await.ok()
        })
        .await;
        // What comes before both boxes know each other, and the SMSC, has no answer.
        eventually("Kannel is bound", async || {
            let (at, path) = (format!("127.0.0.1:{admin}"), "/status.txt?password=bar");
            let (_, _, status) = http(&at, "GET", path, None, &[]).await.ok()?;
            let status = String::from_utf8_lossy(&status).into_owned();
            (status.contains("smsbox:") && status.contains("(online ")).then_some(())
        })
        .await;
        kannel
    }

    /// Sends a text, and asks for every kind of receipt; `more` are further parameters.
    pub async fn send(&self, name: &str, text: &str, more: &str) {
        let callback = format!("http://{}/dlr?of={name}&type=%d&id=%F", self.hook);
        let path = format!(
            "/cgi-bin/sendsms?username=tester&password=foobar&from=Acme&to=447700900123\
             &charset=UTF-8&text={}&dlr-mask=31&dlr-url={}{more}",
            escaped(text),
            escaped(&callback)
        );
        let (status, _, body) = http(&self.sendsms, "GET", &path, None, &[])
            .await
            .expect("an answer of smsbox");
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(status == 202, "{status} {body}");
    }

    /// Waits until the application is told of something with all those words.
    pub async fn tells(&self, words: &[&str]) -> String {
        eventually(&format!("Kannel tells {words:?}"), async || {
            let told = self.told.lock().expect("what was told").clone();
            told.into_iter()
                .find(|line| words.iter().all(|w| line.contains(w)))
        })
        .await
    }
}

fn start(program: &str, file: &Path) -> Child {
    Command::new(program)
        .arg("-v")
        .arg("4")
        .arg(file)
        .env(
            "PATH",
            format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()),
        )
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| {
            panic!("{program}: {e}: run `make peers`, or name kannel in HELIOGRAPH_WITHOUT_PEERS")
        })
}

/// An application that notes the first line of every request.
async fn application(told: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read_buf(&mut request).await {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    }
                }
                let line = String::from_utf8_lossy(&request);
                let line = line.lines().next().unwrap_or_default().to_owned();
                told.lock().expect("what was told").push(line);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    address
}

/// Percent-encoding of all but letters and digits (RFC 3986, 2.1).
fn escaped(text: &str) -> String {
    let octet = |b: u8| match b.is_ascii_alphanumeric() {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(octet).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn kannel_sends_is_confirmed_and_receives() {
    if without(&["kannel", "tshark"]) {
        return;
    }
    let recorded = Recorded::start(Settings {
        binds: vec!["kannel:secret".parse().expect("credentials")],
        receipt_delay_ms: 300,
        rules: vec!["447700900999=UNDELIV:001".parse().expect("a rule")],
        ..Settings::default()
    })
    .await;
    let port = recorded.capture.port();
    let kannel = Kannel::start(recorded.dir.path(), port, "kannel").await;
    let long: String = ('a'..='z').cycle().take(300).collect();
    kannel.send("gsm", "5 € {é} @", "").await;
    kannel.send("ucs2", "Привет", "&coding=2").await;
    kannel.send("long", &long, "").await;
    for name in ["gsm", "ucs2", "long"] {
        let of = format!("of={name}&");
        kannel.tells(&["/dlr?", &of, "type=8"]).await;
        kannel.tells(&["/dlr?", &of, "type=1&"]).await;
    }
    let received = recorded.simulator.received(0, 100);
    let said: Vec<&str> = received.iter().filter_map(|r| r.text.as_deref()).collect();
    assert!(
        said.contains(&"5 € {é} @") && said.contains(&"Привет"),
        "{said:?}"
    );
    let mut parts: Vec<_> = received.iter().filter(|r| r.concat.is_some()).collect();
    parts.sort_by_key(|p| p.concat.map(|c| c.index));
    let whole: String = parts.iter().filter_map(|p| p.text.clone()).collect();
    assert_eq!(whole, long);
    assert!(
        received
            .iter()
            .all(|r| r.source_addr == "Acme" && r.source_addr_ton == 5)
    );

    let mo = Mo {
        from: "+447700900123".to_owned(),
        to: "60777".to_owned(),
        text: "hello 5".to_owned(),
        ..Mo::default()
    };
    recorded.simulator.inject(&mo).expect("a bound ESME");
    kannel
        .tells(&["/mo?", "447700900123", "60777", "hello+5"])
        .await;
    eventually("Kannel takes the text", async || {
        (recorded.simulator.counters().mo_acked == 1).then_some(())
    })
    .await;
    eventually("Kannel enquires", async || {
        (recorded.simulator.counters().enquire_links > 0).then_some(())
    })
    .await;

    let seen = recorded.capture.judge().await;
    assert_eq!(of_command(&seen, 0x09).len(), 1, "one bind_transceiver");
    assert_eq!(of_command(&seen, 0x04).len(), received.len());
    let ids: Vec<_> = of_command(&seen, 0x8000_0004)
        .iter()
        .filter_map(|s| s.message_id.clone())
        .collect();
    assert!(received.iter().all(|r| ids.contains(&r.message_id)));
}
