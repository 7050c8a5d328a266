//! How much work one checker may do. Counted in steps, not seconds, so that a report does not
//! depend on the machine that made it. No clock here.

/// The work a checker still may do. One unit is about one access looked at.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
}

/// The checker has used up its [`Budget`]; its verdict is then unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfBudget;

impl Budget {
    /// A budget of `units`.
    pub(crate) fn new(units: u64) -> Self {
        Self { left: units }
    }

    /// Takes `units` off.
    pub(crate) fn spend(&mut self, units: usize) -> Result<(), OutOfBudget> {
        let units = u64::try_from(units).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(units).ok_or(OutOfBudget)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spends_to_the_last_unit_and_no_further() {
        let mut budget = Budget::new(3);
        assert_eq!(budget.spend(2), Ok(()));
        assert_eq!(budget.spend(1), Ok(()));
        assert_eq!(budget.spend(1), Err(OutOfBudget));
    }
}
