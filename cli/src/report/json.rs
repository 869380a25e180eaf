//! The JSON report: the record of the run as it is.

use serde::Serialize;

use crate::runlog::RunLog;

/// The form's name and version: a key that goes or changes its meaning makes it `/2`, a new one does not.
const FORMAT: &str = "echo-core-report/1";

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    #[serde(flatten)]
    run: &'a RunLog,
}

/// Writes the report.
pub fn render(log: &RunLog) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&Report { format: FORMAT, run: log })?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::sample;

    #[test]
    fn the_report_holds_the_whole_record() {
        let report: serde_json::Value =
            serde_json::from_str(&render(&sample::shop()).unwrap()).unwrap();
        assert_eq!(report["format"], FORMAT);
        assert_eq!(report["outcome"], "failed");
        assert_eq!(report["counts"]["tests"]["passed"], 1);
        let suite = &report["suites"][0];
        assert_eq!(suite["services"][0]["state"], "ready");
        let step = &suite["tests"][1]["steps"][0];
        assert_eq!(step["command"], serde_json::json!(["sh", "-c", "pay"]));
        assert_eq!(step["exit_code"], 4);
        assert_eq!(step["failures"][0], "the exit code is 4, expected 0");
    }

    #[test]
    fn the_documentation_names_every_key() {
        fn keys(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
            match value {
                serde_json::Value::Object(table) => {
                    found.extend(table.keys().cloned());
                    table.values().for_each(|value| keys(value, found));
                }
                serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
                _ => {}
            }
        }
        let documentation = include_str!("../../../docs/contracts/reports.md");
        let mut log = sample::shop();
        log.reason = Some("something else".into());
        let report = serde_json::from_str(&render(&log).unwrap()).unwrap();
        let mut found = std::collections::BTreeSet::new();
        keys(&report, &mut found);
        for key in found {
            assert!(
                documentation.contains(&format!("`{key}`")),
                "docs/contracts/reports.md lacks `{key}`"
            );
        }
    }
}
