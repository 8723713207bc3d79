//! OpenMetrics text: families of samples, each with its help and its type.

use std::fmt::{Display, Write};
use std::time::Duration;

/// A page of metrics that is being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// A label and its value.
pub(super) type Label<'a> = (&'static str, &'a str);

impl Page {
    /// Gauges of one name.
    pub(super) fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Vec<Label<'a>>, f64)>,
    ) {
        self.head(name, "gauge", help);
        for (labels, value) in rows {
            self.sample(name, &labels, value);
        }
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(Vec::new(), value)]);
    }

    /// Counters of one name, which is given without its `_total`.
    pub(super) fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Vec<Label<'a>>, u64)>,
    ) {
        self.head(name, "counter", help);
        for (labels, value) in rows {
            self.sample(&format!("{name}_total"), &labels, value);
        }
    }

    /// A histogram in seconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, of: &Histogram) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in of.bounds.iter().zip(&of.buckets) {
            // The format wants a bound to look like a number that is not whole.
            self.sample(&bucket, &[("le", &format!("{bound:?}"))], count);
        }
        self.sample(&bucket, &[("le", "+Inf")], of.count);
        self.sample(&format!("{name}_sum"), &[], of.sum);
        self.sample(&format!("{name}_count"), &[], of.count);
    }

    /// What is told for its labels alone; the name is given without its `_info`.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[Label<'_>]) {
        self.head(name, "info", help);
        self.sample(&format!("{name}_info"), labels, 1);
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// How often something took how long.
#[derive(Debug)]
pub(super) struct Histogram {
    /// The upper bounds of the buckets, in seconds.
    bounds: &'static [f64],
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: vec![0; bounds.len()], count: 0, sum: 0.0 }
    }

    pub(super) fn observe(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        for (bucket, bound) in self.buckets.iter_mut().zip(self.bounds) {
            *bucket += u64::from(took <= *bound);
        }
        self.count += 1;
        self.sum += took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_form() {
        let mut page = Page::default();
        page.gauges("a", "Some a.", [(vec![("x", "q\"\\\n")], 1.5), (vec![("x", "y"), ("z", "")], 0.0)]);
        page.gauge("b", "One b.", 3.0);
        page.counters("c", "Every c.", [(vec![("x", "y")], 7)]);
        page.info("d", "What d is.", &[("version", "1")]);
        let mut of = Histogram::new(&[0.5, 1.0]);
        of.observe(Duration::from_millis(250));
        of.observe(Duration::from_secs(2));
        page.histogram("e_seconds", "How long e takes.", &of);
        let expected = "# HELP a Some a.\n# TYPE a gauge\na{x=\"q\\\"\\\\\\n\"} 1.5\na{x=\"y\",z=\"\"} 0\n\
                        # HELP b One b.\n# TYPE b gauge\nb 3\n\
                        # HELP c Every c.\n# TYPE c counter\nc_total{x=\"y\"} 7\n\
                        # HELP d What d is.\n# TYPE d info\nd_info{version=\"1\"} 1\n\
                        # HELP e_seconds How long e takes.\n# TYPE e_seconds histogram\n\
                        e_seconds_bucket{le=\"0.5\"} 1\ne_seconds_bucket{le=\"1.0\"} 1\ne_seconds_bucket{le=\"+Inf\"} 2\n\
                        e_seconds_sum 2.25\ne_seconds_count 2\n# EOF\n";
        assert_eq!(page.finish(), expected);
    }
}
