//! What was recorded comes back in order, in spans, and around damage.

use std::sync::Arc;

use super::*;
use crate::domain::text::Alphabet;
use crate::domain::{
    AccountId, Address, Asked, Body, CallOutcome, CarrierId, CarrierView, Case, Context, Decision,
    Facts, Heard, Hook, HookCall, HostAnswer, Inbound, InboundAction, InboundCase, Message,
    MessageId, Network, OnUnknown, Outcome, Phase, Plan, RecipientProfile, Refusal, SetId, State,
    TrafficClass, WishScope,
};

fn options(folder: &Path) -> RecordingOptions {
    RecordingOptions {
        enabled: true,
        folder: folder.to_owned(),
        retain: Duration::from_secs(3_600),
        max_octets: 1 << 30,
        free_octets_min: 0,
        seals: None,
    }
}

fn message(n: u64) -> Message {
    Message {
        id: MessageId(n.into()),
        account: AccountId::from("acme"),
        originator: Address::originator("Acme").unwrap(),
        recipient: Address::international("+447700900123").unwrap(),
        network: Network::default(),
        class: TrafficClass::Otp,
        body: Body::Text(format!("Your code is {n}")),
        submitted_body: None,
        alphabet: Alphabet::Gsm7,
        segments: 1,
        accepted_at: Timestamp(n),
        send_at: Timestamp(n),
        expires_at: Timestamp(n + 60_000),
        reference: "r".into(),
        metadata: vec![("campaign".into(), "spring".into())],
        tlvs: Vec::new(),
        receipt_url: None,
        sm: crate::domain::SmParameters::default(),
        source: crate::domain::Source::Http,
        shift: crate::domain::text::ShiftTables::default(),
        on_unknown: OnUnknown::Resend,
        duplicate_risk: false,
        state: State::Queued,
        due: None,
        plan: Plan::default(),
        hop: 0,
        attempts: Vec::new(),
        parts: Vec::new(),
        failed: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    }
}

fn view(id: &str, queued: u32) -> CarrierView {
    CarrierView {
        id: CarrierId::from(id),
        connected: true,
        queued,
        in_flight: 3,
        headroom: 12.5,
        delivered_ratio: Some(0.25),
        p50_receipt_ms: None,
        tags: vec!["cheap".into()],
    }
}

fn case(n: u64, carriers: &Arc<Vec<CarrierView>>) -> Case {
    let mut message = message(n);
    message.decisions = vec![Decision {
        set: SetId([7; 16]),
        at: Timestamp(n),
        phase: Phase::Admission,
        calls: Vec::new(),
    }];
    Case {
        network: message.network,
        metadata: (n.is_multiple_of(2)).then(|| vec![("given".into(), "then".into())]),
        message,
        set: SetId([7; 16]),
        facts: Facts {
            context: Context {
                now: Timestamp(n),
                random: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                phase: Phase::Admission,
            },
            profile: RecipientProfile {
                opted_out: n.is_multiple_of(2),
                utc_offset_minutes: Some(-90),
                sent_last_day: 4,
            },
            carriers: carriers.clone(),
            released: n.is_multiple_of(3),
            exempt: n.is_multiple_of(5),
        },
        outcome: match n % 4 {
            0 => Outcome::Send,
            1 => Outcome::Refuse(Refusal {
                code: "no".into(),
                reason: "because".into(),
            }),
            2 => Outcome::Defer {
                until: Timestamp(n + 9),
                reason: "night".into(),
            },
            _ => Outcome::OptedOut,
        },
        opted_out_after: n.is_multiple_of(7),
        heard: vec![Heard {
            entry: "guard".into(),
            hook: Hook::ComplianceCheck,
            answers: vec![
                HostAnswer::Get {
                    key: "a".into(),
                    value: None,
                },
                HostAnswer::Count {
                    key: "b".into(),
                    by: -1,
                    value: 1 << 40,
                },
                HostAnswer::Set {
                    key: "c".into(),
                    taken: false,
                },
            ],
        }],
    }
}

fn record(recorder: &Recorder, case: &Case) {
    let lent = CaseRef {
        message: &case.message,
        set: case.set,
        facts: &case.facts,
        outcome: &case.outcome,
        opted_out_after: case.opted_out_after,
        network: case.network,
        metadata: case.metadata.as_deref(),
        heard: &case.heard,
    };
    recorder.record(&lent, case.facts.context.now);
}

fn read(folder: &Path, since: u64, until: u64, limit: u64) -> (Vec<Case>, Cases) {
    let mut cases = cases(folder, None, Timestamp(since), Timestamp(until), limit).unwrap();
    let mut all = Vec::new();
    while let Some(block) = cases.next_block() {
        if let RecordedBlock::Messages(block) = block {
            all.extend(block);
        }
    }
    (all, cases)
}

fn inbound_case(n: u64) -> InboundCase {
    let asked = |action| Asked {
        action,
        of_operator: n.is_multiple_of(2),
    };
    InboundCase {
        inbound: Inbound {
            id: MessageId(n.into()),
            carrier: CarrierId::from("north"),
            originator: Address::international("+447700900123").unwrap(),
            recipient: Address::originator("60777").unwrap(),
            body: Body::Text(format!("STOP {n}")),
            received_at: Timestamp(n),
            opted_out: n.is_multiple_of(3),
        },
        set: SetId([9; 16]),
        context: Context {
            now: Timestamp(n),
            random: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            phase: Phase::Admission,
        },
        owner: n.is_multiple_of(2).then(|| AccountId::from("acme")),
        asked: vec![
            asked(InboundAction::Reply("Bye".into())),
            asked(InboundAction::OptOut(WishScope::Account)),
            asked(InboundAction::OptIn(WishScope::Everything)),
            asked(InboundAction::Label("vip".into())),
            asked(InboundAction::Consume),
        ],
        calls: vec![HookCall {
            entry: 3,
            outcome: CallOutcome::Fault,
            why: "a trap".into(),
            nanos: 1_234,
        }],
        heard: vec![Heard {
            entry: "words".into(),
            hook: Hook::InboundHandler,
            answers: vec![HostAnswer::Get {
                key: "a".into(),
                value: Some(vec![1, 2]),
            }],
        }],
    }
}

fn read_inbound(folder: &Path, since: u64, until: u64, limit: u64) -> (Vec<InboundCase>, Cases) {
    let mut cases = cases(folder, None, Timestamp(since), Timestamp(until), limit).unwrap();
    let mut all = Vec::new();
    while let Some(block) = cases.next_block() {
        if let RecordedBlock::Inbound(block) = block {
            all.extend(block);
        }
    }
    (all, cases)
}

fn same(a: &Case, b: &Case) {
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

async fn written(folder: &Path, count: u64) {
    let recorder = Recorder::open(options(folder), Clock::manual(Timestamp(1))).unwrap();
    let mut carriers = Arc::new(vec![view("north", 0)]);
    for n in 1..=count {
        if n.is_multiple_of(10) {
            carriers = Arc::new(vec![
                view("north", u32::try_from(n).unwrap()),
                view("south", 1),
            ]);
        }
        record(&recorder, &case(n, &carriers));
    }
    recorder.flush().await;
    assert_eq!(recorder.stats().recorded, count);
    assert_eq!(recorder.stats().dropped, 0);
}

#[tokio::test]
async fn what_was_recorded_comes_back_in_order_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 3_000).await;
    let (all, cases) = read(folder.path(), 0, u64::MAX, u64::MAX);
    assert_eq!((all.len(), cases.damaged), (3_000, 0));
    let first = Arc::new(vec![view("north", 0)]);
    same(&all[0], &case(1, &first));
    let later = Arc::new(vec![view("north", 2_990), view("south", 1)]);
    same(&all[2_994], &case(2_995, &later));
}

#[tokio::test]
async fn a_span_and_the_newest_of_it() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 3_000).await;
    let times = |cases: &[Case]| {
        let at = |c: &Case| c.facts.context.now.0;
        (cases.first().map(at), cases.last().map(at), cases.len())
    };
    let (span, _) = read(folder.path(), 100, 200, u64::MAX);
    assert_eq!(times(&span), (Some(100), Some(199), 100));
    let (newest, cases) = read(folder.path(), 0, u64::MAX, 5);
    assert_eq!(times(&newest), (Some(2_996), Some(3_000), 5));
    assert_eq!(cases.recorded.decisions, 3_000);
}

#[tokio::test]
async fn a_damaged_block_costs_itself_and_a_torn_end_nothing_before_it() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 3_000).await;
    let path = std::fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let whole = std::fs::read(&path).unwrap();
    for (at, change) in [(60, true), (whole.len() - 7, false)] {
        let mut bytes = whole.clone();
        if change {
            bytes[at] ^= 1;
        } else {
            bytes.truncate(at);
        }
        std::fs::write(&path, bytes).unwrap();
        let (left, cases) = read(folder.path(), 0, u64::MAX, u64::MAX);
        assert!(!left.is_empty() && left.len() < 3_000, "{}", left.len());
        assert_eq!(cases.damaged, 1);
    }
    for length in 0..80 {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(read(folder.path(), 0, u64::MAX, u64::MAX).0.is_empty());
    }
}

#[tokio::test]
async fn nothing_is_recorded_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let full = RecordingOptions {
        free_octets_min: u64::MAX,
        ..options(folder.path())
    };
    let recorder = Recorder::open(full, Clock::manual(Timestamp(1))).unwrap();
    record(&recorder, &case(1, &Arc::new(Vec::new())));
    recorder.flush().await;
    assert_eq!(recorder.stats().dropped, 1);
    assert!(read(folder.path(), 0, u64::MAX, 9).0.is_empty());
}

#[test]
fn old_files_and_too_many_are_dropped_and_the_newest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp(0));
    let mut writer = file::Writer::new(options(folder.path()), clock.clone());
    let count = || std::fs::read_dir(folder.path()).unwrap().count();
    for hour in 0..5u64 {
        clock.set(Timestamp(hour * 3_600_000));
        let block = Block {
            kind: Kind::Messages,
            raw: vec![1; 100],
            count: 1,
            first: clock.now(),
            last: clock.now(),
        };
        writer.append(&block).unwrap();
    }
    // An hour is kept: the file that it began in, and those after it.
    assert_eq!(count(), 3);
}

#[tokio::test]
async fn what_is_too_old_goes_though_nothing_more_is_recorded_of_its_kind_or_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let hour = |n: u64| Timestamp(n * 3_600_000);
    let clock = Clock::manual(hour(1));
    let mut writer = file::Writer::new(options(folder.path()), clock.clone());
    let block = |kind| Block {
        kind,
        raw: vec![1; 100],
        count: 1,
        first: clock.now(),
        last: clock.now(),
    };
    let count = || std::fs::read_dir(folder.path()).unwrap().count();
    writer.append(&block(Kind::Inbound)).unwrap();
    writer.append(&block(Kind::Messages)).unwrap();
    clock.set(hour(2));
    writer.look_after();
    writer.append(&block(Kind::Messages)).unwrap();
    // The last that these two may hold is an hour old, and no more than that.
    clock.set(hour(3));
    writer.look_after();
    assert_eq!(count(), 3);
    clock.set(Timestamp(hour(3).0 + 60_000));
    writer.look_after();
    assert_eq!(count(), 1);
    clock.set(Timestamp(hour(4).0 + 120_000));
    writer.look_after();
    assert_eq!(count(), 0);
    writer.append(&block(Kind::Inbound)).unwrap();
    assert_eq!(count(), 1);
}

#[tokio::test]
async fn a_recording_that_is_over_is_read_and_forgotten_and_grows_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let carriers = Arc::new(vec![view("north", 0)]);
    let clock = Clock::manual(Timestamp(1));
    let recorder = Recorder::open(options(folder.path()), clock.clone()).unwrap();
    record(&recorder, &case(1, &carriers));
    recorder.record_inbound(&inbound_case(1).lent());
    recorder.flush().await;
    drop(recorder);
    let over = RecordingOptions {
        enabled: false,
        ..options(folder.path())
    };
    let recorder = Recorder::open(over, clock).unwrap();
    record(&recorder, &case(2, &carriers));
    recorder.record_inbound(&inbound_case(2).lent());
    recorder.flush().await;
    let (messages, cases) = read(folder.path(), 0, u64::MAX, u64::MAX);
    assert_eq!((messages.len(), cases.recorded.decisions), (1, 2));
    let number = messages[0].message.recipient.value.clone();
    let (mut after, mut forgotten) = (String::new(), 0);
    loop {
        let turn = recorder.forget(&after, &number).await.unwrap();
        forgotten += turn.decisions;
        match turn.file {
            Some(file) => after = file,
            None => break,
        }
    }
    assert!(forgotten > 0, "{number}");
    let (messages, _) = read(folder.path(), 0, u64::MAX, u64::MAX);
    assert_eq!(messages.len(), 0);
}

#[tokio::test]
async fn decisions_about_inbound_messages_lie_beside_the_others_and_come_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(options(folder.path()), Clock::manual(Timestamp(1))).unwrap();
    let carriers = Arc::new(vec![view("north", 0)]);
    for n in 1..=2_000 {
        record(&recorder, &case(n, &carriers));
        recorder.record_inbound(&inbound_case(n).lent());
    }
    recorder.flush().await;
    assert_eq!(recorder.stats().recorded, 4_000);
    let (inbound, cases) = read_inbound(folder.path(), 0, u64::MAX, u64::MAX);
    assert_eq!((inbound.len(), cases.damaged), (2_000, 0));
    for (n, read) in (1..).zip(&inbound) {
        assert_eq!(format!("{read:?}"), format!("{:?}", inbound_case(n)));
    }
    let (span, _) = read_inbound(folder.path(), 100, 200, u64::MAX);
    assert_eq!(span.len(), 100);
    let (messages, cases) = read(folder.path(), 0, u64::MAX, u64::MAX);
    assert_eq!((messages.len(), cases.recorded.decisions), (2_000, 4_000));
}

/// What a server of before reads: files that hold nothing but blocks of the first version.
#[tokio::test]
async fn no_file_of_decisions_about_messages_holds_another_kind_of_block() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(options(folder.path()), Clock::manual(Timestamp(1))).unwrap();
    let carriers = Arc::new(vec![view("north", 0)]);
    for n in 1..=40 {
        record(&recorder, &case(n, &carriers));
        recorder.record_inbound(&inbound_case(n).lent());
        if n.is_multiple_of(10) {
            recorder.flush().await;
        }
    }
    recorder.flush().await;
    let mut versions = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let blocks = bytes.windows(5).filter(|w| w.starts_with(b"HGRC"));
        let mut of_file: Vec<u8> = blocks.map(|w| w[4]).collect();
        of_file.dedup();
        versions.push((path.to_string_lossy().contains("-inbound"), of_file));
    }
    versions.sort();
    assert_eq!(versions, [(false, vec![1]), (true, vec![2])]);
}

#[test]
fn a_file_of_one_kind_lives_by_the_next_of_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp(0));
    let mut writer = file::Writer::new(options(folder.path()), clock.clone());
    let append = |writer: &mut file::Writer, kind| {
        let block = Block {
            kind,
            raw: vec![1; 100],
            count: 1,
            first: clock.now(),
            last: clock.now(),
        };
        writer.append(&block).unwrap();
    };
    append(&mut writer, Kind::Inbound);
    for hour in 0..5u64 {
        clock.set(Timestamp(hour * 3_600_000));
        append(&mut writer, Kind::Messages);
    }
    let count = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(count(), 3 + 1, "the newest inbound file stays");
    append(&mut writer, Kind::Inbound);
    clock.set(Timestamp(6 * 3_600_000));
    append(&mut writer, Kind::Messages);
    assert_eq!(count(), 2 + 1);
}

#[tokio::test]
async fn a_number_is_forgotten_file_by_file_and_nothing_else_is_lost() {
    const NUMBER: &str = "447700900999";
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(options(folder.path()), Clock::manual(Timestamp(1))).unwrap();
    let carriers = Arc::new(vec![view("north", 0)]);
    let recorded = |n: u64| {
        let mut case = case(n, &carriers);
        if n.is_multiple_of(3) {
            case.message.recipient = Address::international(NUMBER).unwrap();
        }
        case
    };
    (1..=30).for_each(|n| record(&recorder, &recorded(n)));
    let first = recorder.forget("", NUMBER).await.unwrap();
    assert_eq!(first.decisions, 10);
    // What is recorded meanwhile lies in another file.
    (31..=60).for_each(|n| record(&recorder, &recorded(n)));
    let after = first.file.unwrap();
    recorder.flush().await;
    let second = recorder.forget(&after, NUMBER).await.unwrap();
    assert_eq!(second.decisions, 10);
    let last = recorder.forget(&second.file.unwrap(), NUMBER).await;
    assert_eq!(last.unwrap(), Forgotten::default());
    let (left, cases) = read(folder.path(), 0, u64::MAX, u64::MAX);
    assert_eq!((left.len(), cases.damaged), (40, 0));
    same(&left[0], &recorded(1));
    same(&left[39], &recorded(59));
    assert!(left.iter().all(|c| !c.message.concerns(NUMBER)));
}

#[tokio::test]
async fn a_number_is_forgotten_in_what_it_wrote_itself() {
    const NUMBER: &str = "447700900999";
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(options(folder.path()), Clock::manual(Timestamp(1))).unwrap();
    for n in 1..=30 {
        let mut case = inbound_case(n);
        if n.is_multiple_of(3) {
            case.inbound.originator = Address::international(NUMBER).unwrap();
        }
        recorder.record_inbound(&case.lent());
    }
    let first = recorder.forget("", NUMBER).await.unwrap();
    assert_eq!(first.decisions, 10);
    let (left, cases) = read_inbound(folder.path(), 0, u64::MAX, u64::MAX);
    assert_eq!((left.len(), cases.damaged), (20, 0));
    assert!(left.iter().all(|c| !c.inbound.concerns(NUMBER)));
}

#[tokio::test]
async fn a_sealed_recording_is_read_with_its_key_alone() {
    use super::super::sealing::SealingKey;
    let seals = |octet: u8| {
        let key = SealingKey {
            id: "key".into(),
            octets: [octet; 32],
        };
        Some(Seals::new(&[key]).unwrap())
    };
    let folder = tempfile::tempdir().unwrap();
    let sealed = RecordingOptions {
        seals: seals(1),
        ..options(folder.path())
    };
    let recorder = Recorder::open(sealed, Clock::manual(Timestamp(1))).unwrap();
    let carriers = Arc::new(vec![view("north", 0)]);
    (1..=20).for_each(|n| record(&recorder, &case(n, &carriers)));
    (21..=30).for_each(|n| recorder.record_inbound(&inbound_case(n).lent()));
    recorder.flush().await;
    let read = |seals: Option<Seals>| {
        let mut cases =
            cases(folder.path(), seals, Timestamp(0), Timestamp::MAX, u64::MAX).unwrap();
        let mut read = 0;
        while let Some(block) = cases.next_block() {
            read += match block {
                RecordedBlock::Messages(cases) => cases.len(),
                RecordedBlock::Inbound(cases) => cases.len(),
            };
        }
        (read, cases.damaged)
    };
    assert_eq!(read(seals(1)), (30, 0));
    assert_eq!(read(seals(2)), (0, 2));
    assert_eq!(read(None), (0, 2));
    let first = recorder.forget("", "447700900123").await.unwrap();
    assert_eq!(first.decisions, 20);
    let second = recorder.forget(&first.file.unwrap(), "447700900123").await;
    assert_eq!(second.unwrap().decisions, 10);
    assert_eq!(read(seals(1)), (0, 0));
}
