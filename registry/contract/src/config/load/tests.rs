use std::path::Path;

use super::*;
use crate::Duration;
use crate::config::{AzureCredentialsType, InMemory, LogLevel, MinimumTls};

fn read(text: &str) -> (Config, Vec<Warning>) {
    load(Some(text), std::iter::empty()).unwrap()
}

fn refusal(text: &str) -> String {
    load(Some(text), std::iter::empty()).unwrap_err().to_string()
}

fn with(environment: &[(&str, &str)]) -> Config {
    load(None, environment.iter().map(|(name, value)| ((*name).into(), (*value).into()))).unwrap().0
}

#[test]
fn without_a_file_there_is_a_directory_and_a_loopback_address() {
    let (config, warnings) = load(None, std::iter::empty()).unwrap();
    assert_eq!(config.storage.filesystem.unwrap().rootdirectory, Path::new("/var/lib/registry"));
    assert_eq!(config.http.addr.0, "127.0.0.1:5000");
    assert_eq!(config.auth, None);
    assert_eq!(warnings, []);
}

#[test]
fn the_file_in_the_image_of_registry_2_is_read_with_warnings_only() {
    let (config, warnings) = read(
        "version: 0.1\nlog:\n  fields:\n    service: registry\nstorage:\n  cache:\n    blobdescriptor: inmemory\n  \
         filesystem:\n    rootdirectory: /var/lib/registry\nhttp:\n  addr: :5000\n  headers:\n    \
         X-Content-Type-Options: [nosniff]\nhealth:\n  storagedriver:\n    enabled: true\n    interval: 10s\n",
    );
    assert_eq!(config.http.addr.0, ":5000");
    let effects: Vec<_> =
        ["log.fields", "storage.cache", "http.headers", "health"].map(|key| Warning::NoEffect(key.into())).into();
    assert_eq!(warnings, effects);
}

#[test]
fn the_file_in_our_own_image_listens_where_the_image_says() {
    let dockerfile = include_str!("../../../../Dockerfile");
    let (config, warnings) = read(include_str!("../../../../image.yml"));
    assert_eq!((config.http.addr.0.as_str(), config.http.debug.addr.0.as_str()), (":5000", ":5001"));
    assert!(dockerfile.contains("\nEXPOSE 5000 5001\n"));
    let root = config.storage.filesystem.unwrap().rootdirectory;
    assert!(dockerfile.contains(&format!("\nVOLUME {}\n", root.display())));
    assert_eq!(warnings, []);
}

#[test]
fn a_driver_is_chosen_by_its_name_alone() {
    for text in ["storage: inmemory", "storage: {inmemory: }", "storage: {inmemory: {}}"] {
        assert_eq!(read(text).0.storage.inmemory, Some(InMemory {}), "{text}");
    }
    assert!(read("storage: {filesystem: }").0.storage.filesystem.is_some());
    assert!(read("storage: {delete: {enabled: true}}").0.storage.filesystem.is_some());
}

#[test]
fn the_environment_alone_can_say_everything() {
    let config = with(&[
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "Ours"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd"),
        ("REGISTRY_HTTP_ADDR", "0.0.0.0:443"),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "/certs/tls.crt"),
        ("REGISTRY_HTTP_TLS_KEY", "/certs/tls.key"),
        ("REGISTRY_HTTP_TLS_MINIMUMTLS", "tls1.3"),
        ("REGISTRY_HTTP_DRAINTIMEOUT", "90s"),
        ("REGISTRY_LOG_LEVEL", "debug"),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
    ]);
    assert_eq!(config.auth.unwrap().htpasswd.unwrap().realm, "Ours");
    assert_eq!(config.http.tls.unwrap().minimumtls, MinimumTls::Tls13);
    assert_eq!(config.http.draintimeout, Some(Duration::from_secs(90)));
    assert_eq!(config.log.level, LogLevel::Debug);
    assert!(config.storage.delete.enabled);
}

#[test]
fn a_level_is_understood_in_either_case() {
    for (text, level) in [("INFO", LogLevel::Info), ("Warn", LogLevel::Warn), ("debug", LogLevel::Debug)] {
        assert_eq!(read(&format!("log: {{level: {text}}}")).0.log.level, level);
        assert_eq!(with(&[("REGISTRY_LOG_LEVEL", text)]).log.level, level);
    }
    let said = refusal("log: {level: LOUD}");
    assert!(said.starts_with("configuration key log.level: unknown variant `loud`, expected one of `error`"), "{said}");
}

#[test]
fn reports_to_services_of_others_are_said_to_have_no_effect() {
    let (_, warnings) = read("reporting: {bugsnag: {apikey: k}}");
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["configuration key reporting has no effect in this registry"]
    );
}

#[test]
fn one_port_for_the_api_and_for_health_is_refused_with_both_keys_and_a_way_out() {
    let refused = |environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        load(None, environment).err().map(|error| error.to_string())
    };
    assert_eq!(
        refused(&[("REGISTRY_HTTP_ADDR", ":5001")]).unwrap(),
        "http.addr (:5001) and http.debug.addr (127.0.0.1:5001) are the same port: health and metrics need one of their own. \
         Set http.debug.addr (REGISTRY_HTTP_DEBUG_ADDR) to another, for example 127.0.0.1:5002"
    );
    for (api, debug, same) in [
        ("127.0.0.1:5000", ":5000", true),
        ("[::]:1", "10.0.0.1:1", true),
        ("10.0.0.1:1", "10.0.0.1:1", true),
        ("10.0.0.1:1", "10.0.0.2:1", false),
        (":5000", ":5001", false),
        (":0", ":0", false),
    ] {
        let environment = [("REGISTRY_HTTP_ADDR", api), ("REGISTRY_HTTP_DEBUG_ADDR", debug)];
        assert_eq!(refused(&environment).is_some(), same, "{api} {debug}");
    }
}

#[test]
fn what_is_written_with_these_types_is_read_back_without_a_warning() {
    let config = with(&[
        ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd"),
        ("REGISTRY_AUTH_NODES_PATH", "/auth/nodes"),
        ("REGISTRY_HTTP_TLS", "{certificate: /certs/tls.crt, key: /certs/tls.key}"),
        ("REGISTRY_HTTP_SECRETFILE", "/secret/http"),
    ]);
    let text = serde_yaml::to_string(&config).unwrap();
    assert_eq!(read(&text), (config, vec![]));
}

#[test]
fn an_unknown_key_is_named_in_full_with_the_nearest_known_one() {
    assert_eq!(
        refusal("storage: {filesystem: {rootdir: /x}}"),
        "unknown configuration key storage.filesystem.rootdir; did you mean storage.filesystem.rootdirectory?"
    );
    assert_eq!(refusal("htpp: {addr: x}"), "unknown configuration key htpp; did you mean http?");
    assert_eq!(refusal("quux: 1"), "unknown configuration key quux");
    assert_eq!(refusal("1: 1"), "unknown configuration key 1");
}

#[test]
fn what_would_let_someone_in_if_it_were_ignored_is_refused() {
    for (text, key) in [
        ("auth: {token: {realm: r}}", "auth.token"),
        ("auth: {silly: {realm: r, service: s}}", "auth.silly"),
        ("http: {tls: {certificate: c, key: k, clientcas: [ca.pem]}}", "http.tls.clientcas"),
        ("http: {tls: {certificate: c, key: k, clientauth: require-and-verify-client-cert}}", "http.tls.clientauth"),
        ("http: {tls: {certificate: c, key: k, letsencrypt: {email: a@b}}}", "http.tls.letsencrypt"),
        ("http: {net: unix}", "http.net"),
        ("http: {prefix: /x}", "http.prefix"),
        ("storage: {gcs: {bucket: b, credentials: {private_key: k}}}", "storage.gcs.credentials"),
        ("storage: {azure: {accountname: a, container: c, skipverify: true}}", "storage.azure.skipverify"),
        ("storage: {s3: {bucket: b, skipverify: true}}", "storage.s3.skipverify"),
        ("storage: {s3: {bucket: b, accelerate: true}}", "storage.s3.accelerate"),
        ("proxy: {remoteurl: 'https://registry-1.docker.io'}", "proxy"),
        ("middleware: {registry: [{name: x}]}", "middleware"),
        ("policy: {repository: {classes: [image]}}", "policy"),
    ] {
        assert!(refusal(text).starts_with(&format!("configuration key {key} is not supported: ")), "{}", refusal(text));
    }
}

#[test]
fn a_refused_key_without_a_value_is_no_harm() {
    assert_eq!(read("storage: {s3: {bucket: b, skipverify: false, v4auth: true, objectacl: private}}").1, []);
    let text = "http: {net: tcp, prefix: '', tls: {certificate: c, key: k, clientcas: [], letsencrypt: {hosts: []}}}";
    assert_eq!(read(text).1, []);
    assert_eq!(read("proxy: {remoteurl: ''}").1, []);
}

#[test]
fn an_auth_that_names_nobody_does_not_pass_for_none() {
    for text in ["auth:", "auth: {}", "auth: {htpasswd: }", "auth: htpasswd", "auth: {nodes: {}}", "http: {tls: }"] {
        refusal(text);
    }
    assert_eq!(refusal("auth: {htpasswd: {realm: r}}"), "configuration key auth.htpasswd.path is missing");
    assert_eq!(refusal("http: {tls: {certificate: c}}"), "configuration key http.tls.key is missing");
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_key() {
    let said = refusal("http: {addr: ':5000'}\nstorage: {delete: {enabled: perhaps}}");
    assert!(said.starts_with("configuration key storage.delete.enabled: "), "{said}");
    let said = refusal("storage: {maintenance: {uploadpurging: {age: 5 days}}}");
    assert!(said.starts_with("configuration key storage.maintenance.uploadpurging.age: a length of time"), "{said}");
    let said = refusal("version: 0.2");
    assert!(said.starts_with("configuration key version: "), "{said}");
    assert_eq!(refusal("http: 5"), "configuration key http must be a section with keys of its own");
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    refusal("storage: {filesystem: {rootdirectory: /x}, inmemory: {}}");
    refusal("storage: {filesystem: {rootdirectory: /x}, s3: {bucket: b}}");
    refusal("storage: {s3: {bucket: b, accesskey: k}}");
    refusal("storage: {s3: {bucket: b, keyid: k}}");
    let archived = refusal("storage: {s3: {bucket: b, storageclass: DEEP_ARCHIVE}}");
    assert!(archived.starts_with("storage.s3.storageclass: objects of GLACIER and DEEP_ARCHIVE cannot"), "{archived}");
    refusal("storage: {gcs: {bucket: ''}}");
    refusal("storage: {gcs: {bucket: b}, azure: {accountname: a, container: c}}");
    refusal("storage: {azure: {accountname: a, container: c, credentials: {type: shared_key}}}");
    refusal("storage: {azure: {accountname: a, container: c, credentials: {type: client_secret, clientid: i}}}");
    refusal("storage: {azure: {accountname: a, container: c, credentials: {clientid: i}}}");
    refusal(
        "storage: {azure: {accountname: a, container: c, accountkey: k, credentials: {type: default_credentials}}}",
    );
    refusal("http: {secret: a, secretfile: /b}");
    refusal("http: {secret: ''}");
    refusal("http: {addr: a, addr: b}");
}

#[test]
fn numbers_are_text_where_text_is_wanted() {
    assert_eq!(read("http: {secret: 12345}").0.http.secret.unwrap(), "12345");
    assert_eq!(read("http: {draintimeout: 0}").0.http.draintimeout, Some(Duration::from_secs(0)));
}

#[test]
fn a_bucket_is_read_as_distribution_has_it() {
    assert_eq!(refusal("storage: {s3: {region: r}}"), "configuration key storage.s3.bucket is missing");
    let bucket = |keys: &str| read(&format!("storage: {{s3: {{bucket: b, {keys}}}}}")).0.storage.s3.unwrap();
    assert_eq!(bucket("region: eu-central-1, chunksize: 5242880").endpoint(), None);
    let keys = "accesskey: 1234, secretkey: 5678, regionendpoint: 'minio:9000', secure: false";
    assert_eq!(bucket(keys).accesskey.as_deref(), Some("1234"));
    assert_eq!(bucket(keys).endpoint().as_deref(), Some("http://b.minio:9000"));
    assert!(!format!("{:?}", bucket(keys)).contains("5678"));
    let keys = "regionendpoint: 'https://minio:9000/', forcepathstyle: true";
    assert_eq!(bucket(keys).endpoint().as_deref(), Some("https://minio:9000"));
    assert_eq!(bucket("region: '', accesskey: '', secretkey: ''").region, None, "templates leave keys empty");
}

#[test]
fn a_container_is_read_as_distribution_has_it() {
    assert_eq!(refusal("storage: {azure: {container: c}}"), "configuration key storage.azure.accountname is missing");
    let azure = |keys: &str| {
        read(&format!("storage: {{azure: {{accountname: a, container: c, {keys}}}}}")).0.storage.azure.unwrap()
    };
    assert_eq!(azure("accountkey: a2V5").endpoint(), "https://a.blob.core.windows.net");
    assert_eq!(azure("realm: core.chinacloudapi.cn").endpoint(), "https://a.blob.core.chinacloudapi.cn");
    assert_eq!(azure("serviceurl: 'http://127.0.0.1:10000/a/'").endpoint(), "http://127.0.0.1:10000/a");
    assert!(!format!("{:?}", azure("accountkey: a2V5")).contains("a2V5"));
    let credentials =
        azure("credentials: {type: client_secret, clientid: i, tenantid: t, secret: s}").credentials.unwrap();
    assert_eq!(credentials.r#type, AzureCredentialsType::ClientSecret);
}

#[test]
fn who_pulls_is_sent_to_a_bucket_that_everybody_reaches_unless_the_file_says_otherwise() {
    let redirects = |storage: &str| read(&format!("storage: {{{storage}}}")).0.storage.redirects();
    assert!(redirects("s3: {bucket: b}"));
    assert!(!redirects("s3: {bucket: b}, redirect: {disable: true}"));
    assert!(!redirects("s3: {bucket: b, regionendpoint: 'http://minio.internal'}"));
    assert!(redirects("s3: {bucket: b, regionendpoint: 'http://minio.internal'}, redirect: {disable: false}"));
    assert!(redirects(
        "s3: {bucket: b, regionendpoint: 'http://minio.internal', redirectendpoint: 'https://minio.example'}"
    ));
    assert!(!redirects("filesystem: {rootdirectory: /x}, redirect: {disable: false}"));
}
