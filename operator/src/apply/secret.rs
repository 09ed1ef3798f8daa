//! Secrets. The operator's own are read and replaced with the usual precondition. Those of pods, people and agents cannot be
//! read back: they are created under a name that was recorded before, and replaced whole by a PUT that carries the uid that
//! was recorded after. A PATCH would answer with the Secret's content, so the operator has no right to one.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use super::{Applier, Error, api_error};
use crate::keyring::files::Files;
use crate::labels::FIELD_MANAGER;

/// Which Secret is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The first of its name, which nobody else knew before it was there.
    First,
    /// Another of a name that everybody may know by now.
    Another,
    /// The one with this uid.
    This(&'a str),
}

/// What became of a Secret that was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretWritten {
    /// It is what it should be, under this uid.
    Yes(String),
    /// The one to replace is gone, or the name of the one to create is taken.
    Gone,
}

impl Applier {
    /// Creates the Secret, or replaces it.
    pub async fn write_secret(
        &self,
        metadata: ObjectMeta,
        type_: &str,
        files: &Files,
        target: Target<'_>,
    ) -> Result<SecretWritten, Error> {
        let uid = match target {
            Target::First | Target::Another => None,
            Target::This(uid) => Some(uid),
        };
        let (api, secret) = self.foreign_secret(metadata, type_, files, uid);
        if uid.is_none() {
            match api.create(&params(false), &secret).await {
                Ok(created) => return Ok(self.secret_written(&created)),
                Err(kube::Error::Api(status)) if status.code == 409 && target == Target::Another => {
                    return Ok(SecretWritten::Gone);
                }
                // Created before, by a pass that ended before it could record the uid: the name was ours alone to know.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(api_error::<Secret>(&secret.name_any(), error)),
            }
        }
        let replaced = put(&api, &secret, &params(false)).await?;
        Ok(replaced.map_or(SecretWritten::Gone, |replaced| self.secret_written(&replaced)))
    }

    /// Whether the Secret with this `uid` is there. It cannot be read, so it is replaced by itself in a dry run, which
    /// writes nothing.
    pub async fn has_secret(&self, metadata: ObjectMeta, type_: &str, files: &Files, uid: &str) -> Result<bool, Error> {
        let (api, secret) = self.foreign_secret(metadata, type_, files, Some(uid));
        put(&api, &secret, &params(true)).await.map(|found| found.is_some())
    }

    fn foreign_secret(
        &self,
        metadata: ObjectMeta,
        type_: &str,
        files: &Files,
        uid: Option<&str>,
    ) -> (Api<Secret>, Secret) {
        let api = Api::namespaced(self.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
        let secret = Secret {
            metadata: ObjectMeta { uid: uid.map(Into::into), ..metadata },
            type_: Some(type_.into()),
            data: Some(data(files)),
            ..Default::default()
        };
        (api, secret)
    }

    /// Deletes a Secret by its name alone, for it cannot be read.
    pub async fn delete_secret(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {
                self.metrics.wrote("Secret");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(api_error::<Secret>(name, error)),
        }
    }

    /// Stores one of the operator's own Secrets: a new one, or one that is still the one that was read.
    pub async fn store_own_secret(&self, secret: &Secret) -> Result<Secret, Error> {
        let name = secret.name_any();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.namespace().unwrap_or_default());
        let stored = match secret.resource_version() {
            Some(_) => api.replace(&name, &params(false), secret).await,
            None => api.create(&params(false), secret).await,
        };
        self.metrics.wrote("Secret");
        stored.map_err(|error| api_error::<Secret>(&name, error))
    }

    fn secret_written(&self, secret: &Secret) -> SecretWritten {
        self.metrics.wrote("Secret");
        SecretWritten::Yes(secret.uid().unwrap_or_default())
    }
}

/// Replaces a Secret. `None`: there is none of that name.
async fn put(api: &Api<Secret>, secret: &Secret, params: &PostParams) -> Result<Option<Secret>, Error> {
    let name = secret.name_any();
    match api.replace(&name, params, secret).await {
        Ok(replaced) => Ok(Some(replaced)),
        Err(kube::Error::Api(status)) if is_gone(&status) => Ok(None),
        // The uid is another's.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Err(Error::AdoptionConflict { kind: "Secret".into(), name })
        }
        Err(error) => Err(api_error::<Secret>(&name, error)),
    }
}

/// Before Kubernetes 1.36 the uid of the object that is not there, which is empty, was compared with the one in the request.
fn is_gone(status: &kube::core::Status) -> bool {
    status.code == 404 || status.code == 409 && status.message.trim_end().ends_with("UID in object meta:")
}

fn params(dry_run: bool) -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), dry_run }
}

fn data(files: &Files) -> BTreeMap<String, ByteString> {
    files.iter().map(|(key, text)| (key.clone(), ByteString(text.clone().into_bytes()))).collect()
}
