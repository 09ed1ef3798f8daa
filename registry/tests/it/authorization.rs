//! Who may do what: every operation, in each way of asking for it × every identity × existing or missing × every switch.
//!
//! The rows are generated from the endpoints: `rows` matches [`Operation`] without a wildcard, so an operation without its
//! row does not compile, and `Operation::ALL` is made by the macro that declares the operations, so none is left out.

use std::sync::Arc;

use axum::body::Body;
use berth_oci::Digest;
use berth_registry::access::Action;
use berth_registry::http::Switches;
use berth_registry::http::endpoint::{Endpoint, Operation};
use berth_registry::store::Store;
use http::{Request, header};
use serde_json::json;

use crate::registry_under_test::{ALL_ON, Answer, INDEX, RegistryUnderTest, access, basic, digest_of, request};

/// Someone who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Identity {
    None,
    WrongPassword,
    UnknownUser,
    Bearer,
    User,
    Node,
}

const IDENTITIES: [Identity; 6] =
    [Identity::None, Identity::WrongPassword, Identity::UnknownUser, Identity::Bearer, Identity::User, Identity::Node];

impl Identity {
    fn authorization(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::WrongPassword => Some(basic("alice", "wrong")),
            Self::UnknownUser => Some(basic("mallory", "secret")),
            Self::Bearer => Some("Bearer secret".into()),
            Self::User => Some(basic("alice", "secret")),
            Self::Node => Some(basic("node", "node-secret")),
        }
    }
}

/// What is there to be asked about.
struct Things {
    registry: RegistryUnderTest,
    manifest: Digest,
    blob: Digest,
    /// Of an upload that alice has begun.
    upload: String,
}

impl Things {
    async fn new(switches: Switches) -> Self {
        let open = RegistryUnderTest::open();
        let manifest = open.push_image("there", "v1").await;
        let all_on = RegistryUnderTest::guarded(open.store.clone(), ALL_ON);
        let start = request("POST /v2/there/blobs/uploads/").header(header::AUTHORIZATION, basic("alice", "secret"));
        let started = all_on.send(start.body(Body::empty()).unwrap()).await;
        let upload = started.header("location").to_owned();
        let registry = RegistryUnderTest::guarded(open.store, switches);
        Self { registry, manifest, blob: digest_of(b"a layer"), upload }
    }
}

/// How to ask for an operation on something that is there, how on something that is not, and what a user is answered.
struct Row {
    there: (String, u16),
    missing: (String, u16),
    body: Vec<u8>,
}

impl Row {
    fn new(there: impl Into<String>, answer: u16, missing: impl Into<String>, to_missing: u16) -> Self {
        Self { there: (there.into(), answer), missing: (missing.into(), to_missing), body: Vec::new() }
    }

    fn with(self, body: &str) -> Self {
        Self { body: body.into(), ..self }
    }
}

/// The ways of asking for an operation: by tag and by digest, with a source and without.
fn rows(operation: Operation, things: &Things) -> Vec<Row> {
    let Things { manifest, blob, upload, .. } = things;
    let nothing = digest_of(b"nothing");
    let guess = "/v2/missing/blobs/uploads/guess";
    let in_both = |line: &str, answer, to_missing| {
        let at = |repository| line.replacen("/*/", &format!("/{repository}/"), 1);
        Row::new(at("there"), answer, at("missing"), to_missing)
    };
    match operation {
        Operation::Root => vec![Row::new("GET /", 200, "HEAD /", 200)],
        Operation::Ping => vec![Row::new("GET /v2/", 200, "HEAD /v2", 200)],
        Operation::Catalog => vec![Row::new("GET /v2/_catalog", 200, "GET /v2/_catalog?last=zzz", 200)],
        Operation::Tags => vec![in_both("GET /v2/*/tags/list", 200, 404)],
        Operation::Referrers => vec![in_both(&format!("GET /v2/*/referrers/{manifest}"), 200, 200)],
        Operation::PullManifest => ["v1", manifest.as_ref()]
            .iter()
            .flat_map(|reference| ["GET", "HEAD"].map(|method| format!("{method} /v2/*/manifests/{reference}")))
            .map(|line| in_both(&line, 200, 404))
            .collect(),
        Operation::PushManifest => {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }).to_string();
            let digest = digest_of(index.as_bytes());
            let references = ["v1", "v2", digest.as_ref(), &format!("{digest}?tag=v1")].map(ToOwned::to_owned);
            let lines = references.iter().map(|reference| format!("PUT /v2/*/manifests/{reference}"));
            lines.map(|line| in_both(&line, 201, 201).with(&index)).collect()
        }
        Operation::DeleteManifest => ["v1", manifest.as_ref()]
            .iter()
            .map(|reference| in_both(&format!("DELETE /v2/*/manifests/{reference}"), 202, 404))
            .collect(),
        Operation::PullBlob => {
            ["GET", "HEAD"].map(|method| in_both(&format!("{method} /v2/*/blobs/{blob}"), 200, 404)).into()
        }
        Operation::DeleteBlob => vec![in_both(&format!("DELETE /v2/*/blobs/{blob}"), 202, 404)],
        Operation::StartUpload => {
            let start = |query: String| format!("POST /v2/new/blobs/uploads/?{query}");
            let bytes = "some bytes";
            vec![
                Row::new(
                    start(format!("mount={blob}&from=there")),
                    201,
                    start(format!("mount={nothing}&from=missing")),
                    202,
                ),
                Row::new(start(format!("mount={blob}")), 201, start(format!("mount={nothing}")), 202),
                Row::new(
                    start(format!("mount={blob}&from=there")),
                    201,
                    start(format!("mount={blob}&from=missing")),
                    202,
                ),
                in_both("POST /v2/*/blobs/uploads/", 202, 202),
                in_both(&format!("POST /v2/*/blobs/uploads/?digest={}", digest_of(bytes.as_bytes())), 201, 201)
                    .with(bytes),
            ]
        }
        Operation::UploadStatus => vec![Row::new(format!("GET {upload}"), 204, format!("GET {guess}"), 404)],
        Operation::UploadChunk => vec![Row::new(format!("PATCH {upload}"), 202, format!("PATCH {guess}"), 404)],
        Operation::FinishUpload => {
            let empty = digest_of(b"");
            vec![Row::new(format!("PUT {upload}?digest={empty}"), 201, format!("PUT {guess}?digest={empty}"), 404)]
        }
        Operation::CancelUpload => vec![Row::new(format!("DELETE {upload}"), 204, format!("DELETE {guess}"), 404)],
    }
}

/// What the answer must be: the rule, written a second time and without looking at the code.
fn expected(operation: Operation, identity: Identity, switches: Switches, to_user: u16) -> u16 {
    let node_may = operation.action() == Some(Action::Pull);
    match identity {
        _ if operation == Operation::Root => 200,
        Identity::None | Identity::WrongPassword | Identity::UnknownUser | Identity::Bearer => 401,
        Identity::Node if !node_may => 403,
        Identity::User | Identity::Node => {
            let deletes = matches!(operation, Operation::DeleteManifest | Operation::DeleteBlob);
            let reads = matches!(
                operation,
                Operation::Ping
                    | Operation::Catalog
                    | Operation::Tags
                    | Operation::Referrers
                    | Operation::PullManifest
                    | Operation::PullBlob
                    | Operation::UploadStatus
            );
            if (deletes && !switches.delete) || (!reads && switches.read_only) { 405 } else { to_user }
        }
    }
}

fn ask(line: &str, identity: Identity, body: &[u8]) -> Request<Body> {
    let request = request(line).header(header::CONTENT_TYPE, INDEX);
    let request = match identity.authorization() {
        Some(authorization) => request.header(header::AUTHORIZATION, authorization),
        None => request,
    };
    request.body(body.to_vec().into()).unwrap()
}

/// Everything of an answer that could tell one case from another: status, headers, body.
type Told = (u16, Vec<(String, Vec<u8>)>, Vec<u8>);

fn told(answer: &Answer) -> Told {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "x-request-id");
    let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    (answer.status.as_u16(), headers, answer.body.to_vec())
}

#[tokio::test]
async fn every_operation_answers_everyone_as_the_policy_says() {
    let (mut cells, mut expected_cells) = (0, 0);
    for (read_only, delete) in [(false, true), (false, false), (true, true), (true, false)] {
        let switches = Switches { read_only, delete };
        for operation in Operation::ALL.iter().copied() {
            let ways = rows(operation, &Things::new(switches).await).len();
            expected_cells += ways * IDENTITIES.len() * 2;
            for (way, identity) in (0..ways).flat_map(|way| IDENTITIES.map(|identity| (way, identity))) {
                for there in [true, false] {
                    let things = Things::new(switches).await;
                    let row = rows(operation, &things).swap_remove(way);
                    let (line, to_user) = if there { row.there } else { row.missing };
                    let answer = things.registry.send(ask(&line, identity, &row.body)).await;
                    let expected = expected(operation, identity, switches, to_user);
                    assert_eq!(answer.status, expected, "{operation:?} {identity:?} {switches:?} {line}: {answer:?}");
                    if expected >= 400 && !line.starts_with("HEAD") {
                        answer.code();
                    }
                    cells += 1;
                }
            }
        }
    }
    println!("{cells} cells");
    assert!(cells == expected_cells && cells > 4 * Operation::ALL.len() * IDENTITIES.len() * 2);
}

#[tokio::test]
async fn every_row_asks_for_its_operation() {
    let things = Things::new(ALL_ON).await;
    for operation in Operation::ALL.iter().copied() {
        for (line, _) in rows(operation, &things).into_iter().flat_map(|row| [row.there, row.missing]) {
            let (method, target) = line.split_once(' ').unwrap();
            let path = target.split('?').next().unwrap();
            assert_eq!(Endpoint::parse(&method.parse().unwrap(), path).unwrap().operation(), operation, "{line}");
        }
    }
}

/// S-40: to whoever is nobody everything looks the same: what is there, what is not, what cannot be, what is switched off.
#[tokio::test]
async fn nobody_learns_nothing() {
    let things = Things::new(ALL_ON).await;
    let off = Things::new(Switches { read_only: true, delete: false }).await;
    let reference = told(&things.registry.send(ask("GET /v2/", Identity::None, b"")).await);
    assert_eq!(reference.0, 401);
    let mut lines: Vec<String> =
        ["GET /v2/..", "GET /v2/A/tags/list", "GET /v2/there/manifests/.bad", "GET /x"].map(Into::into).into();
    lines.extend(["POST /v2/there/manifests/v1", "GET /v2/there/blobs/sha256:bad", "TRACE /v2/"].map(Into::into));
    for operation in Operation::ALL.iter().copied().filter(|operation| *operation != Operation::Root) {
        let rows = rows(operation, &things).into_iter().flat_map(|row| [row.there.0, row.missing.0]);
        lines.extend(rows.filter(|line| !line.starts_with("HEAD")));
    }
    for line in lines {
        for identity in [Identity::None, Identity::WrongPassword, Identity::UnknownUser, Identity::Bearer] {
            for registry in [&things.registry, &off.registry] {
                assert_eq!(told(&registry.send(ask(&line, identity, b"")).await), reference, "{line} {identity:?}");
            }
        }
    }
}

/// S-41: to whoever has no right to it, what is there looks like what is not.
#[tokio::test]
async fn a_refusal_does_not_tell_what_is_there() {
    let things = Things::new(ALL_ON).await;
    let refused = told(&things.registry.send(ask("DELETE /v2/there/manifests/v1", Identity::Node, b"")).await);
    assert_eq!(refused.0, 403);
    for operation in
        Operation::ALL.iter().copied().filter(|operation| !matches!(operation.action(), None | Some(Action::Pull)))
    {
        for row in rows(operation, &things) {
            for (line, _) in [row.there, row.missing] {
                assert_eq!(told(&things.registry.send(ask(&line, Identity::Node, &row.body)).await), refused, "{line}");
            }
        }
    }
    assert_eq!(things.registry.send(ask("GET /v2/there/manifests/v1", Identity::Node, b"")).await.status, 200);
}

#[tokio::test]
async fn the_challenge_names_the_realm_and_two_sets_of_credentials_are_refused() {
    let registry = RegistryUnderTest::guarded(Store::in_memory(), ALL_ON);
    let challenged = registry.ask("GET /v2/").await;
    assert_eq!(challenged.refusal(), (401, "UNAUTHORIZED".into()));
    assert_eq!(challenged.header("www-authenticate"), "Basic realm=\"Ours\"");
    assert_eq!(challenged.header("docker-distribution-api-version"), "registry/2.0");
    let two = request("GET /v2/").header(header::AUTHORIZATION, basic("alice", "secret"));
    let two = two.header(header::AUTHORIZATION, basic("alice", "secret")).body(Body::empty()).unwrap();
    assert_eq!(registry.send(two).await.refusal(), (400, "UNAUTHORIZED".into()));
    assert_eq!(registry.ask("GET /").await.status, 200, "probes of registry:2 ask without credentials");
}

#[tokio::test]
async fn passwords_that_are_checked_all_at_once_are_put_off_and_others_are_not() {
    let registry = RegistryUnderTest::new(Store::in_memory(), Arc::new(access()), ALL_ON);
    let guesses = (0..500).map(|n| {
        let request = request("GET /v2/").header(header::AUTHORIZATION, basic("alice", &format!("guess{n}")));
        registry.send(request.body(Body::empty()).unwrap())
    });
    let (answers, node) =
        futures::future::join(futures::future::join_all(guesses), registry.send(ask("GET /v2/", Identity::Node, b"")))
            .await;
    assert_eq!(node.status, 200);
    let put_off = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!((put_off.code().as_str(), put_off.header("retry-after")), ("TOOMANYREQUESTS", "1"));
    assert!(answers.iter().all(|answer| matches!(answer.status.as_u16(), 401 | 429)));
}
