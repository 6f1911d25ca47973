//! Finds links as a handset would: with a scheme or without, with Unicode hosts and full-width dots, and compares their
//! hosts label by label in the ASCII form of IDNA (RFC 5891, Punycode RFC 3492).
//! Knows hosts only; paths and queries are passed over, and nothing is looked up.

use std::collections::BTreeSet;

use crate::fold;

/// A host name has at most 253 octets (RFC 1035, 2.3.4); what is longer is cut by no handset into a link.
const MAX_HOST: usize = 253;
/// Characters before the last dot of a host in a script without spaces; in the ASCII form it would be longer.
const MAX_UNSPACED: usize = 128;

#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    /// Octets of the original text, path included.
    pub start: usize,
    pub end: usize,
    /// Lower case, ASCII form.
    pub host: String,
    /// An IPv4 or IPv6 address, in whatever notation.
    pub is_address: bool,
    /// Something before an '@' that a hasty reader takes for the host.
    pub has_user: bool,
}

/// A set of hosts, each standing for itself and for everything under it.
#[derive(Debug, Default)]
pub struct Hosts(BTreeSet<String>);

impl Hosts {
    /// The error names the entry that is no host.
    pub fn new(listed: &[String]) -> Result<Self, String> {
        let mut hosts = BTreeSet::new();
        for entry in listed {
            let bare = entry
                .trim()
                .trim_start_matches("*.")
                .trim_start_matches('.');
            let host =
                normalise(bare).filter(|host| host.contains('.') && host.split('.').all(is_label));
            let Some(host) = host else {
                return Err(format!(
                    "`{entry}` is not a host name; write it like example.com, without scheme or path"
                ));
            };
            hosts.insert(host);
        }
        Ok(Self(hosts))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the host is listed or lies under a listed one: `a.example.com` under `example.com`,
    /// `evil-example.com` not.
    pub fn covers(&self, host: &str) -> bool {
        let mut rest = host;
        loop {
            if self.0.contains(rest) {
                return true;
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return false,
            }
        }
    }
}

pub fn is_shortener(host: &str) -> bool {
    let host = host.strip_prefix("www.").unwrap_or(host);
    SHORTENERS.binary_search(&host).is_ok()
}

pub fn is_idn(host: &str) -> bool {
    host.split('.').any(|label| label.starts_with("xn--"))
}

/// Cheap and never wrong in saying no: a link needs a dot or a scheme.
pub fn may_have_links(text: &str) -> bool {
    next_mark(text, 0).is_some()
}

/// The next dot that may be inside a host, or "://". A dot before a space or at the end is a full stop.
fn next_mark(text: &str, from: usize) -> Option<(usize, char)> {
    let bytes = text.as_bytes();
    let mut at = from;
    loop {
        let is_mark = |&byte: &u8| matches!(byte, b'.' | b':' | 0xe2 | 0xe3 | 0xef);
        at += bytes.get(at..)?.iter().position(is_mark)?;
        match bytes[at] {
            b'.' if bytes
                .get(at + 1)
                .is_some_and(|&next| next.is_ascii_alphanumeric() || next >= 0x80) =>
            {
                return Some((at, '.'));
            }
            b':' if bytes[at..].starts_with(b"://") => return Some((at, ':')),
            b'.' | b':' => at += 1,
            // The other dots begin with these octets, and so do many other characters.
            _ => {
                let c = text[at..].chars().next()?;
                if is_dot(c) {
                    return Some((at, c));
                }
                at += c.len_utf8();
            }
        }
    }
}

/// All links of the text, in order, without overlap.
pub fn find(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut from = 0;
    while let Some(link) = next_link(text, from) {
        from = link.end.max(from + 1);
        links.push(link);
    }
    links
}

fn next_link(text: &str, mut from: usize) -> Option<Link> {
    let mut at = from;
    loop {
        let (found, c) = next_mark(text, at)?;
        at = found + c.len_utf8();
        if c == ':' {
            let link = with_scheme(text, from, found);
            if link.is_some() {
                return link;
            }
            continue;
        }
        // Every dot of one run of host characters gives the same answer, so a run is judged once.
        match host_around(text, from, found) {
            Some((start, stop)) => {
                let link = bare(text, start, stop);
                if link.is_some() {
                    return link;
                }
                at = at.max(stop);
            }
            // No later host reaches back over this dot, so that a row of dots is read once.
            None => from = at,
        }
    }
}

/// `colon` is where "://" begins.
fn with_scheme(text: &str, from: usize, colon: usize) -> Option<Link> {
    let length = text[from..colon]
        .bytes()
        .rev()
        .take_while(u8::is_ascii_alphanumeric)
        .count();
    let start = colon - length;
    let scheme = &text[start..colon];
    if scheme.is_empty() || !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let authority = colon + 3;
    let authority_end = end_of(text, authority, |c| {
        is_link_end(c) || matches!(c, '/' | '?' | '#' | '\\')
    });
    // What is before the last '@' is a user name, however much it looks like a host (RFC 3986, 3.2.1).
    let host_start = text[authority..authority_end]
        .rfind('@')
        .map_or(authority, |at| authority + at + 1);
    let has_user = host_start > authority;
    let mut written = &text[host_start..authority_end];
    let is_literal = written.starts_with('[');
    if !is_literal && let Some((host, _port)) = written.split_once(':') {
        written = host;
    }
    if is_literal {
        let end = end_of(text, authority_end, is_link_end);
        return Some(Link {
            start,
            end,
            host: written.to_ascii_lowercase(),
            is_address: true,
            has_user,
        });
    }
    let host = normalise(written.trim_end_matches(is_trailing_mark))?;
    let is_address = is_numeric_host(&host);
    let end = end_of(text, authority_end, is_link_end);
    Some(Link {
        start,
        end,
        host,
        is_address,
        has_user,
    })
}

/// A link without a scheme whose host is somewhere in `start..stop`.
fn bare(text: &str, start: usize, stop: usize) -> Option<Link> {
    let written = text[start..stop].trim_end_matches(|c| is_dot(c) || c == '-');
    let host_end = start + written.len();
    let host = normalise(written)?;
    let labels: Vec<&str> = host.split('.').collect();
    if labels.len() < 2 || !labels.iter().all(|label| is_label(label)) {
        return None;
    }
    let rest = &text[host_end..];
    let port = rest
        .strip_prefix(':')
        .is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()));
    let has_path = rest.starts_with(['/', '?', '#', '／']) || port;
    let is_mail = text[..start].ends_with('@');
    if is_mail && !has_path {
        return None;
    }
    let is_address = is_numeric_host(&host);
    let end = if has_path {
        end_of(text, host_end, is_link_end)
    } else {
        host_end
    };
    let top = labels.last().copied().unwrap_or_default();
    let is_link = if is_address {
        has_path
    } else if labels[0] == "www" || has_path {
        is_top_shape(top)
    } else {
        is_known_top(top) && !is_sentence_border(written)
    };
    is_link.then_some(Link {
        start,
        end,
        host,
        is_address,
        has_user: is_mail,
    })
}

/// The run of host characters around `dot`. Letters of scripts without spaces belong to it only where nothing else is
/// before the dot, and then not many of them: in such a text every sentence runs into the next.
fn host_around(text: &str, from: usize, dot: usize) -> Option<(usize, usize)> {
    let back = |unspaced: bool, most: usize| {
        text[from..dot]
            .char_indices()
            .rev()
            .take(most)
            .take_while(|&(_, c)| {
                (is_host_character(c) || is_dot(c)) && (unspaced || !fold::is_unspaced(c))
            })
            .last()
            .map(|(at, _)| from + at)
    };
    let start = back(false, usize::MAX).or_else(|| back(true, MAX_UNSPACED))?;
    let start = start + text[start..dot].find(|c| !is_dot(c) && c != '-')?;
    let stop = end_of(text, dot, |c| {
        !(is_host_character(c) || is_dot(c)) || fold::is_unspaced(c)
    });
    Some((start, stop))
}

fn end_of(text: &str, from: usize, stop: impl Fn(char) -> bool) -> usize {
    text[from..].find(stop).map_or(text.len(), |at| from + at)
}

fn is_link_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, '<' | '>' | '"' | '“' | '”' | '«' | '»' | '、')
}

fn is_trailing_mark(c: char) -> bool {
    matches!(
        c,
        ',' | ';' | '!' | ')' | '\'' | '}' | ']' | '.' | '*' | '_'
    )
}

/// The dots of IDNA (UTS 46) and those that normalise to one.
fn is_dot(c: char) -> bool {
    matches!(c, '.' | '\u{2024}' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}')
}

fn is_host_character(c: char) -> bool {
    match c {
        '\0'..='\x7f' => c.is_ascii_alphanumeric() || c == '-' || c == '_',
        _ => {
            c.is_alphanumeric()
                || fold::is_invisible(c)
                || fold::compatibility(c).is_some_and(char::is_alphanumeric)
        }
    }
}

/// The ASCII form of a host. None where it is no host at all.
fn normalise(written: &str) -> Option<String> {
    if written.is_ascii() {
        let host = written.trim_end_matches('.').to_ascii_lowercase();
        return (!host.is_empty() && host.len() <= MAX_HOST).then_some(host);
    }
    let mut labels = vec![String::new()];
    for c in written.chars() {
        if is_dot(c) {
            labels.push(String::new());
        } else if !is_ignored(c) {
            let mapped = fold::lower(fold::compatibility(c).unwrap_or(c));
            labels.last_mut()?.push(mapped);
        }
    }
    while labels.last().is_some_and(String::is_empty) {
        labels.pop();
    }
    let mut host = String::with_capacity(written.len());
    for label in &labels {
        if !host.is_empty() {
            host.push('.');
        }
        if label.is_ascii() {
            host.push_str(label);
        } else {
            host.push_str("xn--");
            host.push_str(&punycode(label)?);
        }
    }
    (!host.is_empty() && host.len() <= MAX_HOST).then_some(host)
}

/// Dropped by UTS 46: invisible, but not the combining marks, which belong to letters.
fn is_ignored(c: char) -> bool {
    fold::is_invisible(c)
        && matches!(c, '\u{ad}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// RFC 3492, 6.3. A label has at most 63 octets, so nothing here can overflow.
fn punycode(label: &str) -> Option<String> {
    const BASE: u32 = 36;
    let characters: Vec<u32> = label.chars().map(u32::from).collect();
    if characters.len() > 63 {
        return None;
    }
    let mut encoded: String = label.chars().filter(char::is_ascii).collect();
    let basic = encoded.len() as u32;
    if basic > 0 {
        encoded.push('-');
    }
    let (mut n, mut delta, mut bias, mut handled) = (128u32, 0u32, 72u32, basic);
    while (handled as usize) < characters.len() {
        let next = characters.iter().copied().filter(|&c| c >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for &c in &characters {
            if c < n {
                delta += 1;
            }
            if c == n {
                let mut q = delta;
                let mut k = BASE;
                loop {
                    let t = k.saturating_sub(bias).clamp(1, 26);
                    if q < t {
                        break;
                    }
                    encoded.push(punycode_digit(t + (q - t) % (BASE - t)));
                    q = (q - t) / (BASE - t);
                    k += BASE;
                }
                encoded.push(punycode_digit(q));
                bias = adapt(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta += 1;
        n += 1;
    }
    Some(encoded)
}

/// The label as a reader sees it: what `xn--` stands for, by RFC 3492, 6.2. None where it stands for nothing.
pub fn unicode_label(label: &str) -> Option<String> {
    const BASE: u32 = 36;
    let Some(encoded) = label.strip_prefix("xn--") else {
        return Some(label.to_owned());
    };
    if encoded.len() > 63 {
        return None;
    }
    let (basic, rest) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    let mut characters: Vec<char> = basic.chars().collect();
    let (mut n, mut i, mut bias) = (128u32, 0u32, 72u32);
    let mut digits = rest.bytes();
    while digits.len() > 0 {
        let before = i;
        let (mut weight, mut k) = (1u32, BASE);
        loop {
            let digit = match digits.next()? {
                letter @ b'a'..=b'z' => u32::from(letter - b'a'),
                figure @ b'0'..=b'9' => u32::from(figure - b'0') + 26,
                _ => return None,
            };
            i = i.checked_add(digit.checked_mul(weight)?)?;
            let t = k.saturating_sub(bias).clamp(1, 26);
            if digit < t {
                break;
            }
            weight = weight.checked_mul(BASE - t)?;
            k += BASE;
        }
        let points = characters.len() as u32 + 1;
        bias = adapt(i - before, points, before == 0);
        n = n.checked_add(i / points)?;
        i %= points;
        characters.insert(i as usize, char::from_u32(n)?);
        i += 1;
    }
    Some(characters.into_iter().collect())
}

fn punycode_digit(value: u32) -> char {
    char::from(if value < 26 {
        b'a' + value as u8
    } else {
        b'0' + (value - 26) as u8
    })
}

fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > 455 {
        delta /= 35;
        k += 36;
    }
    k + 36 * delta / (delta + 38)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Dotted, decimal or hexadecimal: browsers take `http://3232235777/` and `http://0x7f.1/` for IPv4 addresses.
fn is_numeric_host(host: &str) -> bool {
    let is_number = |label: &str| match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
    };
    let labels = host.split('.').count();
    (labels == 1 || labels == 4 || host.contains("0x"))
        && labels <= 4
        && host.split('.').all(is_number)
}

fn is_top_shape(top: &str) -> bool {
    top.len() >= 2
        && (top.starts_with("xn--") || top.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

fn is_known_top(top: &str) -> bool {
    match top.len() {
        2 => COUNTRIES
            .as_chunks::<3>()
            .0
            .iter()
            .any(|code| &code[..2] == top.as_bytes()),
        _ => top.starts_with("xn--") || GENERIC.binary_search(&top).is_ok(),
    }
}

/// "Your code is 1234.Do not share it": a full stop without its space, not a host under `.do`.
fn is_sentence_border(written: &str) -> bool {
    let top = written.rsplit(is_dot).next().unwrap_or_default();
    let mut letters = top.chars();
    let capital = letters.next().is_some_and(char::is_uppercase);
    capital && letters.clone().count() > 0 && letters.all(char::is_lowercase)
}

/// Country-code top-level domains in use (IANA root zone), in threes.
const COUNTRIES: &[u8] = b"\
ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz \
ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm \
fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is \
it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm \
mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr \
ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th \
tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw ";

/// Generic top-level domains that handsets link without a scheme and that are seen in messages, sorted.
#[rustfmt::skip]
const GENERIC: &[&str] = &[
    "academy", "agency", "app", "art", "asia", "auction", "autos", "band", "bank", "bar",
    "beauty", "best", "bet", "bid", "bio", "biz", "black", "blog", "blue", "bond", "boutique",
    "buzz", "cab", "cafe", "cam", "camp", "capital", "care", "cars", "casa", "casino", "cat",
    "center", "cfd", "charity", "chat", "cheap", "church", "city", "claims", "cleaning", "click",
    "clinic", "clothing", "cloud", "club", "coach", "codes", "coffee", "com", "community",
    "company", "computer", "condos", "cool", "coupons", "courses", "credit", "cruises", "cyou",
    "dance", "date", "dating", "day", "deals", "delivery", "dental", "design", "dev", "digital",
    "direct", "directory", "discount", "doctor", "dog", "download", "earth", "edu", "education",
    "email", "energy", "estate", "events", "exchange", "expert", "express", "fail", "family",
    "fan", "farm", "fashion", "finance", "financial", "fit", "fitness", "flowers", "foundation",
    "fun", "fund", "fyi", "gallery", "game", "games", "garden", "gift", "gifts", "global", "gold",
    "golf", "gov", "group", "guide", "guru", "hair", "health", "help", "holdings", "holiday",
    "homes", "host", "hosting", "house", "icu", "immo", "info", "ink", "institute", "insure",
    "int", "international", "investments", "jobs", "land", "law", "lease", "legal", "life",
    "limited", "link", "live", "loan", "loans", "lol", "lotto", "love", "ltd", "luxury", "market",
    "marketing", "markets", "mba", "media", "men", "menu", "mil", "mobi", "moda", "mom", "money",
    "monster", "motorcycles", "name", "net", "network", "news", "ninja", "observer", "one",
    "online", "ooo", "org", "page", "partners", "party", "pay", "pet", "photo", "photos", "pics",
    "pink", "pizza", "plus", "poker", "press", "pro", "promo", "properties", "pub", "quest",
    "racing", "realty", "red", "rent", "repair", "report", "rest", "review", "reviews", "rip",
    "rocks", "run", "sale", "sbs", "school", "science", "security", "services", "sexy", "shoes",
    "shop", "show", "site", "skin", "social", "software", "solar", "solutions", "space", "store",
    "stream", "studio", "style", "support", "surf", "systems", "tax", "taxi", "team", "tech",
    "technology", "tel", "tips", "today", "tokyo", "tools", "top", "tours", "town", "trade",
    "training", "travel", "university", "uno", "vacations", "vegas", "ventures", "video", "vip",
    "vision", "wang", "watch", "website", "wiki", "win", "wine", "work", "works", "world", "wtf",
    "xxx", "xyz", "yoga", "zip", "zone",
];

/// Public link shorteners, sorted.
#[rustfmt::skip]
const SHORTENERS: &[&str] = &[
    "adf.ly", "b.link", "bit.do", "bit.ly", "bitly.com", "bl.ink", "buff.ly", "clck.ru",
    "cutt.ly", "cutt.us", "dub.sh", "goo.gl", "goo.su", "is.gd", "j.mp", "kutt.it", "linktr.ee",
    "lnk.to", "lnkd.in", "mcaf.ee", "n9.cl", "ow.ly", "qr.ae", "qrco.de", "rb.gy", "rebrand.ly",
    "s.id", "short.gy", "short.io", "shorte.st", "shorturl.at", "smarturl.it", "soo.gd",
    "surl.li", "t.co", "t.ly", "tiny.cc", "tiny.one", "tiny.pl", "tinyurl.com", "tny.im", "tr.im",
    "u.nu", "u.to", "urlz.fr", "v.gd", "vk.cc", "x.co", "xurl.es", "zpr.io",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        if !may_have_links(text) {
            return Vec::new();
        }
        find(text).into_iter().map(|link| link.host).collect()
    }

    fn listed(hosts: &[&str]) -> Hosts {
        let listed: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        Hosts::new(&listed).unwrap()
    }

    #[test]
    fn tables_are_sorted_for_binary_search() {
        assert!(GENERIC.is_sorted());
        assert!(SHORTENERS.is_sorted());
        assert_eq!(COUNTRIES.len() % 3, 0);
    }

    #[test]
    fn links_with_and_without_a_scheme_are_found() {
        assert_eq!(
            hosts("See https://Example.com/a?b=c.d and shop.example.org!"),
            ["example.com", "shop.example.org"]
        );
        assert_eq!(hosts("go to bit.ly/x"), ["bit.ly"]);
        assert_eq!(hosts("(www.example.nonesuch)"), ["www.example.nonesuch"]);
    }

    #[test]
    fn a_link_ends_where_the_text_goes_on() {
        let text = "Pay at https://example.com/a,b now";
        let link = &find(text)[0];
        assert_eq!(&text[link.start..link.end], "https://example.com/a,b");
    }

    #[test]
    fn prose_numbers_and_mail_addresses_are_no_links() {
        for text in [
            "Your code is 1234.Do not share it",
            "Thanks.No more news. See you e.g. tomorrow...",
            "12.50 EUR at 10.30, version 1.2.3.4",
            "write to joe@example.com",
            "Dr.Smith and Mr.Jones",
            ".. . ...com",
            "10:30://",
        ] {
            assert_eq!(hosts(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_user_name_does_not_hide_the_host() {
        assert_eq!(hosts("http://example.com@evil.net/x"), ["evil.net"]);
        assert_eq!(hosts("http://example.com:80@evil.net:8080/x"), ["evil.net"]);
    }

    #[test]
    fn unicode_hosts_compare_in_ascii_form() {
        assert_eq!(hosts("https://bücher.example/"), ["xn--bcher-kva.example"]);
        assert_eq!(hosts("http://例え.jp/"), ["xn--r8jz45g.jp"]);
        assert_eq!(hosts("www．Ｅxample．com"), ["www.example.com"]);
        assert_eq!(hosts("exam\u{200b}ple.com"), ["example.com"]);
        // Cyrillic а
        assert_eq!(hosts("ex\u{430}mple.com"), ["xn--exmple-4nf.com"]);
    }

    #[test]
    fn an_ascii_form_reads_as_what_it_stands_for() {
        for (ascii, unicode) in [
            ("xn--bcher-kva", "bücher"),
            ("xn--r8jz45g", "例え"),
            ("xn--exmple-4nf", "ex\u{430}mple"),
            ("plain", "plain"),
        ] {
            assert_eq!(unicode_label(ascii).as_deref(), Some(unicode));
        }
        for broken in ["xn--\u{e9}", "xn--99999999999", "xn--a_b!"] {
            assert_eq!(unicode_label(broken), None, "{broken}");
        }
        for word in ["ünïcödé", "пример", "日本語ドメイン", "a-ß-b", "ελλάδα"]
        {
            let ascii = format!("xn--{}", punycode(word).unwrap());
            assert_eq!(unicode_label(&ascii).as_deref(), Some(word));
        }
    }

    #[test]
    fn what_stands_before_an_at_sign_is_told() {
        assert!(find("http://example.com@evil.net/x")[0].has_user);
        assert!(!find("http://example.com/x@y")[0].has_user);
    }

    #[test]
    fn text_without_spaces_is_no_part_of_the_host() {
        assert_eq!(hosts("请访问evil.com查看"), ["evil.com"]);
    }

    #[test]
    fn addresses_in_any_notation_are_known() {
        for text in [
            "http://192.168.1.1/x",
            "192.168.1.1/x",
            "http://3232235777/",
            "http://0xc0a80101",
            "http://[::1]/",
        ] {
            assert!(find(text)[0].is_address, "{text}");
        }
    }

    #[test]
    fn a_listed_host_covers_its_subdomains_only() {
        let hosts = listed(&["example.com", "*.example.org"]);
        assert!(
            hosts.covers("example.com")
                && hosts.covers("a.b.example.com")
                && hosts.covers("x.example.org")
        );
        for other in [
            "evil-example.com",
            "example.com.evil.net",
            "example.co",
            "com",
        ] {
            assert!(!hosts.covers(other), "{other}");
        }
    }

    #[test]
    fn a_listed_entry_that_is_no_host_is_named() {
        for entry in [
            "https://example.com",
            "example.com/path",
            "com",
            "",
            "a b.com",
        ] {
            assert!(
                Hosts::new(&[entry.to_owned()])
                    .unwrap_err()
                    .contains(&format!("`{entry}`")),
                "{entry}"
            );
        }
    }

    #[test]
    fn hostile_texts_are_scanned_in_linear_time() {
        for unit in [
            "a.",
            "。",
            "-。",
            "语。",
            "语a。",
            "。.",
            "a@",
            "http://[",
            "https:///",
            "://",
        ] {
            let text = unit.repeat(20_000);
            let started = std::time::Instant::now();
            find(&text);
            // In quadratic time this takes minutes.
            assert!(started.elapsed().as_secs() < 5, "{unit}");
        }
    }
}
