//! A stub resolver: it asks the name servers of this machine, one after the other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mongo_uri::{SrvRecord, TxtRecord};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::message::{self, Answer, Kind, Outcome};

/// Where the name servers are written down.
const CONFIGURATION: &str = "/etc/resolv.conf";
/// How long one server may take for one answer.
const LIMIT: Duration = Duration::from_secs(5);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// As many servers as other resolvers ask.
const MAX_SERVERS: usize = 3;
/// No datagram without an agreement is longer.
const MAX_DATAGRAM: usize = 512;

pub(super) async fn srv(name: &str) -> io::Result<Vec<SrvRecord>> {
    Ok(look_up(name, Kind::Srv).await?.srv)
}

pub(super) async fn txt(name: &str) -> io::Result<Vec<TxtRecord>> {
    Ok(look_up(name, Kind::Txt).await?.txt)
}

async fn look_up(name: &str, kind: Kind) -> io::Result<Answer> {
    let configuration = tokio::fs::read_to_string(CONFIGURATION);
    let servers = match configuration.await {
        Ok(text) => servers(&text),
        Err(error) => {
            let what = format!("{CONFIGURATION}: {error}; give a resolver in the options");
            return Err(io::Error::new(error.kind(), what));
        }
    };
    ask_all(&servers, name, kind).await
}

/// The first answer of any server.
async fn ask_all(servers: &[SocketAddr], name: &str, kind: Kind) -> io::Result<Answer> {
    let mut last = io::Error::other("no name server is known");
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        match tokio::time::timeout(LIMIT, ask(*server, name, kind)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
        last = io::Error::new(last.kind(), format!("name server {server}: {last}"));
    }
    Err(last)
}

async fn ask(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Answer> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let id = u16::from_be_bytes(id);
    let question = message::question(id, name, kind)?;
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match message::answer(id, name, kind, &buffer[..length]) {
            Ok(Outcome::Found(answer)) => return Ok(answer),
            Ok(Outcome::Truncated) => break,
            // Somebody else's, or of an attacker who guesses: the true one may still come.
            Ok(Outcome::Foreign) => {}
            Err(error) => return Err(error),
        }
    }
    let answer = ask_by_stream(server, &question).await?;
    match message::answer(id, name, kind, &answer)? {
        Outcome::Found(answer) => Ok(answer),
        Outcome::Truncated | Outcome::Foreign => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn ask_by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The name servers of a `resolv.conf`; this machine itself where it has none.
fn servers(configuration: &str) -> Vec<SocketAddr> {
    let named = configuration.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next());
        // The operating system's resolver takes a zone, which only link-local addresses have.
        address??.parse::<IpAddr>().ok()
    });
    let mut servers: Vec<_> = named.map(|address| SocketAddr::new(address, 53)).collect();
    servers.truncate(MAX_SERVERS);
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    servers
}

#[cfg(test)]
mod tests {
    use simple_dns::rdata::{RData, SRV};
    use simple_dns::{CLASS, Name, Packet, PacketFlag, ResourceRecord};

    use super::*;

    #[test]
    fn servers_come_from_the_configuration() {
        let text = "# nameserver 9.9.9.9\nsearch x\nnameserver 10.0.0.1\n nameserver ::1 \n\
                    nameserver nonsense\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        let expected = ["10.0.0.1:53", "[::1]:53", "10.0.0.2:53"];
        assert_eq!(
            servers(text),
            expected.map(|address| address.parse().unwrap())
        );
        assert_eq!(servers(""), ["127.0.0.1:53".parse().unwrap()]);
    }

    fn reply(question: &[u8], flags: PacketFlag) -> Vec<u8> {
        let asked = Packet::parse(question).unwrap();
        let mut reply = Packet::new_reply(asked.id());
        reply.set_flags(flags);
        if !flags.contains(PacketFlag::TRUNCATION) {
            let target = Name::new_unchecked("host.example.com");
            let srv = SRV {
                priority: 0,
                weight: 0,
                port: 27_017,
                target,
            };
            let name = asked.questions[0].qname.clone();
            let record = ResourceRecord::new(name, CLASS::IN, 60, RData::SRV(srv));
            reply.answers.push(record);
        }
        reply.build_bytes_vec().unwrap()
    }

    #[tokio::test]
    async fn a_long_answer_is_fetched_over_tcp_and_a_dead_server_is_passed_over() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let datagrams = UdpSocket::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; MAX_DATAGRAM];
            let (length, from) = datagrams.recv_from(&mut buffer).await.unwrap();
            // A forged answer first, which must not count.
            let mut forged = reply(&buffer[..length], PacketFlag::RESPONSE);
            forged[0] ^= 1;
            datagrams.send_to(&forged, from).await.unwrap();
            let cut = reply(&buffer[..length], PacketFlag::TRUNCATION);
            datagrams.send_to(&cut, from).await.unwrap();
        });
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut question).await.unwrap();
            let whole = reply(&question, PacketFlag::RESPONSE);
            let length = u16::try_from(whole.len()).unwrap();
            stream.write_all(&length.to_be_bytes()).await.unwrap();
            stream.write_all(&whole).await.unwrap();
        });
        // Nobody listens on the discard port, which a connected socket is told.
        let dead = "127.0.0.1:9".parse().unwrap();
        let name = "_mongodb._tcp.a.example.com";
        let found = ask_all(&[dead, address], name, Kind::Srv).await.unwrap();
        assert_eq!(found.srv[0].target, "host.example.com");
        let error = ask_all(&[dead], name, Kind::Srv).await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
    }
}
