//! A rate with how sure it is, and the middle of some numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often something came, of how many times it could have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How often it came.
    pub came: u64,
    /// Of how many.
    pub of: u64,
    /// Least and most that the true rate is, with 95 % confidence (Wilson's interval).
    pub between: (f64, f64),
}

impl Rate {
    /// Of so many; `of` is at least 1 and no less than `came`.
    pub fn new(came: u64, of: u64) -> Rate {
        let of = of.max(came).max(1);
        let (n, p) = (of as f64, came as f64 / of as f64);
        // The normal distribution's 97.5th percentile.
        let z = 1.959_964_f64;
        let (z2, scale) = (z * z, 1.0 / (1.0 + z * z / n));
        let middle = scale * (p + z2 / (2.0 * n));
        let half = scale * z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        Rate {
            came,
            of,
            // The ends are exact where it came never or always; sums of fractions are not.
            between: (
                if came == 0 { 0.0 } else { middle - half },
                if came == of { 1.0 } else { middle + half },
            ),
        }
    }
}

/// The middle of some numbers; of an even amount the lower of the two in the middle. `None` of none.
pub fn median(numbers: &[u64]) -> Option<u64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wilsons_interval_is_the_books() {
        // 10 of 100: 0.0552 to 0.1744.
        let rate = Rate::new(10, 100);
        assert!((rate.between.0 - 0.0552).abs() < 5e-4, "{rate:?}");
        assert!((rate.between.1 - 0.1744).abs() < 5e-4, "{rate:?}");
        assert_eq!(Rate::new(0, 5).between.0, 0.0);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[5, 1, 3]), Some(3));
        assert_eq!(median(&[4, 1, 3, 2]), Some(2));
    }

    proptest! {
        #[test]
        fn the_rate_lies_within_and_more_tries_are_surer(came in 0u64..50, more in 0u64..50) {
            let of = (came + more).max(1);
            let (one, ten) = (Rate::new(came, of), Rate::new(came * 10, of * 10));
            let p = came as f64 / of as f64;
            let width = |r: Rate| r.between.1 - r.between.0;
            prop_assert!(one.between.0 <= p + 1e-9 && p <= one.between.1 + 1e-9);
            prop_assert!(width(ten) < width(one));
        }
    }
}
