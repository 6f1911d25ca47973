//! Stand-ins for HTTP providers: small servers that answer as the providers' public pages say, and
//! misbehave when they are told to. This file is the server; each provider beside it is its manners.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use heliograph_tests::Rig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub mod infobip;
pub mod kannel;
pub mod twilio;
pub mod vonage;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, v)| v.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Fields of the query and of a form.
    pub fn fields(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, q)| q);
        let form = if self
            .header("content-type")
            .starts_with("application/x-www-form-urlencoded")
        {
            &self.body
        } else {
            ""
        };
        [query, form]
            .iter()
            .flat_map(|text| text.split('&'))
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decoded(name), decoded(value))
            })
            .collect()
    }

    pub fn field(&self, name: &str) -> String {
        let found = self.fields().into_iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v).unwrap_or_default()
    }
}

pub fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        out.push(match octet {
            b'+' => b' ',
            b'%' => {
                let pair = [
                    octets.next().expect("two digits"),
                    octets.next().expect("two digits"),
                ];
                let pair = std::str::from_utf8(&pair).expect("hexadecimal");
                u8::from_str_radix(pair, 16).expect("hexadecimal")
            }
            other => other,
        });
    }
    String::from_utf8(out).expect("UTF-8")
}

/// `application/x-www-form-urlencoded`.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, octet| {
        if octet.is_ascii_alphanumeric() || b"-._*".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
        out
    })
}

/// What a provider answers, or does instead.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Takes the request and says nothing.
    Silence,
    /// Promises more than it sends, and hangs up.
    CutOff(String),
    /// Octets that are no HTTP.
    Garbage,
}

impl Reply {
    pub fn json(status: u16, body: &serde_json::Value) -> Reply {
        Reply::Answer {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string(),
        }
    }

    pub fn text(status: u16, body: &str) -> Reply {
        Reply::Answer {
            status,
            headers: vec![("content-type", "text/plain".to_owned())],
            body: body.to_owned(),
        }
    }
}

/// How a provider answers a sound request: by the request and how many came before it.
pub type Manners = fn(&Seen, usize) -> Reply;

pub struct Provider {
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    instead: Arc<Mutex<VecDeque<Reply>>>,
}

impl Provider {
    pub async fn start(manners: Manners) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let provider = Provider {
            address: listener.local_addr().expect("an address").to_string(),
            seen: Arc::default(),
            instead: Arc::default(),
        };
        let (seen, instead) = (provider.seen.clone(), provider.instead.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, instead) = (seen.clone(), instead.clone());
                tokio::spawn(serve(stream, manners, seen, instead));
            }
        });
        provider
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("the list").clone()
    }

    /// The next requests are answered so.
    pub fn instead(&self, replies: impl IntoIterator<Item = Reply>) {
        self.instead.lock().expect("the list").extend(replies);
    }
}

async fn serve(
    mut stream: TcpStream,
    manners: Manners,
    seen: Arc<Mutex<Vec<Seen>>>,
    instead: Arc<Mutex<VecDeque<Reply>>>,
) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let before = {
        let mut seen = seen.lock().expect("the list");
        seen.push(request.clone());
        seen.len() - 1
    };
    let scripted = instead.lock().expect("the list").pop_front();
    let octets = match scripted.unwrap_or_else(|| manners(&request, before)) {
        Reply::Answer {
            status,
            headers,
            body,
        } => {
            let mut head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n",
                body.len()
            );
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            format!("{head}\r\n{body}")
        }
        Reply::Silence => {
            // Until the other side gives up.
            let _ = stream.read(&mut [0; 16]).await;
            return;
        }
        Reply::CutOff(body) => {
            format!(
                "HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{body}",
                body.len() + 100
            )
        }
        Reply::Garbage => "\u{0}\u{1}not HTTP at all\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(octets.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut octets = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let end = octets.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8(octets[..end].to_vec()).expect("ASCII");
            let mut lines = head.split("\r\n");
            let mut first = lines.next()?.split(' ');
            let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
                .collect();
            let length = headers.iter().find(|(n, _)| n == "content-length");
            let length: usize = length.map_or(0, |(_, v)| v.parse().expect("a length"));
            while octets.len() < end + 4 + length {
                let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
                octets.extend_from_slice(&chunk[..n]);
            }
            let body = String::from_utf8(octets[end + 4..].to_vec()).expect("UTF-8");
            return Some(Seen {
                method,
                target,
                headers,
                body,
            });
        }
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        octets.extend_from_slice(&chunk[..n]);
    }
}

/// A provider's call-back to us; the status and the body of our answer.
pub async fn call_back(
    rig: &Rig,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let body = (method == "POST").then(|| body.as_bytes().to_vec());
    let answer = heliograph_tests::http(&rig.address, method, target, body, headers).await;
    let (status, _, octets) = answer.unwrap_or_else(|e| rig.fail(&e));
    (status, String::from_utf8_lossy(&octets).into_owned())
}
