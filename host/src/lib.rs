//! Heliograph: a WebAssembly-extensible SMS platform. `ARCHITECTURE.md` is the map.

pub mod api;
pub mod app;
pub mod carrier;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod pipeline;
pub mod plugin;
pub mod smpp;
pub mod store;
pub mod telemetry;
pub mod tls;
