//! National languages whose letters have shift tables (3GPP TS 23.038, 6.2.1.2.4), and which of
//! their tables a text uses.

macro_rules! languages {
    ($($(#[$doc:meta])* $language:ident = $code:literal, $name:literal;)*) => {
        /// National Language Identifier: the octet of IE 0x24 and 0x25 (3GPP TS 23.040,
        /// 9.2.3.24.15 and 9.2.3.24.16).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Language { $($(#[$doc])* $language = $code,)* }

        impl Language {
            pub const ALL: &[Language] = &[$(Language::$language,)*];

            pub fn name(self) -> &'static str {
                match self { $(Language::$language => $name,)* }
            }
        }
    };
}

languages! {
    Turkish = 1, "turkish";
    /// Has no locking shift table.
    Spanish = 2, "spanish";
    Portuguese = 3, "portuguese";
    Bengali = 4, "bengali";
    Gujarati = 5, "gujarati";
    Hindi = 6, "hindi";
    Kannada = 7, "kannada";
    Malayalam = 8, "malayalam";
    Oriya = 9, "oriya";
    Punjabi = 10, "punjabi";
    Tamil = 11, "tamil";
    Telugu = 12, "telugu";
    Urdu = 13, "urdu";
}

impl Language {
    pub fn from_code(code: u8) -> Option<Language> {
        Language::ALL.iter().copied().find(|l| *l as u8 == code)
    }

    pub fn from_name(name: &str) -> Option<Language> {
        Language::ALL.iter().copied().find(|l| l.name() == name)
    }
}

/// Which national tables a GSM text uses in place of the default ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShiftTables {
    pub locking: Option<Language>,
    pub single: Option<Language>,
}

impl ShiftTables {
    pub fn is_default(self) -> bool {
        self == ShiftTables::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_found_by_code_and_name() {
        for language in Language::ALL {
            assert_eq!(Language::from_code(*language as u8), Some(*language));
            assert_eq!(Language::from_name(language.name()), Some(*language));
        }
        assert_eq!(Language::from_code(0), None);
        assert_eq!(Language::from_code(14), None);
    }
}
