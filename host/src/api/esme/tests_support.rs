//! System ids for the tests of this folder.

use std::sync::Arc;
use std::time::Duration;

use super::system::{DefaultAlphabet, LongInbound, ReceiptForm, System, SystemSpec};
use crate::domain::{AccountId, TrafficClass};
use crate::pipeline::Account;
use crate::smpp::session::BindMode;

/// A system_id with the password `pw-` and its name.
pub fn spec(system_id: &str) -> SystemSpec {
    SystemSpec {
        account: AccountId::from("acme"),
        system_id: system_id.to_owned(),
        password: format!("pw-{system_id}"),
        allowed: Vec::new(),
        modes: vec![
            BindMode::Transmitter,
            BindMode::Receiver,
            BindMode::Transceiver,
        ],
        max_binds: 4,
        window: 50,
        deliver_window: 10,
        throughput: None,
        forward: Duration::from_secs(10),
        system_type: None,
        originator: None,
        originators: Vec::new(),
        class: None,
        default_alphabet: DefaultAlphabet::Gsm7,
        receipts: ReceiptForm::TextAndTlvs,
        long_inbound: LongInbound::Udh,
        idempotency_tag: None,
        default_messages: Default::default(),
        lists: Default::default(),
    }
}

pub fn system(spec: SystemSpec) -> System {
    let account = Account {
        id: spec.account.clone(),
        default_class: TrafficClass::Transactional,
        receipt_url: None,
        inbound_url: None,
        inbound_esme: None,
        webhook_secret: None,
        numbers: Vec::new(),
        throughput: None,
        text: Default::default(),
        silent: false,
    };
    System::new(spec, Arc::new(account))
}
