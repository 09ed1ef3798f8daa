//! The chart's health script, run as Argo CD runs it: with the object as the global `obj`, and with what it returns.
//!
//! Argo CD runs it in gopher-lua, which speaks Lua 5.1, and opens of the libraries only the base, `table` and a part of `os`
//! (`util/lua/lua.go`, the same from 2.x to 3.x): a script that needs `string` works everywhere but there. An object that is
//! being deleted is `Progressing` to Argo CD before any script is asked.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{tool, workspace};

/// What Argo CD makes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `Healthy`, `Progressing`, `Degraded`, `Suspended`, `Missing` or `Unknown`.
    pub status: String,
    /// Why.
    pub message: String,
}

/// Runs the script on an object. `ENVIRONMENT` holds what Argo CD lets it see, and nothing more.
const RUN: &str = r#"
getmetatable("").__index = nil
local environment = {table = table, obj = OBJECT}
for _, name in ipairs({"assert", "error", "ipairs", "next", "pairs", "pcall", "select", "tonumber", "tostring", "type", "unpack"}) do
  environment[name] = _G[name]
end
local hs = setfenv(assert(loadfile("charts/berth/files/argocd-health.lua")), environment)()
assert(type(hs) == "table", "expect table output from Lua script, not " .. type(hs))
io.write(hs.status, "\n", hs.message or "")
"#;

/// What Argo CD makes of this object by the chart's script.
///
/// # Errors
/// When the script fails, or returns what Argo CD does not take.
pub fn health(object: &Value) -> Result<Health> {
    tool::packages(&["lua5.1"])?;
    let program = RUN.replace("OBJECT", &literal(object));
    let output = Command::new("lua5.1").args(["-e", &program]).current_dir(workspace()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    let (status, message) = said.split_once('\n').context("it says nothing")?;
    let known = ["Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"];
    ensure!(known.contains(&status), "Lua returned an invalid health status: {status}");
    Ok(Health { status: status.into(), message: message.into() })
}

/// A value as Lua writes it. A null is not there.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("{{{}}}", items.iter().map(literal).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let field = |(key, value): (&String, &Value)| format!("[{}]={}", quoted(key), literal(value));
            format!("{{{}}}", map.iter().map(field).collect::<Vec<_>>().join(","))
        }
    }
}

fn quoted(text: &str) -> String {
    let bytes: String = text.bytes().map(|byte| format!("\\{byte:03}")).collect();
    format!("\"{bytes}\"")
}
