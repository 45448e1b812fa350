//! Round trip times: a moving average and the minimum of the newest samples (Server Selection,
//! "Calculation of Average Round Trip Times"; Server Monitoring, "Measuring RTT").

use std::time::Duration;

/// How many samples the minimum looks back over.
const RECENT_SAMPLES: usize = 10;
/// The minimum counts as 0 until there are this many.
const SAMPLES_FOR_MINIMUM: usize = 2;
/// The weight of a new sample in the average.
const ALPHA: f64 = 0.2;

/// What is known about a server's round trip times at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrip {
    /// The exponentially weighted moving average; `None` before the first sample.
    pub average: Option<Duration>,
    /// The least of the newest ten samples; zero until there are two.
    pub minimum: Duration,
}

impl RoundTrip {
    /// Nothing measured.
    pub const UNKNOWN: Self = Self {
        average: None,
        minimum: Duration::ZERO,
    };
}

/// The average after one more sample: the sample itself at first, then weighted by 0.2.
#[must_use]
pub fn moving_average(average: Option<Duration>, sample: Duration) -> Duration {
    average.map_or(sample, |average| {
        sample.mul_f64(ALPHA) + average.mul_f64(1.0 - ALPHA)
    })
}

/// The samples of one server since its monitor last connected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    average: Option<Duration>,
    recent: [Duration; RECENT_SAMPLES],
    count: usize,
}

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.average = Some(moving_average(self.average, sample));
        self.recent[self.count % RECENT_SAMPLES] = sample;
        self.count += 1;
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn round_trip(&self) -> RoundTrip {
        let recent = &self.recent[..self.count.min(RECENT_SAMPLES)];
        let minimum = match recent.iter().min() {
            Some(least) if recent.len() >= SAMPLES_FOR_MINIMUM => *least,
            _ => Duration::ZERO,
        };
        RoundTrip {
            average: self.average,
            minimum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn the_first_sample_is_the_average_and_later_ones_weigh_a_fifth() {
        let mut samples = Samples::default();
        assert_eq!(samples.round_trip(), RoundTrip::UNKNOWN);
        samples.add(ms(10));
        assert_eq!(samples.round_trip().average, Some(ms(10)));
        samples.add(ms(20));
        assert_eq!(samples.round_trip().average, Some(ms(12)));
    }

    #[test]
    fn the_minimum_is_zero_until_two_samples_and_then_looks_back_ten() {
        let mut samples = Samples::default();
        samples.add(ms(1));
        assert_eq!(samples.round_trip().minimum, Duration::ZERO);
        samples.add(ms(5));
        assert_eq!(samples.round_trip().minimum, ms(1));
        for _ in 0..9 {
            samples.add(ms(5));
        }
        assert_eq!(
            samples.round_trip().minimum,
            ms(5),
            "the 1 ms sample is eleven back"
        );
    }

    #[test]
    fn a_reset_forgets_everything() {
        let mut samples = Samples::default();
        samples.add(ms(1));
        samples.reset();
        assert_eq!(samples.round_trip(), RoundTrip::UNKNOWN);
    }
}
