//! What `/metrics` says, read as Prometheus reads it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One scrape.
pub struct Scrape {
    pub text: String,
    /// By name and labels, as they are written.
    series: BTreeMap<String, f64>,
}

impl Scrape {
    pub async fn of(admin: SocketAddr) -> Self {
        let answer = reqwest::get(format!("http://{admin}/metrics")).await.unwrap();
        assert_eq!(answer.status(), 200);
        let text = answer.text().await.unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
        });
        Self { series: series.collect(), text }
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// The value of one series, its labels in the order of their names.
    pub fn value(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("no {series} in:\n{}", self.text))
    }

    /// The sum of what has this name, whatever its labels; `None`: nothing has it.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let of_name =
            |series: &&String| series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        let values: Vec<f64> = self.series.keys().filter(of_name).map(|series| self.series[series]).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}
