//! HTTP for plugins (and for whoever else must call a host that a user named): allow-list, secrets,
//! and a client that judges the address it connects to rather than the name it was given. Knows no
//! plugin and no WIT.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::{Method, Request, Uri, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service;

use super::addresses::is_public;
use super::host_calls::{HttpAnswer, HttpClient, HttpFailure, HttpLimits};
use super::{HttpRequest, HttpResponse};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_PER_HOST: usize = 32;
const HEADERS_MAX: usize = 64;
const URL_BYTES_MAX: usize = 8 << 10;
/// A secret shorter than this is not looked for in answers: it would match by chance.
const REDACTED_BYTES_MIN: usize = 8;

/// Headers that belong to the connection, which is the host's.
const CONNECTION_HEADERS: [&str; 10] = [
    "host",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

type Pooled = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// HTTP/1.1 over TCP or TLS, with kept connections.
pub struct HyperClient {
    public: Pooled,
    private: Pooled,
}

impl HyperClient {
    /// The error says why TLS cannot be used on this machine.
    pub fn new() -> Result<HyperClient, String> {
        Ok(HyperClient {
            public: pooled(false)?,
            private: pooled(true)?,
        })
    }
}

fn pooled(private: bool) -> Result<Pooled, String> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver { private });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http1_max_buf_size(64 << 10)
        .build(connector))
}

impl HttpClient for HyperClient {
    fn send<'a>(&'a self, request: HttpRequest, limits: &'a HttpLimits) -> HttpAnswer<'a> {
        Box::pin(async move {
            let request = prepared(request, limits)?;
            let client = if limits.private {
                &self.private
            } else {
                &self.public
            };
            match tokio::time::timeout(
                limits.timeout,
                exchange(client, request, limits.max_response),
            )
            .await
            {
                Ok(answer) => answer,
                Err(_) => Err(HttpFailure::Timeout),
            }
        })
    }
}

fn prepared(
    request: HttpRequest,
    limits: &HttpLimits,
) -> Result<Request<Full<Bytes>>, HttpFailure> {
    let target = Target::parse(&request.url).map_err(HttpFailure::Denied)?;
    // A literal address is never resolved, so it is judged here.
    if let Some(address) = target.literal()
        && !limits.private
        && !is_public(address)
    {
        return Err(HttpFailure::Denied(format!(
            "{} is no public address",
            target.host
        )));
    }
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| HttpFailure::Denied("the method is no HTTP token".into()))?;
    if request.headers.len() > HEADERS_MAX {
        return Err(HttpFailure::Denied(format!(
            "more than {HEADERS_MAX} headers"
        )));
    }
    let mut builder = Request::builder()
        .method(method)
        .uri(target.uri)
        .version(Version::HTTP_11);
    for (name, value) in &request.headers {
        let lower = name.to_ascii_lowercase();
        if CONNECTION_HEADERS.contains(&lower.as_str()) || lower == "transfer-encoding" {
            return Err(HttpFailure::Denied(format!(
                "the header {lower} is the host's"
            )));
        }
        builder = builder.header(name.as_str(), value.as_str());
    }
    // The text of hyper's error would repeat the value, which may hold a secret.
    builder
        .body(Full::new(Bytes::from(request.body)))
        .map_err(|_| HttpFailure::Denied("a header is malformed".into()))
}

async fn exchange(
    client: &Pooled,
    request: Request<Full<Bytes>>,
    max: usize,
) -> Result<HttpResponse, HttpFailure> {
    let response = client.request(request).await.map_err(|e| failure(&e))?;
    let (head, body) = response.into_parts();
    if body.size_hint().lower() > max as u64 {
        return Err(HttpFailure::TooLarge);
    }
    let body = Limited::new(body, max).collect().await.map_err(|e| {
        if e.downcast_ref::<LengthLimitError>().is_some() {
            HttpFailure::TooLarge
        } else {
            HttpFailure::Other("the answer broke off".into())
        }
    })?;
    let headers = head.headers.iter().take(HEADERS_MAX);
    Ok(HttpResponse {
        status: head.status.as_u16(),
        headers: headers
            .map(|(n, v)| {
                (
                    n.as_str().to_owned(),
                    String::from_utf8_lossy(v.as_bytes()).into_owned(),
                )
            })
            .collect(),
        body: body.to_bytes().to_vec(),
    })
}

fn failure(error: &hyper_util::client::legacy::Error) -> HttpFailure {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return HttpFailure::Denied(io.to_string());
        }
        cause = inner.source();
    }
    if error.is_connect() {
        let mut deepest: &dyn std::error::Error = error;
        while let Some(inner) = deepest.source() {
            deepest = inner;
        }
        return HttpFailure::Connect(deepest.to_string());
    }
    HttpFailure::Other("the connection failed after the request was sent".into())
}

/// Resolves a name and hands on the addresses that may be connected to: what is checked is what is
/// connected to, so a name that changes its answer in between gains nothing.
#[derive(Clone)]
struct Resolver {
    private: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let private = self.private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(allowed(name.as_str(), found, private)?.into_iter())
        })
    }
}

/// Of a resolver's answer, what may be connected to.
fn allowed(name: &str, found: Vec<SocketAddr>, private: bool) -> io::Result<Vec<SocketAddr>> {
    let any = !found.is_empty();
    let allowed: Vec<SocketAddr> = found
        .into_iter()
        .filter(|a| private || is_public(a.ip()))
        .collect();
    if allowed.is_empty() && any {
        let why = format!("{name} resolves to no public address");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(allowed)
}

/// Scheme, host and port of a URL.
struct Target {
    uri: Uri,
    tls: bool,
    /// Lower case, brackets of IPv6 taken off.
    host: String,
    port: u16,
}

impl Target {
    fn parse(url: &str) -> Result<Target, String> {
        if url.len() > URL_BYTES_MAX {
            return Err(format!("the URL has more than {URL_BYTES_MAX} bytes"));
        }
        let uri: Uri = url.parse().map_err(|_| "the URL is malformed".to_owned())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the URL begins with neither https:// nor http://".into()),
        };
        let authority = uri.authority().ok_or("the URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("the URL has a user name in it".into());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if host.is_empty() {
            return Err("the URL has no host".into());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Target {
            tls,
            host,
            port,
            uri,
        })
    }

    fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// A line of `grants.http.hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    tls: bool,
    host: String,
    port: u16,
}

impl Allowed {
    fn parse(text: &str) -> Result<Allowed, String> {
        let rule = || {
            format!(
                "{text:?} is no host: write api.example.com:443, or http://127.0.0.1:8080 for plain HTTP"
            )
        };
        let url = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let target = Target::parse(&url).map_err(|_| rule())?;
        let plain = target.uri.path() == "/" && target.uri.query().is_none();
        if !plain || target.host.contains('*') {
            return Err(rule());
        }
        Ok(Allowed {
            tls: target.tls,
            host: target.host,
            port: target.port,
        })
    }
}

/// An entry's grant: where it may send, and the secrets that are filled in on the way.
pub(super) struct HttpCaller {
    client: Arc<dyn HttpClient>,
    hosts: Vec<Allowed>,
    methods: Vec<String>,
    limits: HttpLimits,
    max_request: usize,
    secrets: BTreeMap<String, String>,
}

impl HttpCaller {
    /// The error names the value that is wrong in `grant`.
    pub fn new(
        client: Arc<dyn HttpClient>,
        grant: &super::spec::HttpGrant,
        secrets: BTreeMap<String, String>,
    ) -> Result<HttpCaller, String> {
        let hosts = grant
            .hosts
            .iter()
            .map(|h| Allowed::parse(h))
            .collect::<Result<_, _>>()?;
        Ok(HttpCaller {
            client,
            hosts,
            methods: grant
                .methods
                .iter()
                .map(|m| m.to_ascii_uppercase())
                .collect(),
            limits: HttpLimits {
                private: grant.private,
                timeout: Duration::from_millis(grant.timeout_ms.into()),
                max_response: grant.max_response as usize,
            },
            max_request: grant.max_request as usize,
            secrets,
        })
    }

    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        let request = self.permitted(request).map_err(HttpFailure::Denied)?;
        let mut response = self.client.send(request, &self.limits).await?;
        self.redact(&mut response);
        Ok(response)
    }

    fn permitted(&self, mut request: HttpRequest) -> Result<HttpRequest, String> {
        let target = Target::parse(&request.url)?;
        let listed = self
            .hosts
            .iter()
            .any(|a| (a.tls, a.port) == (target.tls, target.port) && a.host == target.host);
        if !listed {
            let scheme = if target.tls { "" } else { "http://" };
            return Err(format!(
                "{scheme}{}:{} is not in grants.http.hosts",
                target.host, target.port
            ));
        }
        request.method.make_ascii_uppercase();
        if !self.methods.contains(&request.method) {
            return Err("the method is not in grants.http.methods".into());
        }
        if request.body.len() > self.max_request {
            return Err(format!(
                "the body has more than grants.http.max_request = {} bytes",
                self.max_request
            ));
        }
        self.fill_in(request)
    }

    fn fill_in(&self, mut request: HttpRequest) -> Result<HttpRequest, String> {
        if let Some((path, query)) = request.url.split_once('?') {
            let query = self.filled(query.as_bytes(), percent_encoded)?;
            request.url = format!("{path}?{}", String::from_utf8_lossy(&query));
        }
        for (_, value) in &mut request.headers {
            let filled = self.filled(value.as_bytes(), |secret| secret.as_bytes().to_vec())?;
            *value = String::from_utf8_lossy(&filled).into_owned();
        }
        request.body = self.filled(&request.body, |secret| secret.as_bytes().to_vec())?;
        Ok(request)
    }

    /// Every `{secret:NAME}` replaced; a name that was not granted is refused.
    fn filled(&self, text: &[u8], written: impl Fn(&str) -> Vec<u8>) -> Result<Vec<u8>, String> {
        const OPEN: &[u8] = b"{secret:";
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = position(rest, OPEN) {
            let (before, from) = rest.split_at(at);
            out.extend_from_slice(before);
            let from = &from[OPEN.len()..];
            let end = position(from, b"}").ok_or("a {secret:NAME} is not closed")?;
            let name = String::from_utf8_lossy(&from[..end]);
            let secret = self
                .secrets
                .get(name.as_ref())
                .ok_or_else(|| format!("the secret {name:?} is not in grants.secrets"))?;
            out.extend(written(secret));
            rest = &from[end + 1..];
        }
        out.extend_from_slice(rest);
        Ok(out)
    }

    /// A server that echoes what it was sent must not hand the plugin its secrets.
    fn redact(&self, response: &mut HttpResponse) {
        for secret in self
            .secrets
            .values()
            .filter(|s| s.len() >= REDACTED_BYTES_MIN)
        {
            for (_, value) in &mut response.headers {
                if value.contains(secret.as_str()) {
                    *value = value.replace(secret.as_str(), "***");
                }
            }
            while let Some(at) = position(&response.body, secret.as_bytes()) {
                response.body.splice(at..at + secret.len(), *b"***");
            }
        }
    }
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// For a query (RFC 3986, 2.3).
fn percent_encoded(secret: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(secret.len() * 3);
    for byte in secret.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte);
        } else {
            out.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::spec::HttpGrant;
    use super::*;

    /// Answers every connection with `answer` and hands back what it was sent.
    async fn server(answer: &'static str) -> (u16, tokio::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, requests) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let n = socket.read(&mut request).await.unwrap_or(0);
                let _ = seen
                    .send(String::from_utf8_lossy(&request[..n]).into_owned())
                    .await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        (port, requests)
    }

    fn caller(hosts: &[String], private: bool) -> HttpCaller {
        let grant = HttpGrant {
            hosts: hosts.to_vec(),
            methods: vec!["POST".into()],
            private,
            timeout_ms: 2_000,
            max_request: 100,
            max_response: 50,
        };
        let secrets = BTreeMap::from([("KEY".to_owned(), "s3cret/value".to_owned())]);
        HttpCaller::new(Arc::new(HyperClient::new().unwrap()), &grant, secrets).unwrap()
    }

    fn post(url: String, body: &str) -> HttpRequest {
        HttpRequest {
            method: "POST".into(),
            url,
            headers: vec![("authorization".into(), "Bearer {secret:KEY}".into())],
            body: body.as_bytes().to_vec(),
        }
    }

    #[tokio::test]
    async fn secrets_are_filled_in_on_the_way_and_taken_out_of_the_answer() {
        let (port, mut requests) = server(
            "HTTP/1.1 200 OK\r\nx-echo: s3cret/value\r\ncontent-length: 14\r\n\r\n>s3cret/value<",
        )
        .await;
        let host = format!("http://127.0.0.1:{port}");
        let request = post(format!("{host}/send?k={{secret:KEY}}"), "key={secret:KEY}");
        let response = caller(std::slice::from_ref(&host), true)
            .send(request)
            .await
            .unwrap();
        let sent = requests.recv().await.unwrap();
        assert!(
            sent.starts_with("POST /send?k=s3cret%2Fvalue HTTP/1.1\r\n"),
            "{sent}"
        );
        assert!(
            sent.contains("Bearer s3cret/value") && sent.ends_with("key=s3cret/value"),
            "{sent}"
        );
        assert_eq!(response.body, b">***<");
        assert!(response.headers.contains(&("x-echo".into(), "***".into())));
    }

    #[tokio::test]
    async fn an_answer_over_the_cap_is_too_large() {
        let (port, _requests) = server("HTTP/1.1 200 OK\r\ncontent-length: 51\r\n\r\n").await;
        let host = format!("http://127.0.0.1:{port}");
        let answer = caller(std::slice::from_ref(&host), true)
            .send(post(host, ""))
            .await;
        assert_eq!(answer, Err(HttpFailure::TooLarge));
    }

    #[tokio::test]
    async fn a_private_address_is_refused_by_name_and_by_number() {
        let (port, _requests) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let host = format!("http://{host}:{port}");
            let answer = caller(std::slice::from_ref(&host), false)
                .send(post(host.clone(), ""))
                .await;
            assert!(
                matches!(answer, Err(HttpFailure::Denied(_))),
                "{host}: {answer:?}"
            );
        }
    }

    #[test]
    fn a_name_that_changes_its_answer_gains_nothing() {
        let resolve = |answer: &[&str], private| {
            let found = answer.iter().map(|a| a.parse().unwrap()).collect();
            allowed("api.example.com", found, private)
        };
        let public: SocketAddr = "1.1.1.1:0".parse().unwrap();
        assert_eq!(resolve(&["1.1.1.1:0"], false).unwrap(), [public]);
        // The same name a moment later, and an answer that mixes both.
        for rebound in [
            "127.0.0.1:0",
            "169.254.169.254:0",
            "[::1]:0",
            "[::ffff:10.0.0.1]:0",
        ] {
            let error = resolve(&[rebound], false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{rebound}");
            assert_eq!(resolve(&[rebound, "1.1.1.1:0"], false).unwrap(), [public]);
            assert_eq!(resolve(&[rebound], true).unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let (port, _requests) = server(
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        let host = format!("http://127.0.0.1:{port}");
        let answer = caller(std::slice::from_ref(&host), true)
            .send(post(host, ""))
            .await;
        assert_eq!(answer.unwrap().status, 302);
    }

    #[tokio::test]
    async fn what_the_grant_does_not_list_is_never_sent() {
        let caller = caller(&["api.example.com:443".into()], false);
        let denied = |request| async { caller.send(request).await.unwrap_err().to_string() };
        for url in [
            "https://api.example.com:8443/",
            "http://api.example.com/",
            "https://api.example.com@evil.example/",
            "https://evil.example/api.example.com",
            "ftp://api.example.com/",
        ] {
            let why = denied(post(url.into(), "")).await;
            assert!(why.starts_with("not allowed"), "{url}: {why}");
        }
        let url = || "https://api.example.com/".to_owned();
        let get = HttpRequest {
            method: "GET".into(),
            ..post(url(), "")
        };
        assert!(denied(get).await.contains("grants.http.methods"));
        assert!(
            denied(post(url(), &"x".repeat(101)))
                .await
                .contains("max_request")
        );
        assert!(
            denied(post(url(), "{secret:OTHER}"))
                .await
                .contains("OTHER")
        );
        let mut host = post(url(), "");
        host.headers.push(("Host".into(), "evil".into()));
        assert!(denied(host).await.contains("header host"));
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure_to_connect() {
        let port = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let host = format!("http://127.0.0.1:{port}");
        let answer = caller(std::slice::from_ref(&host), true)
            .send(post(host, ""))
            .await;
        assert!(matches!(answer, Err(HttpFailure::Connect(_))), "{answer:?}");
    }
}
