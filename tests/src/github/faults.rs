//! Calls that go wrong on purpose.

/// Which calls go wrong, how, and how often.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Of this method; of any, if it is empty.
    pub method: &'static str,
    /// Whose path ends like this, e.g. `/issues`.
    pub path: &'static str,
    /// So many of them go well first.
    pub after: usize,
    /// So many of them go wrong.
    pub times: usize,
    /// What happens to them.
    pub trouble: Trouble,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not carried out, and answered with this status.
    Before(u16),
    /// It is carried out, and answered with this status nevertheless.
    After(u16),
    /// It is carried out, and the connection is cut instead of an answer.
    CutAfter,
    /// It is not carried out, and there is no answer.
    SilenceBefore,
    /// It is carried out, and there is no answer.
    SilenceAfter,
    /// The secondary limit: it is not carried out, and has to wait.
    RetryAfter {
        /// 403 or 429.
        status: u16,
        /// How long to wait.
        seconds: u64,
    },
    /// The primary limit: it is not carried out; the next calls are free after a while.
    NoneRemaining {
        /// How long to wait.
        seconds: u64,
    },
}

impl Trouble {
    /// Whether the call is carried out.
    pub(super) fn is_carried_out(self) -> bool {
        match self {
            Self::After(_) | Self::CutAfter | Self::SilenceAfter => true,
            Self::Before(_)
            | Self::SilenceBefore
            | Self::RetryAfter { .. }
            | Self::NoneRemaining { .. } => false,
        }
    }
}

/// The faults that are still to happen.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn are_used_up(&self) -> bool {
        self.0.iter().all(|fault| fault.times == 0)
    }

    /// What happens to this call.
    pub(super) fn strike(&mut self, method: &str, path: &str) -> Option<Trouble> {
        let fault = self.0.iter_mut().find(|fault| {
            fault.times > 0
                && (fault.method.is_empty() || fault.method == method)
                && path.ends_with(fault.path)
        })?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.trouble)
    }
}
