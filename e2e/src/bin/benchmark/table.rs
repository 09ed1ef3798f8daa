//! Rounds of measurements as a table of medians and ratios.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use anyhow::{Context as _, Result};

use crate::workload::Workload;

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    workload: String,
    unit: &'static str,
    cpu_unit: &'static str,
    more_is_better: bool,
    /// By server, round by round.
    values: BTreeMap<&'static str, Vec<f64>>,
    cpu: BTreeMap<&'static str, Vec<f64>>,
}

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

impl Table {
    pub(crate) fn add(&mut self, workload: &Workload, server: &'static str, value: f64, cpu: f64) {
        if self.rows.last().is_none_or(|row| row.workload != workload.name) {
            self.rows.push(Row {
                workload: workload.name.into(),
                unit: workload.unit,
                cpu_unit: workload.cpu_unit,
                more_is_better: workload.more_is_better,
                values: BTreeMap::new(),
                cpu: BTreeMap::new(),
            });
        }
        if let Some(row) = self.rows.last_mut() {
            row.values.entry(server).or_default().push(value);
            row.cpu.entry(server).or_default().push(cpu);
        }
    }

    /// Replaces the table between the marks of a page.
    pub(crate) fn write(&self, page: &str) -> Result<()> {
        let text = fs::read_to_string(page)?;
        let (head, rest) = text.split_once(BEGIN).context("the page has no mark where the table begins")?;
        let (_, tail) = rest.split_once(END).context("the page has no mark where the table ends")?;
        Ok(fs::write(page, format!("{head}{BEGIN}\n{self}{END}{tail}"))?)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| workload | unit | berth | distribution | nginx | berth / distribution | berth / nginx | CPU, berth / distribution |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let better = if row.more_is_better { "↑" } else { "↓" };
            write!(f, "| {} | {} {better} ", row.workload, row.unit)?;
            for server in ["berth", "distribution", "nginx"] {
                write!(
                    f,
                    "| {} ",
                    row.values.get(server).map_or(String::new(), |values| format!("{:.1}", median(values)))
                )?;
            }
            write!(f, "| {} ", ratio(&row.values, "berth", "distribution"))?;
            write!(f, "| {} ", ratio(&row.values, "berth", "nginx"))?;
            writeln!(f, "| {} ({}) |", ratio(&row.cpu, "berth", "distribution"), row.cpu_unit)?;
        }
        Ok(())
    }
}

/// The median of the rounds' ratios, and the smallest and largest of them.
fn ratio(values: &BTreeMap<&'static str, Vec<f64>>, of: &str, to: &str) -> String {
    let (Some(of), Some(to)) = (values.get(of), values.get(to)) else { return String::new() };
    let mut ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    match ratios[..] {
        [first, .., last] => format!("**{:.2}** ({first:.2}–{last:.2})", median(&ratios)),
        _ => String::new(),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
