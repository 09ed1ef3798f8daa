//! From a request to what its sender may do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::request::Parts;
use http::{HeaderValue, header};

use super::App;
use super::endpoint::Operation;
use super::error::ApiError;
use super::slots::Holder;
use crate::access::{Access, Action, Credentials, Principal, Refusal, allows};
use crate::fairness::Source;
use crate::serve::Peer;

/// Someone who may do what they asked for. Only [`authorize`] makes one, so a handler that takes it cannot be reached
/// without.
#[derive(Debug)]
pub(super) struct Grant {
    principal: Principal,
    source: Option<Source>,
}

impl Grant {
    /// Who it is.
    pub(super) const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whose room their bodies take.
    pub(super) fn holder(&self) -> Holder {
        Holder::new(&self.principal, self.source)
    }

    /// Whether they may also do this, as a mount must know of its source.
    pub(super) const fn may(&self, action: Action) -> bool {
        allows(&self.principal, action)
    }
}

/// Finds out who sent a request, from its headers alone: whoever is nobody learns nothing of what they asked for. Where it
/// came from decides only whose turn it is.
pub(super) async fn authenticate(access: &Access, request: &Parts) -> Result<Principal, ApiError> {
    let mut values = request.headers.get_all(header::AUTHORIZATION).iter();
    let credentials = values.next().map(credentials);
    if values.next().is_some() {
        return Err(ApiError::AmbiguousCredentials);
    }
    access.authenticate(credentials.flatten(), source(request)).await.map_err(|refusal| match refusal {
        Refusal::Unauthenticated => ApiError::Unauthenticated { realm: access.realm().into() },
        Refusal::Busy => ApiError::Busy("too many passwords are being checked"),
    })
}

/// Lets `principal` do `operation`, or not.
pub(super) fn authorize(
    app: &App,
    principal: Principal,
    request: &Parts,
    operation: Operation,
) -> Result<Grant, ApiError> {
    let grant = Grant { principal, source: source(request) };
    match operation.action() {
        Some(action) if !grant.may(action) => Err(ApiError::Denied),
        Some(Action::Delete) if !app.switches.delete => Err(ApiError::DeletionDisabled),
        _ if operation.mutates() && app.switches.read_only => Err(ApiError::ReadOnly),
        _ => Ok(grant),
    }
}

/// Without a socket there is none.
fn source(request: &Parts) -> Option<Source> {
    request.extensions.get().map(|peer: &Peer| peer.source())
}

/// RFC 7617. What is not understood is as good as nothing.
fn credentials(value: &HeaderValue) -> Option<Credentials> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credentials { user: user.into(), password: password.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<(String, String)> {
        let credentials = credentials(&HeaderValue::from_str(value).unwrap())?;
        Some((credentials.user, credentials.password))
    }

    #[test]
    fn basic_credentials_are_read_and_nothing_else_is() {
        let encoded = BASE64.encode("alice:a:b");
        assert_eq!(read(&format!("Basic {encoded}")), Some(("alice".into(), "a:b".into())));
        assert_eq!(read(&format!("basic {encoded}")), Some(("alice".into(), "a:b".into())));
        for value in
            ["", "Basic", "Basic !", &format!("Bearer {encoded}"), &format!("Basic {}", BASE64.encode("alice"))]
        {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(read(&format!("Basic {}", BASE64.encode([0xff, b':', 0xff]))), None);
    }
}
