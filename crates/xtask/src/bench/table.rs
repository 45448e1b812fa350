//! What is held against what, and the goals.

/// One line of the table: a benchmark, and one that does the bare work.
pub(super) struct Row {
    pub(super) ours: &'static str,
    pub(super) bare: Option<&'static str>,
    goal: Goal,
}

/// What a row should show.
#[derive(Clone, Copy)]
enum Goal {
    /// Just to be known.
    None,
    /// At most so many nanoseconds.
    Below(f64),
    /// At least this part of the bare speed.
    Speed(f64),
    /// At most so many nanoseconds for each of 1,000 events.
    PerEvent(f64),
}

const fn alone(ours: &'static str, goal: Goal) -> Row {
    Row {
        ours,
        bare: None,
        goal,
    }
}

const fn beside(ours: &'static str, bare: &'static str, goal: Goal) -> Row {
    Row {
        ours,
        bare: Some(bare),
        goal,
    }
}

/// The part of the bare speed that a checksummed or compressed message must reach.
const NEARLY_BARE: Goal = Goal::Speed(0.9);
/// Decoding without a checksum, whatever the size.
const DECODE: Goal = Goal::Below(150.0);
const HELLO: Goal = Goal::Below(5_000.0);
const SELECT: Goal = Goal::Below(2_000.0);

/// The table, in its order. Where messages are small, the fixed cost of a message outweighs the bare
/// work, and there is no goal.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    alone("decode/200 B", DECODE),
    alone("decode/600 KB", DECODE),
    alone("decode/16 MB", DECODE),
    beside("encode/200 B", "memcpy/200 B", Goal::None),
    beside("encode/600 KB", "memcpy/600 KB", Goal::None),
    beside("encode/16 MB", "memcpy/16 MB", Goal::None),
    beside("decode with checksum/200 B", "crc32c/200 B", Goal::None),
    beside("decode with checksum/600 KB", "crc32c/600 KB", NEARLY_BARE),
    beside("decode with checksum/16 MB", "crc32c/16 MB", NEARLY_BARE),
    beside("encode with checksum/200 B", "memcpy and crc32c/200 B", Goal::None),
    beside("encode with checksum/600 KB", "memcpy and crc32c/600 KB", NEARLY_BARE),
    beside("encode with checksum/16 MB", "memcpy and crc32c/16 MB", NEARLY_BARE),
    beside("decode compressed/snappy 200 B", "inflate/snappy 200 B", Goal::None),
    beside("decode compressed/snappy 600 KB", "inflate/snappy 600 KB", NEARLY_BARE),
    beside("decode compressed/snappy 16 MB", "inflate/snappy 16 MB", NEARLY_BARE),
    beside("decode compressed/zlib 200 B", "inflate/zlib 200 B", Goal::None),
    beside("decode compressed/zlib 600 KB", "inflate/zlib 600 KB", NEARLY_BARE),
    beside("decode compressed/zlib 16 MB", "inflate/zlib 16 MB", NEARLY_BARE),
    beside("decode compressed/zstd 200 B", "inflate/zstd 200 B", Goal::None),
    beside("decode compressed/zstd 600 KB", "inflate/zstd 600 KB", NEARLY_BARE),
    beside("decode compressed/zstd 16 MB", "inflate/zstd 16 MB", NEARLY_BARE),
    beside("encode compressed/snappy 200 B", "deflate/snappy 200 B", Goal::None),
    beside("encode compressed/snappy 600 KB", "deflate/snappy 600 KB", Goal::None),
    beside("encode compressed/snappy 16 MB", "deflate/snappy 16 MB", Goal::None),
    beside("encode compressed/zlib 200 B", "deflate/zlib 200 B", Goal::None),
    beside("encode compressed/zlib 600 KB", "deflate/zlib 600 KB", Goal::None),
    beside("encode compressed/zlib 16 MB", "deflate/zlib 16 MB", Goal::None),
    beside("encode compressed/zstd 200 B", "deflate/zstd 200 B", Goal::None),
    beside("encode compressed/zstd 600 KB", "deflate/zstd 600 KB", Goal::None),
    beside("encode compressed/zstd 16 MB", "deflate/zstd 16 MB", Goal::None),
    alone("iterate/1000 events as views", Goal::PerEvent(15.0)),
    alone("iterate/1000 events as slices", Goal::None),
    alone("reply/ok and cursor", Goal::None),
    alone("read an event/operation and namespace", Goal::None),
    beside("read an event/typed", "read an event/full document typed, by bson", Goal::None),
    beside("read an event/document", "read an event/full document, by bson", Goal::None),
    alone("apply a hello/1 members", Goal::None),
    alone("apply a hello/3 members", Goal::None),
    alone("apply a hello/10 members", Goal::None),
    alone("apply a hello/50 members", HELLO),
    alone("apply a hello/200 members", Goal::None),
    alone("parse a hello/1 members", Goal::None),
    alone("parse a hello/3 members", Goal::None),
    alone("parse a hello/10 members", Goal::None),
    alone("parse a hello/50 members", Goal::None),
    alone("parse a hello/200 members", Goal::None),
    alone("select a router/1", Goal::None),
    alone("select a router/3", Goal::None),
    alone("select a router/10", Goal::None),
    alone("select a router/50", Goal::None),
    alone("select a router/200", Goal::None),
    alone("select a router/1000", SELECT),
    alone("select a member for a write/1", Goal::None),
    alone("select a member for a write/3", Goal::None),
    alone("select a member for a write/10", Goal::None),
    alone("select a member for a write/50", SELECT),
    alone("select a member for a write/200", Goal::None),
    alone("select a member for a write/1000", Goal::None),
    alone("select a member by nearest/1", Goal::None),
    alone("select a member by nearest/3", Goal::None),
    alone("select a member by nearest/10", Goal::None),
    alone("select a member by nearest/50", SELECT),
    alone("select a member by nearest/200", Goal::None),
    alone("select a member by nearest/1000", Goal::None),
    alone("select a member by tags and staleness/1", Goal::None),
    alone("select a member by tags and staleness/3", Goal::None),
    alone("select a member by tags and staleness/10", Goal::None),
    alone("select a member by tags and staleness/50", SELECT),
    alone("select a member by tags and staleness/200", Goal::None),
    alone("select a member by tags and staleness/1000", Goal::None),
    alone("parse a connection string/one host", Goal::None),
    alone("parse a connection string/three hosts and a password", Goal::None),
    alone("parse a connection string/many options", Goal::None),
];

impl Row {
    /// The row with its figures, from the nanoseconds of each sample.
    ///
    /// Whatever else the machine does can only add to a sample, so the fastest one is shown. The
    /// ratio is the median of those of neighbours, which met the same machine.
    pub(super) fn line(&self, ours: &[f64], bare: Option<&[f64]>) -> String {
        let ratio = bare.map(|bare| median(bare.iter().zip(ours).map(|(bare, ours)| bare / ours)));
        let (ours, bare) = (fastest(ours), bare.map(fastest));
        let (goal, is_met) = match self.goal {
            Goal::None => (String::new(), true),
            Goal::Below(limit) => (format!("below {}", time(limit)), ours < limit),
            Goal::PerEvent(limit) => (
                format!("{:.1} ns an event, below {limit} ns", ours / 1_000.0),
                ours / 1_000.0 < limit,
            ),
            Goal::Speed(least) => (
                format!("at least {least} of the bare speed"),
                ratio.is_some_and(|ratio| ratio >= least),
            ),
        };
        format!(
            "{:<52} {:>11} {:>11} {:>7}  {goal}{}",
            self.ours,
            time(ours),
            bare.map(time).unwrap_or_default(),
            ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            if is_met { "" } else { ": MISSED" },
        )
    }
}

fn fastest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Of an even number the upper one of the two in the middle; 0 of nothing.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Three or four digits and a unit.
fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} \u{b5}s", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_goals_are_told() {
        let row = beside("ours", "bare", Goal::Speed(0.9));
        assert!(!row.line(&[100.0], Some(&[95.0])).contains("MISSED"));
        assert!(
            row.line(&[100.0], Some(&[80.0]))
                .ends_with("at least 0.9 of the bare speed: MISSED")
        );
        let below = alone("ours", Goal::Below(10.0));
        assert!(below.line(&[11.0], None).ends_with("MISSED"));
        let events = alone("ours", Goal::PerEvent(15.0));
        assert!(!events.line(&[14_000.0], None).contains("MISSED"));
    }

    #[test]
    fn times_are_of_the_fastest_sample_and_ratios_of_neighbours() {
        let row = beside("ours", "bare", Goal::None);
        let line = row.line(&[10.0, 40.0, 20.0], Some(&[20.0, 80.0, 10.0]));
        let shown: Vec<_> = line.split_whitespace().collect();
        assert_eq!(shown, ["ours", "10.0", "ns", "10.0", "ns", "2.00"]);
    }

    #[test]
    fn times_have_a_fitting_unit() {
        let shown = [12.34, 1_234.0, 56_789_000.0].map(time);
        assert_eq!(shown, ["12.3 ns", "1.23 \u{b5}s", "56.79 ms"]);
    }
}
