//! Figures from many runs.

/// Measured values in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn p50(&self) -> f64 {
        self.percentile(50)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.percentile(99)
    }

    /// The smallest value that at least `percent` of all are not above (nearest rank).
    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let mut samples = Samples::default();
        (1..=50)
            .rev()
            .for_each(|value| samples.push(f64::from(value)));
        assert!((samples.p50() - 25.0).abs() < 1e-9);
        assert!((samples.p99() - 50.0).abs() < 1e-9);
        assert!(Samples::default().p50().is_nan());
    }
}
