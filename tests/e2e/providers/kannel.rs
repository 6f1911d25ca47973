//! Kannel's `sendsms` as its user guide describes it: GET, plain-text answers (`0: Accepted for
//! delivery`, `3: Queued for later delivery`, `Authorization failed for sendsms`, `Temporal failure,
//! try again later.`), and receipts as a GET of `dlr-url` with `%d` put in.

use super::{Reply, Seen};

pub const PASSWORD: &str = "pass word&1";
pub const TOKEN: &str = "a-token-of-kannel";

pub fn manners(request: &Seen, _: usize) -> Reply {
    if request.method != "GET" || request.path() != "/cgi-bin/sendsms" {
        return Reply::text(404, "Unknown request.");
    }
    if request.field("username") != "heliograph" || request.field("password") != PASSWORD {
        return Reply::text(403, "Authorization failed for sendsms");
    }
    if request.field("to").is_empty() {
        return Reply::text(400, "Missing receiver number, rejected");
    }
    Reply::text(202, "0: Accepted for delivery")
}

/// The path and query that Kannel calls for a receipt of this state.
pub fn receipt(request: &Seen, state: u8) -> String {
    let url = request.field("dlr-url").replace("%d", &state.to_string());
    let (_, rest) = url.split_once("://").expect("a URL");
    rest[rest.find('/').expect("a path")..].to_owned()
}
