//! A policy tried before everybody has it: replayed over recorded traffic, shown live decisions, given
//! a share of them, explained without a server.

use std::sync::Arc;
use std::time::Duration;

use heliograph::carrier::simulator::Mo;
use heliograph::clock::{Clock, Timestamp};
use heliograph::domain::text::Alphabet;
use heliograph::domain::{
    AccountId, Address, Body, CarrierId, CarrierView, CaseRef, Context, Decision, Facts, Message,
    MessageId, Network, OnUnknown, Phase, Plan as Route, RecipientProfile, State, TrafficClass,
};
use heliograph::pipeline::judge::judge;
use heliograph::pipeline::replay::{ReplayRequest, replay};
use heliograph::plugin::{
    Engine, EngineLimits, Host, HyperClient, MemoryState, PolicySet, PolicySpec, Resolver, Source,
    Witness,
};
use heliograph::store::{Recorder, RecordingOptions};
use heliograph_tests::guests::{FREE, Guest, ROUTE_PASS, on_mark, words};
use heliograph_tests::{Plan, Rig, Traffic, eventually, sms};
use serde_json::{Value, json};

/// A filter that traps, always.
fn broken() -> Guest {
    Guest {
        hooks: vec![("content-filter", "inspect", "unreachable".to_owned())],
        ..Guest::default()
    }
}

/// A filter that refuses what begins with `!`.
fn refusing() -> Guest {
    let (code, why) = (b"marked", b"begins with a mark");
    // refuse(refusal): case 2, code at 4, reason at 12.
    let texts = FREE + 64;
    let mut data = words(&[2, texts, 6, texts + 6, 18]);
    data.resize(64, 0);
    data.extend(code);
    data.extend(why);
    Guest {
        hooks: vec![(
            "content-filter",
            "inspect",
            on_mark(&format!("(return (i32.const {FREE}))"), 2048),
        )],
        schema: r#"{"type":"object","required":["on"],"properties":{"on":{"type":"string","minLength":1}}}"#,
        configure: heliograph_tests::guests::KEEP_MARK.to_owned(),
        data,
        ..Guest::default()
    }
}

/// A router without an opinion: everything takes the default route.
fn passing() -> Guest {
    Guest {
        hooks: vec![(
            "routing-policy",
            "route",
            format!("(i32.const {ROUTE_PASS})"),
        )],
        ..Guest::default()
    }
}

const IN_FORCE: &str = r#"
default_route = ["sim0"]
[[plugin]]
name = "router"
path = "{dir}/passing.wasm"
"#;

const BROKEN: &str = r#"
default_route = ["sim0"]
[[plugin]]
name = "router"
path = "{dir}/passing.wasm"
[[plugin]]
name = "words"
path = "{dir}/broken.wasm"
"#;

const REFUSING: &str = r#"
default_route = ["sim0"]
[[plugin]]
name = "router"
path = "{dir}/passing.wasm"
[[plugin]]
name = "words"
path = "{dir}/refusing.wasm"
config = { on = "!" }
"#;

async fn start() -> Rig {
    Rig::start(Plan {
        simulators: vec![Default::default(), Default::default()],
        policy: IN_FORCE.to_owned(),
        files: vec![
            ("passing.wasm".to_owned(), passing().build()),
            ("broken.wasm".to_owned(), broken().build()),
            ("refusing.wasm".to_owned(), refusing().build()),
        ],
        ..Plan::default()
    })
    .await
}

/// The candidate as JSON, its paths made absolute.
fn candidate(rig: &Rig, toml: &str) -> Value {
    let spec = PolicySpec::from_toml(&rig.policy_text(toml)).expect("a policy");
    serde_json::to_value(spec).expect("JSON")
}

fn recipient(n: usize) -> String {
    format!("+44770090{n:04}")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

async fn in_force(rig: &Rig) -> Value {
    let (status, answer) = rig.admin("GET", "/v1/policy", None).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_the_policy_in_force_changes_nothing_and_a_candidate_shows_what_it_would() {
    let rig = start().await;
    for n in 0..60 {
        let mark = if n % 6 == 0 { "!" } else { "" };
        rig.submit(sms(&recipient(n), &format!("{mark}message {n}")))
            .await;
    }
    let (status, same) = rig
        .admin("POST", "/v1/policy/replay", Some(json!({})))
        .await;
    assert_eq!(status, 200, "{same}");
    assert!(same["replayed"].as_u64() >= Some(60), "{same:#}");
    assert_eq!(same["different"], 0, "{same:#}");

    let body = json!({ "policy": candidate(&rig, REFUSING), "examples": 3 });
    let (status, report) = rig.admin("POST", "/v1/policy/replay", Some(body)).await;
    assert_eq!(status, 200, "{report}");
    assert_eq!(report["different"], 10, "{report:#}");
    assert_eq!(report["by_change"]["outcome"], 10, "{report:#}");
    assert_eq!(
        report["carriers"],
        json!([{ "before": "sim0", "after": "refuse", "count": 10 }])
    );
    let example = &report["examples"][0];
    assert_eq!(text(&example["after"]["code"]), "marked", "{report:#}");
    assert!(
        !report.to_string().contains("447700900006"),
        "a whole number in a report"
    );

    let south = IN_FORCE.replace("sim0", "sim1");
    let body = json!({ "policy": candidate(&rig, &south) });
    let (_, report) = rig.admin("POST", "/v1/policy/replay", Some(body)).await;
    assert_eq!(report["different"], report["replayed"], "{report:#}");
    assert_eq!(text(&report["carriers"][0]["after"]), "sim1");
    let (_, _, page) = heliograph_tests::http(&rig.address, "GET", "/metrics", None, &[])
        .await
        .expect("the metrics");
    let page = String::from_utf8_lossy(&page).into_owned();
    assert!(
        page.contains("\nheliograph_recording_dropped_total 0\n"),
        "{page}"
    );
    // Nothing of it came into force, and nothing was sent twice.
    assert_eq!(in_force(&rig).await["default_route"], json!(["sim0"]));
    assert!(rig.taken(1).is_empty());
}

const ANSWERING: &str = r#"
default_route = ["sim0"]
[[plugin]]
name = "responder"
path = "{plugins}/keyword-responder.wasm"
grants = { state = {} }
config = { brand = "Acme", max_replies_per_hour = 3 }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_covers_what_handlers_made_of_mobile_originated_messages() {
    const ASKING: &str = "447700900123";
    let rig = Rig::start(Plan {
        policy: ANSWERING.to_owned(),
        ..Plan::default()
    })
    .await;
    // Of five questions of one phone three are answered: that is in the plugin's state.
    let mut texts = vec![(ASKING, "HELP"); 5];
    texts.extend([("447700900201", "STOP"), ("447700900202", "STOP")]);
    texts.push(("447700900301", "hello"));
    for (n, (from, text)) in texts.iter().enumerate() {
        let mo = Mo {
            from: (*from).to_owned(),
            to: "60777".to_owned(),
            text: (*text).to_owned(),
            ..Mo::default()
        };
        rig.text_in(&mo).await;
        eventually("the text is stored", async || {
            (rig.items("/v1/inbound").await.len() > n).then_some(())
        })
        .await;
    }
    eventually("the replies are out", async || {
        (rig.taken(0).len() == 5).then_some(())
    })
    .await;

    let replay = async |toml: &str| {
        let body = json!({ "policy": candidate(&rig, toml) });
        let (status, report) = rig.admin("POST", "/v1/policy/replay", Some(body)).await;
        assert_eq!(status, 200, "{report}");
        for private in ["447700900", "Apex", "Acme"] {
            assert!(
                !report.to_string().contains(private),
                "{private}: {report:#}"
            );
        }
        report
    };
    let same = replay(ANSWERING).await;
    assert_eq!(same["inbound"]["replayed"], 8, "{same:#}");
    assert!(same["replayed"].as_u64() >= Some(8 + 5), "{same:#}");
    assert_eq!(same["different"], 0, "{same:#}");

    let other_words = replay(&ANSWERING.replace("Acme", "Apex")).await;
    assert_eq!(other_words["different"], 5, "{other_words:#}");
    assert_eq!(other_words["by_change"], json!({ "reply": 5 }));
    assert_eq!(other_words["inbound"]["different"], 5);

    let keyword =
        r#"max_replies_per_hour = 3, keywords = [{ words = ["hello"], label = "greeting" }]"#;
    let greeting = replay(&ANSWERING.replace("max_replies_per_hour = 3", keyword)).await;
    assert_eq!(greeting["by_change"], json!({ "label": 1 }), "{greeting:#}");
    assert_eq!(
        greeting["inbound"]["actions"],
        json!([{ "before": "nothing", "after": "label", "count": 1 }])
    );
    let example = &greeting["examples"][0];
    assert_eq!(text(&example["class"]), "inbound", "{greeting:#}");
    assert_eq!(text(&example["after"]["reason"]), "label greeting");

    let silent = replay(IN_FORCE_ALONE).await;
    assert_eq!(silent["inbound"]["different"], 7, "{silent:#}");
    let url = format!("http://{}", rig.address);
    let key = heliograph_tests::ADMIN_KEY;
    let told = [
        "policy",
        "replay",
        "--expect-same",
        "--url",
        &url,
        "--key",
        key,
    ];
    let (code, out, err) = rig.run(&told).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(
        out.contains("8 of them about mobile-originated messages, of which 0 would change"),
        "{out}"
    );
}

/// Nobody answers.
const IN_FORCE_ALONE: &str = "default_route = [\"sim0\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn replays_work_from_the_command_line_and_survive_a_restart() {
    let mut rig = start().await;
    rig.submit(sms(&recipient(1), "!one")).await;
    rig.submit(sms(&recipient(2), "two")).await;
    // A server that ends in order keeps its recording.
    assert!(rig.terminate().await.success());
    rig.launch().await;
    std::fs::write(
        rig.dir.path().join("candidate.toml"),
        rig.policy_text(REFUSING),
    )
    .unwrap();
    let url = format!("http://{}", rig.address);
    let key = heliograph_tests::ADMIN_KEY;
    let at = ["--url", &url, "--key", key];
    let run = async |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().chain(&at).copied().collect();
        rig.run(&all).await
    };
    let (code, out, err) = run(&["policy", "replay", "candidate.toml", "--since", "1h"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("1 would change") && out.contains("sim0 -> refuse: 1"),
        "{out}"
    );
    let expecting = ["policy", "replay", "candidate.toml", "--expect-same"];
    assert_eq!(run(&expecting).await.0, Some(1));
    let (code, out, err) = run(&["policy", "replay", "--expect-same"]).await;
    assert_eq!(code, Some(0), "{out}{err}");

    let (code, out, err) = run(&["policy", "export", "live"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let explain = [
        "explain",
        "--to",
        "+447700900123",
        "--text",
        "!hello",
        "--policy",
        "live/policy.toml",
    ];
    let (code, out, err) = rig.run(&explain).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("=> send to sim0"), "{out}");
    let (code, out, _) = rig
        .run(&[
            "explain",
            "--to",
            "+447700900123",
            "--text",
            "!hello",
            "--policy",
            "candidate.toml",
            "--json",
        ])
        .await;
    let explained: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, text(&explained["outcome"])),
        (Some(0), "refuse"),
        "{out}"
    );
    assert!(text(&explained["why"]).starts_with("marked"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_decides_beside_and_changes_nothing() {
    let rig = start().await;
    let body = json!({ "policy": candidate(&rig, REFUSING), "cpu_share": 1.0 });
    let (status, shadow) = rig.admin("PUT", "/v1/policy/shadow", Some(body)).await;
    assert_eq!(status, 200, "{shadow}");
    let mut ids = Vec::new();
    for n in 0..30 {
        let mark = if n % 3 == 0 { "!" } else { "" };
        ids.push(
            rig.submit(sms(&recipient(n), &format!("{mark}message")))
                .await,
        );
    }
    rig.wait_for_all(&ids, "delivered").await;
    let report = eventually("the shadow has seen all", async || {
        let (_, report) = rig.admin("GET", "/v1/policy/shadow", None).await;
        (report["compared"].as_u64() >= Some(30)).then_some(report)
    })
    .await;
    assert_eq!(report["by_change"]["outcome"], 10, "{report:#}");
    assert_eq!(report["not_shown"], 0, "{report:#}");
    let (status, last) = rig.admin("DELETE", "/v1/policy/shadow", None).await;
    assert_eq!((status, &last["set"]), (200, &shadow["set"]));
    assert_eq!(rig.admin("GET", "/v1/policy/shadow", None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_with_a_planted_fault_rolls_back_by_itself_and_no_message_suffers() {
    let rig = start().await;
    let before = in_force(&rig).await["id"].clone();
    let body = json!({ "policy": candidate(&rig, BROKEN), "canary": { "steps": [10, 50] } });
    let traffic = Traffic::start(&rig, 4, |n| sms(&recipient(n), &format!("message {n}")));
    eventually("traffic flows", async || {
        (traffic.begun() > 20).then_some(())
    })
    .await;
    let begun = traffic.begun();
    let (status, canary) = rig.admin("PUT", "/v1/policy/canary", Some(body)).await;
    assert_eq!(status, 200, "{canary}");
    let ended = eventually("the canary has rolled back", async || {
        let begun = traffic.begun();
        (rig.admin("GET", "/v1/policy/canary", None).await.0 == 404).then_some(begun)
    })
    .await;
    assert!(ended - begun <= 200, "{} messages", ended - begun);
    let sent = traffic.stop().await;
    assert!(
        sent.refused.is_empty() && sent.unanswered.is_empty(),
        "{:?}",
        sent.refused
    );
    rig.wait_for_all(&sent.accepted, "delivered").await;
    let counters = rig.simulators[0].counters();
    assert_eq!(counters.unique, sent.accepted.len() as u64);
    assert_eq!(counters.duplicated, 0);
    assert_eq!(in_force(&rig).await["id"], before);
    let log = rig.log();
    assert!(
        log.contains("canary.rolled_back") && log.contains("fault_rate"),
        "{log}"
    );
    // A message that the candidate failed on shows both decisions.
    let mut tried = 0;
    for id in &sent.accepted {
        let message = rig.message(id).await;
        let decisions = message["decisions"].as_array().expect("decisions").len();
        tried += usize::from(decisions > 1);
    }
    assert!((3..=100).contains(&tried), "{tried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_refuses_more_refuses_nobody_and_rolls_back() {
    let rig = start().await;
    let settings = json!({ "steps": [50], "min_messages": 20, "step_messages": 1000 });
    let body = json!({ "policy": candidate(&rig, REFUSING), "canary": settings });
    let (status, canary) = rig.admin("PUT", "/v1/policy/canary", Some(body)).await;
    assert_eq!(status, 200, "{canary}");
    let traffic = Traffic::start(&rig, 2, |n| sms(&recipient(n), "!marked"));
    eventually("the canary has rolled back", async || {
        (rig.admin("GET", "/v1/policy/canary", None).await.0 == 404).then_some(())
    })
    .await;
    let sent = traffic.stop().await;
    assert!(sent.refused.is_empty(), "{:?}", sent.refused);
    rig.wait_for_all(&sent.accepted, "delivered").await;
    assert!(rig.log().contains("refusal_rate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_canary_steps_outlives_a_restart_and_is_promoted() {
    let mut rig = start().await;
    let settings = json!({ "steps": [20, 60], "step_messages": 10, "step_seconds": 0 });
    let body = json!({ "policy": candidate(&rig, REFUSING), "canary": settings });
    let (status, canary) = rig
        .admin("PUT", "/v1/policy/canary", Some(body.clone()))
        .await;
    assert_eq!(status, 200, "{canary}");
    let (status, problem) = rig
        .admin("PUT", "/v1/policy/canary", Some(body.clone()))
        .await;
    assert_eq!(
        (status, text(&problem["code"])),
        (409, "conflict"),
        "{problem}"
    );
    // Going back from a canary is ending it.
    let (status, back) = rig.admin("POST", "/v1/policy/rollback", None).await;
    assert_eq!((status, &back["set"]), (200, &canary["baseline"]), "{back}");
    assert_eq!(rig.admin("GET", "/v1/policy/canary", None).await.0, 404);
    let (status, canary) = rig
        .admin("PUT", "/v1/policy/canary", Some(body.clone()))
        .await;
    assert_eq!(status, 200, "{canary}");
    rig.kill().await;
    rig.launch().await;
    let (status, resumed) = rig.admin("GET", "/v1/policy/canary", None).await;
    assert_eq!(
        (status, &resumed["set"]),
        (200, &canary["set"]),
        "{resumed}"
    );
    let traffic = Traffic::start(&rig, 2, |n| sms(&recipient(n), "plain"));
    eventually("the candidate is in force", async || {
        (in_force(&rig).await["id"] == canary["set"]).then_some(())
    })
    .await;
    let sent = traffic.stop().await;
    assert!(sent.refused.is_empty(), "{:?}", sent.refused);
    let history = rig.items("/v1/policy/history").await;
    assert_eq!(text(&history[0]["by"]), "canary");
    assert_eq!(
        rig.refused(sms(&recipient(1), "!now")).await["code"],
        "marked"
    );
    // And back, as from any policy.
    let (status, back) = rig.admin("POST", "/v1/policy/rollback", None).await;
    assert_eq!(status, 200, "{back}");
    rig.submit(sms(&recipient(1), "!again")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_trials_are_refused_with_their_place() {
    let rig = start().await;
    let cases = [
        (json!({ "canary": { "steps": [50, 10] } }), "/steps"),
        (json!({ "canary": { "steps": [] } }), "/steps"),
        (
            json!({ "canary": { "guards": { "fault_rate": 2.0 } } }),
            "/guards",
        ),
        (json!({ "canary": { "stepz": [1] } }), "/canary/stepz"),
    ];
    for (mut body, pointer) in cases {
        body["policy"] = candidate(&rig, REFUSING);
        let (status, problem) = rig.admin("PUT", "/v1/policy/canary", Some(body)).await;
        assert!((400..500).contains(&status), "{problem}");
        let shown = text(&problem["errors"][0]["pointer"]);
        assert!(
            shown.starts_with(pointer) || pointer.starts_with(shown),
            "{problem}"
        );
    }
    let same = json!({ "policy": candidate(&rig, IN_FORCE) });
    assert_eq!(
        rig.admin("PUT", "/v1/policy/canary", Some(same)).await.0,
        409
    );
    assert_eq!(rig.admin("DELETE", "/v1/policy/canary", None).await.0, 409);
    assert_eq!(
        rig.call("PUT", "/v1/policy/canary", Some(json!({})))
            .await
            .0,
        403
    );
    let body = json!({ "policy": candidate(&rig, REFUSING), "cpu_share": 7 });
    assert_eq!(
        rig.admin("PUT", "/v1/policy/shadow", Some(body)).await.0,
        422
    );
}

// ---------------------------------------------------------------------------- 100,000 decisions

const MANY: u64 = 100_000;
/// One in so many begins with the mark.
const PLANTED: u64 = 997;

struct Folder(std::path::PathBuf);

impl Resolver for Folder {
    fn component(&self, source: &Source) -> Result<Vec<u8>, String> {
        match source {
            Source::Path(path) => std::fs::read(self.0.join(path)).map_err(|e| e.to_string()),
            Source::Digest(_) => Err("no digests here".to_owned()),
        }
    }

    fn table(&self, source: &Source) -> Result<Vec<u8>, String> {
        self.component(source)
    }

    fn secret(&self, reference: &str) -> Result<String, String> {
        Err(reference.to_owned())
    }
}

async fn set(folder: &std::path::Path, toml: &str) -> PolicySet {
    let clock = Clock::manual(Timestamp(1));
    let host = Host {
        engine: Engine::new(EngineLimits {
            instances: 8,
            ..EngineLimits::default()
        })
        .expect("an engine"),
        state: Arc::new(MemoryState::new(clock)),
        http: Arc::new(HyperClient::new().expect("a client")),
        pseudonym_key: [1; 32],
    };
    let spec = PolicySpec::from_toml(&toml.replace("{dir}/", "")).expect("a policy");
    PolicySet::build(&spec, Arc::new(Folder(folder.to_owned())), &host, None)
        .await
        .expect("a set")
}

fn message(n: u64) -> Message {
    let mark = if n.is_multiple_of(PLANTED) { "!" } else { "" };
    Message {
        id: MessageId(n.into()),
        account: AccountId::from("acme"),
        originator: Address::originator("Acme").expect("an originator"),
        recipient: Address::international(&recipient(usize::try_from(n % 10_000).expect("small")))
            .expect("a recipient"),
        network: Network::default(),
        class: TrafficClass::Transactional,
        body: Body::Text(format!("{mark}message {n}")),
        submitted_body: None,
        alphabet: Alphabet::Gsm7,
        segments: 1,
        accepted_at: Timestamp(n),
        send_at: Timestamp(n),
        expires_at: Timestamp(n + 1_000),
        reference: String::new(),
        metadata: Vec::new(),
        tlvs: Vec::new(),
        receipt_url: None,
        sm: heliograph::domain::SmParameters::default(),
        source: heliograph::domain::Source::Http,
        shift: heliograph::domain::text::ShiftTables::default(),
        on_unknown: OnUnknown::Resend,
        duplicate_risk: false,
        state: State::Queued,
        due: None,
        plan: Route::default(),
        hop: 0,
        attempts: Vec::new(),
        parts: Vec::new(),
        failed: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_change_is_found_exactly_in_a_hundred_thousand_recorded_decisions() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, guest) in [("passing", passing()), ("refusing", refusing())] {
        std::fs::write(folder.path().join(format!("{name}.wasm")), guest.build()).expect("a file");
    }
    let (was, candidate) = (
        set(folder.path(), IN_FORCE).await,
        set(folder.path(), REFUSING).await,
    );
    let options = RecordingOptions {
        enabled: true,
        folder: folder.path().join("recording"),
        retain: Duration::from_secs(3_600),
        max_octets: 1 << 30,
        free_octets_min: 0,
        seals: None,
    };
    let recorder = Recorder::open(options, Clock::manual(Timestamp(1))).expect("a recorder");
    let view = CarrierView {
        id: CarrierId::from("sim0"),
        connected: true,
        queued: 0,
        in_flight: 0,
        headroom: 10.0,
        delivered_ratio: None,
        p50_receipt_ms: None,
        tags: Vec::new(),
    };
    let carriers = Arc::new(vec![view]);
    for n in 1..=MANY {
        let mut message = message(n);
        let network = message.network;
        let facts = Facts {
            context: Context {
                now: Timestamp(n),
                random: n,
                phase: Phase::Admission,
            },
            profile: RecipientProfile::default(),
            carriers: carriers.clone(),
            released: false,
            exempt: false,
        };
        let mut witness = Witness::listening();
        let judgement = judge(&was, &mut message, &facts, &mut witness).await;
        message.record_decision(Decision {
            set: was.id(),
            at: Timestamp(n),
            phase: Phase::Admission,
            calls: judgement.calls,
        });
        let case = CaseRef {
            message: &message,
            set: was.id(),
            facts: &facts,
            outcome: &judgement.outcome,
            opted_out_after: false,
            network,
            metadata: None,
            heard: &witness.into_heard(),
        };
        recorder.record(&case, Timestamp(n));
        if n.is_multiple_of(2_000) {
            recorder.flush().await;
        }
    }
    recorder.flush().await;
    assert_eq!(recorder.stats().dropped, 0);
    let request = ReplayRequest {
        since: Timestamp(0),
        until: Timestamp::MAX,
        limit: MANY,
        examples: 5,
    };
    let same = replay(&was, recorder.folder(), None, &request)
        .await
        .expect("a report");
    assert_eq!((same.tally.compared, same.tally.different), (MANY, 0));
    let report = replay(&candidate, recorder.folder(), None, &request)
        .await
        .expect("a report");
    assert_eq!(report.tally.compared, MANY);
    assert_eq!(report.tally.different, MANY / PLANTED);
    let moved = report
        .tally
        .codes
        .get(&("send".to_owned(), "marked".to_owned()));
    assert_eq!(moved, Some(&(MANY / PLANTED)));
}
