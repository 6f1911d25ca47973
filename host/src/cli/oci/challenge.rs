//! What a registry asks for before it answers (RFC 9110, 11.6.1; the distribution's token protocol).
//! Reads the header alone, and knows no credentials.

use crate::cli::client::query;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// Its parameters, escaped.
        query: String,
    },
}

impl Challenge {
    pub fn parse(header: &str) -> Option<Challenge> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        let mut rest = rest;
        while let Some((name, after)) = rest.split_once('=') {
            let (value, next) = value(after)?;
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
            rest = next;
        }
        let query = query(&[("service", service), ("scope", scope)]);
        Some(Challenge::Bearer {
            realm: realm?,
            query: query.trim_start_matches('?').to_owned(),
        })
    }
}

/// A quoted string or a token, and what follows the comma behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, next) = text.split_once(',').unwrap_or((text, ""));
        return Some((token.trim().to_owned(), next));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => {
                let next = quoted[at + 1..].trim_start();
                return Some((value, next.strip_prefix(',').unwrap_or(next)));
            }
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_asked_for_as_the_registry_says() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:acme/a:pull,push""#;
        let Some(Challenge::Bearer { realm, query }) = Challenge::parse(header) else {
            panic!("no token")
        };
        assert_eq!(realm, "https://auth.example/token");
        assert_eq!(
            query,
            "service=registry.example&scope=repository%3Aacme%2Fa%3Apull%2Cpush"
        );
        assert_eq!(
            Challenge::parse("Basic realm=\"x\""),
            Some(Challenge::Basic)
        );
    }

    #[test]
    fn what_asks_for_nothing_known_is_none() {
        for header in [
            "",
            "Digest realm=\"x\"",
            "Bearer",
            "Bearer realm=\"open",
            "Bearer service=\"x\"",
        ] {
            assert_eq!(Challenge::parse(header), None, "{header}");
        }
    }
}
