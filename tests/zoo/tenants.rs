//! What one entry, or one account's traffic, can learn of another's: the state of entries is apart
//! whatever the key, and an instance is shared by the accounts whose traffic passes it unless its
//! entry says `calls = 1`.

use heliograph_tests::guests::{FREE, Guest, KEEP_MARK, ZERO, on_mark, words};
use heliograph_tests::{KEY, OTHER_KEY, Plan, sms};

use super::{HANDSET, Zoo, call};

const STATE: &str = r#"
    (import "heliograph:sms/state@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i32 i32)))
    (import "heliograph:sms/state@0.1.0" "get" (func $get (param i32 i32 i32)))"#;

/// Keeps `treasure` under `secret` whenever it is asked.
fn keeper() -> Guest {
    let body = format!(
        "(call $set (i32.const {FREE}) (i32.const 6) (i32.const {}) (i32.const 8) (i32.const 0) (i32.const 0) (i32.const 12000))
         (i32.const {ZERO})",
        FREE + 6
    );
    Guest {
        hooks: vec![("content-filter", "inspect", body)],
        imports: STATE,
        data: b"secrettreasure".to_vec(),
        ..Guest::default()
    }
}

/// Ways to say another entry's key: paths, prefixes, separators of every kind.
const TRICKS: [&str; 12] = [
    "secret",
    "keeper/secret",
    "../keeper/secret",
    "/keeper/secret",
    "keeper\0secret",
    "\0keeper\0secret",
    "keeper:secret",
    "keeper|secret",
    "../../keeper\0secret",
    "\u{6}keeper\u{6}secret",
    "keepersecret",
    "%00keeper%00secret",
];

/// Traps where any of the keys has a value.
fn thief() -> Guest {
    let mut data = Vec::new();
    let mut tries = String::new();
    for key in TRICKS {
        tries.push_str(&format!(
            "(call $get (i32.const {}) (i32.const {}) (i32.const 12000))
             (if (i32.load8_u (i32.const 12000)) (then (unreachable)))\n",
            FREE + data.len() as u32,
            key.len()
        ));
        data.extend(key.as_bytes());
    }
    Guest {
        hooks: vec![("content-filter", "inspect", on_mark(&tries, ZERO))],
        configure: KEEP_MARK.to_owned(),
        imports: STATE,
        data,
        ..Guest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_of_one_entry_reaches_the_state_of_another() {
    let mut zoo = Zoo::open(Plan::default()).await;
    let thief_file = zoo.rig.dir.path().join("thief.wasm");
    std::fs::write(thief_file, thief().build()).expect("the component's file");
    // Names that are prefixes of each other, and of what the keys try.
    let thieves: String = ["keep", "keeper-", "k", "keeper_secret"]
        .iter()
        .map(|name| {
            format!(
                "\n[[plugin]]\nname = \"{name}\"\npath = \"{{dir}}/thief.wasm\"\nfail = \"open\"
                config = {{ on = \"!\" }}\ngrants = {{ state = {{}} }}\n"
            )
        })
        .collect();
    zoo.let_in(
        "keeper",
        &keeper().build(),
        &format!("grants = {{ state = {{}} }}\n{thieves}"),
    )
    .await;
    for n in 0..2 {
        let id = zoo.rig.submit(sms(HANDSET, &format!("! {n}"))).await;
        let message = zoo.rig.wait_for(&id, "delivered").await;
        for name in ["keep", "keeper-", "k", "keeper_secret"] {
            assert_eq!(call(&message, name)["outcome"], "pass", "{message:#}");
        }
        zoo.owed.push(id);
    }
    // The keeper itself, asked by the same trick, does have it: the thief can find what is there.
    let both = Guest {
        hooks: vec![("content-filter", "inspect", thief().hooks.remove(0).2)],
        ..thief()
    };
    zoo.let_in(
        "keeper",
        &both.build(),
        "fail = \"open\"\nconfig = { on = \"!\" }\ngrants = { state = {} }",
    )
    .await;
    let id = zoo.rig.submit(sms(HANDSET, "! mine")).await;
    let message = zoo.rig.wait_for(&id, "delivered").await;
    assert_eq!(call(&message, "keeper")["outcome"], "fault", "{message:#}");
    zoo.owed.push(id);
    zoo.close().await;
}

/// Refuses what begins with its mark, and tells as the reason what it kept of the call before; keeps
/// 16 octets of every text.
fn gossip() -> Guest {
    let mut data = words(&[2, FREE + 32, 6, FREE + 48, 16, 0, 0, 0]);
    data.extend(b"gossip          ");
    data.extend(b"................");
    let keep: String = (0..16)
        .map(|n| {
            format!(
                "(i32.store8 (i32.const {}) (i32.load8_u offset={n} (i32.load offset=84 (local.get $args))))\n",
                FREE + 48 + n
            )
        })
        .collect();
    let body = on_mark(&format!("(return (i32.const {FREE}))"), ZERO);
    // Kept only of texts without the mark, so that the answer is of somebody else's.
    let body = body.replace(
        &format!("(i32.const {ZERO})"),
        &format!("{keep} (i32.const {ZERO})"),
    );
    Guest {
        hooks: vec![("content-filter", "inspect", body)],
        configure: KEEP_MARK.to_owned(),
        data,
        ..Guest::default()
    }
}

/// What an account hears of another's text, by an instance that serves both.
async fn overheard(lines: &str) -> bool {
    let mut zoo = Zoo::open(Plan::default()).await;
    let traffic = std::mem::replace(
        &mut zoo.traffic,
        heliograph_tests::Traffic::start(&zoo.rig, 0, |_| sms(HANDSET, "")),
    );
    zoo.let_in(
        "gossip",
        &gossip().build(),
        &format!("config = {{ on = \"!\" }}\n{lines}"),
    )
    .await;
    let sent = traffic.stop().await;
    zoo.rig.wait_for_all(&sent.accepted, "delivered").await;
    let mut heard = false;
    for _ in 0..5 {
        let (status, answer) = zoo
            .rig
            .call_as(
                KEY,
                "POST",
                "/v1/messages",
                Some(sms(HANDSET, "for acme alone..")),
            )
            .await;
        assert_eq!(status, 202, "{answer}");
        let (status, problem) = zoo
            .rig
            .call_as(
                OTHER_KEY,
                "POST",
                "/v1/messages",
                Some(sms(HANDSET, "! what is new?")),
            )
            .await;
        assert_eq!(status, 422, "{problem}");
        heard |= problem.to_string().contains("for acme alone");
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_shared_by_accounts_unless_it_answers_one_call() {
    assert!(
        !overheard("limits = { calls = 1 }").await,
        "a fresh instance remembers"
    );
    assert!(
        overheard("").await,
        "instances are no longer shared: README.md of the zoo says that they are"
    );
}
