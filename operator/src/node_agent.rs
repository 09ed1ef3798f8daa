//! The node agent.
mod containerd_config;
mod directory;
mod effective_config;
mod host_dir;
mod host_name;
mod host_path;
mod hosts_toml;
mod root_dir;
