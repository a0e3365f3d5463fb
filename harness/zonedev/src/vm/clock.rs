//! What a guest's kernel is told of its clock, so that it need not find it out on a busy host.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Kernel parameters for the clock.
///
/// Linux measures the TSC's rate against the PIT or the HPET. A vCPU that is not scheduled
/// meanwhile measures wrong: 40 MHz instead of 2440 was seen, with a clock that ran sixty times too
/// fast. A guest's TSC runs at the host's rate, under TCG too, so the rate is given.
///
/// Nor need it be watched. From 7.1 on the watchdog even deadlocks one slow boot in a hundred:
/// while the clock is still jiffies, watchdog_wait_seq() on the processor that counts them waits,
/// with interrupts off, for one that is in stop_machine(), and its time limit is by that clock.
pub fn clock_parameters() -> String {
    static RATE: OnceLock<Option<u64>> = OnceLock::new();
    match RATE.get_or_init(tsc_khz) {
        Some(khz) => format!("tsc=reliable tsc_early_khz={khz}"),
        // Without a rate that can be trusted: the HPET, whose rate is in its registers.
        None => "tsc=unstable".to_owned(),
    }
}

/// The rate of the host's TSC in kHz: the median of some measurements, where they agree.
fn tsc_khz() -> Option<u64> {
    let mut rates: Vec<u64> = (0..5)
        .map(|_| measure(Duration::from_millis(10)))
        .collect::<Option<_>>()?;
    rates.sort_unstable();
    let (low, rate, high) = (rates[1], rates[2], rates[3]);
    (rate > 0 && high - low <= rate / 1000).then_some(rate)
}

#[cfg(target_arch = "x86_64")]
fn measure(time: Duration) -> Option<u64> {
    let now = || {
        // SAFETY: every x86-64 processor has the instruction, and Linux allows it to programs.
        (Instant::now(), unsafe { core::arch::x86_64::_rdtsc() })
    };
    let (from, first) = now();
    std::thread::sleep(time);
    let (to, last) = now();
    let ns = u64::try_from((to - from).as_nanos()).ok()?;
    (u128::from(last.checked_sub(first)?) * 1_000_000 / u128::from(ns))
        .try_into()
        .ok()
}

#[cfg(not(target_arch = "x86_64"))]
fn measure(_: Duration) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_name_a_rate_that_processors_have() {
        let text = clock_parameters();
        match text.strip_prefix("tsc=reliable tsc_early_khz=") {
            Some(khz) => assert!((100_000..10_000_000).contains(&khz.parse::<u64>().unwrap())),
            None => assert_eq!(text, "tsc=unstable"),
        }
        assert_eq!(text, clock_parameters());
    }
}
