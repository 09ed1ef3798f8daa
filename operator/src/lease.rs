//! Leadership: one process works, the others stand by.
//!
//! A Lease is not a lock: two processes may believe for a moment that they lead. Nothing relies on it but economy; every
//! write is right by itself.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

/// How long leadership lasts without renewal.
const DURATION: Duration = Duration::from_secs(15);
/// After how long without a renewal a leader stops: before another can begin.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, and how often those who stand by look.
const PERIOD: Duration = Duration::from_secs(2);

/// One contender for one Lease.
pub struct Contender {
    api: Api<Lease>,
    /// With what the Lease goes.
    owner: Option<OwnerReference>,
    name: String,
    identity: String,
    /// What was seen last, and when by our own clock: others' clocks are not compared with.
    observed: Option<(LeaseSpec, Instant)>,
}

impl Contender {
    /// Contends in this namespace, under this identity, which no other process may have.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), owner: None, name: name.into(), identity, observed: None }
    }

    /// A Lease that this process makes goes with `owner`.
    pub fn owned_by(self, owner: Option<OwnerReference>) -> Self {
        Self { owner, ..self }
    }

    /// Returns when this process leads.
    pub async fn acquire(&mut self) {
        loop {
            match timeout(DEADLINE, self.attempt()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "cannot contend for leadership"),
                Err(_) => tracing::warn!("cannot contend for leadership: no answer within {DEADLINE:?}"),
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews until it fails for too long; returns then.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < DEADLINE {
            sleep(PERIOD).await;
            match timeout(DEADLINE.saturating_sub(renewed.elapsed()), self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew leadership"),
                Err(_) => return,
            }
        }
    }

    /// Gives leadership up, so that another need not wait for it to lapse.
    pub async fn release(&mut self) {
        let released = async {
            let Some(lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) != Some(&self.identity) {
                return Ok(());
            }
            let mut lease = lease;
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            Ok::<_, kube::Error>(())
        };
        match timeout(PERIOD, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "leadership was not given up and lapses by itself"),
            Err(_) => tracing::warn!("leadership was not given up in time and lapses by itself"),
        }
    }

    /// Takes or renews leadership if it is free or ours.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    owner_references: self.owner.clone().map(|owner| vec![owner]),
                    ..Default::default()
                },
                spec: Some(self.spec(&now, None)),
            };
            return conflict_is_no(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let ours = spec.holder_identity.as_deref() == Some(&self.identity);
        if !ours && !self.has_lapsed(&spec) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(&now, Some(&spec)));
        // The resourceVersion in it makes this fail when another was faster.
        conflict_is_no(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, now: &MicroTime, before: Option<&LeaseSpec>) -> LeaseSpec {
        let held = before.filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: held.map_or_else(|| Some(now.clone()), |spec| spec.acquire_time.clone()),
            renew_time: Some(now.clone()),
            lease_transitions: Some(transitions + i32::from(before.is_some() && held.is_none())),
            ..Default::default()
        }
    }

    fn has_lapsed(&mut self, spec: &LeaseSpec) -> bool {
        if spec.holder_identity.as_deref().unwrap_or_default().is_empty() {
            return true;
        }
        match &self.observed {
            Some((seen, since)) if seen == spec => {
                let lasts = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
                since.elapsed() > Duration::from_secs(lasts)
            }
            _ => {
                self.observed = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }
}

fn conflict_is_no<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs `work` while leading, and says why it ended.
pub async fn lead(mut contender: Contender, work: impl Future<Output = ()>, stop: impl Future<Output = ()>) -> Ended {
    let mut work = std::pin::pin!(work);
    let mut stop = std::pin::pin!(stop);
    let ended = tokio::select! {
        () = contender.hold() => Ended::LostLeadership,
        () = &mut work => Ended::Finished,
        () = &mut stop => {
            // The work hears of it too and ends by itself; leadership is kept meanwhile.
            tokio::select! {
                () = &mut work => {}
                () = contender.hold() => {}
            }
            Ended::Finished
        }
    };
    if ended == Ended::Finished {
        contender.release().await;
    }
    ended
}

/// Why leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The work is done.
    Finished,
    /// Another may lead.
    LostLeadership,
}
