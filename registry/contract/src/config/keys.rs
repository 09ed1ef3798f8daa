//! Every key that distribution's configuration has, and what this registry makes of it.

/// What becomes of a key and of everything below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is read; its type says what its value may be.
    Read,
    /// It is read, and its value is text even where YAML would see a number (`http.secret: 12345`).
    Text,
    /// It may stand there, and a line of the log says that nothing comes of it.
    None,
    /// Ignoring it would let someone in, write to another place or leave undone what was asked for.
    Refused(&'static str),
    /// The same, unless it has this value.
    RefusedUnless(&'static str, &'static str),
}

use Effect::{None, Read, Refused, RefusedUnless, Text};

/// The keys in the order of distribution's documentation. A key covers whatever stands below it.
pub(super) const KEYS: &[(&str, Effect)] = &[
    ("version", Text),
    ("log.level", Text),
    ("log.formatter", Text),
    ("log.accesslog", None),
    ("log.fields", None),
    ("log.hooks", None),
    ("log.reportcaller", None),
    ("loglevel", None),
    ("storage.filesystem.rootdirectory", Text),
    ("storage.filesystem.shared", Read),
    ("storage.filesystem.maxthreads", None),
    ("storage.inmemory", Read),
    ("storage.azure.accountname", Text),
    ("storage.azure.accountkey", Text),
    ("storage.azure.container", Text),
    ("storage.azure.credentials.type", Text),
    ("storage.azure.credentials.clientid", Text),
    ("storage.azure.credentials.tenantid", Text),
    ("storage.azure.credentials.secret", Text),
    ("storage.azure.realm", Text),
    ("storage.azure.serviceurl", Text),
    ("storage.azure.rootdirectory", Text),
    (
        "storage.azure.skipverify",
        RefusedUnless(
            "false",
            "whoever answers would be believed: add who signs the certificate to the system's authorities",
        ),
    ),
    ("storage.azure.copy_status_poll_max_retry", None),
    ("storage.azure.copy_status_poll_delay", None),
    ("storage.azure.max_retries", None),
    ("storage.azure.retry_delay", None),
    ("storage.gcs.bucket", Text),
    ("storage.gcs.keyfile", Text),
    ("storage.gcs.credentials", Refused("a key does not belong into this file: name its own as storage.gcs.keyfile")),
    ("storage.gcs.rootdirectory", Text),
    ("storage.gcs.chunksize", None),
    ("storage.gcs.maxconcurrency", None),
    ("storage.gcs.useragent", None),
    ("storage.gcs.disablekeepalives", None),
    ("storage.s3.accesskey", Text),
    ("storage.s3.secretkey", Text),
    ("storage.s3.region", Text),
    ("storage.s3.regionendpoint", Text),
    ("storage.s3.forcepathstyle", Read),
    ("storage.s3.accelerate", RefusedUnless("false", "give the address as storage.s3.regionendpoint")),
    ("storage.s3.usedualstack", RefusedUnless("false", "give the address as storage.s3.regionendpoint")),
    ("storage.s3.bucket", Text),
    ("storage.s3.encrypt", Read),
    ("storage.s3.keyid", Text),
    ("storage.s3.secure", Read),
    (
        "storage.s3.skipverify",
        RefusedUnless(
            "false",
            "whoever answers would be believed: name who signs the certificate in storage.s3.cabundle",
        ),
    ),
    ("storage.s3.cabundle", Text),
    ("storage.s3.v4auth", RefusedUnless("true", "requests are signed by version 4 only")),
    ("storage.s3.chunksize", None),
    ("storage.s3.multipartcopychunksize", None),
    ("storage.s3.multipartcopymaxconcurrency", None),
    ("storage.s3.multipartcopythresholdsize", None),
    ("storage.s3.rootdirectory", Text),
    ("storage.s3.storageclass", Text),
    ("storage.s3.objectacl", RefusedUnless("private", "access is the business of the bucket's policy")),
    ("storage.s3.useragent", None),
    ("storage.s3.loglevel", None),
    ("storage.s3.redirectendpoint", Text),
    ("storage.tag", None),
    ("storage.delete.enabled", Read),
    ("storage.redirect.disable", Read),
    ("storage.redirect.except", Read),
    ("storage.cache", None),
    ("storage.maintenance.uploadpurging.enabled", Read),
    ("storage.maintenance.uploadpurging.age", Text),
    ("storage.maintenance.uploadpurging.interval", Text),
    ("storage.maintenance.uploadpurging.dryrun", Read),
    ("storage.maintenance.garbagecollection.enabled", Read),
    ("storage.maintenance.garbagecollection.schedule", Text),
    ("storage.maintenance.garbagecollection.grace", Text),
    ("storage.maintenance.garbagecollection.untagged", Text),
    ("storage.maintenance.garbagecollection.dryrun", Read),
    ("storage.maintenance.readonly.enabled", Read),
    ("auth.htpasswd.realm", Text),
    ("auth.htpasswd.path", Text),
    ("auth.nodes.path", Text),
    ("auth.token", Refused("tokens are not understood yet, and without them nobody would be asked for one")),
    ("auth.silly", Refused("it lets everyone in who sends any credentials at all")),
    ("middleware", Refused("there are no middlewares, and what one guards or redirects would not be")),
    ("http.addr", Text),
    ("http.net", RefusedUnless("tcp", "only TCP is listened on")),
    ("http.prefix", Refused("the API lives at /v2/ only")),
    ("http.host", None),
    ("http.secret", Text),
    ("http.secretfile", Text),
    ("http.relativeurls", None),
    ("http.draintimeout", Text),
    ("http.tls.certificate", Text),
    ("http.tls.key", Text),
    ("http.tls.minimumtls", Text),
    ("http.tls.additional", Read),
    ("http.tls.clientcas", Refused("client certificates are not asked for, so everyone would get in")),
    ("http.tls.clientauth", Refused("client certificates are not asked for, so everyone would get in")),
    ("http.tls.ciphersuites", Refused("the suites are those of the TLS library; all of them are current")),
    ("http.tls.letsencrypt", Refused("certificates are read from files only, so TLS would be off")),
    ("http.debug.addr", Text),
    ("http.debug.prometheus", None),
    ("http.headers", None),
    ("http.http2", None),
    ("http.h2c", None),
    ("notifications", None),
    ("redis", None),
    ("health", None),
    ("reporting", None),
    ("proxy", Refused("this version does not pull through, so every image would be missing")),
    ("validation.disabled", None),
    ("validation.enabled", None),
    ("validation.manifests.indexes", None),
    ("validation.manifests.urls", Refused("URLs of layers are never followed, but neither are they checked")),
    ("policy", Refused("repositories have no classes here, so the policy would not hold")),
    ("catalog", None),
    ("compatibility", None),
];

/// Keys that must stand where the section that holds them does.
pub(super) const REQUIRED: &[(&str, &str)] = &[
    ("auth.htpasswd", "path"),
    ("auth.nodes", "path"),
    ("http.tls", "certificate"),
    ("http.tls", "key"),
    ("storage.azure", "accountname"),
    ("storage.azure", "container"),
    ("storage.gcs", "bucket"),
    ("storage.s3", "bucket"),
];

/// Where a path stands in the tree of [`KEYS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Keys lie below it.
    Section,
    /// It is a key, or lies below one.
    Key(Effect),
    /// Nothing is known by this name.
    Unknown,
}

pub(super) fn place(path: &str) -> Place {
    let covers = |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if let Some((_, effect)) = KEYS.iter().find(|(key, _)| covers(key)) {
        return Place::Key(*effect);
    }
    let lies_below = |key: &str| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    if KEYS.iter().any(|(key, _)| lies_below(key)) { Place::Section } else { Place::Unknown }
}

/// The known path that `path` was most likely meant to be, if any is near.
pub(super) fn nearest(path: &str) -> Option<&'static str> {
    let distance = |known: &str| strsim::damerau_levenshtein(&path.to_lowercase(), known);
    let known = KEYS.iter().flat_map(|(key, _)| sections_and_key(key));
    known
        .map(|known| (distance(known), known))
        .filter(|(distance, known)| distance * 3 <= known.len())
        .min()
        .map(|(_, known)| known)
}

/// `a`, `a.b` and `a.b.c` for `a.b.c`.
fn sections_and_key(key: &'static str) -> impl Iterator<Item = &'static str> {
    let cuts = key.match_indices('.').map(|(at, _)| at).chain([key.len()]);
    cuts.filter_map(|at| key.get(..at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_section_a_key_or_unknown() {
        assert_eq!(place("storage"), Place::Section);
        assert_eq!(place("storage.maintenance.uploadpurging"), Place::Section);
        assert_eq!(place("storage.delete.enabled"), Place::Key(Read));
        assert_eq!(place("health.storagedriver.enabled"), Place::Key(None));
        assert_eq!(place("storage.delet"), Place::Unknown);
        assert_eq!(place("healthy"), Place::Unknown);
        assert_eq!(place(""), Place::Unknown);
    }

    #[test]
    fn the_documentation_names_every_key_that_is_ignored_or_refused() {
        let page = include_str!("../../../../docs/configuration.md");
        let (_, others) = page.split_once("## Every other key").unwrap();
        for (key, effect) in KEYS.iter().filter(|(_, effect)| !matches!(effect, Read | Text)) {
            // Several of one section may stand together, the later ones without it.
            let short = key.rsplit_once('.').map_or(*key, |(_, last)| last);
            let is_named = [format!("`{key}`"), format!("`.{short}`")].iter().any(|name| others.contains(name));
            assert!(is_named, "{key} ({effect:?})");
        }
    }

    #[test]
    fn the_nearest_known_path_is_found_and_nothing_far_away_is_guessed() {
        assert_eq!(nearest("storage.filesystem.rootdir"), Some("storage.filesystem.rootdirectory"));
        assert_eq!(nearest("htpp"), Some("http"));
        assert_eq!(nearest("http.tls.cert"), Some("http.tls.key"));
        assert_eq!(nearest("quux"), Option::None);
    }
}
