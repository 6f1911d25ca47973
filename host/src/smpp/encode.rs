//! Encoding of PDUs: strict, so that nothing leaves which SMPP 3.4 forbids. A refused PDU leaves the
//! buffer as it was; what to do then is the caller's business.

use std::fmt;

use super::pdu::{
    AlertNotification, Bind, BindResp, Body, COMMAND_LENGTH_MAX, CancelSm, DataSm, HEADER_LEN, Pdu,
    QuerySm, QuerySmResp, ReplaceSm, Sm, SmResp,
};
use super::status;

/// Credentials are what the operator was given, and SMSCs do give more than the 15 and 8 octets of
/// SMPP 3.4, 5.2.1 and 5.2.2: `SYSTEM_ID_MAX` and `PASSWORD_MAX` are for warnings, this is enforced.
pub const CREDENTIAL_MAX: usize = 63;
/// SMPP 3.4, 5.2.1, without the NUL, as are all limits here.
pub const SYSTEM_ID_MAX: usize = 15;
/// SMPP 3.4, 5.2.2.
pub const PASSWORD_MAX: usize = 8;
/// SMPP 3.4, 5.2.3.
pub const SYSTEM_TYPE_MAX: usize = 12;
/// SMPP 3.4, 5.2.7.
pub const ADDRESS_RANGE_MAX: usize = 40;
/// SMPP 3.4, 5.2.11.
pub const SERVICE_TYPE_MAX: usize = 5;
/// SMPP 3.4, 5.2.8 and 5.2.9.
pub const ADDRESS_MAX: usize = 20;
/// data_sm has longer ones (SMPP 3.4, 4.7.1).
pub const DATA_SM_ADDRESS_MAX: usize = 64;
/// SMPP 3.4, 5.2.23.
pub const MESSAGE_ID_MAX: usize = 64;
/// SMPP 3.4, 5.2.22; more goes into message_payload.
pub const SHORT_MESSAGE_MAX: usize = 254;

/// Why a PDU may not be sent: our fault or that of the data it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// More octets than the field may have.
    TooLong {
        field: &'static str,
        length: usize,
        max: usize,
    },
    /// A C-octet string ends at its first NUL.
    Nul { field: &'static str },
    /// Neither empty nor 16 characters (SMPP 3.4, 7.1.1).
    Time { field: &'static str, length: usize },
}

impl EncodeError {
    pub fn field(&self) -> &'static str {
        match self {
            EncodeError::TooLong { field, .. }
            | EncodeError::Nul { field }
            | EncodeError::Time { field, .. } => field,
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::TooLong { field, length, max } => {
                write!(f, "{field} has {length} octets; at most {max} are allowed")
            }
            EncodeError::Nul { field } => write!(f, "{field} contains a NUL, which would end it"),
            EncodeError::Time { field, length } => write!(
                f,
                "{field} has {length} characters; a time is empty or YYMMDDhhmmsstnnp"
            ),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Appends the PDU to `out`, or leaves `out` as it was.
pub fn encode(pdu: &Pdu<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    out.reserve(256);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&pdu.command_id().to_be_bytes());
    out.extend_from_slice(&pdu.command_status.to_be_bytes());
    out.extend_from_slice(&pdu.sequence_number.to_be_bytes());
    let ok = pdu.command_status == status::ESME_ROK;
    let mut writer = Writer { out };
    let result = writer.body(&pdu.body, ok);
    let length = out.len() - start;
    let result = match result {
        Ok(()) if length > COMMAND_LENGTH_MAX => Err(EncodeError::TooLong {
            field: "command_length",
            length,
            max: COMMAND_LENGTH_MAX,
        }),
        other => other,
    };
    match result {
        Ok(()) => {
            // At most COMMAND_LENGTH_MAX, so the cast keeps it whole.
            out[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
            debug_assert!(length >= HEADER_LEN);
        }
        Err(_) => out.truncate(start),
    }
    result
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    /// `ok` is whether command_status is: error responses have no body (SMPP 3.4, 4.4.2).
    fn body(&mut self, body: &Body<'_>, ok: bool) -> Result<(), EncodeError> {
        match body {
            Body::GenericNack
            | Body::Unbind
            | Body::UnbindResp
            | Body::EnquireLink
            | Body::EnquireLinkResp
            | Body::CancelSmResp
            | Body::ReplaceSmResp => Ok(()),
            Body::BindReceiver(bind)
            | Body::BindTransmitter(bind)
            | Body::BindTransceiver(bind) => self.bind(bind),
            Body::BindReceiverResp(resp)
            | Body::BindTransmitterResp(resp)
            | Body::BindTransceiverResp(resp) => self.bind_resp(resp, ok),
            Body::Outbind(outbind) => {
                self.c_octets("system_id", outbind.system_id, CREDENTIAL_MAX)?;
                self.c_octets("password", outbind.password, CREDENTIAL_MAX)
            }
            Body::SubmitSm(sm) | Body::DeliverSm(sm) => self.sm(sm),
            Body::SubmitSmResp(resp) | Body::DeliverSmResp(resp) | Body::DataSmResp(resp) => {
                self.sm_resp(resp, ok)
            }
            Body::DataSm(data_sm) => self.data_sm(data_sm),
            Body::QuerySm(query) => self.query_sm(query),
            Body::QuerySmResp(resp) => self.query_sm_resp(resp, ok),
            Body::CancelSm(cancel) => self.cancel_sm(cancel),
            Body::ReplaceSm(replace) => self.replace_sm(replace),
            Body::AlertNotification(alert) => self.alert_notification(alert),
            Body::Other { octets, .. } => {
                self.out.extend_from_slice(octets);
                Ok(())
            }
        }
    }

    fn bind(&mut self, bind: &Bind<'_>) -> Result<(), EncodeError> {
        self.c_octets("system_id", bind.system_id, CREDENTIAL_MAX)?;
        self.c_octets("password", bind.password, CREDENTIAL_MAX)?;
        self.c_octets("system_type", bind.system_type, SYSTEM_TYPE_MAX)?;
        self.octets(&[bind.interface_version, bind.addr_ton, bind.addr_npi]);
        self.c_octets("address_range", bind.address_range, ADDRESS_RANGE_MAX)
    }

    fn bind_resp(&mut self, resp: &BindResp<'_>, ok: bool) -> Result<(), EncodeError> {
        if !ok && resp.system_id.is_empty() && resp.tlvs.is_empty() {
            return Ok(());
        }
        self.c_octets("system_id", resp.system_id, CREDENTIAL_MAX)?;
        self.octets(resp.tlvs.raw());
        Ok(())
    }

    fn sm(&mut self, sm: &Sm<'_>) -> Result<(), EncodeError> {
        self.c_octets("service_type", sm.service_type, SERVICE_TYPE_MAX)?;
        self.octets(&[sm.source_addr_ton, sm.source_addr_npi]);
        self.c_octets("source_addr", sm.source_addr, ADDRESS_MAX)?;
        self.octets(&[sm.dest_addr_ton, sm.dest_addr_npi]);
        self.c_octets("destination_addr", sm.destination_addr, ADDRESS_MAX)?;
        self.octets(&[sm.esm_class, sm.protocol_id, sm.priority_flag]);
        self.time("schedule_delivery_time", sm.schedule_delivery_time)?;
        self.time("validity_period", sm.validity_period)?;
        self.octets(&[
            sm.registered_delivery,
            sm.replace_if_present_flag,
            sm.data_coding,
            sm.sm_default_msg_id,
        ]);
        self.short_message(sm.short_message)?;
        self.octets(sm.tlvs.raw());
        Ok(())
    }

    fn sm_resp(&mut self, resp: &SmResp<'_>, ok: bool) -> Result<(), EncodeError> {
        if !ok && resp.message_id.is_empty() && resp.tlvs.is_empty() {
            return Ok(());
        }
        self.c_octets("message_id", resp.message_id, MESSAGE_ID_MAX)?;
        self.octets(resp.tlvs.raw());
        Ok(())
    }

    fn data_sm(&mut self, data_sm: &DataSm<'_>) -> Result<(), EncodeError> {
        self.c_octets("service_type", data_sm.service_type, SERVICE_TYPE_MAX)?;
        self.octets(&[data_sm.source_addr_ton, data_sm.source_addr_npi]);
        self.c_octets("source_addr", data_sm.source_addr, DATA_SM_ADDRESS_MAX)?;
        self.octets(&[data_sm.dest_addr_ton, data_sm.dest_addr_npi]);
        self.c_octets(
            "destination_addr",
            data_sm.destination_addr,
            DATA_SM_ADDRESS_MAX,
        )?;
        self.octets(&[
            data_sm.esm_class,
            data_sm.registered_delivery,
            data_sm.data_coding,
        ]);
        self.octets(data_sm.tlvs.raw());
        Ok(())
    }

    fn query_sm(&mut self, query: &QuerySm<'_>) -> Result<(), EncodeError> {
        self.c_octets("message_id", query.message_id, MESSAGE_ID_MAX)?;
        self.octets(&[query.source_addr_ton, query.source_addr_npi]);
        self.c_octets("source_addr", query.source_addr, ADDRESS_MAX)
    }

    fn query_sm_resp(&mut self, resp: &QuerySmResp<'_>, ok: bool) -> Result<(), EncodeError> {
        if !ok && *resp == QuerySmResp::default() {
            return Ok(());
        }
        self.c_octets("message_id", resp.message_id, MESSAGE_ID_MAX)?;
        self.time("final_date", resp.final_date)?;
        self.octets(&[resp.message_state, resp.error_code]);
        Ok(())
    }

    fn cancel_sm(&mut self, cancel: &CancelSm<'_>) -> Result<(), EncodeError> {
        self.c_octets("service_type", cancel.service_type, SERVICE_TYPE_MAX)?;
        self.c_octets("message_id", cancel.message_id, MESSAGE_ID_MAX)?;
        self.octets(&[cancel.source_addr_ton, cancel.source_addr_npi]);
        self.c_octets("source_addr", cancel.source_addr, ADDRESS_MAX)?;
        self.octets(&[cancel.dest_addr_ton, cancel.dest_addr_npi]);
        self.c_octets("destination_addr", cancel.destination_addr, ADDRESS_MAX)
    }

    fn replace_sm(&mut self, replace: &ReplaceSm<'_>) -> Result<(), EncodeError> {
        self.c_octets("message_id", replace.message_id, MESSAGE_ID_MAX)?;
        self.octets(&[replace.source_addr_ton, replace.source_addr_npi]);
        self.c_octets("source_addr", replace.source_addr, ADDRESS_MAX)?;
        self.time("schedule_delivery_time", replace.schedule_delivery_time)?;
        self.time("validity_period", replace.validity_period)?;
        self.octets(&[replace.registered_delivery, replace.sm_default_msg_id]);
        self.short_message(replace.short_message)
    }

    /// Its addresses have 65 octets (SMPP 3.4, 4.12.1), as those of data_sm.
    fn alert_notification(&mut self, alert: &AlertNotification<'_>) -> Result<(), EncodeError> {
        self.octets(&[alert.source_addr_ton, alert.source_addr_npi]);
        self.c_octets("source_addr", alert.source_addr, DATA_SM_ADDRESS_MAX)?;
        self.octets(&[alert.esme_addr_ton, alert.esme_addr_npi]);
        self.c_octets("esme_addr", alert.esme_addr, DATA_SM_ADDRESS_MAX)?;
        self.octets(alert.tlvs.raw());
        Ok(())
    }

    fn octets(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    fn c_octets(
        &mut self,
        field: &'static str,
        value: &[u8],
        max: usize,
    ) -> Result<(), EncodeError> {
        if value.len() > max {
            return Err(EncodeError::TooLong {
                field,
                length: value.len(),
                max,
            });
        }
        if value.contains(&0) {
            return Err(EncodeError::Nul { field });
        }
        self.out.extend_from_slice(value);
        self.out.push(0);
        Ok(())
    }

    fn time(&mut self, field: &'static str, value: &[u8]) -> Result<(), EncodeError> {
        if !(value.is_empty() || value.len() == 16) {
            return Err(EncodeError::Time {
                field,
                length: value.len(),
            });
        }
        self.c_octets(field, value, 16)
    }

    fn short_message(&mut self, value: &[u8]) -> Result<(), EncodeError> {
        if value.len() > SHORT_MESSAGE_MAX {
            return Err(EncodeError::TooLong {
                field: "short_message",
                length: value.len(),
                max: SHORT_MESSAGE_MAX,
            });
        }
        // At most SHORT_MESSAGE_MAX, so the cast keeps it whole.
        self.out.push(value.len() as u8);
        self.out.extend_from_slice(value);
        Ok(())
    }
}
