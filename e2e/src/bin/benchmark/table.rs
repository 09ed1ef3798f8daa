//! Rounds of measurements as tables of medians and ratios.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::server::Kind;
use crate::workload::Row;

#[derive(Default)]
pub(crate) struct Tables {
    lines: Vec<Line>,
}

struct Line {
    row: Row,
    /// By server, round by round.
    values: BTreeMap<&'static str, Vec<f64>>,
    cpu: BTreeMap<&'static str, Vec<f64>>,
}

/// Of the curves the one that stands among the ratios too.
const COMPARED: usize = 100_000;

impl Tables {
    pub(crate) fn add(&mut self, row: &Row, server: Kind, value: f64, cpu: f64) {
        let known = self.lines.iter().position(|line| line.row == *row);
        let at = known.unwrap_or_else(|| {
            self.lines.push(Line { row: row.clone(), values: BTreeMap::new(), cpu: BTreeMap::new() });
            self.lines.len() - 1
        });
        if let Some(line) = self.lines.get_mut(at) {
            line.values.entry(server.name()).or_default().push(value);
            line.cpu.entry(server.name()).or_default().push(cpu);
        }
    }

    /// Each workload with what others need for it.
    pub(crate) fn ratios(&self) -> String {
        let mut table = String::from(
            "| workload | unit | berth | distribution | limit | berth / distribution | berth / limit | CPU, berth / distribution |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        let compared = |line: &&Line| line.row.of.is_none_or(|(count, _)| count == COMPARED);
        for Line { row, values, cpu } in self.lines.iter().filter(compared) {
            let name = row
                .of
                .map_or_else(|| row.name.clone(), |(count, what)| format!("{}, {} {what}", row.name, power(count)));
            let limit = [Kind::Nginx, Kind::Dd].map(Kind::name).into_iter().find(|name| values.contains_key(name));
            let limit = limit.unwrap_or_default();
            let at_limit =
                values.get(limit).map_or(String::new(), |values| format!("{} ({limit})", number(median(values))));
            let cpu = ratio(cpu, "distribution");
            let cpu = if row.cpu_unit.is_empty() || cpu.is_empty() {
                String::new()
            } else {
                format!("{cpu} ({})", row.cpu_unit)
            };
            let _ = writeln!(
                table,
                "| {name} | {} | {} | {} | {at_limit} | {} | {} | {cpu} |",
                unit(row),
                middle(values, "berth"),
                middle(values, "distribution"),
                ratio(values, "distribution"),
                ratio(values, limit),
            );
        }
        table
    }

    /// What grows, or does not, with how much there is.
    pub(crate) fn curves(&self) -> String {
        let mut table = String::from(
            "| | there are | unit | server | 10^3 | 10^4 | 10^5 | 10^6 |\n|---|---|---|---|---|---|---|---|\n",
        );
        let mut seen = Vec::new();
        for line in &self.lines {
            let Some((_, what)) = line.row.of else { continue };
            let of = |count| Row { of: Some((count, what)), ..line.row.clone() };
            if seen.contains(&of(0)) {
                continue;
            }
            seen.push(of(0));
            for server in ["berth", "distribution"] {
                let at = |count| {
                    let line = self.lines.iter().find(|other| other.row == of(count));
                    line.map_or(String::new(), |line| middle(&line.values, server))
                };
                let cells = [1_000, 10_000, 100_000, 1_000_000].map(at);
                if cells.iter().any(|cell| !cell.is_empty()) {
                    let _ = writeln!(
                        table,
                        "| {} | {what} | {} | {server} | {} |",
                        line.row.name,
                        unit(&line.row),
                        cells.join(" | ")
                    );
                }
            }
        }
        table
    }

    /// Replaces the tables between the marks of a page.
    pub(crate) fn write(&self, page: impl AsRef<Path>) -> Result<()> {
        let text = fs::read_to_string(&page)?;
        let text = between(&text, "measured", &self.ratios())?;
        Ok(fs::write(page, between(&text, "curves", &self.curves())?)?)
    }
}

fn between(text: &str, mark: &str, table: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {mark}: begin -->\n"), format!("<!-- {mark}: end -->"));
    let (head, rest) = text.split_once(&begin).with_context(|| format!("the page has no {begin}"))?;
    let (_, tail) = rest.split_once(&end).with_context(|| format!("the page has no {end}"))?;
    Ok(format!("{head}{begin}{table}{end}{tail}"))
}

fn unit(row: &Row) -> String {
    format!("{} {}", row.unit, if row.more_is_better { "↑" } else { "↓" })
}

fn power(count: usize) -> String {
    format!("10^{}", count.ilog10())
}

type Values = BTreeMap<&'static str, Vec<f64>>;

fn middle(values: &Values, server: &str) -> String {
    values.get(server).map_or(String::new(), |values| number(median(values)))
}

/// The median of the rounds' ratios, and the smallest and largest of them.
fn ratio(values: &Values, to: &str) -> String {
    let (Some(of), Some(to)) = (values.get("berth"), values.get(to)) else { return String::new() };
    let mut ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).filter(|ratio| ratio.is_finite()).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    match ratios[..] {
        [first, .., last] => format!("**{}** ({}–{})", number(median(&ratios)), number(first), number(last)),
        [only] => format!("**{}**", number(only)),
        [] => String::new(),
    }
}

/// Three digits, or all before the point; six behind it at most.
fn number(value: f64) -> String {
    let exponent = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let digits = usize::try_from(2 - exponent).unwrap_or(0).min(6);
    format!("{value:.digits$}")
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let numbers = [0.0, 0.000_012_3, 0.0123, 0.999, 1.0, 12.34, 123.4, 12345.6];
        let written = ["0.00", "0.000012", "0.0123", "0.999", "1.00", "12.3", "123", "12346"];
        assert_eq!(numbers.map(number), written);
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        let values = BTreeMap::from([("berth", vec![10.0, 30.0, 20.0]), ("distribution", vec![10.0, 10.0, 20.0])]);
        assert_eq!(ratio(&values, "distribution"), "**1.00** (1.00–3.00)");
        assert_eq!(ratio(&values, "nginx"), "");
    }
}
