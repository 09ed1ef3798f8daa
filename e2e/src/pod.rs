//! Pods as the means to pull: what a kubelet pulls is what counts.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// What became of a pod that ran in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What each container printed.
    pub said: Vec<String>,
    /// How many attempts to pull had failed before.
    pub failed: usize,
}

/// The same as a user sees it: a pod whose pull failed is waited for all the same, as the kubelet tries again.
///
/// # Errors
/// When the pod never runs.
pub async fn pull(namespace: &TempNamespace<'_>, node: &str, images: &[String]) -> Result<Pulled> {
    let pod = start(namespace, node, images).await?;
    let said = eventually(&format!("{node} to run {images:?}"), PATIENCE * 2, async || {
        match look(namespace, &pod.name_any()).await? {
            Some(Outcome::Ran(said)) => Ok(said),
            other => bail!("{other:?}"),
        }
    })
    .await?;
    let failed = failed_attempts(namespace, &pod).await?;
    remove(namespace, &pod).await?;
    Ok(Pulled { said, failed })
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

/// How many attempts to pull an image of this pod failed. The kubelet tells each as an event.
async fn failed_attempts(namespace: &TempNamespace<'_>, pod: &Pod) -> Result<usize> {
    let uid = pod.uid().context("no uid")?;
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let events = namespace.api::<Event>().list(&about).await?.items;
    Ok(usize::try_from(events.iter().map(failures).sum::<i32>())?)
}

/// How many failed attempts an event tells of: the kubelet counts what repeats itself, and combines what only differs in
/// its words.
fn failures(event: &Event) -> i32 {
    let message = event.message.as_deref().unwrap_or_default();
    let message = message.strip_prefix("(combined from similar events): ").unwrap_or(message);
    if event.reason.as_deref() != Some("Failed") || !message.starts_with("Failed to pull image") {
        return 0;
    }
    event.series.as_ref().and_then(|series| series.count).or(event.count).unwrap_or(1)
}

/// Pulls that go on until they are told to stop, on several nodes at once.
#[derive(Default)]
pub struct PullLoop {
    stop: AtomicBool,
    begun: AtomicUsize,
    finished: Mutex<Vec<Finished>>,
}

/// A pod that ran in the end.
struct Finished {
    lived: Range<Instant>,
    images: usize,
    failed: usize,
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
            let begun = Instant::now();
            let failed = pull(namespace, node, &images).await?.failed;
            let finished = Finished { lived: begun..Instant::now(), images: images.len(), failed };
            self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(finished);
        }
        Ok(())
    }

    /// Ends the loops after the pods in work.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How many pulls succeeded.
    pub fn pulled(&self) -> usize {
        self.sum(|pod| pod.images)
    }

    /// How many attempts failed.
    pub fn failed(&self) -> usize {
        self.sum(|pod| pod.failed)
    }

    /// How many attempts failed of pods of which no moment lies in any of these times.
    pub fn failed_outside(&self, times: &[Range<Instant>]) -> usize {
        let overlaps =
            |pod: &Finished| times.iter().any(|time| pod.lived.start < time.end && time.start < pod.lived.end);
        self.sum(|pod| if overlaps(pod) { 0 } else { pod.failed })
    }

    fn sum(&self, of: impl Fn(&Finished) -> usize) -> usize {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).iter().map(of).sum()
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
}

/// How long something took, as tests print it.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failed_attempt_counts_however_the_kubelet_tells_it() {
        let told = |event: Value| {
            let mut whole = json!({"metadata": {}, "involvedObject": {}});
            whole.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
            failures(&serde_json::from_value(whole).unwrap())
        };
        let failed = "Failed to pull image \"a.b.svc/app:1\": not found";
        let combined = format!("(combined from similar events): {failed}");
        assert_eq!(told(json!({"reason": "Failed", "message": failed})), 1);
        assert_eq!(told(json!({"reason": "Failed", "message": failed, "count": 3})), 3);
        assert_eq!(told(json!({"reason": "Failed", "message": combined, "count": 4})), 4);
        assert_eq!(told(json!({"reason": "Failed", "message": failed, "series": {"count": 5}})), 5);
        assert_eq!(told(json!({"reason": "Failed", "message": "Error: ErrImagePull", "count": 3})), 0);
        assert_eq!(told(json!({"reason": "BackOff", "message": failed, "count": 3})), 0);
    }
}
