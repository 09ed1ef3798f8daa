//! The step between validating and building (client required): the keyring is brought up to date and stored, and what pods,
//! people and nodes need of it is written to them.
//!
//! The order makes every crash harmless: what will be written is stored first, with the name under which it will be; then it
//! is written; then its uid is stored.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::dereference::{KEYRING_KEY, Observed};
use super::validate::ValidatedRegistry;
use crate::api::Registry;
use crate::api::registry::DeletionPolicy;
use crate::apply;
use crate::apply::secret::{SecretWritten, Target};
use crate::certificate_authority::Authority;
use crate::context::{Context, SeenSecret};
use crate::keyring::files::{Files, content};
use crate::keyring::overlapping::Acceptance;
use crate::keyring::rotation::{Circumstances, Step};
use crate::keyring::{self, Keyring, WrittenSecret};
use crate::labels::{
    KEYRING, REGISTRY_NAMESPACE, REGISTRY_UID, RETAINED_FOR, ROTATE_AUTHORITY, ROTATE_CERTIFICATES,
    ROTATE_NODE_CREDENTIAL, ROTATE_PASSWORD,
};
use crate::node_entry::{NODE_ENTRY_LABEL, entry_name};
use crate::nodes::NodesSeen;
use crate::random;

/// How long the kubelet may take to bring a Secret to its pods before its content is doubted.
const PROPAGATION: Duration = Duration::from_secs(180);
/// How often it is asked at most whether Secrets that nobody may read are still there; at rest a pass comes less often.
const LOOK: Duration = Duration::from_secs(60);
/// How long after a write a pod's complaint that the Secret is missing is not heeded.
const SETTLING: Duration = Duration::from_secs(20);
/// The longest request for a rotation that is remembered, in bytes.
const LONGEST_REQUEST: usize = 128;
/// The annotation that remembers which namespace of that name a keyring is for.
pub const NAMESPACE_UID: &str = "berth.dev/namespace-uid";

/// The keys could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key could not be made.
    #[error(transparent)]
    Keyring(#[from] keyring::Error),
    /// A Secret could not be written.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// A Secret that pods or people use was removed, and somebody else made one of its name. The next pass makes one of
    /// another name.
    #[error("a Secret of {0} was removed and its name taken; one of another name takes its place")]
    SecretGone(String),
}

/// The keyring as it is stored.
pub struct Keys {
    /// The keyring.
    pub keyring: Keyring,
    /// The steps that were taken.
    pub steps: Vec<Step>,
    secret: Secret,
}

impl Keys {
    /// Brings the keyring up to date and stores it.
    pub async fn prepare(
        registry: &Registry,
        validated: &ValidatedRegistry,
        observed: &Observed,
        service: Option<&Service>,
        context: &Context,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let names = validated.certificate_names(service);
        let found = observed.keyring.clone();
        let (mut keyring, before) = match &found {
            Some((secret, keyring))
                if same_namespace(keyring, observed) && is_inherited(secret, keyring, validated) =>
            {
                (keyring.clone(), Some(keyring))
            }
            _ => {
                let authority = Authority::new(&validated.owner.name, now, validated.lives.authority);
                let authority = authority.map_err(keyring::Error::from)?;
                let fresh = Keyring::new(&validated.owner.uid, authority, now).map_err(keyring::Error::from)?;
                (fresh, None)
            }
        };
        if keyring.registry_uid != validated.owner.uid {
            keyring.adopt(&validated.owner.uid);
        }
        keyring.namespace_uid = observed.namespace.uid.clone().or(keyring.namespace_uid);
        let circumstances = circumstances(registry, validated, observed, names.as_deref(), &keyring, context, now);
        let steps = keyring.advance(&circumstances)?;
        reserve_names(&mut keyring, validated, context.settings.node_agent)?;
        let mut secret = own_secret(validated, &keyring, context)?;
        secret.metadata.resource_version =
            found.as_ref().and_then(|(found, _)| found.metadata.resource_version.clone());
        let labels_kept = found.as_ref().is_some_and(|(found, _)| found.metadata.labels == secret.metadata.labels);
        if before != Some(&keyring) || !labels_kept {
            secret = context.applier.store_own_secret(&secret).await?;
        }
        Ok(Self { keyring, steps, secret })
    }

    /// Writes what pods and people need. Returns the name of the Secret that pods mount, once there is one.
    pub async fn distribute(
        &mut self,
        validated: &ValidatedRegistry,
        observed: &Observed,
        context: &Context,
    ) -> Result<Option<String>, Error> {
        let doubted = self.is_doubted(validated, observed, context);
        self.write_mounted_and_shown(validated, doubted, context).await?;
        if self.is_missing() {
            // Its loss was recorded, so it is made again under its name, which pods that mount it go on with.
            self.write_mounted_and_shown(validated, doubted, context).await?;
        }
        if self.is_missing() {
            return Err(Error::SecretGone(validated.owner.name.clone()));
        }
        let server = self.keyring.written.server.as_ref();
        Ok(server.filter(|written| written.uid.is_some()).map(|written| written.name.clone()))
    }

    async fn write_mounted_and_shown(
        &mut self,
        validated: &ValidatedRegistry,
        doubted: bool,
        context: &Context,
    ) -> Result<(), Error> {
        let owned = |name: &str| validated.owner.owned(name.to_owned());
        let before = self.keyring.written.clone();
        if let (Some(files), Some(written)) = (self.keyring.server_files(), before.server) {
            let written = write(context, validated, written, owned, "Opaque", &files, doubted).await?;
            self.keyring.written.server = written;
        }
        if let (Some(files), Some(written)) = (self.keyring.admin_files(), before.admin) {
            let written = write(context, validated, written, owned, "kubernetes.io/basic-auth", &files, false).await?;
            self.keyring.written.admin = written;
        }
        self.record(context).await
    }

    fn is_missing(&self) -> bool {
        let missing = |written: &Option<WrittenSecret>| written.as_ref().is_none_or(|written| written.uid.is_none());
        self.keyring.leaf.is_some() && missing(&self.keyring.written.server)
            || self.keyring.admin.is_some() && missing(&self.keyring.written.admin)
    }

    /// Writes what nodes need, or takes it back.
    pub async fn tell_nodes(&mut self, validated: &ValidatedRegistry, context: &Context) -> Result<(), Error> {
        let namespace = &context.settings.node_namespace;
        let metadata = |name: &str| {
            let mut metadata = validated.owner.elsewhere(namespace, name.to_owned());
            metadata.labels.get_or_insert_default().insert(NODE_ENTRY_LABEL.into(), "true".into());
            metadata
        };
        self.keyring.written.entry = match (self.keyring.entry_files(), self.keyring.written.entry.clone()) {
            (Some(files), Some(written)) => {
                let written = write(context, validated, written, metadata, "Opaque", &files, false).await?;
                match written {
                    Some(lost) if lost.uid.is_none() => {
                        write(context, validated, lost, metadata, "Opaque", &files, false).await?
                    }
                    written => written,
                }
            }
            (None, Some(written)) => {
                context.applier.delete_secret(namespace, &written.name).await?;
                None
            }
            (_, None) => None,
        };
        self.record(context).await
    }

    /// Whether what pods mount may not be what was written: they report something else for longer than a kubelet takes, or
    /// cannot mount it.
    fn is_doubted(&self, validated: &ValidatedRegistry, observed: &Observed, context: &Context) -> bool {
        let Some(written) = &self.keyring.written.server else { return false };
        let Some(seen) = context.recall(&validated.owner.uid).secrets.get(&written.name).copied() else { return true };
        let since = seen.written.elapsed();
        let missing = |pod: &super::dereference::ObservedPod| {
            pod.mount_failure.as_ref().is_some_and(|message| message.contains(written.name.as_str()))
        };
        let expected = self.keyring.expected_files();
        let leaf = self.keyring.leaf.as_ref().map(|leaf| &leaf.fingerprint);
        let differs = |pod: &super::dereference::ObservedPod| {
            pod.report.as_ref().is_some_and(|report| {
                (leaf.is_some() && report.certificate.is_some() && report.certificate.as_ref() != leaf)
                    || expected.iter().any(|(key, wanted)| report.files.get(*key).is_some_and(|found| found != wanted))
            })
        };
        (since > SETTLING && observed.pods.iter().any(missing))
            || (since > PROPAGATION && observed.ready_pods().any(differs))
    }

    async fn record(&mut self, context: &Context) -> Result<(), Error> {
        let data = keyring_data(&self.keyring)?;
        if self.secret.data.as_ref() != Some(&data) {
            self.secret.data = Some(data);
            self.secret = context.applier.store_own_secret(&self.secret).await?;
        }
        Ok(())
    }
}

/// What nodes make of the Registry, in terms of this keyring.
pub fn nodes_seen(keyring: &Keyring, validated: &ValidatedRegistry, context: &Context) -> NodesSeen {
    let credential = keyring.authorization_fingerprint();
    context.nodes.look().of(&validated.owner.uid, &keyring.ca_bundle_fingerprint(), credential.as_deref())
}

/// For how long, as far as this process knows, the Secret that pods mount has held what this keyring says. `None`: it does
/// not, for a pass ended before it was written.
fn written_for(keyring: &Keyring, validated: &ValidatedRegistry, context: &Context) -> Option<Duration> {
    let written = keyring.written.server.as_ref()?;
    let is_current = written.content == keyring.server_files().map(|files| content(&files));
    let seen = context.recall(&validated.owner.uid).secrets.get(&written.name).copied();
    is_current.then(|| seen.map_or(Duration::ZERO, |seen| seen.written.elapsed()))
}

fn circumstances<'a>(
    registry: &'a Registry,
    validated: &'a ValidatedRegistry,
    observed: &Observed,
    names: Option<&'a [String]>,
    keyring: &Keyring,
    context: &Context,
    now: Timestamp,
) -> Circumstances<'a> {
    let nodes = nodes_seen(keyring, validated, context);
    let written = written_for(keyring, validated, context);
    let annotation = |key: &str| {
        let request = registry.metadata.annotations.as_ref()?.get(key)?;
        // Its beginning tells one from another, and all of it may be a quarter of a mebibyte.
        Some(&request[..request.floor_char_boundary(LONGEST_REQUEST)])
    };
    let expected = keyring.expected_files();
    let pods_have = |file: &str| match (expected.get(file), written) {
        // Where no pod is to run there is none to wait for: those that come later begin with what is written then.
        (Some(_), Some(_)) if validated.replicas == 0 && observed.pods.is_empty() => Acceptance::Everyone,
        (Some(wanted), Some(since)) => match observed.acceptance(|report| report.files.get(file) == Some(wanted)) {
            Acceptance::Unheard if since < PROPAGATION => Acceptance::NotYet,
            acceptance => acceptance,
        },
        (None, _) | (_, None) => Acceptance::NotYet,
    };
    let leaf = keyring.leaf.as_ref().map(|leaf| &leaf.fingerprint);
    Circumstances {
        now,
        registry: &validated.owner.name,
        names,
        lives: validated.lives,
        rotate_certificates: annotation(ROTATE_CERTIFICATES),
        rotate_authority: annotation(ROTATE_AUTHORITY),
        rotate_password: annotation(ROTATE_PASSWORD),
        rotate_node_credential: annotation(ROTATE_NODE_CREDENTIAL),
        admin: validated.htpasswd.is_none(),
        nodes: validated.nodes_pull,
        server_is_written: written.is_some(),
        pods_serve_leaf: leaf.is_some()
            && observed.acceptance(|report| report.certificate.as_ref() == leaf) == Acceptance::Everyone,
        pods_accept_nodes: pods_have("auth.nodes.path"),
        pods_accept_http_secret: pods_have("http.secretfile"),
        pods_accept_admin: pods_have("auth.htpasswd.path"),
        nodes_trust_bundle: nodes.trust_bundle,
        nodes_use_active: nodes.use_credential,
    }
}

/// The keyring of another Registry of the same name is taken over only if that one left it to be taken over.
fn is_inherited(secret: &Secret, keyring: &Keyring, validated: &ValidatedRegistry) -> bool {
    let retained = secret.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(RETAINED_FOR));
    keyring.registry_uid == validated.owner.uid || retained
}

/// A keyring whose namespace was deleted and made again is not handed to whoever has the new one.
fn same_namespace(keyring: &Keyring, observed: &Observed) -> bool {
    match (&keyring.namespace_uid, &observed.namespace.uid) {
        (Some(kept), Some(found)) => kept == found,
        _ => true,
    }
}

fn reserve_names(keyring: &mut Keyring, validated: &ValidatedRegistry, node_agent: bool) -> Result<(), Error> {
    let name = |kind: &str| -> Result<Option<WrittenSecret>, Error> {
        let nonce = random::name(10).map_err(keyring::Error::from)?;
        let name = format!("{}-{kind}-{nonce}", validated.owner.name);
        Ok(Some(WrittenSecret { name, ..Default::default() }))
    };
    if keyring.leaf.is_some() && keyring.written.server.is_none() {
        keyring.written.server = name("server")?;
    }
    if keyring.admin.is_some() && keyring.written.admin.is_none() {
        keyring.written.admin = name("admin")?;
    }
    if node_agent && keyring.nodes.is_some() && keyring.written.entry.is_none() {
        let name = entry_name(&validated.owner.uid);
        keyring.written.entry = Some(WrittenSecret { name, ..Default::default() });
    }
    Ok(())
}

/// Writes one Secret if it is not what it was, if this process has not written it yet, or if it is doubted. Now and again it
/// looks whether what it wrote is there. One without a uid was lost, and may be made again when that is recorded; `None`:
/// somebody else has one of its name by now.
async fn write(
    context: &Context,
    validated: &ValidatedRegistry,
    written: WrittenSecret,
    metadata: impl Fn(&str) -> ObjectMeta,
    type_: &str,
    files: &Files,
    doubted: bool,
) -> Result<Option<WrittenSecret>, Error> {
    let uid = &validated.owner.uid;
    let remember = |seen: SeenSecret| {
        context.remember(uid, |memory| {
            memory.secrets.insert(written.name.clone(), seen);
        });
    };
    let fingerprint = content(files);
    let seen = context.recall(uid).secrets.get(&written.name).copied();
    if let (Some(seen), Some(secret)) = (seen, &written.uid)
        && !doubted
        && written.content.as_ref() == Some(&fingerprint)
    {
        if seen.looked.elapsed() < LOOK {
            return Ok(Some(written));
        }
        let found = context.applier.has_secret(metadata(&written.name), type_, files, secret).await?;
        remember(SeenSecret { looked: Instant::now(), ..seen });
        return Ok(Some(if found { written } else { lost(written) }));
    }
    let target = match &written.uid {
        Some(uid) => Target::This(uid),
        None if written.lost => Target::Another,
        None => Target::First,
    };
    let outcome = context.applier.write_secret(metadata(&written.name), type_, files, target).await?;
    let now = Instant::now();
    remember(SeenSecret { written: now, looked: now });
    Ok(match outcome {
        SecretWritten::Yes(uid) => Some(WrittenSecret { uid: Some(uid), content: Some(fingerprint), ..written }),
        SecretWritten::Gone if written.lost && written.uid.is_none() => None,
        SecretWritten::Gone => Some(lost(written)),
    })
}

fn lost(written: WrittenSecret) -> WrittenSecret {
    tracing::warn!(name = written.name, "a Secret was removed, and is made again");
    WrittenSecret { name: written.name, uid: None, content: None, lost: true }
}

fn own_secret(validated: &ValidatedRegistry, keyring: &Keyring, context: &Context) -> Result<Secret, Error> {
    let owner = &validated.owner;
    let mut metadata = owner.elsewhere(&context.settings.namespace, owner.keyring_name());
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(KEYRING.into(), "true".into());
    labels.insert(REGISTRY_NAMESPACE.into(), owner.namespace.clone());
    labels.insert(REGISTRY_UID.into(), owner.uid.clone());
    if validated.deletion_policy == DeletionPolicy::Retain {
        labels.insert(RETAINED_FOR.into(), owner.name.clone());
    }
    metadata.annotations = keyring.namespace_uid.clone().map(|uid| [(NAMESPACE_UID.to_owned(), uid)].into());
    Ok(Secret { metadata, data: Some(keyring_data(keyring)?), type_: Some("Opaque".into()), ..Default::default() })
}

fn keyring_data(keyring: &Keyring) -> Result<std::collections::BTreeMap<String, ByteString>, apply::Error> {
    Ok([(KEYRING_KEY.to_owned(), ByteString(serde_json::to_vec(keyring)?))].into())
}
