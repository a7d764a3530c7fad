//! The page of numbers, in Prometheus' text format 0.0.4.

use std::fmt::{Display, Write};
use std::time::Duration;

/// The page while it is written. Names are snake case, begin with `tunnel_` and end with their unit; those of counters
/// end with `_total`, which is how a counter is told from a level.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// A number without labels.
    pub fn number(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, kind(name));
        self.line(format_args!("{name} {value}"));
    }

    /// Numbers that differ in one label, whose values are of a fixed set.
    pub fn numbers<V: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        self.head(name, help, kind(name));
        for (of, value) in values {
            self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
        }
    }

    /// Counts of durations: how many were at most as long as each bound, and longer than the one before; the last, how
    /// many were longer than all.
    pub fn durations(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[Duration],
        counts: &[u64],
        sum: Duration,
    ) {
        self.head(name, help, "histogram");
        let mut below = 0;
        let bounds = bounds.iter().map(|bound| bound.as_secs_f64().to_string());
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            below += count;
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {below}"));
        }
        self.line(format_args!("{name}_sum {}", sum.as_secs_f64()));
        self.line(format_args!("{name}_count {below}"));
    }

    pub(super) fn text(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.trim().replace('\\', "\\\\").replace('\n', " ");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn kind(name: &str) -> &'static str {
    if name.ends_with("_total") {
        "counter"
    } else {
        "gauge"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.number("tunnel_a_total", " How often.\nAnd C:\\", 3);
        page.numbers("tunnel_b", "Now.", "kind", [("x", 1), ("y", 0)]);
        let bounds = [Duration::from_millis(5), Duration::from_secs(1)];
        page.durations(
            "tunnel_c_seconds",
            "Long.",
            &bounds,
            &[2, 0, 1],
            Duration::from_millis(2500),
        );
        let expected = "\
# HELP tunnel_a_total How often. And C:\\\\
# TYPE tunnel_a_total counter
tunnel_a_total 3
# HELP tunnel_b Now.
# TYPE tunnel_b gauge
tunnel_b{kind=\"x\"} 1
tunnel_b{kind=\"y\"} 0
# HELP tunnel_c_seconds Long.
# TYPE tunnel_c_seconds histogram
tunnel_c_seconds_bucket{le=\"0.005\"} 2
tunnel_c_seconds_bucket{le=\"1\"} 2
tunnel_c_seconds_bucket{le=\"+Inf\"} 3
tunnel_c_seconds_sum 2.5
tunnel_c_seconds_count 3
";
        assert_eq!(page.text(), expected);
    }
}
