//! Registries as their users have them: applied, waited for, asked over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use berth_operator::api::Registry;
use berth_operator::api::registry::{NodesStatus, StorageStatus};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use crate::cluster::{PATIENCE, eventually, own_cluster};
use crate::http::Client;
use crate::temp_namespace::TempNamespace;

/// The storage that a test takes when it is about something else: none that must be provided.
pub fn light() -> Value {
    json!({"storage": {"emptyDir": {}}})
}

/// One Registry of a test's namespace.
pub struct ManagedRegistry<'a> {
    /// Its namespace.
    pub namespace: &'a TempNamespace<'a>,
    /// Its name.
    pub name: &'a str,
}

impl<'a> ManagedRegistry<'a> {
    /// Creates it.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create(namespace: &'a TempNamespace<'a>, name: &'a str, spec: Value) -> Result<Self> {
        let registry =
            json!({"apiVersion": "berth.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec});
        let registry = serde_json::from_value(registry)?;
        namespace.api::<Registry>().create(&PostParams::default(), &registry).await?;
        Ok(Self { namespace, name })
    }

    /// The same, once it is ready.
    ///
    /// # Errors
    /// When it is refused, or never ready.
    pub async fn ready(namespace: &'a TempNamespace<'a>, name: &'a str, spec: Value) -> Result<Self> {
        let registry = Self::create(namespace, name, spec).await?;
        registry.wait_ready().await?;
        Ok(registry)
    }

    /// As it is now.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn get(&self) -> Result<Registry> {
        Ok(self.namespace.api::<Registry>().get(self.name).await?)
    }

    /// Returns when it is ready, nothing is under way, and its Service answers: a node's proxy hears of a ready pod a moment
    /// later than the operator.
    ///
    /// # Errors
    /// When it never is.
    pub async fn wait_ready(&self) -> Result<Registry> {
        eventually(&format!("{} to be ready", self.name), PATIENCE, async || {
            let registry = self.get().await?;
            let ready = condition(&registry, "Ready").context("no condition Ready")?;
            ensure!(ready.status == "True", "{}: {}", ready.reason, ready.message);
            ensure!(condition(&registry, "Reconciling").is_none(), "it is still reconciling");
            self.served_certificate().await?;
            Ok(registry)
        })
        .await
    }

    /// Returns the condition `type_` once its reason is `reason`.
    ///
    /// # Errors
    /// When it never is.
    pub async fn wait_for(&self, type_: &str, reason: &str) -> Result<Condition> {
        eventually(&format!("{}: {type_}/{reason}", self.name), PATIENCE, async || {
            let registry = self.get().await?;
            let found = condition(&registry, type_).with_context(|| format!("no condition {type_}"))?;
            ensure!(found.reason == reason, "{}: {}", found.reason, found.message);
            Ok(found.clone())
        })
        .await
    }

    /// Changes it by a merge patch.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn patch(&self, patch: Value) -> Result<()> {
        let api = self.namespace.api::<Registry>();
        api.patch(self.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Deletes it and returns when it is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn delete(&self) -> Result<()> {
        let api = self.namespace.api::<Registry>();
        api.delete(self.name, &DeleteParams::default()).await?;
        eventually("the Registry to be gone", PATIENCE, async || {
            ensure!(api.get_opt(self.name).await?.is_none(), "it is there");
            Ok(())
        })
        .await
    }

    /// The host in its images' names.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace.name)
    }

    /// The pods that serve it, by name, with their uids.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let ours = ListParams::default().labels(&format!("berth.dev/registry={}", self.name));
        Ok(self.namespace.api::<Pod>().list(&ours).await?.items)
    }

    /// The names of its pods.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pod_names(&self) -> Result<Vec<String>> {
        Ok(self.pods().await?.iter().map(kube::ResourceExt::name_any).collect())
    }

    /// Its pods' uids, and how often their containers were restarted: equal to what they were when no pod was replaced and
    /// none was restarted.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn identities(&self) -> Result<Vec<(Option<String>, i32)>> {
        let restarts = |pod: &Pod| {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            statuses.into_iter().flatten().map(|status| status.restart_count).sum()
        };
        Ok(self.pods().await?.iter().map(|pod| (pod.uid(), restarts(pod))).collect())
    }

    /// What its status says of where the bytes are.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn storage(&self) -> Result<Option<StorageStatus>> {
        Ok(self.get().await?.status.and_then(|status| status.storage))
    }

    /// What its status says of nodes, once every one has been heard of.
    ///
    /// # Errors
    /// When one never is, or none can pull.
    pub async fn known_by_nodes(&self) -> Result<NodesStatus> {
        eventually("every node to be heard of", PATIENCE, async || {
            let nodes = self.get().await?.status.and_then(|status| status.nodes).context("no status.nodes")?;
            ensure!(nodes.unknown == 0 && nodes.trusted > 0, "{nodes:?}");
            Ok(nodes)
        })
        .await
    }

    /// The nodes whose pods can pull from it, once every one has been heard of.
    ///
    /// # Errors
    /// As for [`ManagedRegistry::known_by_nodes`].
    pub async fn trusted_nodes(&self) -> Result<Vec<String>> {
        let known = self.known_by_nodes().await?;
        let mut nodes = self.namespace.cluster.nodes().await?;
        nodes.retain(|node| known.examples.iter().all(|example| example.node != *node));
        Ok(nodes)
    }

    /// Where it is reached from outside the cluster's DNS, by an address that the certificate names: the Service's, or on a
    /// cluster that this machine is no part of the loopback, which is forwarded to one of the pods.
    ///
    /// # Errors
    /// When it has none.
    pub async fn address(&self) -> Result<SocketAddr> {
        let service = self.namespace.api::<Service>().get(self.name).await?;
        let ip = service.spec.and_then(|spec| spec.cluster_ip).context("no ClusterIP")?;
        match own_cluster() {
            Some(_) => Ok(SocketAddr::new(ip.parse()?, 443)),
            None => self.namespace.forwarded(self.name, 443),
        }
    }

    /// A client of its administrator that trusts what the status shows, and nothing else.
    ///
    /// # Errors
    /// When something of that is missing.
    pub async fn client(&self) -> Result<Client> {
        let client = Client::plain(self.address().await?).trusting(&self.ca_bundle().await?)?;
        client.as_user("admin", &self.password().await?)
    }

    /// The certificates that the status says are to be trusted.
    ///
    /// # Errors
    /// When it shows none.
    pub async fn ca_bundle(&self) -> Result<String> {
        self.get().await?.status.and_then(|status| status.ca_bundle).context("status.caBundle is missing")
    }

    /// The administrator's password, from where the status says it is.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn password(&self) -> Result<String> {
        let secret = self.namespace.api::<Secret>().get(&self.admin_secret().await?).await?;
        let mut data = secret.data.unwrap_or_default();
        Ok(String::from_utf8(data.remove("password").context("no password")?.0)?)
    }

    /// The name of the Secret with the administrator's password.
    ///
    /// # Errors
    /// When the status does not say.
    pub async fn admin_secret(&self) -> Result<String> {
        Ok(self.get().await?.status.and_then(|status| status.admin_secret).context("no adminSecret")?.name)
    }

    /// The certificate that it serves to whoever asks for its address, in DER, after a handshake that trusts what the status
    /// shows.
    ///
    /// # Errors
    /// When there is none, or it is not to be trusted.
    pub async fn served_certificate(&self) -> Result<Vec<u8>> {
        self.served_as(&self.address().await?.ip().to_string(), &self.ca_bundle().await?).await
    }

    /// The certificate that it serves to whoever asks for `name`, in DER, after a handshake that trusts `authority`.
    ///
    /// # Errors
    /// When there is none, it is not to be trusted, or it is another's.
    pub async fn served_as(&self, name: &str, authority: &str) -> Result<Vec<u8>> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate?)?;
        }
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let (name, address) = (ServerName::try_from(name.to_owned())?, self.address().await?);
        let handshake = async {
            let tcp = tokio::net::TcpStream::connect(address).await?;
            tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
        };
        let stream = tokio::time::timeout(Duration::from_secs(10), handshake).await??;
        let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
        Ok(chain.first().context("an empty chain")?.to_vec())
    }

    /// The operator's own Secret about it.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn keyring(&self) -> Result<Option<Secret>> {
        let api: Api<Secret> = Api::namespaced(self.namespace.client(), crate::cluster::OPERATOR_NAMESPACE);
        Ok(api.get_opt(&format!("registry-{}.{}", self.namespace.name, self.name)).await?)
    }
}

/// A condition of a Registry.
pub fn condition<'a>(registry: &'a Registry, type_: &str) -> Option<&'a Condition> {
    registry.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}
