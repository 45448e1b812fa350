//! No server and no file outlives the process that held a deployment, however it ends.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test and its helpers"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio, exit};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use testbed::cluster::ReplicaSet;

/// Set in the helper processes of this test: how they end.
const ENDING: &str = "TESTBED_CLEANUP_ENDING";

/// How long the servers may take to go.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often it is looked whether they have.
const PACE: Duration = Duration::from_millis(10);

/// Becomes another program that Ctrl-C ends. What was started in the background by a shell, or by
/// `nohup`, ignores SIGINT, and so does all that it starts; no shell can undo that.
const LAUNCHER: &str = "import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])";

/// Does nothing unless it is run as a helper process: then it starts a set, pauses a member, says
/// so, waits until that was read, and ends in the way it was told to, or waits for a signal.
#[test]
fn hold_a_replica_set() {
    let Ok(ending) = std::env::var(ENDING) else {
        return;
    };
    let set = ReplicaSet::start(if ending == "killed" { 2 } else { 1 }).unwrap();
    set.member(0).pause().unwrap();
    println!();
    for member in set.members() {
        println!("pid {}", member.pid().unwrap());
    }
    println!("folder {}", set.folder().display());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    match ending.as_str() {
        "exit" => exit(0),
        "panic" => panic!("as told"),
        _ => loop {
            std::thread::park();
        },
    }
}

#[test]
fn nothing_is_left_after_any_end() {
    std::thread::scope(|scope| {
        for (ending, signal) in [
            ("exit", None),
            ("panic", None),
            ("killed", Some(Signal::KILL)),
            ("terminated", Some(Signal::TERM)),
            ("interrupted", Some(Signal::INT)),
        ] {
            scope.spawn(move || ends_cleanly(ending, signal));
        }
    });
}

fn ends_cleanly(ending: &str, signal: Option<Signal>) {
    let mut helper = Command::new("python3")
        .args(["-c", LAUNCHER])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "hold_a_replica_set", "--nocapture"])
        .env(ENDING, ending)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (pids, folder) = read_report(&mut helper);
    let end = Instant::now();
    // Before this, a helper that ends by itself could be gone before its report was looked at.
    helper.stdin.take().unwrap().write_all(b"\n").unwrap();
    if let Some(signal) = signal {
        // As Ctrl-C in a terminal does, this reaches the whole process group.
        kill_process_group(Pid::from_child(&helper), signal).unwrap();
    }
    while helper.try_wait().unwrap().is_none() {
        if end.elapsed() > DEADLINE {
            helper.kill().unwrap();
            panic!("{ending}: the helper goes on");
        }
        std::thread::sleep(PACE);
    }
    while Path::new(&folder).exists() || pids.iter().any(|&pid| is_alive(pid)) {
        assert!(
            end.elapsed() < DEADLINE,
            "{ending}: {pids:?} or {folder} is still there"
        );
        std::thread::sleep(PACE);
    }
    println!(
        "{ending}: {} servers gone after {:?}",
        pids.len(),
        end.elapsed()
    );
}

fn read_report(helper: &mut Child) -> (Vec<Pid>, String) {
    let mut pids = Vec::new();
    for line in BufReader::new(helper.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(pid) = line.strip_prefix("pid ") {
            let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
            assert!(is_alive(pid));
            pids.push(pid);
        } else if let Some(folder) = line.strip_prefix("folder ") {
            assert!(Path::new(folder).is_dir());
            return (pids, folder.to_owned());
        }
    }
    panic!("the helper started no replica set");
}

/// Whether a process runs; one that has ended but that nobody waited for does not.
fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let ended = stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|s| s.starts_with(" Z")));
    !ended && test_kill_process(pid).is_ok()
}
