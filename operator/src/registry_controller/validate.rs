//! Step 2 (no client): what was written and what was found, made into a [`ValidatedRegistry`], or refused with a reason.
//!
//! After this step nobody reads the raw resource. Most of what could be wrong was refused by the API server already; what is
//! checked here is what its rules cannot see, and what they would have refused had they not been evaded by an older
//! definition.

mod bucket;
mod image;
mod metadata;

use std::time::Duration;

use berth_contract::config::{self, LogLevel};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service as KubeService};
use kube::ResourceExt;

pub use self::bucket::{Authorities, Credentials, Given, Section, ValidatedBucket, bucket};
use super::dereference::Observed;
use crate::api::registry::{
    AccessMode, DeletionPolicy, GarbageCollection, LogLevel as ApiLogLevel, NodeAccess,
    PersistentVolumeClaim as PersistentVolumeClaimWish, PodTemplate, PullPolicy, Registry, RegistrySpec, Service,
    Storage, Untagged,
};
use crate::context::Settings;
use crate::keyring::rotation::Lives;
use crate::labels::{Owner, RETAINED_FOR};
use crate::node_entry::{RegistryName, own_hosts};

/// The single input of the steps that build.
#[derive(Clone, Debug)]
pub struct ValidatedRegistry {
    /// Which Registry this is.
    pub owner: Owner,
    /// How many pods serve.
    pub replicas: i32,
    /// What they run.
    pub image: String,
    /// When the kubelet pulls it.
    pub pull_policy: PullPolicy,
    /// What the kubelet pulls it with.
    pub pull_secrets: Vec<String>,
    /// Where the bytes are.
    pub storage: ValidatedStorage,
    /// What happens to them when the Registry goes.
    pub deletion_policy: DeletionPolicy,
    /// Whether every change of content is refused.
    pub read_only: bool,
    /// When what nothing refers to goes.
    pub garbage_collection: config::GarbageCollection,
    /// A Secret with a certificate of the user's.
    pub tls_secret: Option<String>,
    /// How long certificates live.
    pub lives: Lives,
    /// Names to certify beyond the Service's.
    pub extra_dns_names: Vec<String>,
    /// How the Service is made.
    pub service: Service,
    /// Whether nodes may pull.
    pub nodes_pull: bool,
    /// The Secret and key of an htpasswd file of the user's.
    pub htpasswd: Option<(String, String)>,
    /// The hosts that nodes ask this Registry for.
    pub hosts: Vec<String>,
    /// The hosts that were claimed and not granted.
    pub refused_hosts: Vec<String>,
    /// What the pods are given.
    pub pod_template: PodTemplate,
    /// What is logged.
    pub log_level: LogLevel,
    /// How long requests in progress may go on.
    pub drain_timeout: Duration,
    /// The domain of the cluster's Services.
    pub cluster_domain: String,
}

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidatedStorage {
    /// A claim that is made.
    NewClaim {
        /// How large.
        size: String,
        /// Of which class; the cluster's default when absent.
        class: Option<String>,
        /// How it may be mounted.
        modes: Vec<AccessMode>,
    },
    /// A claim that exists.
    ExistingClaim {
        /// Its name.
        name: String,
        /// Whether several nodes may mount it.
        shared: bool,
    },
    /// A bucket.
    Bucket(Box<ValidatedBucket>),
    /// A directory that lives and dies with the pod.
    EmptyDir {
        /// How much it may hold.
        size_limit: Option<String>,
    },
}

/// Why a Registry cannot be served as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// In one word.
    pub reason: &'static str,
    /// In a sentence that says what to do.
    pub message: String,
}

impl ValidatedRegistry {
    /// The URL inside the cluster.
    pub fn url(&self) -> String {
        format!("https://{}", self.hosts.first().map_or("", String::as_str))
    }

    /// The claim that is mounted.
    pub fn claim_name(&self) -> Option<String> {
        match &self.storage {
            ValidatedStorage::NewClaim { .. } => Some(self.owner.claim_name()),
            ValidatedStorage::ExistingClaim { name, .. } => Some(name.clone()),
            ValidatedStorage::Bucket(_) | ValidatedStorage::EmptyDir { .. } => None,
        }
    }

    /// The bucket, if the bytes are in one.
    pub fn bucket(&self) -> Option<&ValidatedBucket> {
        match &self.storage {
            ValidatedStorage::Bucket(bucket) => Some(bucket),
            _ => None,
        }
    }

    /// Whether two pods may serve side by side.
    pub fn is_shared(&self) -> bool {
        match &self.storage {
            ValidatedStorage::NewClaim { modes, .. } => modes.contains(&AccessMode::ReadWriteMany),
            ValidatedStorage::ExistingClaim { shared, .. } => *shared,
            ValidatedStorage::Bucket(_) => true,
            ValidatedStorage::EmptyDir { .. } => false,
        }
    }

    /// Every name and address that the private authority certifies; none while the Service has no address.
    pub fn certificate_names(&self, service: Option<&KubeService>) -> Option<Vec<String>> {
        let addresses = cluster_addresses(service?);
        if addresses.is_empty() {
            return None;
        }
        let Owner { namespace, name, .. } = &self.owner;
        let mut names = own_hosts(namespace, name, &self.cluster_domain);
        names.extend([format!("{name}.{namespace}"), name.clone(), "localhost".into()]);
        // By a granted host nodes connect to the ClusterIP, and containerd still verifies that address; other clients in
        // the cluster may use the name.
        names.extend(self.hosts.iter().skip(2).cloned());
        names.extend(self.extra_dns_names.iter().cloned());
        names.extend(load_balancer_names(service?));
        names.extend(addresses);
        names.extend(["127.0.0.1".into(), "::1".into()]);
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Some(names)
    }
}

/// The Service's addresses inside the cluster.
pub fn cluster_addresses(service: &KubeService) -> Vec<String> {
    let spec = service.spec.as_ref();
    let addresses = spec.and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
    addresses.into_iter().filter(|address| !address.is_empty() && address != "None").collect()
}

fn load_balancer_names(service: &KubeService) -> Vec<String> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref());
    let names = ingress.into_iter().flatten().flat_map(|ingress| [ingress.ip.clone(), ingress.hostname.clone()]);
    let mut names: Vec<_> = names.flatten().collect();
    // Whoever writes them may write them in another order each time, and a certificate is not renewed for that.
    names.sort_unstable();
    names
}

/// Validates one Registry.
pub fn validate(registry: &Registry, observed: &Observed, settings: &Settings) -> Result<ValidatedRegistry, Refusal> {
    let owner = owner(registry);
    namespace_is_granted(&owner, settings)?;
    let spec = &registry.spec;
    let storage = storage(&spec.storage, &owner, observed)?;
    let replicas = spec.replicas.unwrap_or(1);
    let template = spec.pod_template.clone().unwrap_or_default();
    let service = spec.service.clone().unwrap_or_default();
    metadata::names(&template, &service).map_err(|message| invalid(&message))?;
    let (hosts, refused_hosts) = hosts(&owner, spec, observed, settings);
    let tls = spec.tls.clone().unwrap_or_default();
    let access = spec.access.clone().unwrap_or_default();
    let image = spec.image.clone().unwrap_or_default();
    let validated = ValidatedRegistry {
        replicas,
        image: image::reference(&settings.registry_image, &image),
        pull_policy: image.pull_policy.unwrap_or(PullPolicy::IfNotPresent),
        pull_secrets: image.pull_secrets.into_iter().map(|secret| secret.name).collect(),
        storage,
        deletion_policy: spec.deletion_policy.unwrap_or_default(),
        read_only: spec.read_only.unwrap_or_default(),
        garbage_collection: garbage_collection(spec.garbage_collection.as_ref())?,
        tls_secret: tls.secret_ref.map(|secret| secret.name),
        lives: lives(&tls.private_ca.unwrap_or_default())?,
        extra_dns_names: tls.extra_dns_names,
        service,
        nodes_pull: access.nodes.unwrap_or_default() == NodeAccess::Pull,
        htpasswd: access
            .htpasswd
            .map(|users| (users.secret_ref.name, users.secret_ref.key.unwrap_or_else(|| "htpasswd".into()))),
        hosts,
        refused_hosts,
        pod_template: template,
        log_level: log_level(spec.log_level.unwrap_or_default()),
        drain_timeout: duration(spec.drain_timeout.as_deref(), "drainTimeout", 60)?,
        cluster_domain: settings.cluster_domain.clone(),
        owner,
    };
    volume_is_shared(&validated)?;
    Ok(validated)
}

fn volume_is_shared(validated: &ValidatedRegistry) -> Result<(), Refusal> {
    if validated.replicas <= 1 || validated.is_shared() {
        return Ok(());
    }
    Err(Refusal {
        reason: "VolumeNotShared",
        message: format!(
            "{} replicas need a volume that several nodes may mount, and this one is not ReadWriteMany; write replicas: 1, or use another volume or a bucket",
            validated.replicas
        ),
    })
}

/// Which Registry this is.
pub fn owner(registry: &Registry) -> Owner {
    let meta = &registry.metadata;
    Owner {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// Whether the operator has rights in the Registry's namespace.
pub fn is_granted(owner: &Owner, settings: &Settings) -> bool {
    settings.watch_namespaces.is_empty() || settings.watch_namespaces.contains(&owner.namespace)
}

fn namespace_is_granted(owner: &Owner, settings: &Settings) -> Result<(), Refusal> {
    if is_granted(owner, settings) {
        return Ok(());
    }
    let mut namespaces: Vec<&str> = settings.watch_namespaces.iter().map(String::as_str).collect();
    namespaces.push(&owner.namespace);
    Err(Refusal {
        reason: "NamespaceNotGranted",
        message: format!(
            "the operator has no rights in this namespace; an administrator grants them by the chart's value watchNamespaces, with: helm upgrade {} charts/berth --namespace {} --reuse-values --set 'watchNamespaces={{{}}}'",
            settings.release,
            settings.namespace,
            namespaces.join(",")
        ),
    })
}

/// As the definition says it.
const ONE_KIND: &str = "storage: write exactly one of persistentVolumeClaim, s3, azure, gcs and emptyDir";

fn storage(storage: &Storage, owner: &Owner, observed: &Observed) -> Result<ValidatedStorage, Refusal> {
    let bucket = bucket(storage).map_err(invalid)?;
    match (&storage.persistent_volume_claim, bucket, &storage.empty_dir) {
        (Some(claim), None, None) => persistent_volume_claim(claim, owner, observed),
        (None, Some(bucket), None) => Ok(ValidatedStorage::Bucket(Box::new(bucket))),
        (None, None, Some(directory)) => Ok(ValidatedStorage::EmptyDir { size_limit: directory.size_limit.clone() }),
        _ => Err(invalid(ONE_KIND)),
    }
}

fn persistent_volume_claim(
    claim: &PersistentVolumeClaimWish,
    owner: &Owner,
    observed: &Observed,
) -> Result<ValidatedStorage, Refusal> {
    match (&claim.size, &claim.existing_claim) {
        (Some(size), None) => {
            let modes = if claim.access_modes.is_empty() {
                vec![AccessMode::ReadWriteOnce]
            } else {
                claim.access_modes.clone()
            };
            let class = claim.storage_class_name.clone();
            if let Some(kept) = &observed.claim {
                kept_claim_fits(kept, owner, &modes, class.as_deref())?;
            }
            Ok(ValidatedStorage::NewClaim { size: size.clone(), class, modes })
        }
        (None, Some(name)) => existing_claim(name, observed),
        _ => Err(invalid("storage.persistentVolumeClaim: write either size or existingClaim")),
    }
}

/// Whether a claim that an earlier Registry of this name left is of the kind that this one asks for: no claim can change that.
fn kept_claim_fits(
    kept: &PersistentVolumeClaim,
    owner: &Owner,
    modes: &[AccessMode],
    class: Option<&str>,
) -> Result<(), Refusal> {
    let spec = kept.spec.clone().unwrap_or_default();
    let (kept_modes, kept_class) = (spec.access_modes.unwrap_or_default(), spec.storage_class_name);
    let same_modes = kept_modes.iter().map(String::as_str).eq(modes.iter().map(|mode| mode.as_str()));
    let same_class = class.is_none_or(|class| kept_class.as_deref() == Some(class));
    // One that is somebody else's is refused as that.
    if kept.labels().get(RETAINED_FOR) != Some(&owner.name) || (same_modes && same_class) {
        return Ok(());
    }
    let kept_class = kept_class.map(|class| format!(" and storageClassName: {class}")).unwrap_or_default();
    Err(Refusal {
        reason: "ClaimDiffers",
        message: format!(
            "the PersistentVolumeClaim {claim} was kept from an earlier Registry of this name, and a claim cannot change; delete this Registry and create it with accessModes: [{}]{kept_class}, as the claim has, or under another name, or delete the claim and all that is on it first (kubectl -n {} delete pvc {claim})",
            kept_modes.join(", "),
            owner.namespace,
            claim = owner.claim_name(),
        ),
    })
}

fn existing_claim(name: &str, observed: &Observed) -> Result<ValidatedStorage, Refusal> {
    let Some(claim) = &observed.claim else {
        return Err(Refusal {
            reason: "ClaimNotFound",
            message: format!(
                "spec.storage.persistentVolumeClaim.existingClaim: there is no PersistentVolumeClaim {name} in this namespace; create it, or make a Registry with size instead"
            ),
        });
    };
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    let shared = modes.is_some_and(|modes| modes.iter().any(|mode| mode == AccessMode::ReadWriteMany.as_str()));
    Ok(ValidatedStorage::ExistingClaim { name: name.into(), shared })
}

fn hosts(owner: &Owner, spec: &RegistrySpec, observed: &Observed, settings: &Settings) -> (Vec<String>, Vec<String>) {
    let name = RegistryName { namespace: owner.namespace.clone(), name: owner.name.clone(), uid: owner.uid.clone() };
    let claimed = spec.nodes.iter().flat_map(|nodes| nodes.hosts.iter().cloned());
    let mut hosts = own_hosts(&owner.namespace, &owner.name, &settings.cluster_domain);
    let (granted, refused): (Vec<_>, Vec<_>) = claimed
        .filter(|host| !hosts.contains(host))
        .partition(|host| observed.grants.permit(host, &name, &settings.cluster_domain));
    hosts.extend(granted);
    (hosts, refused)
}

fn lives(ca: &crate::api::registry::PrivateCa) -> Result<Lives, Refusal> {
    let optional = |text: Option<&str>, field| text.map(|text| duration(Some(text), field, 0)).transpose();
    Ok(Lives {
        authority: duration(ca.authority_duration.as_deref(), "tls.privateCA.authorityDuration", 43_800 * 3600)?,
        certificate: duration(ca.certificate_duration.as_deref(), "tls.privateCA.certificateDuration", 2160 * 3600)?,
        renew_before: optional(ca.renew_before.as_deref(), "tls.privateCA.renewBefore")?,
    })
}

/// When what nothing refers to goes, with the defaults of what is not written.
pub fn garbage_collection(wanted: Option<&GarbageCollection>) -> Result<config::GarbageCollection, Refusal> {
    let wanted = wanted.cloned().unwrap_or_default();
    let default = config::GarbageCollection::default();
    let schedule = wanted.schedule.map(|text| text.parse()).transpose();
    let grace = duration(wanted.grace.as_deref(), "garbageCollection.grace", default.grace.get().as_secs())?;
    Ok(config::GarbageCollection {
        enabled: !wanted.suspend.unwrap_or_default(),
        schedule: schedule
            .map_err(|error: berth_contract::InvalidSchedule| invalid(&format!("garbageCollection.schedule: {error}")))?
            .unwrap_or(default.schedule),
        grace: berth_contract::Duration::from_secs(grace.as_secs()),
        untagged: match wanted.untagged.unwrap_or_default() {
            Untagged::Keep => config::Untagged::Keep,
            Untagged::Delete => config::Untagged::Delete,
        },
        dryrun: wanted.dry_run.unwrap_or_default(),
    })
}

fn duration(text: Option<&str>, field: &str, default: u64) -> Result<Duration, Refusal> {
    let Some(text) = text else { return Ok(Duration::from_secs(default)) };
    let parsed: Result<berth_contract::Duration, _> = text.parse();
    parsed.map(berth_contract::Duration::get).map_err(|error| invalid(&format!("{field}: {error}")))
}

fn invalid(message: &str) -> Refusal {
    Refusal { reason: "InvalidSpec", message: message.into() }
}

const fn log_level(level: ApiLogLevel) -> LogLevel {
    match level {
        ApiLogLevel::Error => LogLevel::Error,
        ApiLogLevel::Warn => LogLevel::Warn,
        ApiLogLevel::Info => LogLevel::Info,
        ApiLogLevel::Debug => LogLevel::Debug,
        ApiLogLevel::Trace => LogLevel::Trace,
    }
}
