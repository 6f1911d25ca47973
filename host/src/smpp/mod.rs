//! SMPP 3.4, both sides: codec, session, and the drivers that put a session on a socket. Knows the
//! protocol and nothing of messages' lives, queues or policy.

mod decode;
pub mod encode;
mod engine;
pub mod link;
mod multi;
mod output;
pub mod pdu;
pub mod server;
pub mod session;
pub mod status;
mod terms;
pub mod time;
pub mod tlv;
pub mod wire;

#[cfg(test)]
mod pdu_tests;
