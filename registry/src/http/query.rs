//! What stands behind the question mark.

use axum::extract::Query as Parsed;
use http::Uri;

use super::error::ApiError;

/// The parameters in their order, decoded.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let Parsed(parameters) =
            Parsed::try_from_uri(uri).map_err(|_| ApiError::Query("the query cannot be decoded"))?;
        Ok(Self(parameters))
    }

    /// The first parameter of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All parameters of this name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
