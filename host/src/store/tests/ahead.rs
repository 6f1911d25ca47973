//! Clocks that were wrong by days, and right again at the next start.

use super::*;

/// Times that stand where they are put.
struct Standing(u64);

impl crate::clock::Times for Standing {
    fn wall(&self) -> u64 {
        self.0
    }

    fn steady(&self) -> u64 {
        0
    }
}

const TODAY: Timestamp = Timestamp(1_800_000_000_000);
const DAY: u64 = 24 * HOUR;

fn days(n: u64) -> Timestamp {
    Timestamp(TODAY.0 + n * DAY)
}

/// After a crash, under a clock that says this.
fn start(of: &Path, at: Timestamp) -> (Store, Arc<tempfile::TempDir>) {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    copy(of, directory.path());
    let store = Store::open(options(directory.path()), Clock::of(Standing(at.0))).unwrap();
    (store, directory)
}

/// Answered once all that is brought back has been.
async fn ready(store: &Store) {
    within(store.inner.write(Vec::new())).await.unwrap();
}

async fn times(store: &Store, id: MessageId) -> (Timestamp, Timestamp, Timestamp) {
    let message = store.find(id).await.unwrap().unwrap();
    let due = message.due.expect("it waits").at;
    (message.accepted_at, due, message.expires_at)
}

fn scheduled(at: Timestamp, n: u64, due: Timestamp) -> Box<Message> {
    let mut message = message(at, n);
    message.expires_at = Timestamp(due.0 + HOUR);
    message.wait(lane("north"), due);
    message
}

#[tokio::test]
async fn what_was_brought_back_stays_there_however_often_the_server_starts() {
    let rig = Rig::new();
    rig.clock.set(days(20));
    let message = scheduled(days(20), 1, days(23));
    let id = message.id;
    rig.store.accept(message, None).await.unwrap();
    let right = (TODAY, days(3), Timestamp(days(3).0 + HOUR));
    let (mut store, mut directory) = start(rig.directory.path(), TODAY);
    for hours in [0, 1, 30, 50] {
        ready(&store).await;
        assert_eq!(times(&store, id).await, right, "after {hours} h");
        (store, directory) = start(directory.path(), Timestamp(TODAY.0 + hours * HOUR));
    }
    drop((store, directory));
}

#[tokio::test]
async fn a_clock_that_is_set_back_twice_brings_back_by_as_much_as_each_time() {
    let rig = Rig::new();
    rig.clock.set(days(20));
    let first = scheduled(days(20), 1, days(25));
    let first_id = first.id;
    rig.store.accept(first, None).await.unwrap();
    // It was not yet right.
    let (store, directory) = start(rig.directory.path(), days(8));
    let second = scheduled(days(8), 2, days(10));
    let second_id = second.id;
    store.accept(second, None).await.unwrap();
    let (store, _directory) = start(directory.path(), TODAY);
    ready(&store).await;
    let (accepted, due, expires) = times(&store, first_id).await;
    assert_eq!((accepted, due), (TODAY, days(5)));
    assert_eq!(expires.0, days(5).0 + HOUR);
    assert_eq!(times(&store, second_id).await.1, days(2));
}

#[tokio::test]
async fn what_was_accepted_by_a_right_clock_stays_where_a_wrong_one_came_between() {
    let rig = Rig::new();
    rig.clock.set(TODAY);
    let message = scheduled(TODAY, 1, days(90));
    let id = message.id;
    rig.store.accept(message, None).await.unwrap();
    let (store, directory) = start(rig.directory.path(), days(30));
    ready(&store).await;
    let (store, directory) = start(directory.path(), Timestamp(TODAY.0 + HOUR));
    ready(&store).await;
    assert_eq!(times(&store, id).await.1, days(90));
    drop((store, directory));
}

#[tokio::test]
async fn ids_of_a_wrong_clock_lead_no_right_one_astray_later() {
    let rig = Rig::new();
    rig.clock.set(days(20));
    rig.accept().await;
    let (store, directory) = start(rig.directory.path(), TODAY);
    ready(&store).await;
    drop(store);
    // Within a day of the id's time: a clock is believed to be ahead by less than that.
    let clock = Clock::of(Standing(days(20).0 - 12 * HOUR));
    let at = clock.now();
    let again = Arc::new(tempfile::tempdir().unwrap());
    copy(directory.path(), again.path());
    let store = Store::open(options(again.path()), clock.clone()).unwrap();
    ready(&store).await;
    assert_eq!(clock.now(), at);
}

#[tokio::test]
async fn a_crash_while_it_brings_back_changes_nothing_of_what_comes_of_it() {
    let rig = Rig::new();
    rig.clock.set(days(20));
    let mut ids = Vec::new();
    for (n, to) in (1..).zip([lane("north"), lane("south"), Lane::Decide, lane("east")]) {
        let mut message = scheduled(days(20), n, days(25));
        message.wait(to, days(25));
        ids.push(message.id);
        rig.store.accept(message, None).await.unwrap();
    }
    let mut whole = 0;
    // The disk fails at the nth sync; the next start finds a later clock, or one that is further behind.
    for (n, next) in (1..20).flat_map(|n| [(n, days(9)), (n, days(6)), (n, TODAY)]) {
        let left = Arc::new(AtomicU64::new(n));
        let directory = Arc::new(tempfile::tempdir().unwrap());
        copy(rig.directory.path(), directory.path());
        let mut options = options(directory.path());
        options.probes.sync = Arc::new(move |_| {
            match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) {
                Ok(_) => Ok(()),
                Err(_) => Err(std::io::Error::other("the disk failed")),
            }
        });
        if let Ok(store) = Store::open(options, Clock::of(Standing(days(8).0))) {
            whole += usize::from(store.inner.write(Vec::new()).await.is_ok());
        }
        let (store, _directory) = start(directory.path(), next);
        ready(&store).await;
        let mut found = Vec::new();
        for id in &ids {
            let (accepted, due, _) = times(&store, *id).await;
            found.push((accepted, due));
        }
        // Where nothing of the first start is left, the later clock is the first one that is right.
        let since_first = (next == days(9)).then_some((days(8), days(13)));
        let since_this = (next, Timestamp(next.0 + 5 * DAY));
        let right = [Some(since_this), since_first];
        let same = found.windows(2).all(|w| w[0] == w[1]);
        assert!(
            same && right.contains(&Some(found[0])),
            "sync {n}, then {next:?}: {found:?}"
        );
    }
    assert!(whole > 0, "it was never done");
}
