//! Step 1 (client required): everything that a pass needs to know beyond the Registry itself.
//!
//! What is watched is taken from the stores; the rest is asked for: the keyring, so that it is never a stale one, a claim of
//! the user's, the pods' own reports, and, while something does not start, why. It decides nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_contract::status_report::StatusReport;
use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::build::HEALTH_PORT;
use super::sharing::{self, Elder};
use super::validate::is_granted;
use crate::api::Registry;
use crate::context::Context;
use crate::keyring::Keyring;
use crate::keyring::overlapping::Acceptance;
use crate::labels::{Owner, REGISTRY};
use crate::node_entry::{HOST_GRANTS_KEY, HOST_GRANTS_NAME, HostGrants};

/// The key of the keyring in the operator's own Secret.
pub const KEYRING_KEY: &str = "keyring.json";
/// How long a pod is given to answer.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
/// For how long a pod must not answer before it is not waited for.
const UNHEARD: Duration = Duration::from_secs(3600);
/// The longest report that is read.
const REPORT_LIMIT: usize = 64 * 1024;

/// Something could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not tell.
    #[error("cannot look up what the Registry needs: {0}")]
    Api(#[from] kube::Error),
    /// The keyring is there and is none. What stands in it is secret, so only where it ceases to be one is said.
    #[error(
        "the Secret {name} in {namespace} holds no keyring that can be read (line {line}, column {column}); restore it from a backup, or delete it: then there is a new authority, which every client has to trust anew, and a new password"
    )]
    Keyring {
        /// The operator's own namespace.
        namespace: String,
        /// The Secret.
        name: String,
        /// Where it fails.
        line: usize,
        /// Where it fails.
        column: usize,
    },
}

/// What a pass knows.
#[derive(Clone, Default)]
pub struct Observed {
    /// The operator's own Secret about this Registry, and what it holds.
    pub keyring: Option<(Secret, Keyring)>,
    /// The namespace.
    pub namespace: Namespace,
    /// The claim in use, ours or the user's.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// Whether the class that the claim asks for is there; only looked up while the claim waits.
    pub storage_class: StorageClassState,
    /// The pods, oldest first, with what each says of itself.
    pub pods: Vec<ObservedPod>,
    /// What administrators granted.
    pub grants: HostGrants,
    /// An older Registry that keeps its images in the same place.
    pub elder: Option<Elder>,
}

/// The Registry's namespace.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Its uid.
    pub uid: Option<String>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// What is known of the StorageClass that a waiting claim asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageClassState {
    /// It is there, or nobody looked.
    #[default]
    Fine,
    /// None is named, and the cluster has no default.
    NoDefault,
    /// The one that is named is not there.
    NotFound,
}

/// A pod, with what it says of itself.
#[derive(Clone)]
pub struct ObservedPod {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What it says of itself; none when it did not answer.
    pub report: Option<StatusReport>,
    /// For how long it has been ready and has not answered, as far as this process knows.
    pub silence: Option<Duration>,
    /// Why it could not mount something; only looked up while it waits.
    pub mount_failure: Option<String>,
}

impl Observed {
    /// Looks. In a namespace that was not granted there is nothing that it may look at.
    pub async fn of(registry: &Registry, owner: &Owner, context: &Context) -> Result<Self, Error> {
        if !is_granted(owner, &context.settings) {
            return Ok(Self { namespace: namespace(owner, context), ..Self::default() });
        }
        let claim = claim(registry, owner, context).await?;
        let keyring = keyring(owner, context).await?;
        let mut namespace = namespace(owner, context);
        if keyring.as_ref().is_some_and(|(_, keyring)| keyring.registry_uid != owner.uid) {
            namespace = confirm(namespace, owner, context).await?;
        }
        Ok(Self {
            keyring,
            namespace,
            storage_class: storage_class(claim.as_deref(), context).await?,
            claim,
            pods: pods(owner, context).await,
            grants: grants(context),
            elder: elder(registry, context),
        })
    }

    /// The pods that are ready.
    pub fn ready_pods(&self) -> impl Iterator<Item = &ObservedPod> {
        self.pods.iter().filter(|pod| is_ready(&pod.pod))
    }

    /// Whether this holds for the report of every ready pod. Where none is ready nobody said yes, and one that missed a single
    /// question may say no to the next.
    pub fn acceptance(&self, holds: impl Fn(&StatusReport) -> bool) -> Acceptance {
        let answer = |pod: &ObservedPod| match &pod.report {
            Some(report) if holds(report) => Acceptance::Everyone,
            None if pod.silence.is_some_and(|silence| silence >= UNHEARD) => Acceptance::Unheard,
            Some(_) | None => Acceptance::NotYet,
        };
        self.ready_pods().map(answer).max().unwrap_or(Acceptance::NotYet)
    }
}

async fn keyring(owner: &Owner, context: &Context) -> Result<Option<(Secret, Keyring)>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let Some(secret) = api.get_opt(&owner.keyring_name()).await? else { return Ok(None) };
    let bytes = secret.data.as_ref().and_then(|data| data.get(KEYRING_KEY)).map(|bytes| bytes.0.as_slice());
    // One that cannot be read must not be replaced by a new one: that would take every client's trust away.
    let keyring = serde_json::from_slice(bytes.unwrap_or_default()).map_err(|error| Error::Keyring {
        namespace: context.settings.namespace.clone(),
        name: owner.keyring_name(),
        line: error.line(),
        column: error.column(),
    })?;
    Ok(Some((secret, keyring)))
}

/// A former Registry's keys are handed on in its own namespace only, so the watch, which may not have heard yet that the
/// namespace was deleted and made again, is not enough to go by.
async fn confirm(namespace: Namespace, owner: &Owner, context: &Context) -> Result<Namespace, Error> {
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(context.client.clone());
    let found = api.get_metadata_opt(&owner.namespace).await?;
    Ok(found.map_or(namespace, |found| Namespace {
        uid: found.metadata.uid,
        terminating: found.metadata.deletion_timestamp.is_some(),
    }))
}

fn namespace(owner: &Owner, context: &Context) -> Namespace {
    let namespace = context.stores.namespaces.get(&ObjectRef::new(&owner.namespace));
    Namespace {
        uid: namespace.as_ref().and_then(|namespace| namespace.uid()),
        terminating: namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()),
    }
}

async fn claim(
    registry: &Registry,
    owner: &Owner,
    context: &Context,
) -> Result<Option<Arc<PersistentVolumeClaim>>, kube::Error> {
    let Some(wish) = &registry.spec.storage.persistent_volume_claim else { return Ok(None) };
    match &wish.existing_claim {
        None => Ok(context.stores.claims.get(&owner.namespace, &owner.claim_name())),
        Some(name) => {
            let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &owner.namespace);
            Ok(api.get_opt(name).await?.map(Arc::new))
        }
    }
}

async fn storage_class(
    claim: Option<&PersistentVolumeClaim>,
    context: &Context,
) -> Result<StorageClassState, kube::Error> {
    let Some(claim) = claim.filter(|claim| !is_bound(claim)) else { return Ok(StorageClassState::Fine) };
    let api: Api<StorageClass> = Api::all(context.client.clone());
    Ok(match claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()) {
        // The empty name asks for a volume that an administrator made.
        Some("") => StorageClassState::Fine,
        Some(name) => match api.get_opt(name).await? {
            Some(_) => StorageClassState::Fine,
            None => StorageClassState::NotFound,
        },
        None => {
            let default = |class: &StorageClass| {
                class
                    .annotations()
                    .get("storageclass.kubernetes.io/is-default-class")
                    .is_some_and(|value| value == "true")
            };
            if api.list(&ListParams::default()).await?.items.iter().any(default) {
                StorageClassState::Fine
            } else {
                StorageClassState::NoDefault
            }
        }
    })
}

/// Whether the claim has its volume.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

async fn pods(owner: &Owner, context: &Context) -> Vec<ObservedPod> {
    let ours = |pod: &Pod| pod.labels().get(REGISTRY) == Some(&owner.name);
    let mut pods = context.stores.pods.filter(&owner.namespace, ours);
    pods.sort_by_key(|pod| (pod.creation_timestamp(), pod.name_any()));
    let mut pods = join_all(pods.into_iter().map(|pod| observe(pod, context))).await;
    context.remember(&owner.uid, |memory| {
        let before = std::mem::take(&mut memory.silent);
        for pod in pods.iter_mut().filter(|pod| pod.report.is_none() && is_ready(&pod.pod)) {
            let uid = pod.pod.uid().unwrap_or_default();
            let since = before.get(&uid).copied().unwrap_or_else(Instant::now);
            pod.silence = Some(since.elapsed());
            memory.silent.insert(uid, since);
        }
    });
    pods
}

async fn observe(pod: Arc<Pod>, context: &Context) -> ObservedPod {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let report = match address.filter(|_| running) {
        Some(address) => poll(&address).await,
        None => None,
    };
    let mount_failure = if is_creating(&pod) { mount_failure(&pod, context).await } else { None };
    ObservedPod { pod, report, silence: None, mount_failure }
}

/// What a pod says of itself. No answer is an answer too: the caller waits.
async fn poll(address: &str) -> Option<StatusReport> {
    let ask = async {
        let port = u16::try_from(HEALTH_PORT)?;
        let stream = tokio::net::TcpStream::connect((address, port)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = http::Request::get("/status").header("host", "registry").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let body = Limited::new(response.into_body(), REPORT_LIMIT).collect().await;
        connection.abort();
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        Ok::<StatusReport, anyhow::Error>(serde_json::from_slice(&body)?)
    };
    match tokio::time::timeout(POLL_TIMEOUT, ask).await {
        Ok(Ok(report)) => Some(report),
        Ok(Err(error)) => {
            tracing::debug!(address, %error, "a pod does not tell its state");
            None
        }
        Err(_) => None,
    }
}

/// Why the kubelet could not mount something into the pod. Only its events say so.
async fn mount_failure(pod: &Pod, context: &Context) -> Option<String> {
    let api: Api<Event> = Api::namespaced(context.client.clone(), &pod.namespace()?);
    let selector = format!("involvedObject.uid={},reason=FailedMount", pod.uid()?);
    let events = api.list(&ListParams::default().fields(&selector).limit(50)).await.ok()?;
    let latest = events.items.into_iter().max_by_key(|event| event.last_timestamp.clone().map(|time| time.0))?;
    latest.message
}

/// Whether the pod waits for its volumes, or for its container to be created.
fn is_creating(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let reason =
        |status: &k8s_openapi::api::core::v1::ContainerStatus| status.state.as_ref()?.waiting.as_ref()?.reason.clone();
    statuses
        .is_some_and(|statuses| statuses.iter().any(|status| reason(status).as_deref() == Some("ContainerCreating")))
}

/// Whether the pod serves.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|conditions| {
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
}

fn elder(registry: &Registry, context: &Context) -> Option<Elder> {
    let others = context.stores.registries.state();
    // What cannot be read is not served either.
    sharing::elder(registry, others.iter().filter_map(|other| other.0.as_ref().ok()), &context.settings)
}

fn grants(context: &Context) -> HostGrants {
    let map = context.stores.host_grants.get(&context.settings.node_namespace, HOST_GRANTS_NAME);
    let text = map.as_ref().and_then(|map| map.data.as_ref()?.get(HOST_GRANTS_KEY));
    let Some(text) = text else { return HostGrants::default() };
    // What cannot be read grants nothing.
    serde_yaml::from_str(text)
        .inspect_err(|error| tracing::warn!(%error, "the host grants cannot be read, so none is in force"))
        .unwrap_or_default()
}
