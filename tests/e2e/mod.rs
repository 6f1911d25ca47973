//! End-to-end scenarios, each with a server process, carriers and targets of its own.

mod aggregator;
mod authoring;
mod carrier_smpp;
mod cli;
mod crash;
mod demo;
mod esme;
mod faults;
mod hostile_plugins;
mod http_carriers;
mod inbound;
mod input;
mod numbers;
mod path;
mod policy;
mod providers;
mod receipts;
mod returns;
mod schedule;
mod ship;
mod smpp_bytes;
mod smpp_tls;
mod tenants;
mod text;
mod trial;
mod unanswered;
