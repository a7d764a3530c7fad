//! Counts as they are reckoned with.

/// A count for a quotient.
#[expect(
    clippy::cast_precision_loss,
    reason = "the counts and sizes of a bench are far below 2^52"
)]
pub(crate) fn as_f64(number: impl TryInto<u64>) -> f64 {
    number.try_into().unwrap_or(u64::MAX) as f64
}
