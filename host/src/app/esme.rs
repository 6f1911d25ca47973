//! The SMPP server's part of the configuration: checked, and put into the words of `api::esme`.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::certificates::Certificate;
use super::{StartError, failed, listen, local};
use crate::api::esme::{
    Binds, DefaultAlphabet, Door, LongInbound, Parts, ReceiptForm, Server, System, SystemSpec,
};
use crate::config::{
    AccountSection, AlphabetName, BindModeName, Config, EsmeSection, LongInboundName,
    ReceiptFormName, SmppServerSection,
};
use crate::domain::{AccountId, Address, TrafficClass};
use crate::pipeline::{Accounts, Pipeline};
use crate::smpp::server::ServerSettings;
use crate::smpp::session::BindMode;

/// All ESMEs of a configuration.
pub fn systems(config: &Config, base: &Path) -> Result<Vec<SystemSpec>, StartError> {
    let mut names = HashSet::new();
    let mut systems = Vec::new();
    for (i, account) in config.accounts.iter().enumerate() {
        for (k, section) in account.smpp.iter().enumerate() {
            let at = format!("accounts[{i}].smpp[{k}] ({})", section.system_id);
            if !names.insert(&section.system_id) {
                return Err(failed(
                    &at,
                    "its system_id is used twice; each is one account's",
                ));
            }
            systems.push(system(account, section, base, &at)?);
        }
        if account.smpp.iter().filter(|s| s.inbound).count() > 1 {
            let at = format!("accounts[{i}] ({}).smpp", account.id);
            let rule = "inbound is true more than once; a mobile-originated message goes to one";
            return Err(failed(&at, rule));
        }
    }
    Ok(systems)
}

fn system(
    account: &AccountSection,
    section: &EsmeSection,
    base: &Path,
    at: &str,
) -> Result<SystemSpec, StartError> {
    let field = |name: &str| format!("{at}.{name}");
    let password = section.password.resolve(base);
    let password = password.map_err(|e| failed(&field("password"), e))?;
    if password.is_empty() || password.len() > 63 {
        return Err(failed(&field("password"), "has 1 to 63 octets"));
    }
    let allowed = section
        .allowed_ips
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, String>>()
        .map_err(|e| failed(&field("allowed_ips"), e))?;
    let class = match &section.class {
        None => None,
        Some(name) => Some(TrafficClass::from_name(name).ok_or_else(|| {
            let rule = format!("{name:?} is none of otp, transactional, promotional, alert");
            failed(&field("class"), rule)
        })?),
    };
    let originator = |text: &String, name: &str| {
        Address::originator(text).map_err(|e| failed(&field(name), format!("{text:?} {e}")))
    };
    let own = section.originator.as_ref();
    let own = own.map(|text| originator(text, "originator")).transpose()?;
    let originators = section
        .originators
        .iter()
        .map(|text| originator(text, "originators").map(|a| a.value))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(own) = &own
        && !originators.is_empty()
        && !originators.contains(&own.value)
    {
        return Err(failed(&field("originator"), "is not among its originators"));
    }
    Ok(SystemSpec {
        account: AccountId::from(account.id.as_str()),
        system_id: section.system_id.clone(),
        password,
        allowed,
        modes: section.bind.iter().map(|mode| bind_mode(*mode)).collect(),
        max_binds: section.max_binds,
        window: section.window,
        deliver_window: section.deliver_window,
        throughput: section.throughput,
        forward: Duration::from_secs(section.forward_seconds),
        system_type: section.system_type.clone(),
        originator: own,
        originators,
        class,
        default_alphabet: match section.default_alphabet {
            AlphabetName::Gsm7 => DefaultAlphabet::Gsm7,
            AlphabetName::Latin1 => DefaultAlphabet::Latin1,
        },
        receipts: match section.receipts {
            ReceiptFormName::TextAndTlvs => ReceiptForm::TextAndTlvs,
            ReceiptFormName::Text => ReceiptForm::Text,
            ReceiptFormName::Tlvs => ReceiptForm::Tlvs,
        },
        long_inbound: match section.long_inbound {
            LongInboundName::Udh => LongInbound::Udh,
            LongInboundName::Payload => LongInbound::Payload,
        },
        idempotency_tag: section.idempotency_tag,
        default_messages: default_messages(section, at)?,
        lists: lists(section, at)?,
    })
}

fn default_messages(section: &EsmeSection, at: &str) -> Result<BTreeMap<u8, String>, StartError> {
    let mut messages = BTreeMap::new();
    for (id, text) in &section.default_messages {
        let number = id.parse::<u8>().ok().filter(|n| (1..=254).contains(n));
        let number = number.ok_or_else(|| {
            let at = format!("{at}.default_messages");
            failed(&at, format!("{id:?} is no sm_default_msg_id, 1 to 254"))
        })?;
        messages.insert(number, text.clone());
    }
    Ok(messages)
}

fn lists(section: &EsmeSection, at: &str) -> Result<BTreeMap<String, Vec<Address>>, StartError> {
    let mut lists = BTreeMap::new();
    for (name, numbers) in &section.lists {
        let at = format!("{at}.lists.{name}");
        // SMPP 3.4, 5.2.27.
        if name.is_empty() || name.len() > 20 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            let rule = "a list's name is 1 to 20 visible ASCII characters";
            return Err(failed(&at, rule));
        }
        let members = numbers.iter().map(|number| {
            Address::international(number).map_err(|e| failed(&at, format!("{number:?} {e}")))
        });
        lists.insert(name.clone(), members.collect::<Result<_, _>>()?);
    }
    Ok(lists)
}

fn bind_mode(name: BindModeName) -> BindMode {
    match name {
        BindModeName::Transmitter => BindMode::Transmitter,
        BindModeName::Receiver => BindMode::Receiver,
        BindModeName::Transceiver => BindMode::Transceiver,
    }
}

/// `window`: the largest of all, which each bind narrows down to its own.
fn settings(section: &SmppServerSection, window: usize) -> ServerSettings {
    let mut settings = ServerSettings {
        connections_max: section.max_connections,
        unbound_max: section.max_unbound,
        unbound_per_ip_max: section.max_unbound_per_ip,
        ..ServerSettings::default()
    };
    let link = &mut settings.link;
    link.requests_max = window;
    link.session.bind = Duration::from_millis(section.bind_timeout_ms);
    link.session.response = Duration::from_millis(section.response_timeout_ms);
    link.session.enquire_link = Duration::from_secs(section.enquire_link_seconds);
    link.session.inactivity = Duration::from_secs(section.inactivity_seconds);
    settings
}

/// Where ESMEs connect, opened.
pub struct Doors {
    pub address: Option<SocketAddr>,
    pub tls_address: Option<SocketAddr>,
    doors: Vec<Door>,
}

/// None where nobody connects with TLS.
pub fn certificate(
    section: &SmppServerSection,
    base: &Path,
) -> Result<Option<Certificate>, StartError> {
    if section.tls_listen.is_none() {
        return Ok(None);
    }
    let (certificate, key) = (&section.certificate, &section.key);
    let client_ca = section.client_ca.as_deref();
    Certificate::open("smpp", certificate, key, client_ca, base).map(Some)
}

/// Listens where the configuration says.
pub fn open(
    section: &SmppServerSection,
    certificate: Option<&Certificate>,
) -> Result<Doors, StartError> {
    let mut opened = Doors {
        address: None,
        tls_address: None,
        doors: Vec::new(),
    };
    if let Some(address) = section.listen {
        let listener = listen(address)?;
        opened.address = Some(local(&listener));
        opened.doors.push(Door {
            listener,
            tls: None,
        });
    }
    if let (Some(address), Some(certificate)) = (section.tls_listen, certificate) {
        let listener = listen(address)?;
        opened.tls_address = Some(local(&listener));
        opened.doors.push(Door {
            listener,
            tls: Some(certificate.acceptor()),
        });
    }
    Ok(opened)
}

impl Doors {
    /// Lets ESMEs in; none where there is neither a door nor anybody to come.
    pub fn attend(
        &mut self,
        section: &SmppServerSection,
        pipeline: &Arc<Pipeline>,
        binds: &Arc<Binds>,
    ) -> Option<Server> {
        let windows = binds.parties().map(|party| party.system.spec.window);
        let window = windows.max()?;
        Some(Server::start(Parts {
            pipeline: pipeline.clone(),
            binds: binds.clone(),
            doors: std::mem::take(&mut self.doors),
            settings: settings(section, window),
            give_up: Duration::from_secs(section.give_up_seconds),
        }))
    }
}

/// The system_ids with their accounts. All accounts are of the same configuration.
pub fn binds(systems: Vec<SystemSpec>, accounts: &Accounts) -> Arc<Binds> {
    let known = systems.into_iter().filter_map(|spec| {
        let account = accounts.get(&spec.account)?.clone();
        Some(System::new(spec, account))
    });
    Arc::new(Binds::new(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(extra: &str) -> Result<Vec<SystemSpec>, String> {
        let text = format!(
            "[[accounts]]\nid = \"acme\"\n[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:secret\"\n{extra}"
        );
        let config = Config::parse(&text, "heliograph.toml", std::iter::empty());
        let config = config.map_err(|e| e.to_string())?;
        systems(&config, Path::new(".")).map_err(|e| e.to_string())
    }

    #[test]
    fn an_application_needs_a_name_and_a_password() {
        let systems = check("").unwrap();
        assert_eq!(systems[0].account.as_str(), "acme");
        assert_eq!((systems[0].max_binds, systems[0].window), (4, 100));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (extra, field) in [
            ("allowed_ips = [\"10.0.0.0/33\"]", "allowed_ips"),
            ("class = \"bulk\"", "class"),
            ("originator = \"+123\"", "originator"),
            ("originator = \"A\"\noriginators = [\"B\"]", "originator"),
            (
                "[accounts.smpp.default_messages]\n0 = \"x\"",
                "default_messages",
            ),
            ("[accounts.smpp.lists]\nteam = [\"nobody\"]", "lists.team"),
            ("idempotency_tag = 5", "idempotency_tag"),
            ("window = 0", "window"),
            ("bind = []", "bind"),
            (
                "[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:x\"",
                "accounts[0].smpp[1]",
            ),
            (
                "inbound = true\n[[accounts.smpp]]\nsystem_id = \"b\"\npassword = \"literal:x\"\ninbound = true",
                "inbound",
            ),
        ] {
            let error = check(extra).map(|s| s.len()).unwrap_err();
            assert!(error.contains(field), "{extra}: {error}");
        }
    }
}
