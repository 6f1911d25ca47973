//! The newcomer's first command.

use std::time::Duration;

use heliograph_tests::binary;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_sees_every_sample_reach_the_state_it_should() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = Command::new(binary())
        .args(["demo", "--once"])
        .current_dir(folder.path())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(150), demo)
        .await
        .expect("the demo ends")
        .expect("the demo runs");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
}
