//! Streams against a model of the oplog: whatever fails and whenever, the application sees every
//! event after its start once and in order, and its token always names the place between what it
//! has seen and what it has not.

use std::{collections::BTreeSet, time::Duration};

use bson::{Document, Timestamp};
use mongo_change_stream::{
    FailureKind, GapCause, HistoryLost, OnInvalidate, Oversize, Prefetch, StreamConfig,
    StreamError, StreamEvent, WatchOptions, WatchTarget,
};
use proptest::{collection::vec, option, prelude::*};

use crate::{
    harness::{Command, Stream, WIRE_4_2, WIRE_6_0},
    oplog::{Entry, Fault, Server, next_of, user_stage},
};

#[derive(Debug, Clone)]
enum Step {
    Write(Entry, usize),
    /// The command under way, or the reading of what comes unasked, if any, is answered like this,
    /// and, where that is allowed, with more to come or not.
    Answer(Fault, usize, bool),
    /// The application reads so many events, and waits if there are fewer.
    Read(usize),
    Pass(u64),
    /// The application ends, with or without a farewell, and starts again from its token.
    Restart {
        farewell: bool,
        start_after: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let entry = prop_oneof![
        8 => Just(Entry::Matching),
        2 => Just(Entry::Large),
        4 => Just(Entry::Other),
        1 => Just(Entry::Invalidate),
    ];
    let fault = prop_oneof![
        10 => Just(Fault::None),
        1 => Just(Fault::NotSent),
        1 => Just(Fault::ReplyLost),
        1 => Just(Fault::StateChange),
        1 => Just(Fault::CursorsGone),
        1 => Just(Fault::Permanent),
        1 => Just(Fault::Forgets),
    ];
    prop_oneof![
        4 => (entry, 1..4_usize).prop_map(|(entry, count)| Step::Write(entry, count)),
        8 => (fault, 1..5_usize, any::<bool>())
            .prop_map(|(fault, limit, more)| Step::Answer(fault, limit, more)),
        6 => (1..6_usize).prop_map(Step::Read),
        3 => (1..9_000_u64).prop_map(Step::Pass),
        1 => any::<(bool, bool)>()
            .prop_map(|(farewell, start_after)| Step::Restart { farewell, start_after }),
    ]
}

const JOIN: Oversize = Oversize::Join { limit: 10_000 };

fn config() -> impl Strategy<Value = StreamConfig> {
    let window = option::of((0..4_usize, 0..2_000_usize));
    (window, any::<[bool; 3]>()).prop_map(|(window, [continues, skips, exhaust])| StreamConfig {
        prefetch: window.map(|(batches, bytes)| Prefetch::new(batches, bytes)),
        history_lost: HistoryLost::FromNow,
        invalidate: if continues {
            OnInvalidate::Continue
        } else {
            OnInvalidate::End
        },
        oversize: if skips { Oversize::Skip } else { JOIN },
        exhaust,
        ..StreamConfig::default()
    })
}

struct Model {
    server: Server,
    stream: Stream,
    config: StreamConfig,
    /// The first entry the application is to see.
    start: usize,
    /// The entry behind the last one it has seen.
    seen: usize,
    handed_out: Vec<usize>,
    token: usize,
    /// The large events that were reported as left out.
    left_out: BTreeSet<usize>,
    /// What the server goes on to answer unasked.
    streaming: Option<Command>,
    log: Vec<String>,
}

fn open(options: WatchOptions, config: &StreamConfig, wire: i32) -> Stream {
    let target = WatchTarget::Collection {
        database: "model".into(),
        collection: "c".into(),
    };
    let mut stream = Stream::watching(target, &[user_stage()], options, config.clone());
    stream.wire = wire;
    stream
}

/// Whether a server may go on behind this unasked.
fn is_open(reply: &Document) -> bool {
    let cursor = reply.get_document("cursor");
    cursor.is_ok_and(|cursor| cursor.get_i64("id").unwrap() != 0)
}

impl Model {
    /// A stream that says where it starts, on an oplog that goes back further.
    fn new(config: StreamConfig, mut server: Server) -> Self {
        let wire = server.wire;
        server.entries = vec![Entry::Matching, Entry::Other, Entry::Matching];
        let start = 1;
        let stream = open(Self::from_time(start), &config, wire);
        Self {
            server,
            stream,
            config,
            start,
            seen: start,
            handed_out: vec![],
            token: 0,
            left_out: BTreeSet::new(),
            streaming: None,
            log: vec![],
        }
    }

    fn from_time(entry: usize) -> WatchOptions {
        let time = u32::try_from(entry).unwrap();
        WatchOptions {
            start_at_operation_time: Some(Timestamp { time, increment: 0 }),
            ..WatchOptions::default()
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Write(entry, count) => {
                let count = if entry == Entry::Invalidate { 1 } else { count };
                self.server
                    .entries
                    .extend(std::iter::repeat_n(entry, count));
            }
            Step::Answer(fault, limit, more) => self.answer(fault, limit, more),
            Step::Read(count) => self.read(count),
            Step::Pass(millis) => self.stream.pass(Duration::from_millis(millis)),
            Step::Restart {
                farewell,
                start_after,
            } => self.restart(farewell, start_after),
        }
        self.check();
    }

    fn answer(&mut self, fault: Fault, limit: usize, more: bool) {
        let command = self.stream.command.clone();
        // Whoever is still being answered takes no command.
        let is_get_more = command.as_ref().is_some_and(Command::is_get_more);
        assert!(self.streaming.is_none() || !is_get_more, "{command:?}");
        let unasked = self.streaming.clone().filter(|_| self.stream.reading);
        if let Some(command) = command.or(unasked) {
            self.streaming = None;
            match self.server.run(&command, fault, limit) {
                Some(reply) if more && command.exhaust && is_open(&reply) => {
                    self.streaming = Some(command);
                    self.stream.streamed(&reply);
                }
                Some(reply) => self.stream.reply(&reply),
                None => self.stream.fail(FailureKind::Network),
            }
        }
        for killed in std::mem::take(&mut self.stream.killed) {
            self.server.kill(&killed);
        }
        self.note_gaps();
    }

    /// Each gap is one large event, or is what was lost before the stream got there.
    fn note_gaps(&mut self) {
        for event in std::mem::take(&mut self.stream.events) {
            let StreamEvent::Gap(gap) = event else {
                continue;
            };
            if gap.cause == GapCause::Oversize {
                assert_eq!(self.config.oversize, Oversize::Skip);
                let end = gap.to.token.expect("the token of its last fragment");
                let place = next_of(end.as_raw().get_str("t").unwrap()) - 1;
                assert_eq!(self.server.entries[place], Entry::Large);
                self.left_out.insert(place);
            }
        }
    }

    fn read(&mut self, count: usize) {
        for _ in 0..count {
            let Some(event) = self.stream.next() else {
                if self.stream.finished.is_some() {
                    self.restart(true, false);
                }
                return self.stream.demand();
            };
            let event = event.unwrap();
            assert!(!event.contains_key("splitEvent"), "{event}");
            let id = event.get_document("_id").unwrap().get_str("t").unwrap();
            self.handed_out.push(next_of(id) - 1);
            self.seen = next_of(id);
            self.check();
        }
    }

    fn restart(&mut self, farewell: bool, start_after: bool) {
        if let Some(Err(error)) = &self.stream.finished {
            // Only what the server has said ends a stream.
            let is_told = matches!(
                error,
                StreamError::Server { .. } | StreamError::Failed { .. }
            );
            assert!(is_told, "{error}");
        }
        if farewell {
            self.stream.close();
            self.answer(Fault::None, 1, false);
            assert!(self.stream.finished.is_some());
            self.check_cursors();
        } else {
            self.server.orphans.extend(self.server.cursors.keys());
        }
        self.log.append(&mut self.stream.log);
        let options = match self.stream.reader.resume_token() {
            // An application that has seen an invalidate knows that it needs startAfter.
            Some(token) if start_after || self.stream.token().unwrap().ends_with('i') => {
                WatchOptions {
                    start_after: Some(token),
                    ..WatchOptions::default()
                }
            }
            Some(token) => WatchOptions {
                resume_after: Some(token),
                ..WatchOptions::default()
            },
            None => Self::from_time(self.start),
        };
        self.stream = open(options, &self.config, self.server.wire);
    }

    /// The token lies behind everything seen and before everything unseen, and never goes back.
    fn check(&mut self) {
        if let Some(token) = self.stream.token() {
            assert!(
                !token.contains('f'),
                "the token of an unfinished group: {token}"
            );
            let token = next_of(&token);
            let unseen = self.expected().find(|entry| *entry >= self.seen);
            assert!(
                token >= self.token,
                "the token went back from {} to {token}",
                self.token
            );
            assert!(
                token >= self.seen,
                "token {token} before {}, which was seen",
                self.seen
            );
            assert!(
                unseen.is_none_or(|entry| token <= entry),
                "token {token} skips {unseen:?}"
            );
            self.token = token;
        }
        let limit = self
            .config
            .prefetch
            .map_or(1, |prefetch| prefetch.batches.max(1));
        assert!(
            self.stream.waiting <= limit,
            "{} batches wait",
            self.stream.waiting
        );
    }

    fn check_cursors(&self) {
        let lost: Vec<_> = self
            .server
            .cursors
            .keys()
            .filter(|id| !self.server.orphans.contains(id))
            .collect();
        assert!(lost.is_empty(), "cursors left behind: {lost:?}");
    }

    /// The entries that the application is to see.
    fn expected(&self) -> impl Iterator<Item = usize> {
        let skips = self.config.oversize == Oversize::Skip;
        self.known(move |entry| match entry {
            Entry::Other => false,
            Entry::Large => !skips,
            Entry::Matching | Entry::Invalidate => true,
        })
    }

    /// The entries of a kind that no stream came too late for.
    fn known(&self, is_wanted: impl Fn(Entry) -> bool) -> impl Iterator<Item = usize> {
        let entries = self.server.entries.iter().enumerate().skip(self.start);
        entries
            .filter(move |(_, entry)| is_wanted(**entry))
            .filter(|(place, _)| !self.server.lost.iter().any(|range| range.contains(place)))
            .map(|(place, _)| place)
    }

    /// Lets the application read on undisturbed until it has seen everything.
    fn settle(mut self) -> Vec<String> {
        for _ in 0..40 {
            self.apply(&Step::Pass(9_000));
            self.apply(&Step::Answer(Fault::None, 50, true));
            self.apply(&Step::Read(50));
        }
        assert_eq!(self.handed_out, self.expected().collect::<Vec<_>>());
        if self.config.oversize == Oversize::Skip {
            let mut large = self.known(|entry| entry == Entry::Large);
            assert!(
                large.all(|place| self.left_out.contains(&place)),
                "large events left out without a word; reported: {:?}",
                self.left_out
            );
        }
        self.restart(true, false);
        self.log
    }
}

fn run(steps: &[Step], config: &StreamConfig, server: Server) -> Vec<String> {
    let mut model = Model::new(config.clone(), server);
    for step in steps {
        model.apply(step);
    }
    model.settle()
}

/// A large event among small ones, and one failure at every place that there is: before a command,
/// behind it, and with the end of the server, whose successor cuts the event another way.
#[test]
fn a_cut_at_any_place_of_a_group_loses_and_repeats_nothing() {
    use Entry::{Large, Matching};
    let faults = [
        Fault::NotSent,
        Fault::ReplyLost,
        Fault::StateChange,
        Fault::CursorsGone,
    ];
    // The aggregate, and one event or fragment with each getMore.
    const COMMANDS: usize = 14;
    for oversize in [JOIN, Oversize::Skip] {
        for exhaust in [false, true] {
            let config = StreamConfig {
                oversize,
                exhaust,
                prefetch: Some(Prefetch::new(9, 1 << 20)),
                ..StreamConfig::default()
            };
            for (fault, cut, limit) in faults.iter().flat_map(|fault| {
                (0..COMMANDS).flat_map(move |cut| (1..4).map(move |limit| (*fault, cut, limit)))
            }) {
                // An aggregate is told to fail at once by what is no network's failure.
                if cut == 0
                    && matches!(
                        fault,
                        Fault::NotSent | Fault::ReplyLost | Fault::StateChange
                    )
                {
                    continue;
                }
                let mut model = Model::new(config.clone(), Server::new(true, true, WIRE_6_0));
                let entries = [Matching, Large, Matching, Large, Large, Matching];
                model.server.entries.extend(entries);
                for command in 0..COMMANDS {
                    let fault = if command == cut { fault } else { Fault::None };
                    model.apply(&Step::Answer(fault, limit, true));
                    model.apply(&Step::Pass(500));
                    assert!(model.stream.finished.is_none());
                }
                model.settle();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_event_once_and_in_order_whatever_fails(
        steps in vec(step(), 0..60),
        config in config(),
        (names_end, lingers) in any::<(bool, bool)>(),
        wire in prop_oneof![Just(WIRE_4_2), Just(WIRE_6_0)],
    ) {
        run(&steps, &config, Server::new(names_end, lingers, wire));
    }

    #[test]
    fn same_inputs_and_seed_give_the_same_actions(steps in vec(step(), 0..40), config in config()) {
        let server = || Server::new(true, true, WIRE_6_0);
        prop_assert_eq!(run(&steps, &config, server()), run(&steps, &config, server()));
    }
}
