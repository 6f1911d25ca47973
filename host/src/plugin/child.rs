//! Compilation, the one phase that the runtime does not protect: in a process of its own with limits
//! on time and memory, or in this one for tests. Native code comes from our own compiler or our own folder
//! (`kept`) and from nowhere else.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use wasmtime::component::Component;
use wasmtime::{OptLevel, RegallocAlgorithm};

use super::engine::{ComponentLimits, Engine, compiler_config};
use super::kept;
use super::load::LoadError;

/// Where components are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileMode {
    /// On a thread of this process: what a component costs the compiler, it costs the server.
    InProcess,
    /// By `PROGRAM plugin compile-child`, which is this same program.
    Child { program: PathBuf },
}

/// How well a component is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// In a third of the time, for half the speed: a set waits for it.
    Quick,
    Thorough,
}

/// Wall time for each second of CPU time: the machine has other things to do, and a process that gives
/// way waits.
const WALL_PER_CPU: u32 = 5;
/// Nothing but standard output is written, and that is a pipe.
const FILE_BLOCKS_MAX: u32 = 0;
/// How far it gives way to a server that serves (nice(1)), where somebody waits for it.
const NICENESS: u32 = 10;
/// And where nobody does.
const NICENESS_ASIDE: u32 = 19;
pub(super) const ARTEFACT_BYTES_MAX: usize = 256 << 20;
const COMPLAINT_BYTES_MAX: usize = 4 << 10;

/// The component, and with how much care it was compiled: what was kept is always thorough, and so is what
/// this process compiles. `aside`: nobody waits for it.
pub(super) async fn compile(
    engine: &Engine,
    digest: &[u8; 32],
    bytes: Arc<Vec<u8>>,
    care: Care,
    aside: bool,
) -> Result<(Component, Care), LoadError> {
    let file = engine.limits().cache.clone().map(|cache| {
        let path = cache.folder.join(kept::file_name(engine, digest));
        (cache, path)
    });
    if let Some((cache, path)) = file.clone() {
        let engine = engine.clone();
        let found =
            blocking(move || Ok(kept::find(&cache, &path).and_then(|a| trusted(&engine, &a).ok())));
        if let Some(component) = found.await? {
            return Ok((component, Care::Thorough));
        }
    }
    let (component, care) = match &engine.limits().compile {
        CompileMode::InProcess => {
            let engine = engine.clone();
            let compiled =
                blocking(move || Component::new(engine.wasm(), &*bytes).map_err(invalid));
            (compiled.await?, Care::Thorough)
        }
        CompileMode::Child { program } => {
            let limits = engine.limits().component;
            let niceness = match (aside, engine.is_serving()) {
                (true, _) => NICENESS_ASIDE,
                (false, true) => NICENESS,
                (false, false) => 0,
            };
            let artefact = compile_in_child(program, &bytes, limits, niceness, care).await?;
            let engine = engine.clone();
            let component = blocking(move || {
                trusted(&engine, &artefact).map_err(|e| LoadError::Compiler(format!("{e:#}")))
            });
            (component.await?, care)
        }
    };
    if let (Some((cache, path)), Care::Thorough) = (file, care) {
        let component = component.clone();
        let in_use = engine
            .digests()
            .iter()
            .map(|d| kept::file_name(engine, d))
            .collect();
        // A folder that cannot be written costs the next start time and nothing else.
        let kept = blocking(move || Ok(kept::keep(&cache, &path, &component, &in_use))).await?;
        if let Err(error) = kept {
            tracing::warn!(%error, "compiled plugin not kept");
        }
    }
    Ok((component, care))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| LoadError::Compiler(e.to_string()))?
}

fn invalid(error: wasmtime::Error) -> LoadError {
    LoadError::Invalid(format!("{error:#}"))
}

/// The body of `heliograph plugin compile-child`: a component on `input`, native code on `output`.
/// The error is one line for the parent's log.
pub fn compile_child(input: impl Read, mut output: impl Write, care: Care) -> Result<(), String> {
    let mut bytes = Vec::new();
    input
        .take(u64::from(ComponentLimits::MIB_CEILING) << 20)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    let mut config = compiler_config();
    if care == Care::Quick {
        config
            .cranelift_opt_level(OptLevel::None)
            .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    }
    let engine = wasmtime::Engine::new(&config).map_err(|e| format!("{e:#}"))?;
    let artefact = engine
        .precompile_component(&bytes)
        .map_err(|e| format!("{e:#}"))?;
    output.write_all(&artefact).map_err(|e| e.to_string())
}

async fn compile_in_child(
    program: &Path,
    bytes: &[u8],
    limits: ComponentLimits,
    niceness: u32,
    care: Care,
) -> Result<Vec<u8>, LoadError> {
    let (seconds, mib) = (limits.compile_seconds, limits.compile_memory_mib);
    let broken = |e: io::Error| LoadError::Compiler(format!("the compiler process failed: {e}"));
    // The shell sets the limits and becomes the compiler: rlimits without code between fork and exec.
    // A system without `nice` does without.
    let command = match care {
        Care::Quick => "\"$0\" plugin compile-child --quick",
        Care::Thorough => "\"$0\" plugin compile-child",
    };
    let nice = match niceness {
        0 => String::new(),
        _ => format!("command -v nice >/dev/null && exec nice -n {niceness} {command}; "),
    };
    let script = format!(
        "ulimit -t {seconds} && ulimit -v {} && ulimit -f {FILE_BLOCKS_MAX} && ulimit -c 0 \
         && {{ {nice}exec {command}; }}",
        u64::from(mib) << 10
    );
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .arg(program)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(broken)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A child that gave up early closes the pipe; its status says why.
            let _ = stdin.write_all(bytes).await;
        }
    };
    let whole = async {
        let (_, artefact, complaint) = tokio::join!(
            feed,
            read_up_to(stdout, ARTEFACT_BYTES_MAX),
            read_up_to(stderr, COMPLAINT_BYTES_MAX)
        );
        Ok((child.wait().await?, artefact?, complaint?))
    };
    let wall = Duration::from_secs(u64::from(seconds) * u64::from(WALL_PER_CPU));
    let (status, artefact, complaint) = tokio::time::timeout(wall, whole)
        .await
        .map_err(|_| {
            LoadError::Compiler(format!(
                "it takes longer than {} s, five times plugins.compile_seconds",
                wall.as_secs()
            ))
        })?
        .map_err(broken)?;
    if status.success() {
        return Ok(artefact);
    }
    let complaint = String::from_utf8_lossy(&complaint);
    match status.code() {
        // The child's own words on bytes that it read.
        Some(1) if !complaint.trim().is_empty() => Err(LoadError::Invalid(
            super::host_calls::escaped(complaint.trim()),
        )),
        Some(_) => Err(LoadError::Compiler(format!(
            "the compiler gave up ({status}): {}",
            super::host_calls::escaped(
                complaint
                    .trim()
                    .lines()
                    .take(2)
                    .collect::<Vec<_>>()
                    .join(" ")
                    .as_str()
            )
        ))),
        None => Err(LoadError::Compiler(format!(
            "it needs more than plugins.compile_seconds = {seconds} or plugins.compile_memory_mib = {mib} ({status})"
        ))),
    }
}

async fn read_up_to(
    pipe: Option<impl tokio::io::AsyncRead + Unpin>,
    max: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(max as u64).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The one unsafe call of the crate outside generated code: wasmtime cannot check native code.
#[allow(unsafe_code)]
fn trusted(engine: &Engine, artefact: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `artefact` was made by wasmtime's compiler in our own child process and came over its
    // pipe, or carries a MAC under a key that only this server holds. Uploads never come here.
    unsafe { Component::deserialize(engine.wasm(), artefact) }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{CodeCache, EngineLimits};
    use super::super::test_guests::{self, Guest};
    use super::*;

    fn caching(folder: &Path, key: u8) -> Engine {
        Engine::new(EngineLimits {
            instances: 4,
            cache: Some(CodeCache {
                folder: folder.to_owned(),
                key: [key; 32],
                octets_max: 1 << 30,
            }),
            ..EngineLimits::default()
        })
        .unwrap()
    }

    #[test]
    fn what_the_child_compiles_runs_here() {
        let bytes = test_guests::build(&Guest::default());
        for care in [Care::Quick, Care::Thorough] {
            let mut artefact = Vec::new();
            compile_child(bytes.as_slice(), &mut artefact, care).unwrap();
            trusted(&test_guests::engine(), &artefact).unwrap();
        }
    }

    #[test]
    fn the_child_says_what_is_wrong_with_its_input() {
        let complaint = compile_child(&b"\0asm"[..], io::sink(), Care::Thorough).unwrap_err();
        assert!(!complaint.is_empty());
    }

    #[tokio::test]
    async fn kept_code_is_used_and_only_under_our_key() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = Arc::new(test_guests::build(&Guest::default()));
        let engine = caching(folder.path(), 1);
        let care = Care::Thorough;
        compile(&engine, &[0; 32], bytes.clone(), care, false)
            .await
            .unwrap();
        let path = folder.path().join(kept::file_name(&engine, &[0; 32]));
        let cache = |key| CodeCache {
            folder: folder.path().to_owned(),
            key: [key; 32],
            octets_max: 1 << 30,
        };
        assert!(kept::find(&cache(1), &path).is_some());
        assert!(kept::find(&cache(2), &path).is_none());

        let other = folder.path().join(kept::file_name(&engine, &[1; 32]));
        std::fs::copy(&path, &other).unwrap();
        assert!(
            kept::find(&cache(1), &other).is_none(),
            "one component's code for another"
        );

        let mut tampered = std::fs::read(&path).unwrap();
        let last = tampered.len() - 1;
        tampered[last] ^= 1;
        std::fs::write(&path, tampered).unwrap();
        assert!(kept::find(&cache(1), &path).is_none());
        compile(&engine, &[0; 32], bytes, care, true).await.unwrap();
        assert!(kept::find(&cache(1), &path).is_some(), "compiled anew");
    }

    #[tokio::test]
    async fn a_compiler_that_dies_is_a_clear_error() {
        let limits = ComponentLimits::default();
        let error = compile_in_child(Path::new("/bin/false"), b"x", limits, NICENESS, Care::Quick)
            .await
            .unwrap_err();
        assert!(matches!(error, LoadError::Compiler(_)), "{error}");
        let error = compile_in_child(Path::new("/nonexistent"), b"x", limits, 0, Care::Quick)
            .await
            .unwrap_err();
        assert!(matches!(error, LoadError::Compiler(_)), "{error}");
    }
}
