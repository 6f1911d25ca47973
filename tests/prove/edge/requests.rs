//! Requests whose end two servers could see in two places, and bodies that are meant to exhaust a parser.

use serde_json::Value;

use super::{HANDSET, Neighbour, attacker, connect_from};
use crate::http::exchange;
use crate::prove::{Outcome, Run};
use crate::{ADMIN_KEY, KEY, Plan, Rig, bearer, sms};

/// What a form comes to: the statuses that are answered. Behind every form comes [`LAST`], whose 404 shows that
/// the connection went on and that nothing of it was taken for a body; without 404 it ended.
type Form = (String, &'static [u16]);

/// Hidden behind what one of two servers takes for the end. It is answered 405 wherever it is served.
const HIDDEN: &str = "DELETE /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
const LAST: &str = "GET /v1/nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

pub async fn smuggled(run: Run) -> Outcome {
    let mut rig = Rig::start(Plan::default()).await;
    let neighbour = Neighbour::start(&rig);
    let forms = forms();
    let mut faults = Vec::new();
    let rounds = run.pick(1, 20);
    for round in 0..rounds {
        for (form, expected) in &forms {
            let stream = connect_from(&rig.address, attacker(round)).await;
            let octets = [form.as_bytes(), LAST.as_bytes()].concat();
            let heard = exchange(stream.expect("a connection"), &octets).await;
            let statuses: Vec<u16> = heard
                .split("HTTP/1.1 ")
                .skip(1)
                .filter_map(|answer| answer.get(..3)?.parse().ok())
                .collect();
            if statuses != *expected {
                let form = shown(form);
                faults.push(format!("{form:?}: {statuses:?}, not {expected:?}"));
            }
        }
    }
    neighbour
        .outcome(&mut rig, forms.len() * rounds, faults)
        .await
}

fn shown(form: &str) -> String {
    form.chars().take(400).collect()
}

fn forms() -> Vec<Form> {
    let key = bearer(KEY);
    let body = sms(HANDSET, "smuggled").to_string();
    let size = body.len();
    // A preview keeps nothing: 200 where the body is as it was meant, 400 where it is not.
    let post = |headers: &str, rest: &str| {
        format!(
            "POST /v1/messages/preview HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\n{headers}\r\n\r\n{rest}"
        )
    };
    let chunked = format!("{size:x}\r\n{body}\r\n0\r\n\r\n");
    let lengths = |value: &str| post(&format!("content-length: {value}"), &body);
    let coding = |line: &str| post(line, &chunked);
    let hidden = format!("0\r\n\r\n{HIDDEN}");
    let of_hidden = hidden.len();
    let get = |rest: &str| format!("GET /healthz HTTP/1.1\r\n{rest}\r\n\r\n");
    const REFUSED: &[u16] = &[400];
    const SERVED: &[u16] = &[200, 404];
    vec![
        // As it should be.
        (lengths(&size.to_string()), SERVED),
        (coding("transfer-encoding: chunked"), SERVED),
        (coding("Transfer-Encoding:\t Chunked "), SERVED),
        // A length beside chunks: the chunks count, and the connection ends (RFC 9112, 6.3).
        (
            coding("content-length: 4\r\ntransfer-encoding: chunked"),
            &[200],
        ),
        (
            coding("transfer-encoding: chunked\r\ncontent-length: 4"),
            &[200],
        ),
        (
            post(
                &format!("content-length: {of_hidden}\r\ntransfer-encoding: chunked"),
                &hidden,
            ),
            REFUSED,
        ),
        (
            post(
                &format!("transfer-encoding: chunked\r\ncontent-length: {of_hidden}"),
                &hidden,
            ),
            REFUSED,
        ),
        // Two lengths that agree are one; that differ, none.
        (
            post(
                &format!("content-length: {size}\r\ncontent-length: {size}"),
                &body,
            ),
            SERVED,
        ),
        (
            post(
                &format!("content-length: {size}\r\ncontent-length: 0"),
                &body,
            ),
            REFUSED,
        ),
        (
            post(
                &format!("content-length: 0\r\ncontent-length: {size}"),
                &body,
            ),
            REFUSED,
        ),
        (lengths(&format!("{size}, {size}")), REFUSED),
        (lengths(&format!("+{size}")), REFUSED),
        (lengths(&format!("-{size}")), REFUSED),
        (lengths(&format!("{size} {size}")), REFUSED),
        (lengths(&format!("0x{size:x}")), REFUSED),
        (lengths(&format!("{size}.0")), REFUSED),
        (lengths("1e2"), REFUSED),
        (lengths(""), REFUSED),
        (lengths("18446744073709551616"), REFUSED),
        (lengths("18446744073709551615"), &[431]),
        (lengths("9999999999"), &[413]),
        // One coding, and that is `chunked`.
        (coding("transfer-encoding: xchunked"), REFUSED),
        (coding("transfer-encoding: identity"), REFUSED),
        (coding("transfer-encoding: gzip, chunked"), REFUSED),
        (coding("transfer-encoding: chunked, identity"), REFUSED),
        (coding("transfer-encoding: chunked, chunked"), REFUSED),
        (coding("transfer-encoding: chunked;q=1"), REFUSED),
        (coding("transfer-encoding: \"chunked\""), REFUSED),
        (coding("transfer-encoding: \u{b}chunked"), REFUSED),
        (coding("transfer-encoding:"), REFUSED),
        (
            coding("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
            REFUSED,
        ),
        (
            coding("transfer-encoding: identity\r\ntransfer-encoding: chunked"),
            REFUSED,
        ),
        (
            coding("transfer-encoding: chunked\r\ntransfer-encoding: cow"),
            REFUSED,
        ),
        (coding("transfer-encoding : chunked"), REFUSED),
        (coding("transfer-encoding\t: chunked"), REFUSED),
        (coding("x: y\r\n transfer-encoding: chunked"), REFUSED),
        (coding("x: y\r\n\ttransfer-encoding: chunked"), REFUSED),
        (coding(" transfer-encoding: chunked"), REFUSED),
        (coding("x: a\rtransfer-encoding: chunked"), REFUSED),
        (coding("x: a\0b\r\ntransfer-encoding: chunked"), REFUSED),
        (coding(": y\r\ntransfer-encoding: chunked"), REFUSED),
        (coding("nothing\r\ntransfer-encoding: chunked"), REFUSED),
        // Some stacks take `_` for `-`. Here it is another header: no body, and what follows is no request.
        (coding("transfer_encoding: chunked"), &[400, 400]),
        (post(&format!("content_length: {size}"), &body), &[400, 400]),
        // A line may end with LF alone (RFC 9112, 2.2); the whole request then does.
        (coding("x: y\ntransfer-encoding: chunked"), SERVED),
        (
            coding("transfer-encoding: chunked").replace("HTTP/1.1", "HTTP/1.0"),
            REFUSED,
        ),
        // Sizes of chunks.
        (
            post(
                "transfer-encoding: chunked",
                &format!("{size:x};x=y\r\n{body}\r\n0\r\n\r\n"),
            ),
            SERVED,
        ),
        (
            post(
                "transfer-encoding: chunked",
                &format!("{size:x}\n{body}\r\n0\r\n\r\n"),
            ),
            REFUSED,
        ),
        (
            post(
                "transfer-encoding: chunked",
                &format!("{size:x};a\nb\r\n{body}\r\n0\r\n\r\n"),
            ),
            REFUSED,
        ),
        (
            post(
                "transfer-encoding: chunked",
                &format!("0x{size:x}\r\n{body}\r\n0\r\n\r\n"),
            ),
            REFUSED,
        ),
        (
            post(
                "transfer-encoding: chunked",
                &format!("-1\r\n{body}\r\n0\r\n\r\n"),
            ),
            REFUSED,
        ),
        (
            post(
                "transfer-encoding: chunked",
                &format!("FFFFFFFFFFFFFFFFF\r\n{body}"),
            ),
            REFUSED,
        ),
        (
            post(
                "transfer-encoding: chunked",
                &format!("{size:x};{}\r\n{body}", "x".repeat(40_000)),
            ),
            REFUSED,
        ),
        (
            post(
                "transfer-encoding: chunked",
                &format!("{size:x}\r\n{body}XX0\r\n\r\n"),
            ),
            REFUSED,
        ),
        (
            post(
                "transfer-encoding: chunked",
                &format!("{size:x}\r\n{body}\r\n0\r\ncontent-length: 4\r\n\r\n"),
            ),
            SERVED,
        ),
        (
            post(
                "transfer-encoding: chunked",
                &format!(
                    "{size:x}\r\n{body}\r\n0\r\n{}\r\n\r\n",
                    "x: y\r\n".repeat(9_000)
                ),
            ),
            REFUSED,
        ),
        // Whose host it is (RFC 9112, 3.2), and lines that are none.
        (get("x: y"), REFUSED),
        (get("host: x\r\nhost: y"), REFUSED),
        (
            get("host: x").replace("HTTP/1.1", "HTTP/1.1 HTTP/1.1"),
            REFUSED,
        ),
        (get("host: x").replace("GET ", "GET  "), REFUSED),
        (get("host: x").replace("HTTP/1.1", "HTTP/1.2"), REFUSED),
        (get("host: x").replace("HTTP/1.1", "HTTP/2.0"), REFUSED),
        (
            get("host: x").replace("/healthz", "/health\u{7f}z"),
            REFUSED,
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[]),
        (format!("\r\n\r\n{}", get("host: x")), SERVED),
        (
            get(
                "host: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk",
            ),
            SERVED,
        ),
        (
            get("host: x").replace("/healthz", "http://other/healthz"),
            SERVED,
        ),
        (
            get("host: x").replace("/healthz", "/v1/../healthz"),
            &[404, 404],
        ),
        (
            get("host: x").replace("/healthz", "/v1/%2e%2e/healthz"),
            &[404, 404],
        ),
        (
            "CONNECT inside:443 HTTP/1.1\r\nhost: inside\r\n\r\n".to_owned(),
            &[404, 404],
        ),
        (
            get(&format!("host: x\r\nx: {}", "y".repeat(200_000))),
            &[431],
        ),
        (
            get(&format!("host: x\r\n{}", "x: y\r\n".repeat(200).trim_end())),
            &[431],
        ),
        (
            get("host: x").replace("/healthz", &format!("/{}", "x".repeat(70_000))),
            &[414],
        ),
        // A body for who takes none is read past or ends the connection, and is never a request.
        (
            format!(
                "GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{HIDDEN}",
                HIDDEN.len()
            ),
            SERVED,
        ),
    ]
}

/// Bodies of JSON that a parser could choke on. None is good anywhere.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str, close: &str, n: usize| [open.repeat(n), close.repeat(n)].concat();
    let text = |text: String| text.into_bytes();
    vec![
        ("deep arrays", text(deep("[", "]", 5_000))),
        (
            "deep objects",
            text(deep("{\"a\":", "}", 2_000).replace("\"a\":}", "\"a\":1}")),
        ),
        (
            "deep within a field",
            text(format!("{{\"metadata\":{}}}", deep("[", "]", 5_000))),
        ),
        ("unended depth", text("[".repeat(15_000))),
        (
            "many members",
            text(format!("{{{}\"z\":0}}", "\"a\":0,".repeat(2_000))),
        ),
        (
            "a long name",
            text(format!("{{\"{}\":0}}", "n".repeat(15_000))),
        ),
        (
            "a huge number",
            text(format!("{{\"validity_seconds\":{}}}", "9".repeat(10_000))),
        ),
        (
            "a huge exponent",
            text("{\"validity_seconds\":1e999999999}".to_owned()),
        ),
        (
            "escapes",
            text(format!("{{\"{}\":0}}", "\\u0000".repeat(2_000))),
        ),
        (
            "half a surrogate",
            text("{\"text\":\"\\udc00\"}".to_owned()),
        ),
        ("no UTF-8", b"{\"text\":\"\xc3\x28\xff\"}".to_vec()),
        (
            "UTF-16",
            [
                b"\xff\xfe".to_vec(),
                "{}".encode_utf16().flat_map(u16::to_le_bytes).collect(),
            ]
            .concat(),
        ),
        ("a byte order mark", text("\u{feff}{}".to_owned())),
        ("NaN", text("{\"validity_seconds\":NaN}".to_owned())),
        ("two values", text("{}{}".to_owned())),
        ("a broken end", text("{\"to\":\"+44".to_owned())),
        (
            "huge",
            text(format!("{{\"text\":\"{}\"}}", "x".repeat(2 << 20))),
        ),
        ("huge and deep", text("[{\"a\":".repeat(400_000))),
    ]
}

/// Every route that takes JSON, as the server tells them.
pub async fn json(run: Run) -> Outcome {
    let mut rig = Rig::start(Plan::default()).await;
    let neighbour = Neighbour::start(&rig);
    let rss = rig.rss_mib();
    let (_, document) = rig.call("GET", "/openapi.json", None).await;
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let content = &operation["requestBody"]["content"];
            let takes = |kind: &str| content.get(kind).is_some();
            // A policy is TOML or JSON.
            if takes("application/json") || takes("application/toml") {
                let path = path.replace("{id}", "00000000000070008000000000000000");
                routes.push((method.to_ascii_uppercase(), path));
            }
        }
    }
    let key = bearer(ADMIN_KEY);
    let mut faults = Vec::new();
    let mut runs = 0;
    for _ in 0..run.pick(1, 10) {
        for (method, path) in &routes {
            for (name, body) in bodies() {
                runs += 1;
                let head = format!(
                    "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\n\
                     content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let stream = connect_from(&rig.address, attacker(runs)).await;
                let octets = [head.into_bytes(), body].concat();
                let said = exchange(stream.expect("a connection"), &octets).await;
                let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                let problem: Value = serde_json::from_str(body).unwrap_or_default();
                if said.starts_with("HTTP/1.1 4") && problem["code"].is_string() {
                    continue;
                }
                let said = shown(&said);
                faults.push(format!("{method} {path}, {name}: {said}"));
            }
        }
    }
    if routes.len() < 8 {
        faults.push(format!("only {} routes take JSON", routes.len()));
    }
    let grown = rig.rss_mib().saturating_sub(rss);
    if grown > 128 {
        faults.push(format!("it grew by {grown} MiB"));
    }
    let outcome = neighbour.outcome(&mut rig, runs, faults).await;
    let note = format!("{} routes; {}", routes.len(), outcome.note);
    outcome.noted(note)
}
