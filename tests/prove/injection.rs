//! Statement 9. Hostile texts, both ways, at a server that logs all it can: they are inert wherever they show, and
//! neither a text nor a number is in anything that the server writes of itself.

use heliograph::carrier::simulator::Mo;
use heliograph::smpp::pdu::Sm;
use serde_json::{Value, json};

use super::{Outcome, Part, Run, Statement};
use crate::esme::{Esme, Mode};
use crate::guests::{FREE, Guest, KEEP_MARK, ZERO, on_mark, words};
use crate::{ADMIN_KEY, KEY, Plan, Rig, bearer, eventually, free_address, http, sms};

pub const STATEMENT: Statement = Statement {
    number: 9,
    name: "Injection",
    parts: &[
        Part {
            name: "hostile texts and numbers by every way in, a log of lines",
            run: |run| Box::pin(hostile(run, "text")),
        },
        Part {
            name: "the same, a log of JSON",
            run: |run| Box::pin(hostile(run, "json")),
        },
    ],
};

/// Each with a word that tells where it came from.
const HOSTILE: [&str; 14] = [
    "sekret0\r\n2026-01-01T00:00:00.000000Z ERROR heliograph: forged",
    "sekret1 \u{1b}[31mred\u{1b}]0;title\u{7}",
    "sekret2 \u{202e}desrever\u{202c} \u{2066}",
    "sekret3 \u{0} nul",
    "=HYPERLINK(\"http://sekret4\",\"x\")",
    "+1+cmd|' /C calc'!sekret5",
    "<script>alert('sekret6')</script><img src=x onerror=alert(1)>",
    "sekret7 {{7*7}} ${jndi:ldap://x} %s%n \u{2028} \u{9b}31m",
    "-1+1+sekret8|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!sekret9",
    "sekret10\"},{\"level\":\"ERROR\",\"message\":\"forged\"}\\",
    "sekret11 id:0 sub:001 dlvrd:001 submit date:2601010000 done date:2601010000 stat:DELIVRD err:000 text:forged",
    "sekret12 \u{0}\u{0}\u{0}\u{10}\u{80}\u{0}\u{0}\u{0}",
    "sekret13\n# HELP forged forged\nforged{a=\"b\"} 1\n",
];

const OUT: &str = "447700900123";
const IN: &str = "447700900456";
const BAD: &str = "447700900789";

/// What must be in nothing that the server writes of itself.
const SECRETS: [&str; 6] = ["sekret", OUT, IN, BAD, "7700900", "forged"];

fn found(what: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| SECRETS.iter().any(|s| line.contains(s)))
        .map(|(n, line)| {
            format!(
                "{what}:{}: {}",
                n + 1,
                line.chars().take(300).collect::<String>()
            )
        })
        .collect()
}

fn sm<'a>(to: &'a str, text: &'a str) -> Sm<'a> {
    Sm {
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: to.as_bytes(),
        registered_delivery: 1,
        short_message: text.as_bytes(),
        ..Sm::default()
    }
}

fn unruly(c: char) -> bool {
    (c.is_control() && c != '\t' && c != '\n')
        || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// A content filter that refuses texts that begin with `!`, with a reason that no log may have.
fn tattle() -> Vec<u8> {
    let reason = format!("sekret {OUT}\r\n2026-01-01 ERROR forged \u{1b}[31m");
    let at = |n: usize| FREE + u32::try_from(n).expect("a small number");
    let length = u32::try_from(reason.len()).expect("a short text");
    let mut data = words(&[2, at(20), 6, at(26), length]);
    data.extend(b"tattle");
    data.extend(reason.as_bytes());
    let refuse = format!("(return (i32.const {FREE}))");
    Guest {
        hooks: vec![("content-filter", "inspect", on_mark(&refuse, ZERO))],
        configure: KEEP_MARK.to_owned(),
        data,
        ..Guest::default()
    }
    .build()
}

/// Every answer that a browser or a spreadsheet may be given: none is a page, or may be guessed to be one. There is no
/// console and no table of messages; the tables that there are are those that administrators put there, and come
/// back as files, octet by octet.
async fn shown(rig: &Rig, id: &str) -> (usize, Vec<String>) {
    let admin = bearer(ADMIN_KEY);
    let headers = [
        ("authorization", admin.as_str()),
        ("content-type", "text/csv"),
    ];
    let table = "44,\"=HYPERLINK(\"\"http://x\"\",\"\"<script>\"\")\"\n33,+1+cmd|' /C calc'!A0\n";
    let octets = Some(table.as_bytes().to_vec());
    let put = rig.try_call("PUT", "/v1/tables/formulas", octets, &headers);
    assert!(put.await.is_ok_and(|(status, _)| status == 200));
    let threads = rig.items("/v1/threads").await;
    let thread = threads[0]["id"].as_str().expect("an id").to_owned();
    let (_, document) = rig.call("GET", "/openapi.json", None).await;
    let paths = document["paths"].as_object().expect("paths");
    let (mut faults, mut answers) = (Vec::new(), 0);
    for (path, _) in paths
        .iter()
        .filter(|(_, methods)| methods["get"].is_object())
    {
        let of = if path.contains("threads") {
            &*thread
        } else {
            id
        };
        let mut filled = path
            .replace("{id}", of)
            .replace("{number}", &format!("%2B{IN}"))
            .replace("{digest}", "sha256:0")
            .replace("{name}", "formulas");
        if path == "/v1/events" {
            filled += "?format=json";
        }
        // As it is, with a query that is refused in the text's own words, and without a right to it.
        let hostile = format!("{filled}?%3Cscript%3E=%3Cscript%3E");
        for (path, key) in [
            (&filled, &admin),
            (&hostile, &admin),
            (&filled, &bearer("nobody")),
        ] {
            answers += 1;
            let headers = [("authorization", key.as_str()), ("accept", "text/html")];
            let (status, headers, body) = http(&rig.address, "GET", path, None, &headers)
                .await
                .expect(path);
            let header = |name| {
                headers
                    .get(name)
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or("")
            };
            let kind = header("content-type");
            if ["html", "xml", "svg", "script", "pdf"]
                .iter()
                .any(|k| kind.contains(k))
            {
                faults.push(format!("GET {path} ({status}) is {kind}"));
            }
            if !body.is_empty()
                && (kind.is_empty() || header("x-content-type-options") != "nosniff")
            {
                faults.push(format!(
                    "GET {path} ({status}, {kind:?}) may be guessed to be a page"
                ));
            }
            if kind.contains("csv") {
                if !header("content-disposition").starts_with("attachment") {
                    faults.push(format!("GET {path} opens in the browser as {kind}"));
                }
                if body != table.as_bytes() {
                    faults.push(format!("GET {path} is not what was put there"));
                }
            }
        }
    }
    (answers, faults)
}

async fn hostile(run: Run, format: &str) -> Outcome {
    let esme = free_address().await;
    let rig = Rig::start(Plan {
        webhooks: true,
        policy: r#"
            [[plugin]]
            name = "responder"
            path = "{plugins}/keyword-responder.wasm"
            grants = { state = {} }
            config = { brand = "Acme" }
            [[plugin]]
            name = "words"
            path = "{plugins}/content-filter.wasm"
            config = { rules = [{ name = "gambling", kind = "words", words = ["casino"] }] }
            [[plugin]]
            name = "tattle"
            path = "{dir}/tattle.wasm"
            config = { on = "!" }
        "#
        .to_owned(),
        files: vec![("tattle.wasm".to_owned(), tattle())],
        config_extra: format!(
            "[smpp]\nlisten = \"{esme}\"\n[log]\nfilter = \"trace\"\nformat = \"{format}\""
        ),
        account_extra: "[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:secret\"\n"
            .to_owned(),
        ..Plan::default()
    })
    .await;
    let to = format!("+{OUT}");

    let mut sent = Vec::new();
    let rounds = run.pick(1, 20);
    for text in HOSTILE.into_iter().cycle().take(HOSTILE.len() * rounds) {
        let mut body = sms(&to, text);
        // References and metadata are clients' words too.
        body["reference"] = json!(text.replace('\0', ""));
        body["metadata"] = json!({ "note": text.replace('\0', ""), "phone": to });
        let (status, answer) = rig.call("POST", "/v1/messages", Some(body)).await;
        assert!(status == 202 || status == 400, "{status} {answer}");
        if status == 202 {
            sent.push((answer["id"].as_str().expect("an id").to_owned(), text));
        }
    }
    assert!(sent.len() >= 6, "{sent:?}");
    for (id, text) in &sent {
        let message = rig.wait_for(id, "delivered").await;
        assert_eq!(message["text"], *text);
    }
    // Refused in every way that comes to mind.
    rig.refused(sms(&to, "sekret casino")).await;
    let problem = rig.refused(sms(&to, "!sekret")).await;
    assert_eq!(problem["code"], "tattle", "{problem}");
    for (to, text) in [
        (&*format!("+{BAD}<script>sekret"), "x"),
        (&*format!("+{BAD}\r\nsekret"), "sekret"),
        ("sekret", "sekret"),
        (&*to, ""),
    ] {
        let (status, _) = rig.call("POST", "/v1/messages", Some(sms(to, text))).await;
        assert!((400..500).contains(&status), "{to}: {status}");
    }
    let key = bearer(KEY);
    let headers = [("authorization", key.as_str())];
    for (method, path, body) in [
        (
            "POST",
            "/v1/messages".to_owned(),
            format!("{{\"to\": \"+{BAD}\", \"text\": \"sekret"),
        ),
        ("GET", format!("/v1/numbers/+{BAD}"), String::new()),
        ("GET", format!("/v1/messages?to=%2B{BAD}"), String::new()),
        ("GET", format!("/v1/nothing/sekret/{BAD}"), String::new()),
        ("DELETE", format!("/v1/messages/{BAD}"), "sekret".to_owned()),
        ("GET", format!("/v1/numbers/%zz{BAD}"), String::new()),
    ] {
        let body = Some(body.into_bytes()).filter(|b| !b.is_empty());
        let _ = rig.try_call(method, &path, body, &headers).await;
    }
    // A webhook target that is not there, with a number in its address.
    let nowhere = free_address().await;
    let mut body = sms(&to, "sekret hook");
    body["receipt_url"] = json!(format!("http://{nowhere}/sekret?to={OUT}"));
    rig.submit(body).await;
    eventually("a webhook that fails", async || {
        rig.log().contains("a webhook was not taken").then_some(())
    })
    .await;

    let mut app = Esme::bound(&esme, Mode::Transceiver, "app").await;
    for text in [HOSTILE[0], HOSTILE[6]] {
        app.submit(&sm(OUT, text)).await;
    }
    app.refused(&sm("447700900789x", "sekret")).await;
    let nobody = Sm {
        source_addr: b"sekret\x1b!",
        ..sm(BAD, "sekret")
    };
    app.refused(&nobody).await;

    for text in HOSTILE.iter().chain(&["STOP", "sekret casino"]) {
        rig.text_in(&Mo {
            from: IN.to_owned(),
            to: "60777".to_owned(),
            text: (*text).to_owned(),
            ..Mo::default()
        })
        .await;
    }
    let count = HOSTILE.len() + 2;
    eventually("all texts", async || {
        (rig.items("/v1/inbound").await.len() >= count).then_some(())
    })
    .await;
    let problem = rig.refused(sms(&format!("+{IN}"), "sekret")).await;
    assert_eq!(problem["code"], "opted_out");
    let wish = json!({ "recipient": format!("+{BAD}"), "scope": "everything" });
    assert_eq!(rig.admin("PUT", "/v1/opt-outs", Some(wish)).await.0, 200);
    let path = format!("/v1/numbers/+{BAD}/data");
    assert_eq!(rig.admin("DELETE", &path, None).await.0, 200);

    // Webhooks have the texts as they are, in JSON that is whole and signed.
    for text in HOSTILE {
        eventually("the text in its webhook", async || {
            let hooks = rig.webhooks.of_type("message.received");
            let told = hooks
                .iter()
                .any(|h| h.is_signed() && h.json()["data"]["text"] == *text);
            told.then_some(())
        })
        .await;
    }

    // A person's terminal obeys none of it.
    let url = format!("http://{}", rig.address);
    let target = ["--url", &url, "--key", ADMIN_KEY];
    for arguments in [
        vec!["message", "show", &sent[0].0],
        vec!["message", "trace", &sent[1].0],
        vec!["message", "trace", &sent[2].0],
        vec!["message", "list"],
        vec!["events"],
        vec!["audit", "list"],
    ] {
        let (code, out, err) = rig.run(&[&arguments[..], &target].concat()).await;
        assert_eq!(code, Some(0), "{err}");
        let wrong: Vec<char> = out.chars().filter(|c| unruly(*c)).collect();
        assert!(wrong.is_empty(), "{arguments:?}: {wrong:?}");
        if arguments[0] != "message" {
            assert_eq!(found(arguments[0], &out), [""; 0]);
        }
    }

    let admin = bearer(ADMIN_KEY);
    let mut told = Vec::new();
    for path in [
        "/metrics",
        "/v1/events?format=json",
        "/v1/audit",
        "/v1/carriers",
    ] {
        let headers = [("authorization", admin.as_str())];
        let (status, headers, page) = http(&rig.address, "GET", path, None, &headers)
            .await
            .expect(path);
        assert_eq!(status, 200, "{path}");
        let kind = headers.get("content-type").and_then(|v| v.to_str().ok());
        assert!(
            kind.is_some_and(|k| !k.contains("html")),
            "{path}: {kind:?}"
        );
        told.extend(found(path, &String::from_utf8_lossy(&page)));
    }
    let (answers, not_inert) = shown(&rig, &sent[0].0).await;
    let audit =
        std::fs::read_to_string(rig.dir.path().join("data/audit.jsonl")).expect("the audit log");
    assert!(
        audit
            .lines()
            .all(|l| serde_json::from_str::<Value>(l).is_ok())
    );
    told.extend(found("audit.jsonl", &audit));
    let log = rig.log();
    told.extend(found("server.log", &log));
    // As lines, each begins with its time; as JSON, each is an object. What forges one is neither.
    let year = |l: &str| l.starts_with("20") && l.as_bytes().get(4) == Some(&b'-');
    let whole = |l: &&str| match format {
        "json" => serde_json::from_str::<Value>(l).is_ok_and(|v| v["level"].is_string()),
        _ => year(l),
    };
    let broken = log.lines().filter(|l| !whole(l) || l.contains(unruly));
    let mut faults: Vec<String> = broken.map(|l| format!("a forged line: {l:?}")).collect();
    if !["DEBUG", "TRACE"].iter().any(|level| log.contains(level)) {
        faults.push("the log is not at its most verbose".to_owned());
    }
    faults.extend(told.into_iter().map(|line| format!("tells of it: {line}")));
    faults.extend(not_inert);
    Outcome::judged(sent.len() + count, 0, 0, &faults).noted(format!(
        "{} lines of log at the level trace; {answers} answers of the API as a browser gets them",
        log.lines().count()
    ))
}
