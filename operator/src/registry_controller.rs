//! Reconciles Registries, in five steps: [`dereference`] → [`validate`] → [`build`] → [apply](crate::apply) → [`status`],
//! with the [`keys`] between the second and the third. A pass knows nothing of the one before it.

pub mod build;
pub mod dereference;
pub mod keys;
mod outcome;
pub mod sharing;
pub mod status;
pub mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use kube::ResourceExt;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};

use self::build::Resources;
use self::dereference::Observed;
use self::keys::Keys;
use self::status::{Pass, Problem};
use self::validate::{Refusal, ValidatedRegistry};
use crate::api::registry::{Registry, RegistryStatus};
use crate::apply;
use crate::context::{Context, SharedContext};
use crate::keyring::Keyring;
use crate::keyring::rotation::Step;
use crate::labels::Owner;
use crate::metrics::Outcome as Counted;
use crate::watches::{Guarded, Triggers};

/// How long a Registry at rest is left alone. Nothing depends on it: it is for what no watch tells.
const REST: Duration = Duration::from_secs(600);
/// How soon one that waits for pods is looked at again.
const BUSY: Duration = Duration::from_secs(10);
/// How soon one that waits for a human is: what they put right, such as somebody else's object, may not be watched.
const STUCK: Duration = Duration::from_secs(30);

/// A pass failed, and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be looked up.
    #[error(transparent)]
    Dereference(#[from] dereference::Error),
    /// The keys could not be brought up to date.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// An object could not be written.
    #[error(transparent)]
    Apply(#[from] apply::Error),
}

/// Reconciles until `stop` resolves, then finishes what was begun. The stores must be complete.
pub async fn run(context: SharedContext, triggers: Triggers, stop: impl Future<Output = ()> + Send + Sync + 'static) {
    let config = Config::default().concurrency(context.settings.concurrency).debounce(Duration::from_millis(200));
    let Triggers { registries, others, grants } = triggers;
    Controller::for_stream(registries, context.stores.registries.clone())
        .with_config(config)
        .reconcile_on(others)
        .reconcile_all_on(grants)
        .graceful_shutdown_on(stop)
        .run(counted, |registry, error, context| retry(&registry, error, &context), context)
        .for_each(async |result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a pass ended early");
            }
        })
        .await;
}

async fn counted(registry: Arc<Guarded>, context: SharedContext) -> Result<Action, Error> {
    let begun = Instant::now();
    // Boxed: what it holds across its waits is large, and there is one for each Registry in work.
    let result = reconcile(&registry, &context).boxed().await;
    context.metrics.reconcile_seconds.observe(begun.elapsed().as_secs_f64());
    let result_label = if result.is_ok() { "ok" } else { "error" };
    context.metrics.reconciliations.get_or_create(&Counted { result: result_label }).inc();
    result
}

fn retry(registry: &Guarded, error: &Error, context: &Context) -> Action {
    let uid = registry.uid().unwrap_or_default();
    let failures = context.recall(&uid).failures.saturating_add(1);
    context.remember(&uid, |memory| memory.failures = failures);
    let wait = Duration::from_secs(1 << failures.min(8)).min(Duration::from_secs(300));
    tracing::warn!(registry = registry.name_any(), namespace = registry.namespace(), %error, ?wait, "a pass failed");
    Action::requeue(wait)
}

async fn reconcile(registry: &Guarded, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let registry = match &registry.0 {
        Ok(registry) => registry,
        Err(invalid) => return refuse_unreadable(invalid, context, now).await,
    };
    let before = last_status(registry, context);
    if before.observed_generation.is_none() {
        write_status(registry, &before, status::first(registry, now), context).await?;
    }
    let before = last_status(registry, context);
    match pass(registry, &before, context, now).await {
        Ok(next) => {
            context.remember(&registry.uid().unwrap_or_default(), |memory| memory.failures = 0);
            Ok(Action::requeue(next))
        }
        Err(error) => {
            let failures = context.recall(&registry.uid().unwrap_or_default()).failures;
            if let Some(problem) = outcome::failure(&error, failures) {
                let after = status::failed(registry, &before, &problem, now);
                outcome::publish(registry, &before, &after, &[], context).await;
                write_status(registry, &before, after, context).await?;
            }
            Err(error)
        }
    }
}

/// One pass. Returns when to look again.
async fn pass(
    registry: &Registry,
    before: &RegistryStatus,
    context: &Context,
    now: Timestamp,
) -> Result<Duration, Error> {
    let owner = validate::owner(registry);
    let observed = Observed::of(registry, &owner, context).await?;
    let outcome = converge(registry, &observed, context, now).await?;
    let after = status::status(&Pass {
        registry,
        before,
        observed: &observed,
        validated: outcome.validated.as_ref(),
        problem: outcome.problem.as_ref(),
        keyring: outcome.keyring.as_ref(),
        deployment: outcome.deployment.clone(),
        agents: context.settings.node_agent,
        nodes: outcome.nodes(context),
        nodes_untold: outcome.nodes_untold.as_deref(),
        now,
    });
    outcome::publish(registry, before, &after, &outcome.steps, context).await;
    let activity = outcome::Activity::of(&after);
    write_status(registry, before, after, context).await?;
    Ok(outcome.next(registry, activity, now))
}

/// What a pass came to.
struct Outcome {
    validated: Result<ValidatedRegistry, Refusal>,
    problem: Option<Problem>,
    keyring: Option<Keyring>,
    steps: Vec<Step>,
    deployment: Option<Arc<Deployment>>,
    /// Why nodes could not be told what they need.
    nodes_untold: Option<String>,
}

impl Outcome {
    fn nodes(&self, context: &Context) -> Option<crate::nodes::NodesSeen> {
        let (Ok(validated), Some(keyring)) = (&self.validated, &self.keyring) else { return None };
        context.settings.node_agent.then(|| keys::nodes_seen(keyring, validated, context))
    }

    /// When to look again: soon while something moves, else when a key is due, else after a rest.
    fn next(&self, registry: &Registry, activity: outcome::Activity, now: Timestamp) -> Duration {
        if registry.spec.suspend == Some(true) {
            return REST;
        }
        let rotating = self.keyring.as_ref().is_some_and(Keyring::is_rotating);
        match activity {
            outcome::Activity::Busy => return BUSY,
            outcome::Activity::Resting if rotating || !self.steps.is_empty() || self.nodes_untold.is_some() => {
                return BUSY;
            }
            outcome::Activity::Stuck => return STUCK,
            outcome::Activity::Resting => {}
        }
        let due = match (&self.keyring, &self.validated) {
            (Some(keyring), Ok(validated)) => keyring.due(now, &validated.lives),
            _ => return REST,
        };
        // A second late rather than early: a pass that finds nothing due is a pass for nothing.
        let until = u64::try_from(due.duration_since(now).as_secs()).unwrap_or(0) + 1;
        Duration::from_secs(until).min(REST)
    }
}

/// Brings the cluster to what the Registry says, as far as that goes now.
async fn converge(
    registry: &Registry,
    observed: &Observed,
    context: &Context,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let owner = validate::owner(registry);
    let mut outcome = Outcome {
        validated: validate::validate(registry, observed, &context.settings),
        problem: None,
        keyring: observed.keyring.as_ref().map(|(_, keyring)| keyring.clone()),
        steps: Vec::new(),
        nodes_untold: None,
        deployment: context
            .stores
            .deployments
            .get(&owner.namespace, &owner.name)
            .filter(|deployment| deployment.owner_references().iter().any(|reference| reference.uid == owner.uid)),
    };
    let Ok(validated) = &outcome.validated else { return Ok(outcome) };
    if observed.namespace.terminating {
        outcome.problem = Some(Problem::passing("NamespaceTerminating", "the namespace is being deleted"));
        return Ok(outcome);
    }
    if registry.spec.suspend == Some(true) {
        return Ok(outcome);
    }
    let validated = validated.clone();
    if let Err(error) = write(registry, &validated, observed, context, now, &mut outcome).await {
        outcome.problem = Some(outcome::explain(error)?);
    }
    Ok(outcome)
}

/// Writes everything, in the order in which one thing needs another: the Service gives the addresses that the certificate
/// is for, and the pods come last, when all that they mount is there.
async fn write(
    registry: &Registry,
    validated: &ValidatedRegistry,
    observed: &Observed,
    context: &Context,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let service = apply_service(validated, context).await?;
    let addresses = validate::cluster_addresses(&service);
    let mut keys = Keys::prepare(registry, validated, observed, Some(&service), context, now).await?;
    outcome.steps.clone_from(&keys.steps);
    outcome.keyring = Some(keys.keyring.clone());
    let server_secret = keys.distribute(validated, observed, context).await?;
    outcome.keyring = Some(keys.keyring.clone());
    let resources = build::build(validated, &keys.keyring, server_secret.as_deref());
    // Before anything that may fail: pods forget a credential, and an authority, that nodes were not told to replace.
    if context.settings.node_agent {
        // Nodes never stand in the way of the Registry itself.
        if let Err(error) = tell_nodes(&mut keys, &addresses, validated, context).await {
            tracing::warn!(registry = validated.owner.name, %error, "nodes were not told");
            outcome.nodes_untold = Some(error.to_string());
        }
    }
    outcome.keyring = Some(keys.keyring);
    if apply_all(resources, validated, context, outcome).await? {
        outcome.problem =
            Some(Problem::passing("RolloutQueued", "other Registries are replacing their pods; this one is next"));
    }
    Ok(())
}

/// Writes what agents read: the credential, then the entry that speaks of it.
async fn tell_nodes(
    keys: &mut Keys,
    addresses: &[String],
    validated: &ValidatedRegistry,
    context: &Context,
) -> Result<(), Error> {
    keys.tell_nodes(validated, context).await?;
    let namespace = &context.settings.node_namespace;
    if let Some(entry) = build::node_entry::build(validated, &keys.keyring, addresses, namespace) {
        let live = context.stores.node_entries.get(namespace, &entry.name_any());
        context.applier.apply(&validated.owner, &entry, live).await?;
    }
    Ok(())
}

async fn apply_service(validated: &ValidatedRegistry, context: &Context) -> Result<Arc<Service>, Error> {
    let owner = &validated.owner;
    let live = context.stores.services.get(&owner.namespace, &owner.name);
    Ok(context.applier.apply(owner, &build::service::build(validated), live).await?)
}

/// Applies every object and sweeps what is no longer wanted. Returns whether the pods have to wait for others'.
async fn apply_all(
    resources: Resources,
    validated: &ValidatedRegistry,
    context: &Context,
    outcome: &mut Outcome,
) -> Result<bool, Error> {
    // No `..`: a new kind of object fails to compile here instead of never being applied.
    let Resources { service_account, config, ca_bundle, claim, deployment, disruption_budget } = resources;
    let Owner { namespace, name, .. } = &validated.owner;
    let (stores, applier, owner) = (&context.stores, &context.applier, &validated.owner);
    applier.apply(owner, &service_account, stores.service_accounts.get(namespace, name)).await?;
    applier.apply(owner, &ca_bundle, stores.config_maps.get(namespace, &owner.ca_name())).await?;
    let volume = apply_claim(claim, validated, context).await;
    match disruption_budget {
        Some(budget) => drop(applier.apply(owner, &budget, stores.disruption_budgets.get(namespace, name)).await?),
        None => sweep_budget(validated, context).await?,
    }
    let live = stores.deployments.get(namespace, name);
    // A volume that may not grow is no reason to leave the pods as they are; one that is not there is.
    if live.is_none() {
        volume?;
        return start_pods(deployment, &config, live, validated, context, outcome).await;
    }
    let queued = start_pods(deployment, &config, live, validated, context, outcome).await?;
    volume.map(|()| queued)
}

async fn apply_claim(
    claim: Option<PersistentVolumeClaim>,
    validated: &ValidatedRegistry,
    context: &Context,
) -> Result<(), Error> {
    let Some(mut claim) = claim else { return Ok(()) };
    let owner = &validated.owner;
    let live = context.stores.claims.get(&owner.namespace, &owner.claim_name());
    if let Some(live) = &live {
        build::claim::keep_size(&mut claim, live);
    }
    context.applier.apply(owner, &claim, live).await?;
    Ok(())
}

/// Applies the Deployment, and right before it what its pods read when they start: the pods that wait for their turn would
/// read it too if they started again meanwhile, and may not have what it names. Returns whether it has to wait for others'.
async fn start_pods(
    deployment: Option<Deployment>,
    config: &ConfigMap,
    live: Option<Arc<Deployment>>,
    validated: &ValidatedRegistry,
    context: &Context,
    outcome: &mut Outcome,
) -> Result<bool, Error> {
    let Some(deployment) = deployment else { return Ok(false) };
    if outcome::must_wait(&deployment, live.as_deref(), context) {
        return Ok(true);
    }
    let place = live.as_ref().and_then(|live| live.uid());
    let applied = async {
        let (owner, config_maps) = (&validated.owner, &context.stores.config_maps);
        let live_config = config_maps.get(&owner.namespace, &owner.config_name());
        context.applier.apply(owner, config, live_config).await?;
        context.applier.apply(owner, &deployment, live).await
    };
    let applied = applied.await;
    if let (Err(_), Some(uid)) = (&applied, place) {
        context.rollouts.release(&uid);
    }
    outcome.deployment = Some(applied?);
    Ok(false)
}

async fn sweep_budget(validated: &ValidatedRegistry, context: &Context) -> Result<(), Error> {
    let owner = &validated.owner;
    let Some(live) = context.stores.disruption_budgets.get(&owner.namespace, &owner.name) else { return Ok(()) };
    if live.owner_references().iter().any(|reference| reference.uid == owner.uid) {
        context.applier.delete(live.as_ref()).await?;
    }
    Ok(())
}

/// The status as it was written last: what this process remembers, unless the watch has something newer.
fn last_status(registry: &Registry, context: &Context) -> RegistryStatus {
    let seen = registry.status.clone().unwrap_or_default();
    match context.recall(&registry.uid().unwrap_or_default()).status {
        Some((written, version)) if is_older(registry.resource_version().as_deref(), version.as_deref()) => written,
        _ => seen,
    }
}

/// Whether the watch has not yet seen the write that gave `written`.
fn is_older(seen: Option<&str>, written: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(|version| version.parse::<u64>().ok());
    matches!((number(seen), number(written)), (Some(seen), Some(written)) if seen < written)
}

async fn write_status(
    registry: &Registry,
    before: &RegistryStatus,
    after: RegistryStatus,
    context: &Context,
) -> Result<(), Error> {
    if *before == after {
        return Ok(());
    }
    match context.applier.write_status(&registry.metadata, &after).await {
        Ok(version) => {
            context.remember(&registry.uid().unwrap_or_default(), |memory| memory.status = Some((after, version)));
            Ok(())
        }
        // Deleted meanwhile, or deleted and made again: there is nothing to say to it.
        Err(error) if error.status().is_some_and(|status| matches!(status.code, 404 | 409)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A Registry that cannot be read, because it was written under another definition, says so and waits for a change. Where the API
/// server does not even take a status, because it checks the whole object, an event says it.
async fn refuse_unreadable(invalid: &InvalidObject, context: &Context, now: Timestamp) -> Result<Action, Error> {
    let registry = Registry { metadata: invalid.metadata.clone(), spec: Default::default(), status: None };
    let before = last_status(&registry, context);
    let problem = format!("this Registry cannot be read: {}; write it as its definition says", invalid.error);
    let findings = vec![
        crate::api::condition::Finding::new(status::READY, false, "InvalidSpec", problem.as_str()),
        crate::api::condition::Finding::new(status::STALLED, true, "InvalidSpec", problem),
    ];
    let generation = registry.metadata.generation;
    let after = RegistryStatus {
        observed_generation: generation,
        conditions: crate::api::condition::conditions(findings, &before.conditions, generation, now),
        ..before.clone()
    };
    outcome::publish(&registry, &before, &after, &[], context).await;
    match write_status(&registry, &before, after, context).await {
        Err(Error::Apply(error)) if error.status().is_some_and(|status| matches!(status.code, 422 | 500)) => {
            tracing::warn!(%error, "a Registry that cannot be read takes no status either");
            Ok(Action::await_change())
        }
        written => written.map(|()| Action::await_change()),
    }
}
