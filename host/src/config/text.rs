//! What an operator says of text: in which encodings an account's messages may travel, and how a
//! carrier wants them. The names of these settings, and what they come to.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::text::{
    ClassStyle, DataCodings, DefaultAlphabet, EncodingWish, Language, Languages, Multipart,
    TextStyle, TextWish,
};

/// Of an account: what holds where its messages do not say.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountText {
    /// The default: the cheapest of the GSM default alphabet, the shift tables of `languages`, and UCS-2.
    pub encoding: Option<Encoding>,
    /// Languages whose shift tables (3GPP TS 23.038) may be used.
    #[schemars(length(max = 13))]
    pub languages: Vec<LanguageName>,
    /// Rewrite typographic marks, look-alikes and accents where that saves segments.
    pub transliterate: Option<bool>,
}

impl AccountText {
    pub fn wish(&self) -> TextWish {
        TextWish {
            encoding: self.encoding.map(|e| match e {
                Encoding::Auto => EncodingWish::Auto,
                Encoding::Gsm7 => EncodingWish::Gsm7,
                Encoding::Ucs2 => EncodingWish::Ucs2,
                Encoding::National => EncodingWish::National,
            }),
            languages: languages(&self.languages),
            transliterate: self.transliterate,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    Auto,
    Gsm7,
    Ucs2,
    National,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LanguageName {
    Turkish,
    Spanish,
    Portuguese,
    Bengali,
    Gujarati,
    Hindi,
    Kannada,
    Malayalam,
    Oriya,
    Punjabi,
    Tamil,
    Telugu,
    Urdu,
}

fn languages(names: &[LanguageName]) -> Languages {
    let language = |name: &LanguageName| match name {
        LanguageName::Turkish => Language::Turkish,
        LanguageName::Spanish => Language::Spanish,
        LanguageName::Portuguese => Language::Portuguese,
        LanguageName::Bengali => Language::Bengali,
        LanguageName::Gujarati => Language::Gujarati,
        LanguageName::Hindi => Language::Hindi,
        LanguageName::Kannada => Language::Kannada,
        LanguageName::Malayalam => Language::Malayalam,
        LanguageName::Oriya => Language::Oriya,
        LanguageName::Punjabi => Language::Punjabi,
        LanguageName::Tamil => Language::Tamil,
        LanguageName::Telugu => Language::Telugu,
        LanguageName::Urdu => Language::Urdu,
    };
    names.iter().map(language).collect()
}

/// Of an SMPP carrier.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CarrierText {
    /// What the carrier reads octets under its default data_coding as.
    pub default_alphabet: DefaultAlphabetName,
    pub data_coding: DataCodingSection,
    /// Send text that ISO-8859-1 holds and GSM does not in it, 140 octets a message, instead of UCS-2.
    pub latin1: bool,
    /// False: national shift tables never reach this carrier.
    pub shift_tables: bool,
    /// Rewrite texts where that saves segments and neither message nor account says.
    pub transliterate: bool,
    /// How a message class is told: `general` (data_coding 0x10 to 0x1B), `group_f` (0xF0 to 0xF7) or
    /// `dest_addr_subunit`.
    pub message_class: ClassName,
}

impl Default for CarrierText {
    fn default() -> CarrierText {
        CarrierText {
            default_alphabet: DefaultAlphabetName::Gsm7,
            data_coding: DataCodingSection::default(),
            latin1: false,
            shift_tables: true,
            transliterate: false,
            message_class: ClassName::General,
        }
    }
}

/// data_coding of each alphabet (SMPP 3.4, 5.2.19).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataCodingSection {
    /// Of the default alphabet.
    pub default: u8,
    pub latin1: u8,
    pub ucs2: u8,
    pub binary: u8,
}

impl Default for DataCodingSection {
    fn default() -> DataCodingSection {
        let usual = DataCodings::default();
        DataCodingSection {
            default: usual.default,
            latin1: usual.latin1,
            ucs2: usual.ucs2,
            binary: usual.octets,
        }
    }
}

/// How the parts of a long message are tied together: by a header with an 8-bit or a 16-bit
/// reference, by the parameters sar_*, or not at all: whole in message_payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MultipartName {
    #[default]
    Udh8,
    Udh16,
    Sar,
    Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAlphabetName {
    Gsm7,
    Latin1,
    Ascii,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassName {
    General,
    GroupF,
    DestAddrSubunit,
}

impl CarrierText {
    pub fn style(&self, multipart: MultipartName) -> TextStyle {
        TextStyle {
            multipart: match multipart {
                MultipartName::Udh8 => Multipart::Udh8,
                MultipartName::Udh16 => Multipart::Udh16,
                MultipartName::Sar => Multipart::Sar,
                MultipartName::Payload => Multipart::Payload,
            },
            default_alphabet: match self.default_alphabet {
                DefaultAlphabetName::Gsm7 => DefaultAlphabet::Gsm7,
                DefaultAlphabetName::Latin1 => DefaultAlphabet::Latin1,
                DefaultAlphabetName::Ascii => DefaultAlphabet::Ascii,
            },
            data_coding: DataCodings {
                default: self.data_coding.default,
                latin1: self.data_coding.latin1,
                ucs2: self.data_coding.ucs2,
                octets: self.data_coding.binary,
            },
            latin1: self.latin1,
            no_shift_tables: !self.shift_tables,
            transliterate: self.transliterate,
            message_class: match self.message_class {
                ClassName::General => ClassStyle::General,
                ClassName::GroupF => ClassStyle::GroupF,
                ClassName::DestAddrSubunit => ClassStyle::Subunit,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_the_usual() {
        let style = CarrierText::default().style(MultipartName::default());
        assert_eq!(style, TextStyle::default());
        assert_eq!(AccountText::default().wish(), TextWish::default());
    }

    #[test]
    fn a_section_comes_to_a_style() {
        let text = r#"
            default_alphabet = "latin1"
            data_coding = { ucs2 = 0x18 }
            shift_tables = false
            message_class = "group_f"
        "#;
        let section: CarrierText = toml::from_str(text).unwrap();
        let style = section.style(MultipartName::Sar);
        assert_eq!(style.multipart, Multipart::Sar);
        assert_eq!(style.default_alphabet, DefaultAlphabet::Latin1);
        assert_eq!(
            (style.data_coding.ucs2, style.data_coding.default),
            (0x18, 0)
        );
        assert!(style.no_shift_tables);
        assert_eq!(style.message_class, ClassStyle::GroupF);
        assert!(toml::from_str::<CarrierText>("latin = true").is_err());
    }

    #[test]
    fn every_language_has_its_name() {
        let names: Vec<String> = Language::ALL
            .iter()
            .map(|l| format!("{:?}", l.name()))
            .collect();
        let text = format!("languages = [{}]", names.join(", "));
        let account: AccountText = toml::from_str(&text).unwrap();
        assert_eq!(account.wish().languages, Languages::all());
    }
}
