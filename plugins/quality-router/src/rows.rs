//! Reading rows of the two tables, `north=4200; south=5100` and `north=0.93/4200; south=0.88`, without copying. What
//! cannot be read counts as not there. Knows no carriers.

/// Parts of a row that are read.
const PARTS_MAX: usize = 64;

/// Measured quality of a carrier in a country or network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub delivered_ratio: f32,
    pub receipt_ms: Option<u32>,
}

pub fn price(row: &str, carrier: &str) -> Option<u64> {
    let text = part(row, carrier)?;
    // Digits and nothing else, so that `0.0042` is noticed and not rounded.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

pub fn measured(row: &str, carrier: &str) -> Option<Measured> {
    let text = part(row, carrier)?;
    let (ratio, receipt_ms) = match text.split_once('/') {
        Some((ratio, ms)) => (ratio.trim_end(), Some(ms.trim_start().parse().ok()?)),
        None => (text, None),
    };
    let delivered_ratio = ratio.parse().ok()?;
    (0.0..=1.0).contains(&delivered_ratio).then_some(Measured {
        delivered_ratio,
        receipt_ms,
    })
}

fn part<'a>(row: &'a str, carrier: &str) -> Option<&'a str> {
    row.split(';')
        .take(PARTS_MAX)
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim() == carrier)
        .map(|(_, value)| value.trim())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_are_whole_millionths() {
        let row = " north = 4200; south=0.0042;west=;east=-1";
        assert_eq!(price(row, "north"), Some(4_200));
        for other in ["south", "west", "east", "gone", ""] {
            assert_eq!(price(row, other), None, "{other}");
        }
    }

    #[test]
    fn quality_is_a_ratio_and_perhaps_a_latency() {
        let row = "north=0.93/4200; south=0.88; west=1.2; east=0.9/fast; x=NaN";
        let north = measured(row, "north").unwrap();
        assert_eq!(
            (north.delivered_ratio, north.receipt_ms),
            (0.93, Some(4_200))
        );
        assert_eq!(measured(row, "south").unwrap().receipt_ms, None);
        for other in ["west", "east", "x", "gone"] {
            assert_eq!(measured(row, other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_row_panics(row in "\\PC{0,60}", name in "\\PC{0,5}") {
            let _ = (price(&row, &name), measured(&row, &name));
        }
    }
}
