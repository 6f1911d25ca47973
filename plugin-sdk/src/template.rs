//! The crates that `heliograph plugin new` writes, compiled and tested here as they are.

#[path = "../template/src/carrier-adapter.rs"]
mod carrier_adapter;
#[path = "../template/src/compliance-check.rs"]
mod compliance_check;
#[path = "../template/src/content-filter.rs"]
mod content_filter;
#[path = "../template/src/enrichment.rs"]
mod enrichment;
#[path = "../template/src/inbound-handler.rs"]
mod inbound_handler;
#[path = "../template/src/routing-policy.rs"]
mod routing_policy;
