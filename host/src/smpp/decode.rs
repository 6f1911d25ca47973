//! Decoding of PDUs: lenient, because what peers send departs from SMPP 3.4 in a hundred ways; total,
//! because peers are hostile. Copies nothing and allocates nothing.

use super::pdu::{
    AlertNotification, Bind, BindResp, Body, C_OCTETS_MAX, CancelSm, DataSm, DecodeError,
    HEADER_LEN, Header, Outbind, Pdu, QuerySm, QuerySmResp, ReplaceSm, Sm, SmResp, command_id,
};
use super::status;
use super::tlv::Tlvs;

/// Decodes one frame, as [`frame`] cut it out.
pub fn decode(frame: &[u8]) -> Result<Pdu<'_>, DecodeError> {
    let Some(header) = Header::parse(frame) else {
        return Err(DecodeError {
            header: Header::default(),
            field: "command_length",
            command_status: status::ESME_RINVCMDLEN,
        });
    };
    let mut reader = Reader {
        rest: &frame[HEADER_LEN..],
    };
    match reader.body(header.command_id) {
        Ok(body) => Ok(Pdu {
            command_status: header.command_status,
            sequence_number: header.sequence_number,
            body,
        }),
        Err(Fault {
            field,
            command_status,
        }) => Err(DecodeError {
            header,
            field,
            command_status,
        }),
    }
}

pub(super) struct Fault {
    pub field: &'static str,
    pub command_status: u32,
}

pub(super) struct Reader<'a> {
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn body(&mut self, command_id: u32) -> Result<Body<'a>, Fault> {
        Ok(match command_id {
            command_id::SUBMIT_SM => Body::SubmitSm(self.sm()?),
            command_id::SUBMIT_SM_RESP => Body::SubmitSmResp(self.sm_resp()),
            command_id::DELIVER_SM => Body::DeliverSm(self.sm()?),
            command_id::DELIVER_SM_RESP => Body::DeliverSmResp(self.sm_resp()),
            command_id::ENQUIRE_LINK => Body::EnquireLink,
            command_id::ENQUIRE_LINK_RESP => Body::EnquireLinkResp,
            command_id::DATA_SM => Body::DataSm(self.data_sm()?),
            command_id::DATA_SM_RESP => Body::DataSmResp(self.sm_resp()),
            command_id::BIND_RECEIVER => Body::BindReceiver(self.bind()?),
            command_id::BIND_RECEIVER_RESP => Body::BindReceiverResp(self.bind_resp()),
            command_id::BIND_TRANSMITTER => Body::BindTransmitter(self.bind()?),
            command_id::BIND_TRANSMITTER_RESP => Body::BindTransmitterResp(self.bind_resp()),
            command_id::BIND_TRANSCEIVER => Body::BindTransceiver(self.bind()?),
            command_id::BIND_TRANSCEIVER_RESP => Body::BindTransceiverResp(self.bind_resp()),
            command_id::GENERIC_NACK => Body::GenericNack,
            command_id::UNBIND => Body::Unbind,
            command_id::UNBIND_RESP => Body::UnbindResp,
            command_id::OUTBIND => Body::Outbind(Outbind {
                system_id: self.c_octets("system_id", status::ESME_RINVSYSID)?,
                password: self.c_octets("password", status::ESME_RINVPASWD)?,
            }),
            command_id::QUERY_SM => Body::QuerySm(self.query_sm()?),
            command_id::QUERY_SM_RESP => Body::QuerySmResp(self.query_sm_resp()),
            command_id::CANCEL_SM => Body::CancelSm(self.cancel_sm()?),
            command_id::CANCEL_SM_RESP => Body::CancelSmResp,
            command_id::REPLACE_SM => Body::ReplaceSm(self.replace_sm()?),
            command_id::REPLACE_SM_RESP => Body::ReplaceSmResp,
            command_id::ALERT_NOTIFICATION => Body::AlertNotification(self.alert_notification()?),
            other => Body::Other {
                command_id: other,
                octets: self.rest,
            },
        })
    }

    fn bind(&mut self) -> Result<Bind<'a>, Fault> {
        Ok(Bind {
            system_id: self.c_octets("system_id", status::ESME_RINVSYSID)?,
            password: self.c_octets("password", status::ESME_RINVPASWD)?,
            system_type: self.c_octets("system_type", status::ESME_RINVSYSTYP)?,
            interface_version: self.octet("interface_version")?,
            addr_ton: self.octet("addr_ton")?,
            addr_npi: self.octet("addr_npi")?,
            address_range: self.c_octets("address_range", status::ESME_RINVCMDLEN)?,
        })
    }

    fn bind_resp(&mut self) -> BindResp<'a> {
        BindResp {
            system_id: self.c_octets_any(),
            tlvs: self.tlvs(),
        }
    }

    fn sm(&mut self) -> Result<Sm<'a>, Fault> {
        Ok(Sm {
            service_type: self.c_octets("service_type", status::ESME_RINVSERTYP)?,
            source_addr_ton: self.octet("source_addr_ton")?,
            source_addr_npi: self.octet("source_addr_npi")?,
            source_addr: self.c_octets("source_addr", status::ESME_RINVSRCADR)?,
            dest_addr_ton: self.octet("dest_addr_ton")?,
            dest_addr_npi: self.octet("dest_addr_npi")?,
            destination_addr: self.c_octets("destination_addr", status::ESME_RINVDSTADR)?,
            esm_class: self.octet("esm_class")?,
            protocol_id: self.octet("protocol_id")?,
            priority_flag: self.octet("priority_flag")?,
            schedule_delivery_time: self
                .c_octets("schedule_delivery_time", status::ESME_RINVSCHED)?,
            validity_period: self.c_octets("validity_period", status::ESME_RINVEXPIRY)?,
            registered_delivery: self.octet("registered_delivery")?,
            replace_if_present_flag: self.octet("replace_if_present_flag")?,
            data_coding: self.octet("data_coding")?,
            sm_default_msg_id: self.octet("sm_default_msg_id")?,
            short_message: self.short_message()?,
            tlvs: self.tlvs(),
        })
    }

    /// Never fails: an answer that says OK has taken the message, whatever its id looks like.
    fn sm_resp(&mut self) -> SmResp<'a> {
        SmResp {
            message_id: self.c_octets_any(),
            tlvs: self.tlvs(),
        }
    }

    fn data_sm(&mut self) -> Result<DataSm<'a>, Fault> {
        Ok(DataSm {
            service_type: self.c_octets("service_type", status::ESME_RINVSERTYP)?,
            source_addr_ton: self.octet("source_addr_ton")?,
            source_addr_npi: self.octet("source_addr_npi")?,
            source_addr: self.c_octets("source_addr", status::ESME_RINVSRCADR)?,
            dest_addr_ton: self.octet("dest_addr_ton")?,
            dest_addr_npi: self.octet("dest_addr_npi")?,
            destination_addr: self.c_octets("destination_addr", status::ESME_RINVDSTADR)?,
            esm_class: self.octet("esm_class")?,
            registered_delivery: self.octet("registered_delivery")?,
            data_coding: self.octet("data_coding")?,
            tlvs: self.tlvs(),
        })
    }

    fn query_sm(&mut self) -> Result<QuerySm<'a>, Fault> {
        Ok(QuerySm {
            message_id: self.c_octets("message_id", status::ESME_RINVMSGID)?,
            source_addr_ton: self.octet("source_addr_ton")?,
            source_addr_npi: self.octet("source_addr_npi")?,
            source_addr: self.c_octets("source_addr", status::ESME_RINVSRCADR)?,
        })
    }

    fn query_sm_resp(&mut self) -> QuerySmResp<'a> {
        QuerySmResp {
            message_id: self.c_octets_any(),
            final_date: self.c_octets_any(),
            message_state: self.octet("message_state").unwrap_or(0),
            error_code: self.octet("error_code").unwrap_or(0),
        }
    }

    fn cancel_sm(&mut self) -> Result<CancelSm<'a>, Fault> {
        Ok(CancelSm {
            service_type: self.c_octets("service_type", status::ESME_RINVSERTYP)?,
            message_id: self.c_octets("message_id", status::ESME_RINVMSGID)?,
            source_addr_ton: self.octet("source_addr_ton")?,
            source_addr_npi: self.octet("source_addr_npi")?,
            source_addr: self.c_octets("source_addr", status::ESME_RINVSRCADR)?,
            dest_addr_ton: self.octet("dest_addr_ton")?,
            dest_addr_npi: self.octet("dest_addr_npi")?,
            destination_addr: self.c_octets("destination_addr", status::ESME_RINVDSTADR)?,
        })
    }

    fn replace_sm(&mut self) -> Result<ReplaceSm<'a>, Fault> {
        Ok(ReplaceSm {
            message_id: self.c_octets("message_id", status::ESME_RINVMSGID)?,
            source_addr_ton: self.octet("source_addr_ton")?,
            source_addr_npi: self.octet("source_addr_npi")?,
            source_addr: self.c_octets("source_addr", status::ESME_RINVSRCADR)?,
            schedule_delivery_time: self
                .c_octets("schedule_delivery_time", status::ESME_RINVSCHED)?,
            validity_period: self.c_octets("validity_period", status::ESME_RINVEXPIRY)?,
            registered_delivery: self.octet("registered_delivery")?,
            sm_default_msg_id: self.octet("sm_default_msg_id")?,
            short_message: self.short_message()?,
        })
    }

    fn alert_notification(&mut self) -> Result<AlertNotification<'a>, Fault> {
        Ok(AlertNotification {
            source_addr_ton: self.octet("source_addr_ton")?,
            source_addr_npi: self.octet("source_addr_npi")?,
            source_addr: self.c_octets("source_addr", status::ESME_RINVSRCADR)?,
            esme_addr_ton: self.octet("esme_addr_ton")?,
            esme_addr_npi: self.octet("esme_addr_npi")?,
            esme_addr: self.c_octets("esme_addr", status::ESME_RINVDSTADR)?,
            tlvs: self.tlvs(),
        })
    }

    pub(super) fn octet(&mut self, field: &'static str) -> Result<u8, Fault> {
        let (first, rest) = self.rest.split_first().ok_or(Fault {
            field,
            command_status: status::ESME_RINVCMDLEN,
        })?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn c_octets(
        &mut self,
        field: &'static str,
        command_status: u32,
    ) -> Result<&'a [u8], Fault> {
        let value = self.c_octets_any();
        if value.len() > C_OCTETS_MAX {
            return Err(Fault {
                field,
                command_status,
            });
        }
        Ok(value)
    }

    /// Up to the NUL, or to the end of the PDU where the peer forgot it.
    fn c_octets_any(&mut self) -> &'a [u8] {
        match self.rest.iter().position(|b| *b == 0) {
            Some(end) => {
                let value = &self.rest[..end];
                self.rest = &self.rest[end + 1..];
                value
            }
            None => std::mem::take(&mut self.rest),
        }
    }

    pub(super) fn short_message(&mut self) -> Result<&'a [u8], Fault> {
        let length = usize::from(self.octet("sm_length")?);
        let (message, rest) = self.rest.split_at_checked(length).ok_or(Fault {
            field: "sm_length",
            command_status: status::ESME_RINVMSGLEN,
        })?;
        self.rest = rest;
        Ok(message)
    }

    pub(super) fn tlvs(&mut self) -> Tlvs<'a> {
        Tlvs::parse(std::mem::take(&mut self.rest))
    }
}
