//! The engine alone: what is written, reopened and torn.

use super::super::journal::is_journal;
use super::*;
use crate::clock::Timestamp;

fn open(directory: &Path) -> (Arc<Engine>, Journal) {
    Engine::open(directory, Opening::new(Probes::default())).unwrap()
}

fn value(text: &str) -> Value {
    Value::from(text.as_bytes())
}

fn all(engine: &Engine, limit: usize) -> Vec<(String, String)> {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    engine
        .scan(b"a", b"{", limit)
        .unwrap()
        .iter()
        .map(|(k, v)| (text(k), text(v)))
        .collect()
}

fn key(text: &str) -> Key {
    Key::from(text.as_bytes())
}

/// Writes what is complete so far to the trees.
fn settle(engine: &Engine, journal: &mut Journal) {
    assert!(journal.freeze(true));
    engine
        .write_behind(&engine.frozen().unwrap(), Vec::new())
        .unwrap();
}

fn id(millis: u64, n: u128) -> MessageId {
    MessageId::new(Timestamp(millis), n)
}

#[test]
fn a_commit_is_there_after_reopening_and_an_unfinished_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (_engine, mut journal) = open(directory.path());
        journal.put(key("kept"), value("1"), true);
        journal.put_record(id(1, 1), value("record"));
        journal.commit().unwrap();
        journal.put(key("lost"), value("2"), true);
    }
    let (engine, journal) = open(directory.path());
    assert_eq!(all(&engine, 9), vec![("kept".into(), "1".into())]);
    assert_eq!(
        engine.record(id(1, 1)).unwrap().as_deref(),
        Some(&b"record"[..])
    );
    assert_eq!(journal.sequence(), 1);
}

#[test]
fn a_database_that_is_just_being_left_is_waited_for_and_one_that_is_kept_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let kept = open(directory.path());
    let refused = Engine::open(directory.path(), Opening::new(Probes::default()));
    let refused = refused.err().expect("two have it open").to_string();
    assert!(refused.contains("another process"), "{refused}");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(LOCK_LOOK * 5);
            drop(kept);
        });
        open(directory.path());
    });
}

#[test]
fn a_commit_of_many_chunks_is_replayed_whole() {
    let directory = tempfile::tempdir().unwrap();
    let large = "x".repeat(10_000);
    {
        let (_engine, mut journal) = open(directory.path());
        for n in 0..30 {
            journal.put(key(&format!("k{n:02}")), value(&large), true);
        }
        journal.commit().unwrap();
    }
    let (engine, _journal) = open(directory.path());
    assert_eq!(all(&engine, 99).len(), 30);
}

#[test]
fn a_crash_between_the_drops_of_two_journal_trees_loses_nothing_and_opens() {
    let directory = tempfile::tempdir().unwrap();
    let large = "x".repeat(10_000);
    {
        let (engine, mut journal) = open(directory.path());
        for n in 0..80 {
            journal.put(key(&format!("k{n:02}")), value(&large), true);
        }
        journal.commit().unwrap();
        let mut names: Vec<_> = engine.db.tree_names().into_iter().collect();
        names.retain(|n| is_journal(n));
        names.sort();
        assert!(names.len() > 1, "one commit over several trees");
        // The last tree begins in the middle of the commit; the crash leaves it, the others are gone.
        let left = names.pop().unwrap();
        let tree = engine.db.open_tree(&left).unwrap();
        let chunks: Vec<_> = tree.iter().map(Result::unwrap).collect();
        settle(&engine, &mut journal);
        let tree = engine.db.open_tree(&left).unwrap();
        for (place, chunk) in chunks {
            tree.insert(place, chunk).unwrap();
        }
        engine.db.flush().unwrap();
    }
    let (engine, _journal) = open(directory.path());
    assert_eq!(all(&engine, 99).len(), 80);
}

#[test]
fn newer_layers_hide_older_ones_in_gets_and_scans() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, mut journal) = open(directory.path());
    for name in ["a", "b", "c", "d"] {
        journal.put(key(name), value("tree"), true);
    }
    journal.commit().unwrap();
    settle(&engine, &mut journal);
    journal.remove(b"b");
    journal.put(key("c"), value("frozen"), false);
    journal.put(key("cc"), value("frozen"), true);
    journal.commit().unwrap();
    assert!(journal.freeze(true));
    journal.remove(b"cc");
    journal.put(key("d"), value("active"), false);
    journal.put(key("e"), value("active"), true);
    let expect = [
        ("a", "tree"),
        ("c", "frozen"),
        ("d", "active"),
        ("e", "active"),
    ];
    let expect: Vec<_> = expect
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    assert_eq!(all(&engine, 9), expect);
    for limit in 1..4 {
        assert_eq!(all(&engine, limit), expect[..limit]);
    }
    assert_eq!(engine.get(b"b").unwrap(), None);
    journal.commit().unwrap();
    engine
        .write_behind(&engine.frozen().unwrap(), Vec::new())
        .unwrap();
    settle(&engine, &mut journal);
    assert_eq!(all(&engine, 9), expect);
}

#[test]
fn an_entry_that_came_and_went_within_a_generation_never_reaches_a_tree() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, mut journal) = open(directory.path());
    journal.put(key("brief"), value("1"), true);
    journal.commit().unwrap();
    journal.remove(b"brief");
    journal.commit().unwrap();
    assert!(journal.freeze(true));
    assert!(engine.frozen().unwrap().plain.is_empty());
}

#[test]
fn a_written_generation_leaves_no_journal_and_survives_reopening() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (engine, mut journal) = open(directory.path());
        for round in 0..20 {
            journal.put(key("k"), value(&round.to_string()), false);
            journal.commit().unwrap();
        }
        settle(&engine, &mut journal);
        assert!(engine.db.tree_names().iter().all(|name| !is_journal(name)));
        journal.put(key("after"), value("1"), true);
        journal.commit().unwrap();
    }
    let (engine, _journal) = open(directory.path());
    assert_eq!(
        all(&engine, 9),
        vec![("after".into(), "1".into()), ("k".into(), "19".into())]
    );
}

#[test]
fn records_of_one_millisecond_share_blocks_and_are_found_updated_and_listed() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, mut journal) = open(directory.path());
    let large = "r".repeat(1_000);
    for n in 0..50u128 {
        journal.put_record(id(5, n), value(&large));
    }
    journal.put_record(id(9, 0), value("later"));
    journal.commit().unwrap();
    settle(&engine, &mut journal);
    journal.put_record(id(5, 49), value("changed"));
    journal.put_record(id(5, 99), value("added"));
    journal.commit().unwrap();
    settle(&engine, &mut journal);
    let record = |id| {
        engine
            .record(id)
            .unwrap()
            .map(|v| String::from_utf8_lossy(&v).into_owned())
    };
    assert_eq!(record(id(5, 0)), Some(large.clone()));
    assert_eq!(record(id(5, 49)), Some("changed".into()));
    assert_eq!(record(id(5, 99)), Some("added".into()));
    assert_eq!(record(id(5, 77)), None);
    let mut listed = Vec::new();
    let mut before = MessageId(u128::MAX);
    loop {
        let page = engine.records_before(before, MessageId(0), 7).unwrap();
        let Some((last, _)) = page.last() else { break };
        before = *last;
        listed.extend(page.iter().map(|(id, _)| *id));
    }
    let mut expect: Vec<_> = (0..50)
        .chain([99])
        .map(|n| id(5, n))
        .chain([id(9, 0)])
        .collect();
    expect.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(listed, expect);
}

#[test]
fn a_dropped_day_is_gone_and_the_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, mut journal) = open(directory.path());
    let day = 86_400_000;
    journal.put_record(id(day, 1), value("old"));
    journal.put_record(id(2 * day, 1), value("new"));
    journal.commit().unwrap();
    settle(&engine, &mut journal);
    assert_eq!(engine.days(), vec![1, 2]);
    assert!(engine.retire_day(1));
    assert_eq!(engine.record(id(day, 1)).unwrap(), None);
    engine.drop_day(1).unwrap();
    assert!(engine.record(id(2 * day, 1)).unwrap().is_some());
    assert!(!engine.retire_day(1), "it has no tree any more");
}

#[test]
fn a_day_of_which_something_waits_to_be_written_is_not_retired() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, mut journal) = open(directory.path());
    let day = 86_400_000;
    journal.put_record(id(day, 1), value("old"));
    journal.commit().unwrap();
    settle(&engine, &mut journal);
    journal.put_record(id(2 * day - 1, 2), value("late"));
    journal.commit().unwrap();
    assert!(
        !engine.retire_day(1),
        "it would come back with the late one"
    );
    settle(&engine, &mut journal);
    assert!(engine.retire_day(1));
    engine.drop_day(1).unwrap();
    assert_eq!(engine.days(), Vec::<u32>::new());
}

#[test]
fn a_day_that_is_going_takes_what_is_accepted_on_it_once_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, mut journal) = open(directory.path());
    let day = 86_400_000;
    journal.put_record(id(day, 1), value("old"));
    journal.commit().unwrap();
    settle(&engine, &mut journal);
    assert!(engine.retire_day(1));
    // The clock was set back.
    journal.put_record(id(day, 2), value("new"));
    journal.commit().unwrap();
    std::thread::scope(|scope| {
        let dropping = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            engine.drop_day(1).unwrap();
        });
        settle(&engine, &mut journal);
        dropping.join().unwrap();
    });
    assert_eq!(engine.record(id(day, 1)).unwrap(), None);
    assert!(engine.record(id(day, 2)).unwrap().is_some());
}

#[test]
fn values_larger_than_a_leaf_may_be_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let large = "x".repeat(1 << 20);
    {
        let (engine, mut journal) = open(directory.path());
        journal.put(key("large"), value(&large), true);
        journal.put_record(id(1, 1), value(&large));
        journal.commit().unwrap();
        settle(&engine, &mut journal);
    }
    let (engine, _journal) = open(directory.path());
    assert_eq!(
        engine.get(b"large").unwrap().map(|v| v.len()),
        Some(1 << 20)
    );
    assert_eq!(
        engine.record(id(1, 1)).unwrap().map(|v| v.len()),
        Some(1 << 20)
    );
}
