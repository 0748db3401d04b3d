//! What a bench reports: rows of numbers, each alone or against another row of the same run.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// The rows of one bench, in the order in which they were added.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    bench: String,
    rows: Vec<Row>,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured; unique in its report.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what: `ms`, `MiB`, `s`, `1/s` and so on.
    pub unit: String,
    /// The row that it is compared with: measured in the same run, in the same unit.
    pub against: Option<String>,
    /// This value divided by that row's.
    pub ratio: Option<f64>,
}

impl Report {
    /// An empty report of the bench with this name.
    pub fn new(bench: impl Into<String>) -> Self {
        Self { bench: bench.into(), rows: Vec::new() }
    }

    /// Adds a number that stands alone: a baseline, or a plain fact. Fails for a name that is there already and for a
    /// number that is not finite.
    pub fn row(&mut self, name: &str, value: f64, unit: &str) -> Result<()> {
        self.push(name, value, unit, None)
    }

    /// Adds a number and its ratio to the row `against`, which must be there already, in the same unit and not zero.
    pub fn row_against(&mut self, name: &str, value: f64, unit: &str, against: &str) -> Result<()> {
        let baseline = self
            .rows
            .iter()
            .find(|row| row.name == against)
            .with_context(|| format!("{name} is compared with {against}, which was not measured"))?;
        if baseline.unit != unit {
            bail!("{name} in {unit} cannot be compared with {against} in {}", baseline.unit);
        }
        let ratio = value / baseline.value;
        if !ratio.is_finite() {
            bail!("{name} cannot be compared with {against}, which is {}", baseline.value);
        }
        self.push(name, value, unit, Some((against.to_owned(), ratio)))
    }

    /// The rows so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// One line: `{"bench": NAME, "rows": [{"name", "value", "unit", "against", "ratio"}]}`, the last two null for a row
    /// that stands alone.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).context("a report is plain JSON")
    }

    fn push(&mut self, name: &str, value: f64, unit: &str, against: Option<(String, f64)>) -> Result<()> {
        if !value.is_finite() {
            bail!("{name} is {value}, which is no measurement");
        }
        if self.rows.iter().any(|row| row.name == name) {
            bail!("{name} was measured twice");
        }
        let (against, ratio) = against.unzip();
        self.rows.push(Row { name: name.into(), value, unit: unit.into(), against, ratio });
        Ok(())
    }
}

/// An aligned table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.rows.iter().map(|row| number(row.value)).collect();
        let name = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let value = numbers.iter().map(String::len).max().unwrap_or(0);
        let unit = self.rows.iter().map(|row| row.unit.len()).max().unwrap_or(0);
        writeln!(f, "{}", self.bench)?;
        for (row, text) in self.rows.iter().zip(&numbers) {
            write!(f, "  {:name$}  {text:>value$} ", row.name)?;
            match (&row.against, row.ratio) {
                (Some(against), Some(ratio)) => writeln!(f, "{:unit$}  {} of {against}", row.unit, number(ratio))?,
                _ => writeln!(f, "{}", row.unit)?,
            }
        }
        Ok(())
    }
}

/// Three digits that mean something, and no more decimals than that needs.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 || size == 0.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("fetch");
        report.row("cp", 120.0, "ms").unwrap();
        report.row_against("ours", 150.0, "ms", "cp").unwrap();
        report.row("memory", 9.5, "MiB").unwrap();
        report
    }

    #[test]
    fn the_json_has_exactly_the_promised_shape() {
        let expected = concat!(
            r#"{"bench":"fetch","rows":["#,
            r#"{"name":"cp","value":120.0,"unit":"ms","against":null,"ratio":null},"#,
            r#"{"name":"ours","value":150.0,"unit":"ms","against":"cp","ratio":1.25},"#,
            r#"{"name":"memory","value":9.5,"unit":"MiB","against":null,"ratio":null}]}"#,
        );
        assert_eq!(report().to_json().unwrap(), expected);
    }

    #[test]
    fn the_table_lines_up() {
        let expected = "\
fetch
  cp       120 ms
  ours     150 ms   1.25 of cp
  memory  9.50 MiB
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn a_comparison_that_means_nothing_is_refused() {
        let mut report = report();
        report.row("zero", 0.0, "ms").unwrap();
        assert!(report.row_against("a", 1.0, "ms", "never measured").is_err());
        assert!(report.row_against("a", 1.0, "MiB", "cp").is_err());
        assert!(report.row_against("a", 1.0, "ms", "zero").is_err());
        assert!(report.row("a", f64::NAN, "ms").is_err());
        assert!(report.row("cp", 1.0, "ms").is_err());
        assert_eq!(report.rows().len(), 4);
    }
}
