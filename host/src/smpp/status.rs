//! command_status values (SMPP 3.4, 5.1.3): their names and what a sender does about each. The set
//! is open, because peers invent values, so a status stays a number; this file gives orders to nobody.

pub const ESME_ROK: u32 = 0x00;
pub const ESME_RINVMSGLEN: u32 = 0x01;
pub const ESME_RINVCMDLEN: u32 = 0x02;
pub const ESME_RINVCMDID: u32 = 0x03;
pub const ESME_RINVBNDSTS: u32 = 0x04;
pub const ESME_RALYBND: u32 = 0x05;
pub const ESME_RINVPRTFLG: u32 = 0x06;
pub const ESME_RINVREGDLVFLG: u32 = 0x07;
pub const ESME_RSYSERR: u32 = 0x08;
pub const ESME_RINVSRCADR: u32 = 0x0A;
pub const ESME_RINVDSTADR: u32 = 0x0B;
pub const ESME_RINVMSGID: u32 = 0x0C;
pub const ESME_RBINDFAIL: u32 = 0x0D;
pub const ESME_RINVPASWD: u32 = 0x0E;
pub const ESME_RINVSYSID: u32 = 0x0F;
pub const ESME_RCANCELFAIL: u32 = 0x11;
pub const ESME_RREPLACEFAIL: u32 = 0x13;
pub const ESME_RMSGQFUL: u32 = 0x14;
pub const ESME_RINVSERTYP: u32 = 0x15;
pub const ESME_RINVNUMDESTS: u32 = 0x33;
pub const ESME_RINVDLNAME: u32 = 0x34;
pub const ESME_RINVDESTFLAG: u32 = 0x40;
pub const ESME_RINVSUBREP: u32 = 0x42;
pub const ESME_RINVESMCLASS: u32 = 0x43;
pub const ESME_RCNTSUBDL: u32 = 0x44;
pub const ESME_RSUBMITFAIL: u32 = 0x45;
pub const ESME_RINVSRCTON: u32 = 0x48;
pub const ESME_RINVSRCNPI: u32 = 0x49;
pub const ESME_RINVDSTTON: u32 = 0x50;
pub const ESME_RINVDSTNPI: u32 = 0x51;
pub const ESME_RINVSYSTYP: u32 = 0x53;
pub const ESME_RINVREPFLAG: u32 = 0x54;
pub const ESME_RINVNUMMSGS: u32 = 0x55;
pub const ESME_RTHROTTLED: u32 = 0x58;
pub const ESME_RINVSCHED: u32 = 0x61;
pub const ESME_RINVEXPIRY: u32 = 0x62;
pub const ESME_RINVDFTMSGID: u32 = 0x63;
pub const ESME_RX_T_APPN: u32 = 0x64;
pub const ESME_RX_P_APPN: u32 = 0x65;
pub const ESME_RX_R_APPN: u32 = 0x66;
pub const ESME_RQUERYFAIL: u32 = 0x67;
pub const ESME_RINVOPTPARSTREAM: u32 = 0xC0;
pub const ESME_ROPTPARNOTALLWD: u32 = 0xC1;
pub const ESME_RINVPARLEN: u32 = 0xC2;
pub const ESME_RMISSINGOPTPARAM: u32 = 0xC3;
pub const ESME_RINVOPTPARAMVAL: u32 = 0xC4;
pub const ESME_RDELIVERYFAILURE: u32 = 0xFE;
pub const ESME_RUNKNOWNERR: u32 = 0xFF;
/// SMPP 5.0, sent by 3.4 peers too.
pub const ESME_RSERTYPUNAUTH: u32 = 0x100;
pub const ESME_RPROHIBITED: u32 = 0x101;
pub const ESME_RSERTYPUNAVAIL: u32 = 0x102;
pub const ESME_RSERTYPDENIED: u32 = 0x103;
pub const ESME_RINVDCS: u32 = 0x104;

const NAMES: [(u32, &str); 67] = [
    (ESME_ROK, "ESME_ROK"),
    (ESME_RINVMSGLEN, "ESME_RINVMSGLEN"),
    (ESME_RINVCMDLEN, "ESME_RINVCMDLEN"),
    (ESME_RINVCMDID, "ESME_RINVCMDID"),
    (ESME_RINVBNDSTS, "ESME_RINVBNDSTS"),
    (ESME_RALYBND, "ESME_RALYBND"),
    (ESME_RINVPRTFLG, "ESME_RINVPRTFLG"),
    (ESME_RINVREGDLVFLG, "ESME_RINVREGDLVFLG"),
    (ESME_RSYSERR, "ESME_RSYSERR"),
    (ESME_RINVSRCADR, "ESME_RINVSRCADR"),
    (ESME_RINVDSTADR, "ESME_RINVDSTADR"),
    (ESME_RINVMSGID, "ESME_RINVMSGID"),
    (ESME_RBINDFAIL, "ESME_RBINDFAIL"),
    (ESME_RINVPASWD, "ESME_RINVPASWD"),
    (ESME_RINVSYSID, "ESME_RINVSYSID"),
    (ESME_RCANCELFAIL, "ESME_RCANCELFAIL"),
    (ESME_RREPLACEFAIL, "ESME_RREPLACEFAIL"),
    (ESME_RMSGQFUL, "ESME_RMSGQFUL"),
    (ESME_RINVSERTYP, "ESME_RINVSERTYP"),
    (ESME_RINVNUMDESTS, "ESME_RINVNUMDESTS"),
    (ESME_RINVDLNAME, "ESME_RINVDLNAME"),
    (ESME_RINVDESTFLAG, "ESME_RINVDESTFLAG"),
    (ESME_RINVSUBREP, "ESME_RINVSUBREP"),
    (ESME_RINVESMCLASS, "ESME_RINVESMCLASS"),
    (ESME_RCNTSUBDL, "ESME_RCNTSUBDL"),
    (ESME_RSUBMITFAIL, "ESME_RSUBMITFAIL"),
    (ESME_RINVSRCTON, "ESME_RINVSRCTON"),
    (ESME_RINVSRCNPI, "ESME_RINVSRCNPI"),
    (ESME_RINVDSTTON, "ESME_RINVDSTTON"),
    (ESME_RINVDSTNPI, "ESME_RINVDSTNPI"),
    (ESME_RINVSYSTYP, "ESME_RINVSYSTYP"),
    (ESME_RINVREPFLAG, "ESME_RINVREPFLAG"),
    (ESME_RINVNUMMSGS, "ESME_RINVNUMMSGS"),
    (ESME_RTHROTTLED, "ESME_RTHROTTLED"),
    (ESME_RINVSCHED, "ESME_RINVSCHED"),
    (ESME_RINVEXPIRY, "ESME_RINVEXPIRY"),
    (ESME_RINVDFTMSGID, "ESME_RINVDFTMSGID"),
    (ESME_RX_T_APPN, "ESME_RX_T_APPN"),
    (ESME_RX_P_APPN, "ESME_RX_P_APPN"),
    (ESME_RX_R_APPN, "ESME_RX_R_APPN"),
    (ESME_RQUERYFAIL, "ESME_RQUERYFAIL"),
    (ESME_RINVOPTPARSTREAM, "ESME_RINVOPTPARSTREAM"),
    (ESME_ROPTPARNOTALLWD, "ESME_ROPTPARNOTALLWD"),
    (ESME_RINVPARLEN, "ESME_RINVPARLEN"),
    (ESME_RMISSINGOPTPARAM, "ESME_RMISSINGOPTPARAM"),
    (ESME_RINVOPTPARAMVAL, "ESME_RINVOPTPARAMVAL"),
    (ESME_RDELIVERYFAILURE, "ESME_RDELIVERYFAILURE"),
    (ESME_RUNKNOWNERR, "ESME_RUNKNOWNERR"),
    (ESME_RSERTYPUNAUTH, "ESME_RSERTYPUNAUTH"),
    (ESME_RPROHIBITED, "ESME_RPROHIBITED"),
    (ESME_RSERTYPUNAVAIL, "ESME_RSERTYPUNAVAIL"),
    (ESME_RSERTYPDENIED, "ESME_RSERTYPDENIED"),
    (ESME_RINVDCS, "ESME_RINVDCS"),
    // SMPP 5.0 broadcast statuses, named so that a trace can show them.
    (0x105, "ESME_RINVSRCADDRSUBUNIT"),
    (0x106, "ESME_RINVDSTADDRSUBUNIT"),
    (0x107, "ESME_RINVBCASTFREQINT"),
    (0x108, "ESME_RINVBCASTALIAS_NAME"),
    (0x109, "ESME_RINVBCASTAREAFMT"),
    (0x10A, "ESME_RINVNUMBCAST_AREAS"),
    (0x10B, "ESME_RINVBCASTCNTTYPE"),
    (0x10C, "ESME_RINVBCASTMSGCLASS"),
    (0x10D, "ESME_RBCASTFAIL"),
    (0x10E, "ESME_RBCASTQUERYFAIL"),
    (0x10F, "ESME_RBCASTCANCELFAIL"),
    (0x110, "ESME_RINVBCAST_REP"),
    (0x111, "ESME_RINVBCASTSRVGRP"),
    (0x112, "ESME_RINVBCASTCHANIND"),
];

/// What a command_status in an answer to a submission asks of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Ok,
    /// Too fast: send again, and slower.
    Throttled,
    /// The peer's trouble: the same message may be taken later.
    Temporary,
    /// This message will never be taken as it is.
    Permanent,
}

/// Unknown values are `Permanent` below 0x400 (the specification's own range: a refusal that a
/// later version named) and `Temporary` in the vendor range 0x400 to 0x4FF and beyond, where
/// giving a message up on a number nobody can look up would lose it.
pub fn class(command_status: u32) -> Class {
    match command_status {
        ESME_ROK => Class::Ok,
        ESME_RTHROTTLED | ESME_RMSGQFUL => Class::Throttled,
        // RINVBNDSTS: the session is at fault, not the message. RINVSCHED is retried in the field.
        ESME_RINVBNDSTS | ESME_RALYBND | ESME_RSYSERR | ESME_RBINDFAIL | ESME_RSUBMITFAIL
        | ESME_RINVSCHED | ESME_RX_T_APPN | ESME_RQUERYFAIL | ESME_RUNKNOWNERR
        | ESME_RSERTYPUNAVAIL => Class::Temporary,
        status if status >= 0x400 => Class::Temporary,
        _ => Class::Permanent,
    }
}

/// The specification's name, none for reserved and vendor values.
pub fn name(command_status: u32) -> Option<&'static str> {
    NAMES
        .iter()
        .find(|(value, _)| *value == command_status)
        .map(|(_, name)| *name)
}

/// For people: `ESME_RTHROTTLED (0x58)`, or `command_status 0x412`.
pub fn describe(command_status: u32) -> String {
    match name(command_status) {
        Some(name) => format!("{name} ({command_status:#x})"),
        None => format!("command_status {command_status:#x}"),
    }
}

/// A status by its specification name, in any case, with or without `ESME_`; or by its number.
pub fn from_name(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(hex, 16).ok();
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    NAMES
        .iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(text) || name[5..].eq_ignore_ascii_case(text))
        .map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_about_each_status() {
        for (status, expect) in [
            (0x00, Class::Ok),
            (0x58, Class::Throttled),
            (0x14, Class::Throttled),
            (0x08, Class::Temporary),
            (0x04, Class::Temporary),
            (0x64, Class::Temporary),
            (0x61, Class::Temporary),
            (0x0B, Class::Permanent),
            (0x65, Class::Permanent),
            (0xFE, Class::Permanent),
            (0x101, Class::Permanent),
            (0x412, Class::Temporary),
            (0xFFFF_FFFF, Class::Temporary),
        ] {
            assert_eq!(class(status), expect, "{status:#x}");
        }
    }

    #[test]
    fn every_named_status_has_its_class() {
        for (status, name) in NAMES {
            let expect = match status {
                0x00 => Class::Ok,
                0x14 | 0x58 => Class::Throttled,
                0x04 | 0x05 | 0x08 | 0x0D | 0x45 | 0x61 | 0x64 | 0x67 | 0xFF | 0x102 => {
                    Class::Temporary
                }
                _ => Class::Permanent,
            };
            assert_eq!(class(status), expect, "{name}");
        }
    }

    #[test]
    fn names_both_ways() {
        for (value, text) in NAMES {
            assert_eq!(name(value), Some(text));
            assert_eq!(from_name(text), Some(value));
        }
        assert_eq!(from_name("rthrottled"), Some(0x58));
        assert_eq!(from_name("0x412"), Some(0x412));
        assert_eq!(from_name("88"), Some(0x58));
        assert_eq!(from_name("nonsense"), None);
        assert_eq!(describe(0x412), "command_status 0x412");
        assert_eq!(describe(0x58), "ESME_RTHROTTLED (0x58)");
    }

    #[test]
    fn the_table_is_in_order_and_without_doubles() {
        assert!(NAMES.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
