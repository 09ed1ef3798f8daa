//! A registry on a bucket: what it says when it cannot be used, and how many requests it takes.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use berth_e2e::http::{Client, nothing};
use berth_e2e::image::{Blob, image};
use berth_e2e::port::{free_port, wait_until_it_listens};
use berth_e2e::registry_process::{IP, RegistryProcess, Security, Storage};
use berth_e2e::s3_proxy::S3Proxy;
use berth_e2e::s3_server::{ACCESS_KEY, BUCKET, S3Program, S3Server, SECRET_KEY};
use berth_e2e::tool::{self, Bench};
use http::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_said_in_one_sentence_and_nothing_is_served() -> Result<()> {
    for program in [S3Program::Minio, S3Program::Versitygw] {
        let server = S3Server::start(program)?;
        let nobody = format!("http://{IP}:{}", free_port(IpAddr::V4(IP))?);
        for (key, value, sentence) in [
            ("bucket", "no-such-bucket", "there is no bucket no-such-bucket: create it, or correct storage.s3.bucket"),
            ("accesskey", "nobody", "the store does not know the access key: correct storage.s3.accesskey"),
            ("secretkey", "wrong-secret", "the secret is not that of the access key: correct storage.s3.secretkey"),
            ("regionendpoint", nobody.as_str(), "cannot be asked to write"),
            ("cabundle", "/nowhere", "storage.s3.cabundle: /nowhere cannot be read"),
        ] {
            let mut section = S3Server::section(&server.endpoint());
            section[key] = json!(value);
            let Err(error) = RegistryProcess::start(Storage::Bucket(&section), Security::None).await else {
                bail!("{program:?}: it serves with {key}: {value}");
            };
            let said = format!("{error:#}");
            ensure!(said.contains(sentence), "{program:?}, {key}: {value}:\n{said}");
            println!("{program:?}, {key}: {value}: {}", said.lines().last().unwrap_or_default());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_takes_a_condition_and_does_not_keep_it_is_found_out_and_named() -> Result<()> {
    let warning = "the store ignores the condition of a write";
    for (program, lies) in [(S3Program::Gofakes3, true), (S3Program::Minio, false), (S3Program::Versitygw, false)] {
        let server = S3Server::start(program)?;
        let section = S3Server::section(&server.endpoint());
        let registry = RegistryProcess::start(Storage::Bucket(&section), Security::None).await?;
        ensure!(registry.log().contains(warning) == lies, "{program:?}:\n{}", registry.log_end());
        // It serves all the same, and a tag can be removed.
        let (client, manifest) = (registry.client()?, image("amd64", 1, 1));
        for blob in &manifest.blobs {
            client.push_blob("app", &blob.digest, &blob.bytes).await?.expect(StatusCode::CREATED)?;
        }
        client.put_manifest("app", "v1", &manifest).await?.expect(StatusCode::CREATED)?;
        client.delete("/v2/app/manifests/v1").await?.expect(StatusCode::ACCEPTED)?;
        client.get("/v2/app/manifests/v1").await?.expect(StatusCode::NOT_FOUND)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_too_busy_at_the_start_is_not_taken_for_one_that_ignores_conditions() -> Result<()> {
    let server = S3Server::start(S3Program::Minio)?;
    let proxy = S3Proxy::start(&server).await?;
    let section = S3Server::section(&proxy.endpoint());
    let mut registry = RegistryProcess::start(Storage::Bucket(&section), Security::None).await?;
    // Every fifth request goes wrong; it may take several starts, none of which may be content with less.
    proxy.spoil(200);
    let mut started = 0;
    for _ in 0..50 {
        registry.kill9()?;
        match registry.restart().await {
            Ok(()) => started += 1,
            Err(error) => println!("it did not start: {error:#}"),
        }
        ensure!(!registry.log().contains("ignores the condition"), "{}", registry.log_end());
        if started == 3 {
            return Ok(());
        }
    }
    bail!("it started {started} times of 50")
}

#[tokio::test]
async fn a_store_that_is_told_to_encrypt_and_does_not_say_that_it_does_is_refused() -> Result<()> {
    for (program, sentence) in [
        (S3Program::Versitygw, "was told to encrypt what it keeps (AES256) and says of an object: nothing"),
        // It has no keys, and says so.
        (S3Program::Minio, "the store refuses to write in the bucket"),
    ] {
        let server = S3Server::start(program)?;
        let mut section = S3Server::section(&server.endpoint());
        section["encrypt"] = json!(true);
        let Err(error) = RegistryProcess::start(Storage::Bucket(&section), Security::None).await else {
            bail!("{program:?}: it serves");
        };
        let said = format!("{error:#}");
        ensure!(said.contains(sentence), "{program:?}:\n{said}");
        println!("{program:?}, encrypt: {}", said.lines().last().unwrap_or_default());
    }
    Ok(())
}

#[tokio::test]
async fn who_pulls_a_large_blob_is_sent_to_the_bucket_where_that_is_wanted() -> Result<()> {
    let server = S3Server::start(S3Program::Minio)?;
    let proxy = S3Proxy::start(&server).await?;
    let mut section = S3Server::section(&proxy.endpoint());
    let large = Blob::new("application/octet-stream", vec![7; 3 << 20]);
    let small = Blob::new("application/octet-stream", "small");
    let path = |blob: &Blob| format!("/v2/app/blobs/{}", blob.digest);
    {
        // Nobody has said that pullers reach the endpoint.
        let registry = RegistryProcess::start(Storage::Bucket(&section), Security::None).await?;
        let client = registry.client()?;
        for blob in [&large, &small] {
            client.push_blob("app", &blob.digest, &blob.bytes).await?.expect(StatusCode::CREATED)?;
        }
        ensure!(client.get(&path(&large)).await?.expect(StatusCode::OK)?.body == large.bytes);
    }
    section["redirectendpoint"] = json!(server.endpoint());
    let registry = RegistryProcess::start(Storage::Bucket(&section), Security::None).await?;
    let client = registry.client()?;
    ensure!(client.get(&path(&small)).await?.expect(StatusCode::OK)?.body == small.bytes);
    client.head(&path(&large)).await?.expect(StatusCode::OK)?;
    let sent = client.get(&path(&large)).await?.expect(StatusCode::TEMPORARY_REDIRECT)?;
    let location = sent.location()?;
    ensure!(location.starts_with(&server.endpoint()), "{location}");
    ensure!(sent.header("cache-control") == Some("no-store"), "{:?}", sent.headers);
    // As nobody: the location is all that is needed.
    let bucket = Client::plain(server.address());
    ensure!(bucket.get(&location).await?.expect(StatusCode::OK)?.body == large.bytes);
    let range = bucket.send(Method::GET, &location, &[("range", "bytes=5-9")], nothing()).await?;
    ensure!(range.expect(StatusCode::PARTIAL_CONTENT)?.body == large.bytes[5..10]);
    let forged = location.replace("X-Amz-Expires=1200", "X-Amz-Expires=1201");
    ensure!(forged != location, "{location}");
    bucket.get(&forged).await?.expect(StatusCode::FORBIDDEN)?;
    drop(registry);

    for (except, status) in [("127.0.0.0/8", StatusCode::OK), ("10.0.0.0/8", StatusCode::TEMPORARY_REDIRECT)] {
        let storage = json!({"s3": section, "redirect": {"except": [except]}});
        let registry = RegistryProcess::start(Storage::In(&storage), Security::None).await?;
        registry.client()?.get(&path(&large)).await?.expect(status).with_context(|| except.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_list_may_begin_after_anything_that_a_client_says() -> Result<()> {
    for program in [S3Program::Minio, S3Program::Versitygw] {
        let server = S3Server::start(program)?;
        let section = S3Server::section(&server.endpoint());
        let registry = RegistryProcess::start(Storage::Bucket(&section), Security::None).await?;
        let (client, manifest) = (registry.client()?, image("amd64", 1, 1));
        for blob in &manifest.blobs {
            client.push_blob("app", &blob.digest, &blob.bytes).await?.expect(StatusCode::CREATED)?;
        }
        for tag in ["a", "b", "b0"] {
            client.put_manifest("app", tag, &manifest).await?.expect(StatusCode::CREATED)?;
        }
        for (last, listed) in [
            ("a//b", json!(["b", "b0"])),
            ("..", json!(["a", "b", "b0"])),
            ("b%00", json!(["b0"])),
            ("b%C3%A9", json!([])),
            (&"x".repeat(3000), json!([])),
        ] {
            let answer = client.get(&format!("/v2/app/tags/list?last={last}")).await?.expect(StatusCode::OK);
            let answer = answer.with_context(|| format!("{program:?}, {last}:\n{}", registry.log_end()))?;
            let list: Value = serde_json::from_slice(&answer.body)?;
            ensure!(list["tags"] == listed, "{program:?}, {last}: {list}");
            let catalog = client.get(&format!("/v2/_catalog?last={last}")).await?.expect(StatusCode::OK);
            catalog.with_context(|| format!("{program:?}, {last}:\n{}", registry.log_end()))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_five_layers_is_pushed_with_fewer_requests_to_the_bucket_than_with_distribution() -> Result<()> {
    let server = S3Server::start(S3Program::Minio)?;
    let proxy = S3Proxy::start(&server).await?;
    let section = S3Server::section(&proxy.endpoint());
    let registry = RegistryProcess::start(Storage::Bucket(&section), Security::None).await?;
    proxy.take_seen();
    let berth = requests(&registry.host(), &proxy).await.with_context(|| registry.log_end())?;
    let distribution = Distribution::start(&section)?;
    proxy.take_seen();
    let distribution = requests(&distribution.host, &proxy).await.with_context(|| distribution.log())?;
    let total = |requests: &BTreeMap<&str, u64>| requests.values().sum::<u64>();
    for (((step, ours), (_, theirs)), most) in berth.iter().zip(&distribution).zip(MOST) {
        println!("{step}: berth {} {ours:?}, distribution {} {theirs:?}", total(ours), total(theirs));
        ensure!(total(ours) <= most, "{step}: more than {most}");
    }
    ensure!(total(&berth[0].1) < total(&distribution[0].1), "the first push");
    Ok(())
}

/// Requests of each step, at most. How many lists a push takes depends a little on which of its blobs come first, and the sweep that a
/// registry begins with may still be at its own; a pull lists the links of each blob.
const MOST: [u64; 4] = [132, 2, 2, 14];

/// What crane's push and pull of an image cost, and asking for its digest.
async fn requests(host: &str, proxy: &S3Proxy) -> Result<Vec<(&'static str, BTreeMap<&'static str, u64>)>> {
    let bench = Bench::new()?;
    let layout = bench.home().join("image");
    std::fs::create_dir(&layout)?;
    image("amd64", 5, 5).write_layout(&layout, "v1")?;
    let reference = format!("{host}/team/app:v1");
    let mut requests = Vec::new();
    for (step, arguments) in [
        ("push", vec!["push", "image", reference.as_str()]),
        ("push of the same again", vec!["push", "image", reference.as_str()]),
        ("digest", vec!["digest", reference.as_str()]),
        ("pull", vec!["pull", reference.as_str(), "pulled.tar"]),
    ] {
        bench.run("crane", &[&["--insecure"], &arguments[..]].concat())?;
        proxy.is_quiet().await;
        requests.push((step, proxy.take_seen().requests));
    }
    Ok(requests)
}

/// distribution on the same bucket, without a redirect: every byte passes through it, as with us.
struct Distribution {
    child: Child,
    host: String,
    folder: tempfile::TempDir,
}

impl Distribution {
    fn start(section: &Value) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = SocketAddr::new(IP.into(), free_port(IP.into())?);
        let config = json!({
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {
                "s3": {
                    "bucket": BUCKET,
                    "region": "us-east-1",
                    "regionendpoint": section["regionendpoint"],
                    "forcepathstyle": true,
                    "accesskey": ACCESS_KEY,
                    "secretkey": SECRET_KEY,
                    "rootdirectory": "/distribution",
                },
                "redirect": {"disable": true},
                "cache": {"blobdescriptor": "inmemory"},
            },
            "http": {"addr": address.to_string(), "secret": "the benchmark's"},
        });
        std::fs::write(folder.path().join("config.yml"), serde_json::to_string(&config)?)?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new(tool::folder("distribution")?.join("distribution"));
        command.arg("serve").arg(folder.path().join("config.yml")).env_clear().env("HOME", folder.path());
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut started = Self { child, host: address.to_string(), folder };
        wait_until_it_listens(&mut started.child, address).with_context(|| started.log())?;
        Ok(started)
    }
}

impl Distribution {
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
