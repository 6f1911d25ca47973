//! Where a number lives: its country (libphonenumber's data) and the clock on its wall. Knows
//! nothing of number portability; an operator's table may say better.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::domain::{Address, Network};

/// Countries with one wall clock, or with one for all but a remote part (the Canaries, the
/// Azores, Xinjiang, the Chathams...). For the others (AU, BR, CA, MX, RU, US and a few more) a number alone does
/// not tell the zone: the operator's rows do, or a policy has to be told what to do then.
const ZONES: &[(&[u8; 2], &str)] = &[
    (b"AD", "Europe/Andorra"),
    (b"AE", "Asia/Dubai"),
    (b"AF", "Asia/Kabul"),
    (b"AG", "America/Antigua"),
    (b"AI", "America/Anguilla"),
    (b"AL", "Europe/Tirane"),
    (b"AM", "Asia/Yerevan"),
    (b"AO", "Africa/Luanda"),
    (b"AR", "America/Argentina/Buenos_Aires"),
    (b"AS", "Pacific/Pago_Pago"),
    (b"AT", "Europe/Vienna"),
    (b"AW", "America/Aruba"),
    (b"AX", "Europe/Mariehamn"),
    (b"AZ", "Asia/Baku"),
    (b"BA", "Europe/Sarajevo"),
    (b"BB", "America/Barbados"),
    (b"BD", "Asia/Dhaka"),
    (b"BE", "Europe/Brussels"),
    (b"BF", "Africa/Ouagadougou"),
    (b"BG", "Europe/Sofia"),
    (b"BH", "Asia/Bahrain"),
    (b"BI", "Africa/Bujumbura"),
    (b"BJ", "Africa/Porto-Novo"),
    (b"BL", "America/St_Barthelemy"),
    (b"BM", "Atlantic/Bermuda"),
    (b"BN", "Asia/Brunei"),
    (b"BO", "America/La_Paz"),
    (b"BQ", "America/Kralendijk"),
    (b"BS", "America/Nassau"),
    (b"BT", "Asia/Thimphu"),
    (b"BW", "Africa/Gaborone"),
    (b"BY", "Europe/Minsk"),
    (b"BZ", "America/Belize"),
    (b"CC", "Indian/Cocos"),
    (b"CF", "Africa/Bangui"),
    (b"CG", "Africa/Brazzaville"),
    (b"CH", "Europe/Zurich"),
    (b"CI", "Africa/Abidjan"),
    (b"CK", "Pacific/Rarotonga"),
    (b"CL", "America/Santiago"),
    (b"CM", "Africa/Douala"),
    (b"CN", "Asia/Shanghai"),
    (b"CO", "America/Bogota"),
    (b"CR", "America/Costa_Rica"),
    (b"CU", "America/Havana"),
    (b"CV", "Atlantic/Cape_Verde"),
    (b"CW", "America/Curacao"),
    (b"CX", "Indian/Christmas"),
    (b"CY", "Asia/Nicosia"),
    (b"CZ", "Europe/Prague"),
    (b"DE", "Europe/Berlin"),
    (b"DJ", "Africa/Djibouti"),
    (b"DK", "Europe/Copenhagen"),
    (b"DM", "America/Dominica"),
    (b"DO", "America/Santo_Domingo"),
    (b"DZ", "Africa/Algiers"),
    (b"EC", "America/Guayaquil"),
    (b"EE", "Europe/Tallinn"),
    (b"EG", "Africa/Cairo"),
    (b"EH", "Africa/El_Aaiun"),
    (b"ER", "Africa/Asmara"),
    (b"ES", "Europe/Madrid"),
    (b"ET", "Africa/Addis_Ababa"),
    (b"FI", "Europe/Helsinki"),
    (b"FJ", "Pacific/Fiji"),
    (b"FK", "Atlantic/Stanley"),
    (b"FO", "Atlantic/Faroe"),
    (b"FR", "Europe/Paris"),
    (b"GA", "Africa/Libreville"),
    (b"GB", "Europe/London"),
    (b"GD", "America/Grenada"),
    (b"GE", "Asia/Tbilisi"),
    (b"GF", "America/Cayenne"),
    (b"GG", "Europe/Guernsey"),
    (b"GH", "Africa/Accra"),
    (b"GI", "Europe/Gibraltar"),
    (b"GM", "Africa/Banjul"),
    (b"GN", "Africa/Conakry"),
    (b"GP", "America/Guadeloupe"),
    (b"GQ", "Africa/Malabo"),
    (b"GR", "Europe/Athens"),
    (b"GS", "Atlantic/South_Georgia"),
    (b"GT", "America/Guatemala"),
    (b"GU", "Pacific/Guam"),
    (b"GW", "Africa/Bissau"),
    (b"GY", "America/Guyana"),
    (b"HK", "Asia/Hong_Kong"),
    (b"HN", "America/Tegucigalpa"),
    (b"HR", "Europe/Zagreb"),
    (b"HT", "America/Port-au-Prince"),
    (b"HU", "Europe/Budapest"),
    (b"IE", "Europe/Dublin"),
    (b"IL", "Asia/Jerusalem"),
    (b"IM", "Europe/Isle_of_Man"),
    (b"IN", "Asia/Kolkata"),
    (b"IO", "Indian/Chagos"),
    (b"IQ", "Asia/Baghdad"),
    (b"IR", "Asia/Tehran"),
    (b"IS", "Atlantic/Reykjavik"),
    (b"IT", "Europe/Rome"),
    (b"JE", "Europe/Jersey"),
    (b"JM", "America/Jamaica"),
    (b"JO", "Asia/Amman"),
    (b"JP", "Asia/Tokyo"),
    (b"KE", "Africa/Nairobi"),
    (b"KG", "Asia/Bishkek"),
    (b"KH", "Asia/Phnom_Penh"),
    (b"KM", "Indian/Comoro"),
    (b"KN", "America/St_Kitts"),
    (b"KP", "Asia/Pyongyang"),
    (b"KR", "Asia/Seoul"),
    (b"KW", "Asia/Kuwait"),
    (b"KY", "America/Cayman"),
    (b"KZ", "Asia/Almaty"),
    (b"LA", "Asia/Vientiane"),
    (b"LB", "Asia/Beirut"),
    (b"LC", "America/St_Lucia"),
    (b"LI", "Europe/Vaduz"),
    (b"LK", "Asia/Colombo"),
    (b"LR", "Africa/Monrovia"),
    (b"LS", "Africa/Maseru"),
    (b"LT", "Europe/Vilnius"),
    (b"LU", "Europe/Luxembourg"),
    (b"LV", "Europe/Riga"),
    (b"LY", "Africa/Tripoli"),
    (b"MA", "Africa/Casablanca"),
    (b"MC", "Europe/Monaco"),
    (b"MD", "Europe/Chisinau"),
    (b"ME", "Europe/Podgorica"),
    (b"MF", "America/Marigot"),
    (b"MG", "Indian/Antananarivo"),
    (b"MH", "Pacific/Majuro"),
    (b"MK", "Europe/Skopje"),
    (b"ML", "Africa/Bamako"),
    (b"MM", "Asia/Yangon"),
    (b"MO", "Asia/Macau"),
    (b"MP", "Pacific/Saipan"),
    (b"MQ", "America/Martinique"),
    (b"MR", "Africa/Nouakchott"),
    (b"MS", "America/Montserrat"),
    (b"MT", "Europe/Malta"),
    (b"MU", "Indian/Mauritius"),
    (b"MV", "Indian/Maldives"),
    (b"MW", "Africa/Blantyre"),
    (b"MY", "Asia/Kuala_Lumpur"),
    (b"MZ", "Africa/Maputo"),
    (b"NA", "Africa/Windhoek"),
    (b"NC", "Pacific/Noumea"),
    (b"NE", "Africa/Niamey"),
    (b"NF", "Pacific/Norfolk"),
    (b"NG", "Africa/Lagos"),
    (b"NI", "America/Managua"),
    (b"NL", "Europe/Amsterdam"),
    (b"NO", "Europe/Oslo"),
    (b"NP", "Asia/Kathmandu"),
    (b"NR", "Pacific/Nauru"),
    (b"NU", "Pacific/Niue"),
    (b"NZ", "Pacific/Auckland"),
    (b"OM", "Asia/Muscat"),
    (b"PA", "America/Panama"),
    (b"PE", "America/Lima"),
    (b"PH", "Asia/Manila"),
    (b"PK", "Asia/Karachi"),
    (b"PL", "Europe/Warsaw"),
    (b"PM", "America/Miquelon"),
    (b"PN", "Pacific/Pitcairn"),
    (b"PR", "America/Puerto_Rico"),
    (b"PS", "Asia/Gaza"),
    (b"PT", "Europe/Lisbon"),
    (b"PW", "Pacific/Palau"),
    (b"PY", "America/Asuncion"),
    (b"QA", "Asia/Qatar"),
    (b"RE", "Indian/Reunion"),
    (b"RO", "Europe/Bucharest"),
    (b"RS", "Europe/Belgrade"),
    (b"RW", "Africa/Kigali"),
    (b"SA", "Asia/Riyadh"),
    (b"SB", "Pacific/Guadalcanal"),
    (b"SC", "Indian/Mahe"),
    (b"SD", "Africa/Khartoum"),
    (b"SE", "Europe/Stockholm"),
    (b"SG", "Asia/Singapore"),
    (b"SH", "Atlantic/St_Helena"),
    (b"SI", "Europe/Ljubljana"),
    (b"SJ", "Arctic/Longyearbyen"),
    (b"SK", "Europe/Bratislava"),
    (b"SL", "Africa/Freetown"),
    (b"SM", "Europe/San_Marino"),
    (b"SN", "Africa/Dakar"),
    (b"SO", "Africa/Mogadishu"),
    (b"SR", "America/Paramaribo"),
    (b"SS", "Africa/Juba"),
    (b"ST", "Africa/Sao_Tome"),
    (b"SV", "America/El_Salvador"),
    (b"SX", "America/Lower_Princes"),
    (b"SY", "Asia/Damascus"),
    (b"SZ", "Africa/Mbabane"),
    (b"TC", "America/Grand_Turk"),
    (b"TD", "Africa/Ndjamena"),
    (b"TF", "Indian/Kerguelen"),
    (b"TG", "Africa/Lome"),
    (b"TH", "Asia/Bangkok"),
    (b"TJ", "Asia/Dushanbe"),
    (b"TK", "Pacific/Fakaofo"),
    (b"TL", "Asia/Dili"),
    (b"TM", "Asia/Ashgabat"),
    (b"TN", "Africa/Tunis"),
    (b"TO", "Pacific/Tongatapu"),
    (b"TR", "Europe/Istanbul"),
    (b"TT", "America/Port_of_Spain"),
    (b"TV", "Pacific/Funafuti"),
    (b"TW", "Asia/Taipei"),
    (b"TZ", "Africa/Dar_es_Salaam"),
    (b"UA", "Europe/Kyiv"),
    (b"UG", "Africa/Kampala"),
    (b"UY", "America/Montevideo"),
    (b"UZ", "Asia/Samarkand"),
    (b"VA", "Europe/Vatican"),
    (b"VC", "America/St_Vincent"),
    (b"VE", "America/Caracas"),
    (b"VG", "America/Tortola"),
    (b"VI", "America/St_Thomas"),
    (b"VN", "Asia/Ho_Chi_Minh"),
    (b"VU", "Pacific/Efate"),
    (b"WF", "Pacific/Wallis"),
    (b"WS", "Pacific/Apia"),
    (b"YE", "Asia/Aden"),
    (b"YT", "Indian/Mayotte"),
    (b"ZA", "Africa/Johannesburg"),
    (b"ZM", "Africa/Lusaka"),
    (b"ZW", "Africa/Harare"),
];

/// Resolves numbers to networks and wall clocks. Cheap to share.
#[derive(Debug)]
pub struct Numbers {
    /// Sorted by country, as `ZONES` is.
    zones: Vec<Option<TimeZone>>,
    /// The operator's own rows, longest prefix first: digits and zone.
    overrides: Vec<(String, TimeZone)>,
    /// Countries of number ranges seen lately: parsing a number costs more than most decisions.
    countries: parking_lot::RwLock<HashMap<u64, Option<[u8; 2]>>>,
}

/// Ranges whose country is remembered; beyond it they are forgotten and learnt anew.
const COUNTRIES_MAX: usize = 65_536;

/// Digits that tell a number's range: country code, area code and the first of the block.
const RANGE_DIGITS: usize = 8;

/// A time zone of the configuration does not exist.
#[derive(Debug)]
pub struct UnknownZone(pub String);

impl Numbers {
    /// `overrides`: number prefix (digits) to IANA zone name, as in `1212 = "America/New_York"`.
    pub fn new(
        overrides: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Numbers, UnknownZone> {
        let mut rows = Vec::new();
        for (prefix, zone) in overrides {
            let tz = TimeZone::get(&zone).map_err(|_| UnknownZone(zone))?;
            rows.push((prefix, tz));
        }
        rows.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(Numbers {
            zones: ZONES
                .iter()
                .map(|(_, zone)| TimeZone::get(zone).ok())
                .collect(),
            overrides: rows,
            countries: parking_lot::RwLock::default(),
        })
    }

    /// The country of an international number; nothing for short codes and names.
    pub fn network(&self, address: &Address) -> Network {
        if !address.is_international() {
            return Network::default();
        }
        Network {
            country: self.country(&address.value),
            ..Network::default()
        }
    }

    fn country(&self, digits: &str) -> Option<[u8; 2]> {
        // The length belongs to the range: plans tell old and new numbers apart by it.
        let range = digits
            .get(..RANGE_DIGITS)
            .and_then(|d| d.parse::<u64>().ok());
        let Some(range) = range.map(|r| r * 100 + digits.len() as u64) else {
            return country(digits);
        };
        if let Some(known) = self.countries.read().get(&range) {
            return *known;
        }
        let found = country(digits);
        let mut countries = self.countries.write();
        if countries.len() >= COUNTRIES_MAX {
            countries.clear();
        }
        countries.insert(range, found);
        found
    }

    /// Minutes to add to UTC for the recipient's wall clock at `at`.
    pub fn utc_offset_minutes(
        &self,
        address: &Address,
        network: &Network,
        at: Timestamp,
    ) -> Option<i16> {
        let zone = self
            .overrides
            .iter()
            .find(|(prefix, _)| address.value.starts_with(prefix.as_str()))
            .map(|(_, zone)| zone)
            .or_else(|| {
                let country = network.country?;
                let index = ZONES.binary_search_by(|(c, _)| (*c).cmp(&country)).ok()?;
                self.zones[index].as_ref()
            })?;
        let instant = jiff::Timestamp::from_millisecond(i64::try_from(at.millis()).ok()?).ok()?;
        i16::try_from(zone.to_offset(instant).seconds() / 60).ok()
    }
}

fn country(digits: &str) -> Option<[u8; 2]> {
    let number: rlibphonenumber::PhoneNumber = format!("+{digits}").parse().ok()?;
    // Numbers of no range in use (test numbers, ranges younger than the data) live in the main
    // country of their country code.
    let region = number.get_region_code().or_else(|| {
        rlibphonenumber::PHONE_NUMBER_UTIL.get_region_for_country_code(number.country_code)
    })?;
    match region.as_region_str().as_bytes() {
        [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Some([*a, *b]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(number: &str, at: u64) -> Option<i16> {
        let numbers = Numbers::new([("1212".to_owned(), "America/New_York".to_owned())])
            .unwrap_or_else(|e| panic!("{e:?}"));
        let address = Address::international(number).unwrap();
        let network = numbers.network(&address);
        numbers.utc_offset_minutes(&address, &network, Timestamp(at))
    }

    const JANUARY: u64 = 1_768_478_400_000; // 2026-01-15T12:00:00Z
    const JULY: u64 = 1_784_116_800_000; // 2026-07-15T12:00:00Z

    #[test]
    fn the_wall_clock_follows_daylight_saving() {
        assert_eq!(offset("+447400123456", JANUARY), Some(0));
        assert_eq!(offset("+447400123456", JULY), Some(60));
        assert_eq!(offset("+919876543210", JULY), Some(330));
    }

    #[test]
    fn a_number_of_no_known_range_still_has_a_country() {
        assert_eq!(offset("+447700900014", JULY), Some(60));
    }

    #[test]
    fn a_country_with_several_clocks_needs_the_operators_word() {
        assert_eq!(offset("+13105550143", JANUARY), None);
        assert_eq!(offset("+12125550143", JANUARY), Some(-300));
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(ZONES.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
