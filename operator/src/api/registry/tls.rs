//! `spec.tls`: certificates.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{DURATION, OBJECT_NAME};

/// Certificates beyond the ones that need no word.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// A Secret of this namespace with `tls.crt` and `tls.key` (one of cert-manager, for instance). It answers the names it
    /// holds; the names of the Service, and nodes, are always answered by the private authority's certificate. It is read
    /// again when it changes. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The authority that the operator keeps for this Registry alone.
    #[serde(default, rename = "privateCA", skip_serializing_if = "Option::is_none")]
    pub private_ca: Option<PrivateCa>,
    /// Names for the private authority's certificate beyond the Service's, `localhost` and the addresses. Default: none.
    #[serde(default, rename = "extraDNSNames", skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(max = 253), regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub extra_dns_names: Vec<String>,
}

/// The authority that the operator keeps for one Registry alone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
        "!has(self.renewBefore) || duration(self.renewBefore) < duration(has(self.certificateDuration) ? self.certificateDuration : '2160h')")
    .message("tls.privateCA.renewBefore: write less than certificateDuration, which is 2160h unless set"))]
pub struct PrivateCa {
    /// How long the authority lives. It is replaced when two thirds are over, with both trusted in between.
    /// Default: `43800h`, five years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = DURATION))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('24h') && duration(self) <= duration('175200h')")
        .message("tls.privateCA.authorityDuration: write between 24h and 175200h"))]
    pub authority_duration: Option<String>,
    /// How long a serving certificate lives. Default: `2160h`, ninety days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = DURATION))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('17520h')")
        .message("tls.privateCA.certificateDuration: write between 1h and 17520h"))]
    pub certificate_duration: Option<String>,
    /// How long before its end a serving certificate is renewed. Default: a third of its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = DURATION))]
    pub renew_before: Option<String>,
}

/// A Secret of the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}
