//! A container runtime that a test owns: containerd alone, without Kubernetes and without a node's configuration.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::tool::Bench;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running containerd, which is ended when this is dropped.
#[derive(Debug)]
pub struct ContainerdProcess {
    /// `timeout`, which hands signals on to containerd.
    child: Child,
    socket: String,
}

impl ContainerdProcess {
    /// Starts one in the home of `bench` and waits until it answers.
    ///
    /// # Errors
    /// When it does not, or when not run as root.
    pub fn start(bench: &Bench) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "containerd must be run as root, and so must this test");
        let socket = bench.at("containerd.sock");
        let config = format!(
            "version = 3\nroot = '{}'\nstate = '{}'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', \
             'io.containerd.nri.v1.nri', 'io.containerd.internal.v1.opt']\n[grpc]\naddress = '{socket}'\n",
            bench.at("containerd/root"),
            bench.at("containerd/state"),
        );
        std::fs::write(bench.at("containerd.toml"), config)?;
        let log = File::create(bench.at("containerd.log"))?;
        let mut command = bench.command("containerd");
        command.args(["--config", &bench.at("containerd.toml")]).stdout(log.try_clone()?).stderr(log);
        let started = Self { child: command.spawn()?, socket };
        let deadline = Instant::now() + PATIENCE;
        while started.ctr(bench, &["version"]).is_err() {
            if Instant::now() > deadline {
                bail!("containerd does not answer:\n{}", std::fs::read_to_string(bench.at("containerd.log"))?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(started)
    }

    /// Runs `ctr` against it.
    ///
    /// # Errors
    /// When that fails.
    pub fn ctr(&self, bench: &Bench, arguments: &[&str]) -> Result<String> {
        bench.run("ctr", &[&["--address", &self.socket, "--namespace", "tests"], arguments].concat())
    }
}

impl Drop for ContainerdProcess {
    fn drop(&mut self) {
        let mut kill = Command::new("kill");
        let _ = kill.arg(self.child.id().to_string()).stdin(Stdio::null()).status();
        let _ = self.child.wait();
    }
}
