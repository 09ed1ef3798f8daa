//! Pods as the means to pull: what a kubelet pulls is what counts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{PATIENCE, eventually};
use crate::temp_namespace::TempNamespace;

/// What became of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every container ran to its end; what each printed.
    Ran(Vec<String>),
    /// An image could not be pulled, and why.
    Refused(String),
}

/// Runs these images on one node, each pulled anew, with no pull Secret, and tells what became of it.
///
/// # Errors
/// When neither happens.
pub async fn run(namespace: &TempNamespace<'_>, node: &str, images: &[String]) -> Result<Outcome> {
    let pod = start(namespace, node, images).await?;
    let outcome = eventually(&format!("{node} to run or refuse {images:?}"), PATIENCE, async || {
        look(namespace, &pod.name_any()).await?.context("neither ran nor refused yet")
    })
    .await?;
    remove(namespace, &pod).await?;
    Ok(outcome)
}

async fn start(namespace: &TempNamespace<'_>, node: &str, images: &[String]) -> Result<Pod> {
    let container = |(number, image): (usize, &String)| {
        json!({
            "name": format!("c{number}"),
            "image": image,
            "imagePullPolicy": "Always",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        })
    };
    let pod = json!({
        "metadata": {"generateName": format!("pull-{node}-")},
        "spec": {
            // The node is the test's choice, so the scheduler is not asked.
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": images.iter().enumerate().map(container).collect::<Vec<Value>>(),
        },
    });
    Ok(namespace.api::<Pod>().create(&PostParams::default(), &serde_json::from_value(pod)?).await?)
}

async fn look(namespace: &TempNamespace<'_>, name: &str) -> Result<Option<Outcome>> {
    let api = namespace.api::<Pod>();
    let pod = api.get(name).await?;
    let status = pod.status.unwrap_or_default();
    match status.phase.as_deref() {
        Some("Succeeded") => {
            let mut said = Vec::new();
            for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
                let container = Some(container.name.clone());
                said.push(api.logs(name, &LogParams { container, ..Default::default() }).await?);
            }
            return Ok(Some(Outcome::Ran(said)));
        }
        Some("Failed") => bail!("the pod failed: {status:?}"),
        _ => {}
    }
    let waiting =
        status.container_statuses.iter().flatten().filter_map(|status| status.state.as_ref()?.waiting.as_ref());
    let refused =
        waiting.filter(|waiting| matches!(waiting.reason.as_deref(), Some("ErrImagePull" | "ImagePullBackOff")));
    Ok(refused.map(|waiting| Outcome::Refused(waiting.message.clone().unwrap_or_default())).next())
}

async fn remove(namespace: &TempNamespace<'_>, pod: &Pod) -> Result<()> {
    namespace.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

/// Pulls that go on until they are told to stop, on several nodes at once.
#[derive(Default)]
pub struct PullLoop {
    stop: AtomicBool,
    begun: AtomicUsize,
    pulled: AtomicUsize,
    failed: AtomicUsize,
}

impl PullLoop {
    /// Pulls until [`PullLoop::stop`]: pod after pod on one node, each with images that `next` names. A pod whose pull failed
    /// is waited for all the same, as the kubelet tries again.
    ///
    /// # Errors
    /// When a pod never runs, or `next` fails.
    pub async fn pull(
        &self,
        namespace: &TempNamespace<'_>,
        node: &str,
        next: impl AsyncFn(usize) -> Result<Vec<String>>,
    ) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let images = next(self.begun.fetch_add(1, Ordering::Relaxed)).await?;
            let pod = start(namespace, node, &images).await?;
            eventually(&format!("{node} to run {images:?}"), PATIENCE * 2, async || {
                match look(namespace, &pod.name_any()).await? {
                    Some(Outcome::Ran(_)) => Ok(()),
                    other => bail!("{other:?}"),
                }
            })
            .await?;
            self.count(namespace, &pod, images.len()).await?;
            remove(namespace, &pod).await?;
        }
        Ok(())
    }

    /// Ends the loops after the pods in work.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How many pulls succeeded.
    pub fn pulled(&self) -> usize {
        self.pulled.load(Ordering::Relaxed)
    }

    /// How many attempts failed.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// Returns when this many more pulls have succeeded.
    ///
    /// # Errors
    /// When they do not.
    pub async fn more(&self, number: usize) -> Result<()> {
        let enough = self.pulled() + number;
        eventually(&format!("{number} more pulls"), PATIENCE, async || {
            ensure!(self.pulled() >= enough, "{} of {enough}", self.pulled());
            Ok(())
        })
        .await
    }

    /// The kubelet tells each attempt as an event.
    async fn count(&self, namespace: &TempNamespace<'_>, pod: &Pod, images: usize) -> Result<()> {
        let uid = pod.uid().context("no uid")?;
        let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        let events = namespace.api::<Event>().list(&about).await?.items;
        let failed = events.iter().filter(|event| {
            event.reason.as_deref() == Some("Failed")
                && event.message.as_deref().is_some_and(|message| message.starts_with("Failed to pull image"))
        });
        let failed: i32 = failed.map(|event| event.count.unwrap_or(1)).sum();
        self.failed.fetch_add(usize::try_from(failed)?, Ordering::Relaxed);
        self.pulled.fetch_add(images, Ordering::Relaxed);
        Ok(())
    }
}

/// How long something took, as tests print it.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
