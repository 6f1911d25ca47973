//! One test binary: end-to-end scenarios over real sockets against the built server, the frozen
//! contract, plugins in other languages, hostile plugins, and the rules of the source tree.

mod contract;
mod e2e;
mod fuzz;
mod golden;
mod languages;
mod peers;
#[path = "prove/short.rs"]
mod prove;
mod tidy;
mod zoo;
