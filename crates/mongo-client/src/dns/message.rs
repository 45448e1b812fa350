//! Questions to a name server and its answers (RFC 1035, RFC 2782).

use std::io;
use std::time::Duration;

use mongo_uri::{SrvRecord, TxtRecord};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Srv,
    Txt,
}

/// The records of one answer; the kind that was not asked for is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) srv: Vec<SrvRecord>,
    pub(super) txt: Vec<TxtRecord>,
}

/// What an answer is good for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Found(Answer),
    /// It does not fit into a datagram: to be asked again over TCP.
    Truncated,
    /// It answers another question.
    Foreign,
}

/// A question in its wire form.
///
/// # Errors
/// The name is none.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let kind = QTYPE::TYPE(match kind {
        Kind::Srv => TYPE::SRV,
        Kind::Txt => TYPE::TXT,
    });
    let name = Name::new(name).map_err(invalid)?;
    packet
        .questions
        .push(Question::new(name, kind, QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(invalid)
}

/// Reads the answer to a question. No such name is an answer without records.
///
/// # Errors
/// The server failed or refused, or its answer cannot be read.
pub(super) fn answer(id: u16, asked: &str, kind: Kind, bytes: &[u8]) -> io::Result<Outcome> {
    let packet = Packet::parse(bytes).map_err(invalid)?;
    let is_ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && packet.questions.iter().all(|question| {
            question
                .qname
                .to_string()
                .eq_ignore_ascii_case(asked.trim_end_matches('.'))
        });
    if !is_ours {
        return Ok(Outcome::Foreign);
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Outcome::Truncated);
    }
    match packet.rcode() {
        RCODE::NoError | RCODE::NameError => {}
        code => return Err(io::Error::other(format!("the name server says {code:?}"))),
    }
    let mut answer = Answer::default();
    for record in &packet.answers {
        let ttl = Duration::from_secs(record.ttl.into());
        match &record.rdata {
            RData::SRV(srv) if kind == Kind::Srv => answer.srv.push(SrvRecord {
                target: srv.target.to_string(),
                port: srv.port,
                ttl,
            }),
            RData::TXT(txt) if kind == Kind::Txt => {
                let strings = txt.iter_raw().map(|(key, value)| match value {
                    Some(value) => [key, b"=", value].concat(),
                    None => key.to_vec(),
                });
                answer.txt.push(TxtRecord(strings.collect()));
            }
            // An alias on the way, or a signature.
            _ => {}
        }
    }
    Ok(Outcome::Found(answer))
}

fn invalid(error: simple_dns::SimpleDnsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use simple_dns::rdata::{SRV, TXT};
    use simple_dns::{ResourceRecord, rdata::RData};

    use super::*;

    const NAME: &str = "_mongodb._tcp.a.example.com";

    fn reply(id: u16, records: Vec<RData<'static>>) -> Packet<'static> {
        let mut packet = Packet::new_reply(id);
        let name = Name::new_unchecked(NAME);
        for data in records {
            let record = ResourceRecord::new(name.clone(), CLASS::IN, 60, data);
            packet.answers.push(record);
        }
        packet
    }

    fn read(packet: &Packet<'_>, kind: Kind) -> io::Result<Outcome> {
        answer(7, NAME, kind, &packet.build_bytes_vec().unwrap())
    }

    #[test]
    fn a_question_reads_back() {
        let bytes = question(9, NAME, Kind::Srv).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.id(), 9);
        assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED));
        assert_eq!(packet.questions[0].qname.to_string(), NAME);
        assert!(question(9, &"a".repeat(70), Kind::Srv).is_err());
    }

    #[test]
    fn records_are_read_and_others_are_passed_over() {
        let srv = RData::SRV(SRV {
            priority: 1,
            weight: 2,
            port: 27_018,
            target: Name::new_unchecked("b.example.com"),
        });
        let txt = TXT::new().with_string("replicaSet=rs&authS").unwrap();
        let txt = RData::TXT(txt.with_string("ource=db").unwrap());
        let packet = reply(7, vec![srv, txt]);
        let Outcome::Found(found) = read(&packet, Kind::Srv).unwrap() else {
            panic!("nothing found");
        };
        assert_eq!(found.txt, []);
        assert_eq!(found.srv.len(), 1);
        assert_eq!(found.srv[0].target, "b.example.com");
        assert_eq!(found.srv[0].port, 27_018);
        assert_eq!(found.srv[0].ttl, Duration::from_secs(60));
        let Outcome::Found(found) = read(&packet, Kind::Txt).unwrap() else {
            panic!("nothing found");
        };
        let strings = [b"replicaSet=rs&authS".to_vec(), b"ource=db".to_vec()];
        assert_eq!(found.txt, [TxtRecord(strings.to_vec())]);
    }

    #[test]
    fn answers_are_told_apart() {
        let mut none = reply(7, Vec::new());
        *none.rcode_mut() = RCODE::NameError;
        assert_eq!(
            read(&none, Kind::Srv).unwrap(),
            Outcome::Found(Answer::default())
        );
        let mut refused = reply(7, Vec::new());
        *refused.rcode_mut() = RCODE::Refused;
        assert!(read(&refused, Kind::Srv).is_err());
        let mut cut = reply(7, Vec::new());
        cut.set_flags(PacketFlag::TRUNCATION);
        assert_eq!(read(&cut, Kind::Srv).unwrap(), Outcome::Truncated);
        assert_eq!(
            read(&reply(8, Vec::new()), Kind::Srv).unwrap(),
            Outcome::Foreign
        );
        assert!(answer(7, NAME, Kind::Srv, b"nonsense").is_err());
    }
}
