//! The WASI 0.2 that guests of other languages import because their runtimes do: an empty one. No files,
//! no network, no environment, no arguments; time and randomness are the decision's own (`inside.rs`), and
//! what is written to stdout and stderr becomes the plugin's log. Definitions are made for what a component
//! imports, under the version that it names, so a component without WASI pays nothing.

mod inside;

use std::fmt;

use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Linker, LinkerInstance, Resource, ResourceType, Type, Val};
use wasmtime::{AsContextMut, StoreContextMut};

use super::host_calls::CallState;
pub(super) use inside::{Inside, Stream, Wasi};
use wit::{Datetime, ExitStatus, StreamError};

/// How such imports are called where a component's wants are listed.
pub const NAME: &str = "wasi (empty)";

const PREFIX: &str = "wasi:";
const VERSION: &str = "0.2.";
/// Packages whose every interface makes sense without anything behind it.
const PACKAGES: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
/// Bytes of randomness or zeroes that one call may ask for.
const BYTES_MAX: u64 = 64 << 10;
/// Room in an output stream, as told to the guest.
const WRITE_MAX: u64 = 4_096;

/// Why an import of WASI cannot be linked: ends the sentence "imports NAME; …". None: it can be.
pub(super) fn refusal(import: &str) -> Option<&'static str> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let package = interface
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('/'))
        .map_or("", |(package, _)| package);
    if package == "http" {
        Some(
            "plugins have no wasi:http. Use heliograph:sms/http, which a carrier adapter may be granted, and build without it (componentize-js: --disable http fetch-event)",
        )
    } else if !version.starts_with(VERSION) {
        Some("plugins have WASI 0.2 and no other")
    } else if !PACKAGES.contains(&package) {
        Some(
            "plugins have an empty wasi:cli, clocks, filesystem, io, random and sockets. Use the capabilities of heliograph:sms",
        )
    } else {
        None
    }
}

/// Whether an import is of WASI as every plugin may have it.
pub fn is_empty_wasi(import: &str) -> bool {
    is_import(import) && refusal(import).is_none()
}

pub(super) fn is_import(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Stops a guest that ended itself or called what is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WasiTrap(pub String);

impl fmt::Display for WasiTrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WasiTrap {}

type Cx<'a> = StoreContextMut<'a, CallState>;
type Instance<'a> = LinkerInstance<'a, CallState>;

// Resources without anything behind them; a `rep` says which, where it matters.
struct Pollable;
struct InputStream;
struct OutputStream;
pub struct IoError;
/// Descriptors, sockets, terminals: nobody ever holds one.
struct Nothing;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;
/// The pollable that is ready whenever it is asked; others are timers.
const READY: u32 = 0;

#[allow(unsafe_code)]
mod wit {
    use super::IoError;
    use wasmtime::component::{ComponentType, Lift, Lower, Resource};

    #[derive(ComponentType, Lift, Lower)]
    #[component(variant)]
    pub enum StreamError {
        #[component(name = "last-operation-failed")]
        #[allow(dead_code)]
        LastOperationFailed(Resource<IoError>),
        #[component(name = "closed")]
        Closed,
    }

    #[derive(ComponentType, Lift, Lower)]
    #[component(record)]
    pub struct Datetime {
        pub seconds: u64,
        pub nanoseconds: u32,
    }

    /// `result` without payloads, as `exit` takes it.
    pub type ExitStatus = Result<(), ()>;
}

/// Defines every WASI import of `component`. Whether they can be was checked with [`refusal`].
pub(super) fn link(linker: &mut Linker<CallState>, component: &Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    let ty = component.component_type();
    for (name, import) in ty.imports(&engine) {
        if !is_import(name) {
            continue;
        }
        let ComponentItem::ComponentInstance(wanted) = import.ty else {
            return Err(wasmtime::Error::msg(format!("{name} is no interface")));
        };
        let interface = name
            .split_once('@')
            .map_or(name, |(interface, _)| interface);
        let mut instance = linker.instance(name)?;
        for (item, wanted) in wanted.exports(&engine) {
            match wanted.ty {
                ComponentItem::Resource(_) => {
                    instance.resource(item, resource_type(item), released(item))?;
                }
                ComponentItem::ComponentFunc(ty) => {
                    if !define(&mut instance, interface, item)? {
                        define_absent(&mut instance, interface, item, &ty)?;
                    }
                }
                ComponentItem::Type(_) => {}
                ComponentItem::CoreFunc(_)
                | ComponentItem::Module(_)
                | ComponentItem::Component(_)
                | ComponentItem::ComponentInstance(_) => {
                    return Err(wasmtime::Error::msg(format!("{name} holds {item}")));
                }
            }
        }
    }
    Ok(())
}

fn resource_type(name: &str) -> ResourceType {
    match name {
        "pollable" => ResourceType::host::<Pollable>(),
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "error" => ResourceType::host::<IoError>(),
        _ => ResourceType::host::<Nothing>(),
    }
}

/// Only timers have something to let go of.
fn released(
    resource: &str,
) -> impl Fn(Cx<'_>, u32) -> wasmtime::Result<()> + Send + Sync + 'static {
    let timer = resource == "pollable";
    move |mut cx, rep| {
        if timer && rep != READY {
            cx.data_mut().wasi_call()?.end_timer(rep);
        }
        Ok(())
    }
}

/// What has an answer. False: no function that we know.
fn define(to: &mut Instance<'_>, interface: &str, item: &str) -> wasmtime::Result<bool> {
    match interface {
        "wasi:cli/environment" => environment(to, item),
        "wasi:cli/exit" => exit(to, item),
        "wasi:cli/stdin" | "wasi:cli/stdout" | "wasi:cli/stderr" => standard(to, item),
        "wasi:cli/terminal-stdin" | "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr" => {
            to.func_wrap(item, |_: Cx<'_>, (): ()| Ok((None::<Resource<Nothing>>,)))?;
            Ok(true)
        }
        "wasi:clocks/wall-clock" => wall_clock(to, item),
        "wasi:clocks/monotonic-clock" => monotonic_clock(to, item),
        "wasi:filesystem/preopens" if item == "get-directories" => {
            let none = |_: Cx<'_>, (): ()| Ok((Vec::<(Resource<Nothing>, String)>::new(),));
            to.func_wrap(item, none)?;
            Ok(true)
        }
        "wasi:io/poll" => poll(to, item),
        "wasi:io/streams" => Ok(input(to, item)? || output(to, item)?),
        "wasi:random/random" | "wasi:random/insecure" => random(to, item),
        "wasi:random/insecure-seed" if item == "insecure-seed" => {
            to.func_wrap(item, |mut cx: Cx<'_>, (): ()| {
                let wasi = cx.data_mut().wasi_call()?;
                Ok(((wasi.random_u64(), wasi.random_u64()),))
            })?;
            Ok(true)
        }
        "wasi:sockets/instance-network" if item == "instance-network" => {
            let network = |_: Cx<'_>, (): ()| Ok((Resource::<Nothing>::new_own(0),));
            to.func_wrap(item, network)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// A function without anything behind it: `access-denied` where its result can say so, else a trap.
fn define_absent(
    to: &mut Instance<'_>,
    interface: &str,
    item: &str,
    ty: &ComponentFunc,
) -> wasmtime::Result<()> {
    let denied = ty.results().next().is_some_and(|result| {
        matches!(result, Type::Result(r) if matches!(r.err(),
            Some(Type::Enum(e)) if e.names().any(|n| n == "access-denied")))
    });
    let name = format!("{interface}#{item}");
    to.func_new(item, move |mut cx, _, arguments, results| {
        cx.data_mut().wasi_call()?;
        for argument in arguments {
            if let Val::Resource(resource) = argument {
                resource.resource_drop(cx.as_context_mut())?;
            }
        }
        match results.first_mut() {
            Some(result) if denied => {
                let code = Val::Enum("access-denied".into());
                *result = Val::Result(Err(Some(Box::new(code))));
                Ok(())
            }
            Some(_) | None => {
                Err(WasiTrap(format!("it called {name}, and plugins have nothing there")).into())
            }
        }
    })
}

fn environment(to: &mut Instance<'_>, item: &str) -> wasmtime::Result<bool> {
    match item {
        "get-environment" => to.func_wrap(item, |_: Cx<'_>, (): ()| {
            Ok((Vec::<(String, String)>::new(),))
        })?,
        "get-arguments" => to.func_wrap(item, |_: Cx<'_>, (): ()| Ok((Vec::<String>::new(),)))?,
        "initial-cwd" => to.func_wrap(item, |_: Cx<'_>, (): ()| Ok((None::<String>,)))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn exit(to: &mut Instance<'_>, item: &str) -> wasmtime::Result<bool> {
    fn ended(status: u8) -> wasmtime::Result<()> {
        Err(WasiTrap(format!("it ended itself with status {status}")).into())
    }
    match item {
        "exit" => to.func_wrap(item, |_: Cx<'_>, (status,): (ExitStatus,)| {
            ended(u8::from(status.is_err()))
        })?,
        "exit-with-code" => to.func_wrap(item, |_: Cx<'_>, (code,): (u8,)| ended(code))?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn standard(to: &mut Instance<'_>, item: &str) -> wasmtime::Result<bool> {
    match item {
        "get-stdin" => to.func_wrap(item, |_: Cx<'_>, (): ()| {
            Ok((Resource::<InputStream>::new_own(0),))
        })?,
        "get-stdout" => to.func_wrap(item, |_: Cx<'_>, (): ()| {
            Ok((Resource::<OutputStream>::new_own(STDOUT),))
        })?,
        "get-stderr" => to.func_wrap(item, |_: Cx<'_>, (): ()| {
            Ok((Resource::<OutputStream>::new_own(STDERR),))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn wall_clock(to: &mut Instance<'_>, item: &str) -> wasmtime::Result<bool> {
    match item {
        "now" => to.func_wrap(item, |mut cx: Cx<'_>, (): ()| {
            let millis = cx.data_mut().wasi_call()?.wall_ms();
            Ok((Datetime {
                seconds: millis / 1_000,
                nanoseconds: (millis % 1_000) as u32 * 1_000_000,
            },))
        })?,
        "resolution" => to.func_wrap(item, |_: Cx<'_>, (): ()| {
            Ok((Datetime {
                seconds: 0,
                nanoseconds: 1_000_000,
            },))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn monotonic_clock(to: &mut Instance<'_>, item: &str) -> wasmtime::Result<bool> {
    type Timer = wasmtime::Result<(Resource<Pollable>,)>;
    match item {
        "now" => to.func_wrap(item, |mut cx: Cx<'_>, (): ()| {
            Ok((cx.data_mut().wasi_call()?.monotonic_ns(),))
        })?,
        "resolution" => to.func_wrap(item, |_: Cx<'_>, (): ()| Ok((1_u64,)))?,
        "subscribe-instant" => {
            to.func_wrap(item, |mut cx: Cx<'_>, (at,): (u64,)| -> Timer {
                let rep = cx.data_mut().wasi_call()?.timer(at)?;
                Ok((Resource::new_own(rep),))
            })?;
        }
        "subscribe-duration" => {
            to.func_wrap(item, |mut cx: Cx<'_>, (nanos,): (u64,)| -> Timer {
                let wasi = cx.data_mut().wasi_call()?;
                let rep = wasi.timer(wasi.monotonic_ns().saturating_add(nanos))?;
                Ok((Resource::new_own(rep),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn poll(to: &mut Instance<'_>, item: &str) -> wasmtime::Result<bool> {
    type One = (Resource<Pollable>,);
    match item {
        "[method]pollable.ready" => to.func_wrap(item, |mut cx: Cx<'_>, (one,): One| {
            Ok((cx.data_mut().wasi_call()?.is_ready(one.rep()),))
        })?,
        "[method]pollable.block" => to.func_wrap(item, |mut cx: Cx<'_>, (one,): One| {
            cx.data_mut().wasi_call()?.wait_for(&[one.rep()]);
            Ok(())
        })?,
        "poll" => to.func_wrap(
            item,
            |mut cx: Cx<'_>, (all,): (Vec<Resource<Pollable>>,)| {
                if all.is_empty() {
                    return Err(WasiTrap("it called wasi:io/poll#poll with nothing".into()).into());
                }
                let reps: Vec<u32> = all.iter().map(Resource::rep).collect();
                let wasi = cx.data_mut().wasi_call()?;
                wasi.wait_for(&reps);
                let ready = (0_u32..).zip(&reps).filter(|(_, rep)| wasi.is_ready(**rep));
                Ok((ready.map(|(index, _)| index).collect::<Vec<u32>>(),))
            },
        )?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// stdin is at its end.
fn input(to: &mut Instance<'_>, item: &str) -> wasmtime::Result<bool> {
    type Wanted = (Resource<InputStream>, u64);
    match item {
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => {
            to.func_wrap(item, |mut cx: Cx<'_>, _: Wanted| {
                cx.data_mut().wasi_call()?;
                Ok((Err::<Vec<u8>, _>(StreamError::Closed),))
            })?;
        }
        "[method]input-stream.skip" | "[method]input-stream.blocking-skip" => {
            to.func_wrap(item, |mut cx: Cx<'_>, _: Wanted| {
                cx.data_mut().wasi_call()?;
                Ok((Err::<u64, _>(StreamError::Closed),))
            })?;
        }
        "[method]input-stream.subscribe" => {
            to.func_wrap(item, |_: Cx<'_>, _: (Resource<InputStream>,)| {
                Ok((Resource::<Pollable>::new_own(READY),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Both streams take whatever comes; what is over the limits of a log is counted and not written.
fn output(to: &mut Instance<'_>, item: &str) -> wasmtime::Result<bool> {
    type Out = Resource<OutputStream>;
    let Some(method) = item.strip_prefix("[method]output-stream.") else {
        return Ok(false);
    };
    match method {
        "check-write" => to.func_wrap(item, |mut cx: Cx<'_>, _: (Out,)| {
            cx.data_mut().wasi_call()?;
            Ok((Ok::<u64, StreamError>(WRITE_MAX),))
        })?,
        "write" | "blocking-write-and-flush" => {
            to.func_wrap(item, |mut cx: Cx<'_>, (out, bytes): (Out, Vec<u8>)| {
                cx.data_mut().wasi_call()?;
                cx.data_mut().wasi_write(stream(&out), &bytes);
                Ok((Ok::<(), StreamError>(()),))
            })?;
        }
        "write-zeroes" | "blocking-write-zeroes-and-flush" => {
            to.func_wrap(item, |mut cx: Cx<'_>, (out, len): (Out, u64)| {
                cx.data_mut().wasi_call()?;
                let zeroes = vec![0; len.min(WRITE_MAX) as usize];
                cx.data_mut().wasi_write(stream(&out), &zeroes);
                Ok((Ok::<(), StreamError>(()),))
            })?;
        }
        "flush" | "blocking-flush" => to.func_wrap(item, |mut cx: Cx<'_>, _: (Out,)| {
            cx.data_mut().wasi_call()?;
            Ok((Ok::<(), StreamError>(()),))
        })?,
        "splice" | "blocking-splice" => {
            type Spliced = (Out, Resource<InputStream>, u64);
            to.func_wrap(item, |mut cx: Cx<'_>, _: Spliced| {
                cx.data_mut().wasi_call()?;
                Ok((Err::<u64, _>(StreamError::Closed),))
            })?;
        }
        "subscribe" => to.func_wrap(item, |_: Cx<'_>, _: (Out,)| {
            Ok((Resource::<Pollable>::new_own(READY),))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn stream(out: &Resource<OutputStream>) -> Stream {
    match out.rep() {
        STDERR => Stream::Stderr,
        _ => Stream::Stdout,
    }
}

fn random(to: &mut Instance<'_>, item: &str) -> wasmtime::Result<bool> {
    match item {
        "get-random-bytes" | "get-insecure-random-bytes" => {
            to.func_wrap(item, |mut cx: Cx<'_>, (len,): (u64,)| {
                if len > BYTES_MAX {
                    let why = format!("it asked for more than {BYTES_MAX} random bytes at once");
                    return Err(WasiTrap(why).into());
                }
                Ok((cx.data_mut().wasi_call()?.random_bytes(len as usize),))
            })?;
        }
        "get-random-u64" | "get-insecure-random-u64" => {
            to.func_wrap(item, |mut cx: Cx<'_>, (): ()| {
                Ok((cx.data_mut().wasi_call()?.random_u64(),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}
