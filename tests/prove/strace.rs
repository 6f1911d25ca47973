//! strace on a running process: to see its calls, or to make one fail.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

pub struct Strace {
    child: Child,
}

impl Strace {
    /// On all threads of the process. Says why this machine cannot.
    pub async fn attach(pid: u32, arguments: &[&str], log: &Path) -> Result<Strace, String> {
        let mut child = Command::new("strace")
            .arg("-f")
            .args(arguments)
            .arg("-o")
            .arg(log)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("strace: {e}"))?;
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(Some(exit)) = child.try_wait() {
                return Err(format!("strace cannot attach here ({exit})"));
            }
            if all_traced(pid) {
                return Ok(Strace { child });
            }
            if Instant::now() >= end {
                return Err("strace does not attach here".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets the process go on alone.
    pub async fn detach(mut self) {
        if let Some(pid) = self.child.id() {
            let interrupt = ["-INT", &pid.to_string()];
            let _ = Command::new("kill").args(interrupt).status().await;
            let _ = self.child.wait().await;
        }
    }
}

/// Whether every thread of the process has a tracer.
fn all_traced(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let tracer = status.lines().find_map(|l| l.strip_prefix("TracerPid:"));
        tracer.is_none_or(|t| t.trim() != "0")
    })
}
