//! A connection pooler as PgBouncer is one, in a hundred lines: it takes no startup parameter that it does
//! not know, and gives each session or each transaction a connection to the server.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// For how long a client keeps a connection to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// As long as it is connected itself.
    Session,
    /// For one transaction. There is one connection, which all share.
    Transaction,
}

/// A pooler on a port of its own, for as long as the runtime lasts that it was started on.
pub struct Pooler {
    server: u16,
    port: u16,
}

/// The one connection to the server, and what the server said of itself at its beginning.
struct Shared {
    server: TcpStream,
    greeting: Vec<u8>,
}

/// Nothing until the first client has logged in.
type Backend = Arc<Mutex<Option<Shared>>>;

/// A message: its kind, and all of it as it was sent.
struct Message(u8, Vec<u8>);

impl Pooler {
    /// Stands before the server that listens on this port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub async fn start(server: u16, pooling: Pooling) -> Pooler {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let backend = Backend::default();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let backend = backend.clone();
                // An error ends the connection.
                tokio::spawn(async move { serve(client, server, pooling, &backend).await.ok() });
            }
        });
        Pooler { server, port }
    }

    /// The address of a store in the server of this address, by way of the pooler.
    pub fn url(&self, server: &str) -> String {
        server.replace(&format!(":{}/", self.server), &format!(":{}/", self.port))
    }
}

async fn serve(
    mut client: TcpStream,
    port: u16,
    pooling: Pooling,
    backend: &Backend,
) -> std::io::Result<()> {
    // The first message has no kind.
    let length = client.read_u32().await?;
    let mut startup = length.to_be_bytes().to_vec();
    startup.resize(length as usize, 0);
    client.read_exact(&mut startup[4..]).await?;
    if startup
        .split(|byte| *byte == 0)
        .any(|text| text == b"options")
    {
        let fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
        return client.write_all(&message(b'E', fields)).await;
    }
    if pooling == Pooling::Session {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
        server.write_all(&startup).await?;
        return copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    {
        let mut backend = backend.lock().await;
        match &*backend {
            Some(shared) => {
                let mut greeting = message(b'R', &[0; 4]);
                greeting.extend(&shared.greeting);
                greeting.extend(message(b'Z', b"I"));
                client.write_all(&greeting).await?;
            }
            None => {
                let server = TcpStream::connect(("127.0.0.1", port)).await?;
                *backend = Some(log_in(&mut client, server, &startup).await?);
            }
        }
    }
    loop {
        let first = Message::read(&mut client).await?;
        let mut backend = backend.lock().await;
        let server = &mut backend.as_mut().expect("somebody logged in").server;
        if let Err(error) = transact(&mut client, server, first).await {
            let undo = message(b'Q', b"ROLLBACK\0");
            server.write_all(&undo).await?;
            while Message::read(server).await?.0 != b'Z' {}
            return Err(error);
        }
    }
}

/// Lets a client log in to the server, and keeps what the server says of itself.
async fn log_in(
    client: &mut TcpStream,
    mut server: TcpStream,
    startup: &[u8],
) -> std::io::Result<Shared> {
    server.write_all(startup).await?;
    let mut greeting = Vec::new();
    loop {
        let said = Message::read(&mut server).await?;
        client.write_all(&said.1).await?;
        match said.0 {
            // Whoever is asked to prove something answers, until that is over.
            b'R' if !matches!(said.1[8], 0 | 12) => {
                let answer = Message::read(client).await?;
                server.write_all(&answer.1).await?;
            }
            b'S' | b'K' => greeting.extend(said.1),
            b'Z' => return Ok(Shared { server, greeting }),
            _ => {}
        }
    }
}

/// One transaction, which begins with this message of the client.
async fn transact(
    client: &mut TcpStream,
    server: &mut TcpStream,
    first: Message,
) -> std::io::Result<()> {
    let mut next = first;
    loop {
        // A farewell is for the pooler.
        if next.0 == b'X' {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        server.write_all(&next.1).await?;
        if matches!(next.0, b'S' | b'Q') {
            loop {
                let said = Message::read(server).await?;
                client.write_all(&said.1).await?;
                match (said.0, said.1.last()) {
                    (b'Z', Some(b'I')) => return Ok(()),
                    (b'Z', _) => break,
                    _ => {}
                }
            }
        }
        next = Message::read(client).await?;
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    let mut whole = vec![kind];
    whole.extend(length.to_be_bytes());
    whole.extend(body);
    whole
}

impl Message {
    async fn read(from: &mut TcpStream) -> std::io::Result<Message> {
        let mut whole = vec![0; 5];
        from.read_exact(&mut whole).await?;
        let length = u32::from_be_bytes([whole[1], whole[2], whole[3], whole[4]]) as usize;
        whole.resize(1 + length, 0);
        from.read_exact(&mut whole[5..]).await?;
        Ok(Message(whole[0], whole))
    }
}
