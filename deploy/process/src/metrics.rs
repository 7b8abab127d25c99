//! Metrics, in the text format that Prometheus reads. The one place that knows its crate.

use prometheus::{Encoder as _, HistogramOpts, Opts, Registry, TextEncoder};
pub use prometheus::{GaugeVec as Gauge, HistogramVec as Histogram, IntCounterVec as Counter};

/// The `Content-Type` of what [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A metric could not be made: its name or a label is not valid, or it is there already.
#[derive(Debug, thiserror::Error)]
#[error("the metric {name} cannot be registered")]
pub struct MetricsError {
    name: &'static str,
    source: prometheus::Error,
}

/// The metrics of one process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something that only grows, by label values.
    pub fn counter(
        &self,
        name: &'static str,
        help: &str,
        labels: &[&str],
    ) -> Result<Counter, MetricsError> {
        self.register(name, Counter::new(Opts::new(name, help), labels))
    }

    /// Something that grows and shrinks, by label values.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &str,
        labels: &[&str],
    ) -> Result<Gauge, MetricsError> {
        self.register(name, Gauge::new(Opts::new(name, help), labels))
    }

    /// How often something was at most so large, by label values; `buckets` are the upper bounds.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<Histogram, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.register(name, Histogram::new(options, labels))
    }

    fn register<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        name: &'static str,
        made: Result<C, prometheus::Error>,
    ) -> Result<C, MetricsError> {
        let register = |metric: C| {
            self.registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        made.and_then(register).map_err(|source| MetricsError { name, source })
    }

    /// Every metric that has a value, in text format 0.0.4.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "the metrics cannot be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::new();
        let decisions = metrics.counter("decisions_total", "Decisions.", &["tier"]).unwrap();
        decisions.with_label_values(&["core"]).inc();
        metrics
            .gauge("active", "Active.", &["stack"])
            .unwrap()
            .with_label_values(&["prod"])
            .set(1.0);
        let seconds = metrics.histogram("seconds", "Time.", &["tier"], &[0.1, 0.3]).unwrap();
        seconds.with_label_values(&["edge"]).observe(0.2);
        let text = metrics.render();
        for line in [
            "# TYPE decisions_total counter",
            "decisions_total{tier=\"core\"} 1",
            "active{stack=\"prod\"} 1",
            "seconds_bucket{tier=\"edge\",le=\"0.1\"} 0",
            "seconds_bucket{tier=\"edge\",le=\"0.3\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_metric_that_cannot_be_is_an_error() {
        let metrics = Metrics::new();
        metrics.counter("twice", "Once.", &[]).unwrap();
        assert!(metrics.counter("twice", "Again.", &[]).is_err());
        assert!(metrics.gauge("not a name", "Help.", &[]).is_err());
    }
}
