//! Whose a mobile-originated message is: by the number that was texted, and on numbers that several
//! accounts share, by its first words. Decided once, when the message is whole. Knows no plugin and
//! stores nothing.

use std::collections::HashMap;

use crate::domain::{AccountId, CarrierId};

/// One line of the operator's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundRoute {
    pub number: NumberPattern,
    /// First words of the text; none: any text.
    pub keyword: Option<Keyword>,
    /// Only what this carrier brings.
    pub carrier: Option<CarrierId>,
    pub account: AccountId,
}

/// Which numbers a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NumberPattern {
    Any,
    /// All that begin so.
    Prefix(String),
    Exact(String),
}

impl NumberPattern {
    /// `+447700900123`, `60777`, `4477009*` or `*`.
    pub fn parse(text: &str) -> Result<NumberPattern, &'static str> {
        const RULE: &str =
            "is a number or short code, or its first characters and a * for the rest";
        let (number, open) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let number = number.strip_prefix('+').unwrap_or(number);
        if number.len() > 20 || !number.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(RULE);
        }
        match (number, open) {
            ("", true) => Ok(NumberPattern::Any),
            ("", false) => Err(RULE),
            (prefix, true) => Ok(NumberPattern::Prefix(prefix.to_owned())),
            (number, false) => Ok(NumberPattern::Exact(number.to_owned())),
        }
    }

    pub fn matches(&self, number: &str) -> bool {
        match self {
            NumberPattern::Any => true,
            NumberPattern::Prefix(prefix) => number.starts_with(prefix.as_str()),
            NumberPattern::Exact(exact) => number == exact,
        }
    }

    /// How closely it says which number it means.
    fn closeness(&self) -> usize {
        match self {
            NumberPattern::Any => 0,
            NumberPattern::Prefix(prefix) => prefix.len(),
            NumberPattern::Exact(_) => usize::MAX,
        }
    }
}

/// One word or several, compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keyword(Vec<String>);

impl Keyword {
    const CHARACTERS_MAX: usize = 64;

    pub fn parse(text: &str) -> Result<Keyword, &'static str> {
        let words: Vec<String> = words(text).collect();
        if words.is_empty() || text.chars().count() > Keyword::CHARACTERS_MAX {
            return Err("is one word or several, of at most 64 characters");
        }
        Ok(Keyword(words))
    }

    /// Whether a text begins with these words.
    pub fn begins(&self, text: &str) -> bool {
        let mut said = words(text);
        self.0.iter().all(|word| said.next().as_ref() == Some(word))
    }

    /// A longer one says more closely what it means.
    fn closeness(&self) -> usize {
        self.0.iter().map(|w| w.chars().count() + 1).sum()
    }
}

/// Words as people type them into phones: any case, punctuation about them.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split_whitespace()
        .map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation() || c == '…'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// The whole table.
#[derive(Debug, Default)]
pub struct InboundRoutes {
    /// Most numbers are named exactly, and there may be many.
    exact: HashMap<String, Vec<InboundRoute>>,
    open: Vec<InboundRoute>,
}

impl InboundRoutes {
    /// The error names two routes that nothing tells apart, by their places.
    pub fn new(routes: Vec<InboundRoute>) -> Result<InboundRoutes, (usize, usize)> {
        let mut all = InboundRoutes::default();
        let mut seen = HashMap::new();
        for (n, route) in routes.into_iter().enumerate() {
            let what = (
                route.number.clone(),
                route.keyword.clone(),
                route.carrier.clone(),
            );
            if let Some(first) = seen.insert(what, n) {
                return Err((first, n));
            }
            match &route.number {
                NumberPattern::Exact(number) => {
                    all.exact.entry(number.clone()).or_default().push(route);
                }
                NumberPattern::Any | NumberPattern::Prefix(_) => all.open.push(route),
            }
        }
        Ok(all)
    }

    /// The account that a text to `number` is for: the closest number decides, then the longest
    /// keyword, then whether the carrier is named.
    pub fn find(
        &self,
        carrier: &CarrierId,
        number: &str,
        text: Option<&str>,
    ) -> Option<&AccountId> {
        let exact = self.exact.get(number).into_iter().flatten();
        let fits = |route: &&InboundRoute| {
            route.number.matches(number)
                && route.carrier.as_ref().is_none_or(|c| c == carrier)
                && match (&route.keyword, text) {
                    (None, _) => true,
                    (Some(keyword), Some(text)) => keyword.begins(text),
                    (Some(_), None) => false,
                }
        };
        let closest = exact.chain(&self.open).filter(fits).max_by_key(|route| {
            (
                route.number.closeness(),
                route.keyword.as_ref().map_or(0, Keyword::closeness),
                route.carrier.is_some(),
            )
        });
        closest.map(|route| &route.account)
    }

    /// Whether a reply to this originator finds its way to somebody. A name that is no number cannot
    /// be texted, whatever the table says.
    pub fn is_ours(&self, originator: &str) -> bool {
        let is_number = || originator.bytes().all(|b| b.is_ascii_digit());
        self.exact.contains_key(originator)
            || self.open.iter().any(|r| r.number.matches(originator)) && is_number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(number: &str, keyword: &str, account: &str) -> InboundRoute {
        InboundRoute {
            number: NumberPattern::parse(number).unwrap(),
            keyword: (!keyword.is_empty()).then(|| Keyword::parse(keyword).unwrap()),
            carrier: None,
            account: AccountId::from(account),
        }
    }

    fn found(routes: &InboundRoutes, number: &str, text: &str) -> String {
        let north = CarrierId::from("north");
        let account = routes.find(&north, number, Some(text));
        account.map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn a_shared_short_code_is_told_apart_by_its_first_words() {
        let routes = InboundRoutes::new(vec![
            route("60777", "", "owner"),
            route("60777", "win", "lottery"),
            route("60777", "WIN CAR", "cars"),
            route("60777", "gewinn", "german"),
        ])
        .unwrap();
        for (text, account) in [
            ("win", "lottery"),
            ("  Win! please", "lottery"),
            ("WIN: car, now", "cars"),
            ("win carpet", "lottery"),
            ("winner", "owner"),
            ("I win", "owner"),
            ("GEWINN", "german"),
            ("", "owner"),
            ("…", "owner"),
        ] {
            assert_eq!(found(&routes, "60777", text), account, "{text:?}");
        }
        let binary = routes.find(&CarrierId::from("north"), "60777", None);
        assert_eq!(binary.map(AccountId::as_str), Some("owner"));
    }

    #[test]
    fn the_closest_number_decides_before_any_keyword() {
        let routes = InboundRoutes::new(vec![
            route("*", "", "everyone"),
            route("*", "help", "desk"),
            route("4477009*", "", "block"),
            route("+447700900123", "", "one"),
        ])
        .unwrap();
        assert_eq!(found(&routes, "447700900123", "help"), "one");
        assert_eq!(found(&routes, "447700900999", "help"), "block");
        assert_eq!(found(&routes, "12345", "Help me"), "desk");
        assert_eq!(found(&routes, "12345", "hello"), "everyone");
    }

    #[test]
    fn a_carrier_may_be_named() {
        let only_south = InboundRoute {
            carrier: Some(CarrierId::from("south")),
            ..route("60777", "", "southern")
        };
        let routes = InboundRoutes::new(vec![route("60777", "", "owner"), only_south]).unwrap();
        assert_eq!(found(&routes, "60777", "x"), "owner");
        let south = routes.find(&CarrierId::from("south"), "60777", Some("x"));
        assert_eq!(south.map(AccountId::as_str), Some("southern"));
    }

    #[test]
    fn two_routes_that_nothing_tells_apart_are_refused() {
        let twice = vec![route("60777", "win", "a"), route("60777", "WIN!", "b")];
        assert_eq!(InboundRoutes::new(twice).err(), Some((0, 1)));
    }

    #[test]
    fn nobodys_numbers_are_nobodys() {
        let routes = InboundRoutes::new(vec![route("60777", "", "owner")]).unwrap();
        assert_eq!(found(&routes, "60778", "x"), "");
    }

    #[test]
    fn patterns_have_a_form() {
        assert_eq!(NumberPattern::parse("*"), Ok(NumberPattern::Any));
        for bad in ["", "+", "60 777", "6*7", "12345678901234567890123"] {
            assert!(NumberPattern::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Keyword::parse("  !").is_err());
    }
}
