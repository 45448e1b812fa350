//! Streams against a model of the oplog: whatever fails and whenever, the application sees every
//! event after its start once and in order, and its token always names the place between what it
//! has seen and what it has not.

use std::time::Duration;

use bson::Timestamp;
use mongo_change_stream::{
    FailureKind, HistoryLost, OnInvalidate, Oversize, Prefetch, StreamConfig, WatchOptions,
    WatchTarget,
};
use proptest::{collection::vec, option, prelude::*};

use crate::{
    harness::{Stream, WIRE_4_2, WIRE_6_0},
    oplog::{Entry, Fault, Server, next_of, user_stage},
};

#[derive(Debug, Clone)]
enum Step {
    Write(Entry, usize),
    /// The command under way, if any, is answered like this.
    Answer(Fault, usize),
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
        8 => (fault, 1..5_usize).prop_map(|(fault, limit)| Step::Answer(fault, limit)),
        6 => (1..6_usize).prop_map(Step::Read),
        3 => (1..9_000_u64).prop_map(Step::Pass),
        1 => any::<(bool, bool)>()
            .prop_map(|(farewell, start_after)| Step::Restart { farewell, start_after }),
    ]
}

fn config() -> impl Strategy<Value = StreamConfig> {
    let window = option::of((0..4_usize, 0..2_000_usize));
    (window, any::<bool>()).prop_map(|(window, continues)| StreamConfig {
        prefetch: window.map(|(batches, bytes)| Prefetch::new(batches, bytes)),
        history_lost: HistoryLost::FromNow,
        invalidate: if continues {
            OnInvalidate::Continue
        } else {
            OnInvalidate::End
        },
        oversize: Oversize::Join { limit: 10_000 },
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
            Step::Answer(fault, limit) => self.answer(fault, limit),
            Step::Read(count) => self.read(count),
            Step::Pass(millis) => self.stream.pass(Duration::from_millis(millis)),
            Step::Restart {
                farewell,
                start_after,
            } => self.restart(farewell, start_after),
        }
        self.check();
    }

    fn answer(&mut self, fault: Fault, limit: usize) {
        if let Some(command) = self.stream.command.clone() {
            match self.server.run(&command, fault, limit) {
                Some(reply) => self.stream.reply(&reply),
                None => self.stream.fail(FailureKind::Network),
            }
        }
        for killed in std::mem::take(&mut self.stream.killed) {
            self.server.kill(&killed);
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
        if farewell {
            self.stream.close();
            self.answer(Fault::None, 1);
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

    fn expected(&self) -> impl Iterator<Item = usize> {
        let entries = self.server.entries.iter().enumerate().skip(self.start);
        entries
            .filter(|(_, entry)| **entry != Entry::Other)
            .filter(|(place, _)| !self.server.lost.iter().any(|range| range.contains(place)))
            .map(|(place, _)| place)
    }

    /// Lets the application read on undisturbed until it has seen everything.
    fn settle(mut self) -> Vec<String> {
        for _ in 0..40 {
            self.apply(&Step::Pass(9_000));
            self.apply(&Step::Answer(Fault::None, 50));
            self.apply(&Step::Read(50));
        }
        assert_eq!(self.handed_out, self.expected().collect::<Vec<_>>());
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
