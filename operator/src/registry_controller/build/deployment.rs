//! The pods.
//!
//! They pass the Pod Security Standard `restricted` whatever the Registry says, hold no token, and are restarted only when
//! their configuration changes: certificates, users and credentials are read again in place.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
    HTTPGetAction, KeyToPath, Lifecycle, LifecycleHandler, LocalObjectReference, PersistentVolumeClaimVolumeSource,
    PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, SleepAction, TopologySpreadConstraint, Volume, VolumeMount,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{API_PORT, CONFIG, DATA, HEALTH_PORT, SECRETS, USER_ID, USER_TLS, USERS, bucket, config_map};
use crate::api::registry::{PullPolicy, Resources};
use crate::fingerprint;
use crate::keyring::files::HTPASSWD;
use crate::labels::CONFIG_HASH;
use crate::registry_controller::validate::{ValidatedRegistry, ValidatedStorage};

/// How long a pod goes on serving after it was told to stop, so that everyone has learned to ask another.
const PRE_STOP_SECONDS: i64 = 5;
/// What is left of the grace after the drain, for files to be closed.
const MARGIN_SECONDS: i64 = 10;

/// The Deployment. `server_secret` is the Secret that the operator wrote for the pods.
pub fn build(registry: &ValidatedRegistry, config: &ConfigMap, server_secret: &str) -> Deployment {
    Deployment {
        metadata: registry.owner.owned(registry.owner.name.clone()),
        spec: Some(DeploymentSpec {
            replicas: Some(registry.replicas),
            selector: registry.owner.selector(),
            strategy: Some(strategy(registry)),
            revision_history_limit: Some(2),
            template: PodTemplateSpec {
                metadata: Some(pod_metadata(registry, config)),
                spec: Some(pod(registry, server_secret)),
            },
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Two pods cannot hold a volume that only one node may mount, and two temporary directories are two registries.
fn strategy(registry: &ValidatedRegistry) -> DeploymentStrategy {
    if !registry.is_shared() {
        return DeploymentStrategy { type_: Some("Recreate".into()), ..Default::default() };
    }
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(1)),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

fn pod_metadata(registry: &ValidatedRegistry, config: &ConfigMap) -> ObjectMeta {
    let mut labels = registry.pod_template.labels.clone();
    if let Some((key, value)) = bucket::identity_label(registry) {
        labels.entry(key.into()).or_insert_with(|| value.into());
    }
    labels.extend(registry.owner.labels());
    let mut annotations = registry.pod_template.annotations.clone();
    let mut read_at_start =
        config.data.as_ref().and_then(|data| data.get(config_map::FILE)).cloned().unwrap_or_default();
    // By these a cloud gives pods their credentials when they are created, and never again.
    for (key, value) in &registry.pod_template.service_account_annotations {
        read_at_start.push_str(&format!("{key:?}: {value:?}\n"));
    }
    annotations.insert(CONFIG_HASH.into(), fingerprint::of(read_at_start));
    ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..Default::default() }
}

fn pod(registry: &ValidatedRegistry, server_secret: &str) -> PodSpec {
    let template = &registry.pod_template;
    let drain = i64::try_from(registry.drain_timeout.as_secs()).unwrap_or(i64::MAX);
    let secrets = registry.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    let mut volumes = volumes(registry, server_secret);
    PodSpec {
        service_account_name: Some(registry.owner.name.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: some(secrets.collect()),
        node_selector: Some(template.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: some(template.tolerations.clone()),
        affinity: template.affinity.clone().or_else(|| apart(registry)),
        topology_spread_constraints: some(spread(registry)),
        priority_class_name: template.priority_class_name.clone(),
        termination_grace_period_seconds: Some(drain.saturating_add(PRE_STOP_SECONDS + MARGIN_SECONDS)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER_ID),
            run_as_group: Some(USER_ID),
            fs_group: Some(USER_ID),
            // A registry has many files: walking them at every start would take longer than the start.
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..Default::default() }),
            ..Default::default()
        }),
        containers: vec![container(registry, volumes.iter().map(|(_, mount)| mount.clone()).collect())],
        volumes: Some(volumes.drain(..).map(|(volume, _)| volume).collect()),
        ..Default::default()
    }
}

fn container(registry: &ValidatedRegistry, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: "registry".into(),
        image: Some(registry.image.clone()),
        image_pull_policy: Some(pull_policy(registry.pull_policy).into()),
        args: Some(vec!["serve".into(), "--config".into(), format!("{CONFIG}/{}", config_map::FILE)]),
        ports: Some(vec![port("registry", API_PORT), port("health", HEALTH_PORT)]),
        env: registry.bucket().and_then(bucket::variables),
        resources: Some(resources(registry.pod_template.resources.as_ref())),
        startup_probe: Some(probe("/livez", 2, 150)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 5, 2)),
        // Where another pod serves meanwhile, this one waits until everyone knows; alone, waiting would only be longer.
        lifecycle: registry.is_shared().then(|| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: PRE_STOP_SECONDS }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Default::default() }),
            ..Default::default()
        }),
        // The last lines of the log say why a pod failed, and the status repeats them.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(mounts),
        ..Default::default()
    }
}

fn volumes(registry: &ValidatedRegistry, server_secret: &str) -> Vec<(Volume, VolumeMount)> {
    let config = ConfigMapVolumeSource { name: registry.owner.config_name(), ..Default::default() };
    let mut volumes = vec![
        mounted("config", CONFIG, true, Volume { config_map: Some(config), ..Default::default() }),
        mounted("secrets", SECRETS, true, secret(server_secret, None)),
    ];
    volumes.extend(data(registry).map(|data| mounted("data", DATA, false, data)));
    volumes.extend(registry.bucket().map(bucket::volumes).unwrap_or_default());
    if let Some((name, key)) = &registry.htpasswd {
        volumes.push(mounted("users", USERS, true, secret(name, Some(vec![(key.as_str(), HTPASSWD)]))));
    }
    if let Some(name) = &registry.tls_secret {
        volumes.push(mounted("tls", USER_TLS, true, secret(name, None)));
    }
    volumes
}

pub(super) fn mounted(name: &str, path: &str, read_only: bool, volume: Volume) -> (Volume, VolumeMount) {
    let mount = VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..Default::default()
    };
    (Volume { name: name.into(), ..volume }, mount)
}

pub(super) fn secret(name: &str, items: Option<Vec<(&str, &str)>>) -> Volume {
    let item = |(key, path): (&str, &str)| KeyToPath { key: key.into(), path: path.into(), mode: None };
    Volume {
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.into()),
            items: items.map(|items| items.into_iter().map(item).collect()),
            // Read by the group that the pod runs as, and by nobody else.
            default_mode: Some(0o440),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The volume for the bytes; none where they are in a bucket.
fn data(registry: &ValidatedRegistry) -> Option<Volume> {
    Some(match (&registry.storage, registry.claim_name()) {
        (ValidatedStorage::EmptyDir { size_limit }, _) => Volume {
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: size_limit.clone().map(Quantity),
                ..Default::default()
            }),
            ..Default::default()
        },
        (_, claim) => Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim?,
                ..Default::default()
            }),
            ..Default::default()
        },
    })
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..Default::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("health".into()),
            ..Default::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Default::default()
    }
}

fn resources(wish: Option<&Resources>) -> ResourceRequirements {
    let map = |wish: &BTreeMap<String, String>| {
        Some(wish.iter().map(|(key, text)| (key.clone(), Quantity(text.clone()))).collect::<BTreeMap<_, _>>())
            .filter(|map| !map.is_empty())
    };
    let default = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(key, text)| ((*key).to_owned(), Quantity((*text).to_owned()))).collect())
    };
    match wish {
        Some(wish) => ResourceRequirements { requests: map(&wish.requests), limits: map(&wish.limits), claims: None },
        None => ResourceRequirements {
            requests: default(&[("cpu", "50m"), ("memory", "64Mi")]),
            limits: default(&[("memory", "512Mi")]),
            claims: None,
        },
    }
}

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST_NAME: &str = "kubernetes.io/hostname";

/// Over nodes where that is possible; a pod that cannot be spread runs all the same. A second constraint, of zones, would turn this
/// one off wherever nodes have no zone: the scheduler scores only nodes that have every label that a pod's constraints name.
fn spread(registry: &ValidatedRegistry) -> Vec<TopologySpreadConstraint> {
    let wish = &registry.pod_template.topology_spread_constraints;
    if !wish.is_empty() || registry.replicas < 2 {
        return wish.clone();
    }
    vec![TopologySpreadConstraint {
        topology_key: HOST_NAME.into(),
        max_skew: 1,
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(registry.owner.selector()),
        match_label_keys: Some(of_one_rollout()),
        ..Default::default()
    }]
}

/// In different zones, where there are zones, and on different nodes: a constraint alone weighs less to the scheduler than two nodes
/// that are not equally busy.
fn apart(registry: &ValidatedRegistry) -> Option<Affinity> {
    if !registry.pod_template.topology_spread_constraints.is_empty() || registry.replicas < 2 {
        return None;
    }
    let not_in_one = |topology_key: &str| WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: PodAffinityTerm {
            topology_key: topology_key.into(),
            label_selector: Some(registry.owner.selector()),
            match_label_keys: Some(of_one_rollout()),
            ..Default::default()
        },
    };
    let preferred = Some([ZONE, HOST_NAME].map(not_in_one).into());
    let pod_anti_affinity =
        PodAntiAffinity { preferred_during_scheduling_ignored_during_execution: preferred, ..Default::default() };
    Some(Affinity { pod_anti_affinity: Some(pod_anti_affinity), ..Default::default() })
}

/// Only pods of the same rollout count, so that a rollout does not end lopsided.
fn of_one_rollout() -> Vec<String> {
    vec!["pod-template-hash".into()]
}

const fn pull_policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}
