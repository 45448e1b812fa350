//! Artefacts come from the registry itself, not from the cache of the workspace.

use std::fs::File;
use std::thread;

use testbed::fetch::{Artefact, Cache, OPENSSL_1_1, SPEC_TESTS};

#[test]
fn a_wheel_is_fetched_once_by_racing_callers() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path().join("cache"));
    let obtain = || {
        let lib = cache.obtain(&OPENSSL_1_1).unwrap().join("lib");
        assert!(lib.join("libssl.so.1.1").is_file());
        assert!(lib.join("libcrypto.so.1.1").is_file());
        // A folder that was fetched again, now or later, would not have the mark any more.
        File::create_new(lib.join("mark")).is_ok()
    };
    let firsts = thread::scope(|scope| {
        let racing = [(); 3].map(|()| scope.spawn(obtain));
        racing.map(|thread| thread.join().unwrap())
    });
    assert_eq!(firsts.iter().filter(|&&first| first).count(), 1);
    assert!(!obtain());
}

#[test]
fn specification_tests_are_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let source = Cache::at(folder.path()).obtain(&SPEC_TESTS).unwrap();
    assert!(source.join("source/test/change_streams/unified").is_dir());
}

#[test]
fn specification_tests_are_kept_for_the_workspace() {
    let tests = testbed::specs::obtain().unwrap();
    assert!(tests.join("discovery_and_monitoring").is_dir());
    assert!(tests.starts_with(Cache::shared().root()));
}

#[test]
fn other_content_than_the_pinned_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = Artefact {
        sha256: SPEC_TESTS.sha256,
        ..OPENSSL_1_1
    };
    let error = Cache::at(folder.path()).obtain(&wrong).unwrap_err();
    assert!(
        format!("{error:#}").to_lowercase().contains("hash"),
        "{error:#}"
    );
    assert!(!folder.path().join(OPENSSL_1_1.name).exists());
}
