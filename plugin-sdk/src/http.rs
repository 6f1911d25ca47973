//! Capability: HTTP to the hosts that the operator listed. `{secret:NAME}` in a header value, in the URL's
//! query or in the body is filled in by the host; a plugin never sees a secret. Carrier adapters only.

use crate::{HttpFailure, HttpRequest, HttpResponse};

/// Sends one request and waits for the whole answer. Redirects are not followed.
pub fn send(request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::host::heliograph::sms::http::send(&request);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.send(request))
}
