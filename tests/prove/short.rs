//! Every statement in its short form. What this machine cannot run says so and proves nothing.

use heliograph_tests::prove::{Run, STATEMENTS, Verdict, prove};

async fn holds(number: u8) {
    let statement = STATEMENTS
        .iter()
        .find(|s| s.number == number)
        .expect("a statement");
    let run = Run {
        long: false,
        seed: rand::random::<u32>().into(),
        soak: None,
        hours: None,
    };
    for row in prove(statement, run).await {
        let name = format!("{number} {}: {}", row.statement, row.part);
        match row.outcome.verdict {
            Verdict::Holds => {}
            Verdict::NotRun(why) => println!("{name}: not run: {why}"),
            Verdict::Fails(why) => panic!("{name}, seed {}: {why}", row.seed),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_1_crash() {
    holds(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_2_power_cut() {
    holds(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_3_disk() {
    holds(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_4_restart() {
    holds(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_5_overload() {
    holds(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_6_bad_neighbours() {
    holds(6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_7_clock() {
    holds(7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_8_http_edge() {
    holds(8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_9_injection() {
    holds(9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_10_at_rest_and_in_flight() {
    holds(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_11_soak() {
    holds(11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_12_simulation() {
    holds(12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_13_supply_chain() {
    holds(13).await;
}

#[test]
fn every_statement_has_a_short_form_here() {
    let text = include_str!("short.rs");
    for statement in STATEMENTS {
        let call = format!("holds({}).await", statement.number);
        assert!(text.contains(&call), "{}", statement.name);
    }
}
