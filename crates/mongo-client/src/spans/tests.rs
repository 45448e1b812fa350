use bson::rawdoc;

use super::*;

fn environment<'a>(
    enabled: Option<&'a str>,
    length: Option<&'a str>,
) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| match name {
        ENABLED => enabled.map(str::to_owned),
        QUERY_TEXT_MAX_LENGTH => length.map(str::to_owned),
        other => unreachable!("{other} says nothing about spans"),
    }
}

#[test]
fn options_go_before_the_environment_and_without_both_there_is_nothing() {
    let options = |enabled, query_text_max_length| TracingOptions {
        enabled,
        query_text_max_length,
    };
    for (options, enabled, length, expected) in [
        (options(None, None), None, None, (false, 0)),
        (options(None, None), Some("true"), Some("7"), (true, 7)),
        (options(None, None), Some("1"), Some(" 7 "), (true, 7)),
        (options(None, None), Some("Yes"), Some("-7"), (true, 0)),
        (options(None, None), Some("false"), Some("many"), (false, 0)),
        (options(None, None), Some(""), None, (false, 0)),
        (options(Some(true), None), None, None, (true, 0)),
        (
            options(Some(true), Some(3)),
            Some("0"),
            Some("7"),
            (true, 3),
        ),
        (
            options(Some(false), Some(0)),
            Some("1"),
            Some("7"),
            (false, 0),
        ),
    ] {
        let spans = Spans::new(options, environment(enabled, length), 1);
        let found = (spans.is_enabled, spans.query_text_max_length);
        assert_eq!(found, expected, "{options:?} {enabled:?} {length:?}");
    }
}

#[test]
fn collections_are_told_where_commands_name_them() {
    for (command, database, expected) in [
        (rawdoc! { "find": "c" }, "d", Some("c")),
        (rawdoc! { "find": "system.users" }, "admin", None),
        (rawdoc! { "aggregate": 1 }, "d", None),
        (
            rawdoc! { "getMore": 5_i64, "collection": "c" },
            "d",
            Some("c"),
        ),
        (
            rawdoc! { "getMore": 5_i64, "collection": "$cmd.aggregate" },
            "d",
            None,
        ),
        (
            rawdoc! { "killCursors": "c", "cursors": [5_i64] },
            "d",
            Some("c"),
        ),
        (rawdoc! { "dropUser": "somebody" }, "d", None),
        (rawdoc! { "ping": 1 }, "d", None),
        (rawdoc! {}, "d", None),
    ] {
        assert_eq!(collection_of(&command, database), expected, "{command:?}");
    }
}

#[test]
fn cursors_are_told_where_they_are_made_and_used() {
    for (command, expected) in [
        (rawdoc! { "getMore": 5_i64, "collection": "c" }, Some(5)),
        (rawdoc! { "killCursors": "c", "cursors": [6_i64] }, Some(6)),
        (rawdoc! { "killCursors": "c", "cursors": [] }, None),
        (rawdoc! { "find": "c" }, None),
    ] {
        assert_eq!(cursor_used(&command), expected, "{command:?}");
    }
    for (reply, expected) in [
        (rawdoc! { "ok": 1, "cursor": { "id": 7_i64 } }, Some(7)),
        (rawdoc! { "ok": 1, "cursor": { "id": 0_i64 } }, None),
        (rawdoc! { "ok": 1 }, None),
    ] {
        assert_eq!(cursor_made(&CommandReply::new(reply.into())), expected);
    }
}

#[test]
fn a_session_is_told_by_its_uuid() {
    let told = |id: &RawDocument| {
        let command = rawdoc! { "lsid": id.to_owned() };
        session_id(Elements::find(&command, "lsid")?)
    };
    assert_eq!(
        told(&crate::session::lsid([0xab; 16])).as_deref(),
        Some("abababab-abab-abab-abab-abababababab")
    );
    assert_eq!(told(&rawdoc! { "id": 1 }), None);
}
