//! Options with rules of their own: how each is read and written back.

use std::time::Duration;

use super::value::{self, PORT, Refusal, STALENESS, ZLIB_LEVEL};
use super::{Compressor, ServerMonitoringMode, UriOptions};
use crate::concern::{Acknowledgment, ReadConcern, ReadConcernLevel};
use crate::error::OptionProblem;
use crate::read_preference::{ReadPreferenceMode, TagSet};
use crate::warning::WarningKind;

mod auth;
mod srv;

pub(super) use auth::*;
pub(super) use srv::*;

/// Takes the decoded text of an option.
pub(super) type Reader = fn(&mut UriOptions, &str, &mut Vec<WarningKind>) -> Result<(), Refusal>;
/// Gives the option's values back, decoded.
pub(super) type Writer = fn(&UriOptions) -> Vec<String>;

type Warnings = Vec<WarningKind>;

/// Longest `appname` that a server takes (Handshake specification, "Limitations"), in bytes.
const MAX_APP_NAME: usize = 128;

fn invalid(expected: &'static str) -> Refusal {
    Refusal::Ignored(WarningKind::InvalidValue { expected })
}

fn one<T: ToString>(value: Option<T>) -> Vec<String> {
    value.map(|value| value.to_string()).into_iter().collect()
}

pub(super) fn write_nothing(_: &UriOptions) -> Vec<String> {
    Vec::new()
}

pub(super) fn read_app_name(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    if text.len() > MAX_APP_NAME {
        return Err(invalid("at most 128 bytes"));
    }
    o.app_name = Some(value::present(text)?.to_owned());
    Ok(())
}

pub(super) fn write_app_name(o: &UriOptions) -> Vec<String> {
    one(o.app_name.as_deref())
}

pub(super) fn read_monitoring(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    o.server_monitoring_mode = Some(match value::present(text)? {
        "auto" => ServerMonitoringMode::Auto,
        "stream" => ServerMonitoringMode::Stream,
        "poll" => ServerMonitoringMode::Poll,
        _ => return Err(invalid("auto, stream or poll")),
    });
    Ok(())
}

pub(super) fn write_monitoring(o: &UriOptions) -> Vec<String> {
    one(o.server_monitoring_mode.map(ServerMonitoringMode::as_str))
}

pub(super) fn read_mode(o: &mut UriOptions, text: &str, _: &mut Warnings) -> Result<(), Refusal> {
    let mode = value::present(text)?
        .parse::<ReadPreferenceMode>()
        .map_err(|_| {
            invalid("primary, primaryPreferred, secondary, secondaryPreferred or nearest")
        })?;
    o.read_preference.get_or_insert_default().mode = mode;
    Ok(())
}

pub(super) fn write_mode(o: &UriOptions) -> Vec<String> {
    one(o.read_preference.as_ref().map(|preference| preference.mode))
}

/// An empty value is the empty set, which matches every member.
pub(super) fn read_tags(o: &mut UriOptions, text: &str, _: &mut Warnings) -> Result<(), Refusal> {
    let tags = match text {
        "" => TagSet::default(),
        _ => {
            TagSet(value::map(text).ok_or_else(|| invalid("name:value pairs with commas between"))?)
        }
    };
    o.read_preference
        .get_or_insert_default()
        .tag_sets
        .push(tags);
    Ok(())
}

pub(super) fn write_tags(o: &UriOptions) -> Vec<String> {
    o.read_preference
        .iter()
        .flat_map(|p| &p.tag_sets)
        .map(TagSet::to_string)
        .collect()
}

pub(super) fn read_staleness(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    let seconds = value::integer(text, &STALENESS)?;
    // -1 means no limit.
    let staleness = u64::try_from(seconds).ok().map(Duration::from_secs);
    o.read_preference.get_or_insert_default().max_staleness = staleness;
    Ok(())
}

pub(super) fn write_staleness(o: &UriOptions) -> Vec<String> {
    one(o
        .read_preference
        .as_ref()
        .and_then(|p| p.max_staleness)
        .map(|limit| limit.as_secs()))
}

pub(super) fn read_level(o: &mut UriOptions, text: &str, _: &mut Warnings) -> Result<(), Refusal> {
    o.read_concern = Some(ReadConcern::new(ReadConcernLevel::from(value::present(
        text,
    )?)));
    Ok(())
}

pub(super) fn write_level(o: &UriOptions) -> Vec<String> {
    one(o
        .read_concern
        .as_ref()
        .and_then(|c| c.level.as_ref())
        .map(ReadConcernLevel::as_str))
}

/// Whatever is no number is the name of a mode; a number that cannot be counted to is an error.
pub(super) fn read_w(o: &mut UriOptions, text: &str, _: &mut Warnings) -> Result<(), Refusal> {
    let digits = value::present(text)?.strip_prefix('-').unwrap_or(text);
    let w = if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let expected = "a whole number of at least 0, majority, or the name of a mode";
        let nodes = value::count(text, &value::NON_NEGATIVE)
            .map_err(|_| OptionProblem::Invalid { expected })?;
        Acknowledgment::Nodes(nodes)
    } else {
        Acknowledgment::from(text)
    };
    o.write_concern.get_or_insert_default().w = Some(w);
    Ok(())
}

pub(super) fn write_w(o: &UriOptions) -> Vec<String> {
    one(o
        .write_concern
        .as_ref()
        .and_then(|concern| concern.w.as_ref()))
}

pub(super) fn read_compressors(
    o: &mut UriOptions,
    text: &str,
    warnings: &mut Warnings,
) -> Result<(), Refusal> {
    let mut known = Vec::new();
    let mut names = Vec::new();
    for name in value::present(text)?.split(',') {
        let all = [Compressor::Snappy, Compressor::Zlib, Compressor::Zstd];
        match all
            .into_iter()
            .find(|compressor| compressor.as_str() == name)
        {
            Some(compressor) if known.contains(&compressor) => {}
            Some(compressor) => known.push(compressor),
            None => names.push(name.to_owned()),
        }
    }
    if !names.is_empty() {
        warnings.push(WarningKind::UnknownCompressors { names });
    }
    o.compressors = (!known.is_empty()).then_some(known);
    Ok(())
}

pub(super) fn write_compressors(o: &UriOptions) -> Vec<String> {
    let join = |list: &Vec<Compressor>| {
        list.iter()
            .map(|compressor| compressor.as_str())
            .collect::<Vec<_>>()
            .join(",")
    };
    one(o.compressors.as_ref().map(join))
}

pub(super) fn read_zlib_level(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    let level = value::integer(text, &ZLIB_LEVEL)?;
    o.zlib_compression_level = i32::try_from(level).ok();
    Ok(())
}

pub(super) fn write_zlib_level(o: &UriOptions) -> Vec<String> {
    one(o.zlib_compression_level)
}

pub(super) fn read_proxy_host(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    o.proxy.get_or_insert_default().host = value::present(text)?.to_owned();
    Ok(())
}

pub(super) fn write_proxy_host(o: &UriOptions) -> Vec<String> {
    let hosts = o.proxy.iter().map(|proxy| proxy.host.clone());
    hosts.filter(|host| !host.is_empty()).collect()
}

pub(super) fn read_proxy_port(
    o: &mut UriOptions,
    text: &str,
    _: &mut Warnings,
) -> Result<(), Refusal> {
    let port = value::integer(text, &PORT)?;
    o.proxy.get_or_insert_default().port = u16::try_from(port).ok();
    Ok(())
}

pub(super) fn write_proxy_port(o: &UriOptions) -> Vec<String> {
    one(o.proxy.as_ref().and_then(|proxy| proxy.port))
}
