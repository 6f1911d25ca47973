//! Ids of another account, on every route that takes one: an account without the right to see them gets, octet for
//! octet, what it gets for an id that never was. The routes are those that the server tells, so that none is
//! forgotten.

use heliograph::carrier::simulator::Mo;
use serde_json::{Value, json};

use super::{HANDSET, Neighbour};
use crate::esme::{Esme, Mode};
use crate::prove::{Outcome, Run};
use crate::{
    ADMIN_KEY, KEY, OTHER_KEY, Plan, Rig, bearer, eventually, free_address, http, plugins, sms,
};

/// What an id in a path is of: one that `acme` has, one that never was, and one that could be none.
struct Ids {
    of: &'static str,
    there: String,
    missing: &'static str,
}

/// Headers and body, but for the time.
async fn answer(rig: &Rig, key: Option<&str>, method: &str, path: &str, body: &Value) -> String {
    let key = key.map(bearer);
    let headers: Vec<(&str, &str)> = key.iter().map(|k| ("authorization", k.as_str())).collect();
    let body = (!body.is_null()).then(|| body.to_string().into_bytes());
    let answer = http(&rig.address, method, path, body, &headers).await;
    let (status, mut headers, body) = answer.unwrap_or_else(|e| rig.fail(&format!("{path}: {e}")));
    headers.remove("date");
    format!("{status} {headers:?} {}", String::from_utf8_lossy(&body))
}

pub async fn ids(run: Run) -> Outcome {
    let esme = free_address().await;
    let mut rig = Rig::start(Plan {
        webhooks: true,
        config_extra: format!("[smpp]\nlisten = \"{esme}\"\n"),
        account_extra: "[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:secret\"\n"
            .to_owned(),
        ..Plan::default()
    })
    .await;
    let bound = Esme::bound(&esme, Mode::Receiver, "app").await;
    let ids = everything(&rig).await;
    let neighbour = Neighbour::start(&rig);
    let before = seen_by_its_owner(&rig, &ids).await;

    let (_, document) = rig.call("GET", "/openapi.json", None).await;
    let mut faults = Vec::new();
    let mut runs = 0;
    for _ in 0..run.pick(1, 20) {
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, _) in methods.as_object().expect("methods") {
                let method = method.to_ascii_uppercase();
                if path.contains('{') {
                    runs += 1;
                    let told = compare(&rig, &ids, &method, path).await;
                    faults.extend(told.into_iter().map(|f| format!("{method} {path}: {f}")));
                } else if method == "GET" {
                    // Accounts and cursors are ids too.
                    for [theirs, nobodys] in [
                        ["account=acme", "account=nobody"],
                        ["account=acme&limit=1", "account=nobody&limit=1"],
                    ] {
                        runs += 1;
                        let of = async |query: &str| {
                            let path = format!("{path}?{query}");
                            answer(&rig, Some(OTHER_KEY), "GET", &path, &Value::Null).await
                        };
                        // Figures that move by themselves, and are nobody's.
                        let still = ![
                            "/healthz",
                            "/metrics",
                            "/readyz",
                            "/openapi.json",
                            "/v1/carriers",
                        ]
                        .contains(&path.as_str());
                        if still && of(theirs).await != of(nobodys).await {
                            faults.push(format!("GET {path}?{theirs} differs"));
                        }
                    }
                }
            }
        }
    }
    let after = seen_by_its_owner(&rig, &ids).await;
    for (of, (before, after)) in ids.iter().zip(before.iter().zip(&after)) {
        if before != after {
            faults.push(format!("{} {} changed", of.of, of.there));
        }
    }
    drop(bound);
    neighbour.outcome(&mut rig, runs, faults).await
}

/// One of each thing that a path may name, all of `acme` or of the operator.
async fn everything(rig: &Rig) -> Vec<Ids> {
    rig.webhooks.answer_next(&[410]);
    let message = rig.submit(sms(HANDSET, "mine")).await;
    rig.wait_for(&message, "delivered").await;
    let dead = eventually("a dead letter", async || {
        rig.items("/v1/webhooks/dead").await.pop()
    })
    .await;
    let later = heliograph::clock::Clock::system().now().0 + 3_600_000;
    let later = jiff::Timestamp::from_millisecond(i64::try_from(later).expect("a time"));
    let mut body = sms(HANDSET, "later");
    body["send_at"] = json!(later.expect("a time").to_string());
    let scheduled = rig.submit(body).await;
    rig.text_in(&Mo {
        from: HANDSET.trim_start_matches('+').to_owned(),
        to: "60777".to_owned(),
        text: "a thread".to_owned(),
        ..Mo::default()
    })
    .await;
    eventually("the text", async || rig.items("/v1/inbound").await.pop()).await;
    let wasm = std::fs::read(plugins().join("least-cost-router.wasm")).expect("a plugin");
    let key = bearer(ADMIN_KEY);
    let headers = [("authorization", key.as_str())];
    let upload = |method: &'static str, path: &'static str, body: Vec<u8>| async move {
        let kind = [("content-type", "application/octet-stream")];
        let headers = [&headers[..], &kind].concat();
        let put = rig.try_call(method, path, Some(body), &headers).await;
        put.expect("an answer").1
    };
    let staged = upload("POST", "/v1/plugins", wasm).await;
    upload("PUT", "/v1/tables/rates", b"44,sim0=1\n".to_vec()).await;
    let bind = rig.items("/v1/binds").await.pop().expect("a bind");
    let text = |value: &Value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    };
    let id = |of, there, missing| Ids { of, there, missing };
    vec![
        id("messages", message, "00000000000070008000000000000000"),
        id("messages", scheduled, "00000000000070008000000000000001"),
        id(
            "threads",
            "60777-447700900123".to_owned(),
            "60777-447700900999",
        ),
        id("numbers", HANDSET.to_owned(), "+447700900999"),
        id("carriers", "sim0".to_owned(), "no-such"),
        id(
            "webhooks",
            text(&dead["id"]),
            "evt_00000000000070008000000000000000",
        ),
        id(
            "plugins",
            text(&staged["digest"]),
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ),
        id("tables", "rates".to_owned(), "no-such"),
        id("binds", text(&bind["id"]), "999999"),
    ]
}

/// What each thing looks like to who may see it, where there is a route for that.
async fn seen_by_its_owner(rig: &Rig, ids: &[Ids]) -> Vec<String> {
    let mut seen = Vec::new();
    for ids in ids {
        let path = format!("/v1/{}/{}", ids.of, ids.there);
        let (key, shown) = match ids.of {
            "messages" | "threads" | "numbers" => (KEY, true),
            "plugins" | "tables" => (ADMIN_KEY, true),
            _ => (ADMIN_KEY, false),
        };
        let answer = answer(rig, Some(key), "GET", &path, &Value::Null).await;
        assert!(!shown || answer.starts_with("200"), "{path}: {answer}");
        seen.push(if shown { answer } else { String::new() });
    }
    seen
}

/// What differs between an id that is there and one that is not.
async fn compare(rig: &Rig, ids: &[Ids], method: &str, path: &str) -> Vec<String> {
    let of = path.split('/').nth(2).unwrap_or_default();
    let last = path.rsplit('/').next();
    let of_it: Vec<&Ids> = ids.iter().filter(|ids| ids.of == of).collect();
    if of_it.is_empty() {
        return vec!["this test has no id of its kind: add one".to_owned()];
    }
    let body = match (method, last) {
        ("POST", Some("replace")) => json!({ "text": "changed" }),
        ("PUT" | "POST", _) => json!({}),
        _ => Value::Null,
    };
    let mut differ = Vec::new();
    for key in [Some(OTHER_KEY), None] {
        for ids in &of_it {
            let of = async |id: &str| {
                let (before, rest) = path.split_once('{').unwrap_or((path, ""));
                let rest = rest.split_once('}').map_or("", |(_, rest)| rest);
                let path = format!("{before}{id}{rest}");
                let told = answer(rig, key, method, &path, &body).await;
                // What is asked for may be repeated: a number as it is written in its country, too.
                match ids.of {
                    "binds" | "carriers" => told,
                    "numbers" => told.replace(&id[id.len() - 6..], "ID"),
                    _ => told.replace(id, "ID"),
                }
            };
            let (there, missing) = (of(&ids.there).await, of(ids.missing).await);
            if there != missing {
                differ.push(format!("{there}\nand for a missing id {missing}"));
            }
        }
    }
    differ
}
