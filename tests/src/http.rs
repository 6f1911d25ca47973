//! Plain HTTP/1.1: the client of the rig, one connection at a time, and a webhook target that keeps
//! what it gets. Knows no route of the server.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heliograph::clock::Clock;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{PATIENCE, WEBHOOK_SECRET};

/// What came back: status, headers, body.
pub type Answer = (u16, hyper::HeaderMap, Bytes);

/// One connection that is kept for many requests.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    pub async fn open(address: &str) -> Result<Connection, String> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|e| e.to_string())?;
        Connection::over(stream, address).await
    }

    /// On a connection that somebody else made.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        host: &str,
    ) -> Result<Connection, String> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            host: host.to_owned(),
        })
    }

    /// One exchange; a body without a type is JSON.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host);
        let typed = headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("content-type"));
        if body.is_some() && !typed {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| e.to_string())?;
        let exchange = async {
            let response = self
                .sender
                .send_request(request)
                .await
                .map_err(|e| e.to_string())?;
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            Ok((parts.status.as_u16(), parts.headers, bytes))
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| "no answer".to_owned())?
    }
}

/// One exchange on a connection of its own.
pub async fn http(
    address: &str,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
    headers: &[(&str, &str)],
) -> Result<Answer, String> {
    Connection::open(address)
        .await?
        .call(method, path, body, headers)
        .await
}

/// Writes octets as they are; all that comes back until the server hangs up, by a reset or in order.
pub async fn exchange(mut stream: TcpStream, octets: &[u8]) -> String {
    let (mut reader, mut writer) = stream.split();
    let mut heard = Vec::new();
    // Who is refused early does not take the rest.
    let (_, read) = tokio::join!(
        writer.write_all(octets),
        tokio::time::timeout(PATIENCE, reader.read_to_end(&mut heard))
    );
    let _ = read.expect("the server hangs up");
    String::from_utf8_lossy(&heard).into_owned()
}

/// One webhook as it arrived.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Hook {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, v)| v.as_str())
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// Whether it is signed with the rig's secret, as Standard Webhooks says.
    pub fn is_signed(&self) -> bool {
        let secret = STANDARD.decode(WEBHOOK_SECRET).expect("base64");
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).expect("a key of any length");
        mac.update(format!("{}.{}.", self.id(), self.header("webhook-timestamp")).as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.header("webhook-signature")
            .split(' ')
            .any(|s| s == expected)
    }
}

/// A webhook target (or any HTTP target) that keeps what it gets and answers as it is told.
pub struct Webhooks {
    address: String,
    received: Arc<Mutex<Vec<Hook>>>,
    answers: Arc<Mutex<Answers>>,
}

#[derive(Default)]
struct Answers {
    /// Statuses of the next answers; 200 after them.
    statuses: Vec<u16>,
    /// JSON of every answer.
    body: String,
}

impl Webhooks {
    pub async fn start() -> Webhooks {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let webhooks = Webhooks {
            address: listener.local_addr().expect("an address").to_string(),
            received: Arc::default(),
            answers: Arc::default(),
        };
        let (received, answers) = (webhooks.received.clone(), webhooks.answers.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (received, answers) = (received.clone(), answers.clone());
                let service =
                    service_fn(move |request| take(request, received.clone(), answers.clone()));
                let served = hyper::server::conn::http1::Builder::new();
                tokio::spawn(served.serve_connection(TokioIo::new(stream), service));
            }
        });
        webhooks
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn url(&self) -> String {
        format!("{}/hook", self.origin())
    }

    pub fn received(&self) -> Vec<Hook> {
        self.received.lock().expect("the list").clone()
    }

    /// Those of one type, such as `message.delivered`.
    pub fn of_type(&self, kind: &str) -> Vec<Hook> {
        self.received()
            .into_iter()
            .filter(|h| h.json()["type"] == kind)
            .collect()
    }

    pub fn answer_next(&self, statuses: &[u16]) {
        self.answers
            .lock()
            .expect("the answers")
            .statuses
            .extend(statuses);
    }

    /// Answers with `body` from now on.
    pub fn answer_with(&self, body: &Value) {
        self.answers.lock().expect("the answers").body = body.to_string();
    }
}

async fn take(
    request: hyper::Request<Incoming>,
    received: Arc<Mutex<Vec<Hook>>>,
    answers: Arc<Mutex<Answers>>,
) -> Result<hyper::Response<Full<Bytes>>, hyper::Error> {
    let text = |v: &hyper::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let headers = request
        .headers()
        .iter()
        .map(|(n, v)| (n.to_string(), text(v)))
        .collect();
    let body = request.into_body().collect().await?.to_bytes();
    received.lock().expect("the list").push(Hook {
        at: Clock::system().now().0,
        headers,
        body,
    });
    let mut answers = answers.lock().expect("the answers");
    let more = !answers.statuses.is_empty();
    let status = if more {
        answers.statuses.remove(0)
    } else {
        200
    };
    let mut response = hyper::Response::new(Full::new(Bytes::from(answers.body.clone())));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
    Ok(response)
}
