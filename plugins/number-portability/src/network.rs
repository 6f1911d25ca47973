//! A network as a table's row tells it: `234-10;GB;O2 UK`. It knows nothing of numbers, nor where a row came from.

use heliograph_plugin::Country;

/// Mobile country and network codes (ITU-T E.212), and what is told of the network beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub mcc: u16,
    pub mnc: u16,
    pub country: Option<Country>,
    /// Empty where the row has none.
    pub name: &'a str,
}

impl<'a> Row<'a> {
    /// None where the text is no network.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.splitn(3, ';').map(str::trim);
        let (mcc, mnc) = fields.next()?.split_once('-')?;
        let country = match fields.next() {
            None | Some("") => None,
            Some(country) => Some(Country::new(country)?),
        };
        Some(Self {
            mcc: code(mcc, 3)?,
            mnc: code(mnc, 2)
                .or_else(|| code(mnc, 3))
                .or_else(|| code(mnc, 1))?,
            country,
            name: fields.next().unwrap_or(""),
        })
    }
}

fn code(text: &str, digits: usize) -> Option<u16> {
    let fits = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let row = |mcc, mnc, country, name| {
            Some(Row {
                mcc,
                mnc,
                country: Country::new(country),
                name,
            })
        };
        assert_eq!(Row::parse("234-10"), row(234, 10, "", ""));
        assert_eq!(Row::parse("234-10;GB;O2 UK"), row(234, 10, "GB", "O2 UK"));
        assert_eq!(Row::parse(" 310-410 ; US "), row(310, 410, "US", ""));
        assert_eq!(Row::parse("208-01;;a;b"), row(208, 1, "", "a;b"));
        assert_eq!(Row::parse("001-1"), row(1, 1, "", ""));
        for bad in [
            "",
            "234",
            "23-10",
            "2345-1",
            "234-",
            "234-1000",
            "234-+1",
            "234-10;gb",
            "234-10;GBR",
            "o2",
            "-",
        ] {
            assert_eq!(Row::parse(bad), None, "{bad}");
        }
    }
}
