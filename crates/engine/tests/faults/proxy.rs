//! A proxy that speaks enough of PostgreSQL's protocol to find the commits in it, and cuts connections around
//! them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

/// How long a commit is on its way whose sender is gone already.
const LATE: Duration = Duration::from_millis(400);

/// What is done about a commit.
pub(crate) enum Cut {
    /// Nothing.
    None,
    /// The connection is cut before the server hears of it.
    Before,
    /// The server commits; its answer is lost with the connection.
    After,
    /// The client's end is cut first; the server hears of the commit a while later, and commits.
    Late,
    /// The test is told, and says what to do.
    Ask(oneshot::Sender<Held>),
}

/// A commit that waits for what the test says.
pub(crate) struct Held(oneshot::Sender<Cut>);

impl Held {
    pub(crate) fn then(self, cut: Cut) {
        // The connection may be gone, and with it whoever would listen.
        self.0.send(cut).ok();
    }
}

type Plan = dyn FnMut() -> Cut + Send;

struct Shared {
    server: SocketAddr,
    plan: Mutex<Box<Plan>>,
    cuts: Cuts,
    /// Whoever wants to listen is cut off.
    deaf: AtomicBool,
    /// No further connection is taken.
    closed: AtomicBool,
}

/// How many commits came to what.
#[derive(Default)]
pub(crate) struct Cuts {
    pub(crate) commits: AtomicU64,
    pub(crate) before: AtomicU64,
    pub(crate) after: AtomicU64,
    pub(crate) late: AtomicU64,
    /// Connections cut since they wanted to listen.
    pub(crate) deaf: AtomicU64,
}

/// A proxy. It ends with the runtime that it was made on.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// In front of a server on that port. `plan` decides about each commit.
    pub(crate) async fn before(server: u16, plan: impl FnMut() -> Cut + Send + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it has one").port();
        let shared = Arc::new(Shared {
            server: SocketAddr::from(([127, 0, 0, 1], server)),
            plan: Mutex::new(Box::new(plan)),
            cuts: Cuts::default(),
            deaf: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let proxy = Proxy {
            port,
            shared: shared.clone(),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = shared.clone();
                if shared.closed.load(Ordering::Relaxed) {
                    continue;
                }
                // An error ends the connection, as it would without a proxy.
                tokio::spawn(async move { run(&shared, client).await.ok() });
            }
        });
        proxy
    }

    /// The address of a store in the server of this address, by way of the proxy.
    pub(crate) fn url(&self, server: &str) -> String {
        let port = format!(":{}/", self.shared.server.port());
        assert!(server.contains(&port), "{server}");
        server.replace(&port, &format!(":{}/", self.port))
    }

    pub(crate) fn cuts(&self) -> &Cuts {
        &self.shared.cuts
    }

    /// Whether nobody can listen to notifications through it.
    pub(crate) fn deaf(&self) -> &AtomicBool {
        &self.shared.deaf
    }

    /// Whether it takes no further connection. Those that there are go on.
    pub(crate) fn closed(&self) -> &AtomicBool {
        &self.shared.closed
    }

    /// From now on.
    pub(crate) fn plan(&self, plan: impl FnMut() -> Cut + Send + 'static) {
        *self.shared.plan.lock().expect("nobody panics with it") = Box::new(plan);
    }
}

/// The kinds of messages that matter here.
const PARSE: u8 = b'P';
const BIND: u8 = b'B';
const SYNC: u8 = b'S';
const COMMAND_COMPLETE: u8 = b'C';

/// A message: its kind, its length and what it holds, as it was sent.
struct Message(Vec<u8>);

impl Message {
    async fn read(from: &mut OwnedReadHalf) -> std::io::Result<Message> {
        let mut head = [0; 5];
        from.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut whole = head.to_vec();
        whole.resize(1 + length, 0);
        from.read_exact(&mut whole[5..]).await?;
        Ok(Message(whole))
    }

    fn kind(&self) -> u8 {
        self.0[0]
    }

    /// The n-th of the texts that it begins with.
    fn text(&self, n: usize) -> &[u8] {
        let mut texts = self.0[5..].split(|byte| *byte == 0);
        texts.nth(n).unwrap_or_default()
    }
}

/// What the two directions of a connection know of each other.
struct Link {
    /// Nothing for a client that was cut off.
    client: Mutex<Option<OwnedWriteHalf>>,
    /// A commit was sent whose answer is kept from the client.
    swallow: AtomicBool,
    /// The answer came, or no answer will come any more.
    over: Notify,
}

async fn run(shared: &Arc<Shared>, client: TcpStream) -> std::io::Result<()> {
    let server = TcpStream::connect(shared.server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    // The first message has no kind.
    let length = from_client.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    from_client.read_exact(&mut startup).await?;
    to_server.write_u32(length).await?;
    to_server.write_all(&startup).await?;
    let link = Arc::new(Link {
        client: Mutex::new(Some(to_client)),
        swallow: AtomicBool::new(false),
        over: Notify::new(),
    });
    let answering = link.clone();
    let answers = tokio::spawn(async move {
        let ended = back(from_server, &answering).await;
        // Who reads learns that nothing comes any more.
        answering.cut_client();
        answering.over.notify_one();
        ended
    });
    let asked = forth(shared, from_client, to_server, &link).await;
    // Whatever ended it, no answer reaches the client any more.
    answers.abort();
    answers.await.ok();
    asked
}

impl Link {
    fn cut_client(&self) {
        drop(self.client().take());
    }

    fn client(&self) -> std::sync::MutexGuard<'_, Option<OwnedWriteHalf>> {
        self.client.lock().expect("nobody panics with it")
    }
}

/// What the server says, until it says that it has committed and nobody is to know.
async fn back(mut from: OwnedReadHalf, link: &Link) -> std::io::Result<()> {
    loop {
        let message = Message::read(&mut from).await?;
        let committed = message.kind() == COMMAND_COMPLETE && message.text(0) == b"COMMIT";
        if committed && link.swallow.load(Ordering::Acquire) {
            link.over.notify_one();
            return std::future::pending().await;
        }
        let client = link.client().take();
        if let Some(mut client) = client {
            client.write_all(&message.0).await?;
            *link.client() = Some(client);
        }
    }
}

/// What the client says.
async fn forth(
    shared: &Shared,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: &Link,
) -> std::io::Result<()> {
    let mut commits: HashSet<Vec<u8>> = HashSet::new();
    loop {
        let message = Message::read(&mut from).await?;
        if message.kind() == PARSE && message.text(1) == b"COMMIT" {
            commits.insert(message.text(0).to_vec());
        }
        let listens = message.kind() == PARSE && message.text(1).starts_with(b"LISTEN");
        if listens && shared.deaf.load(Ordering::Relaxed) {
            shared.cuts.deaf.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if message.kind() != BIND || !commits.contains(message.text(1)) {
            to.write_all(&message.0).await?;
            continue;
        }
        shared.cuts.commits.fetch_add(1, Ordering::Relaxed);
        let mut commit = message.0;
        loop {
            let message = Message::read(&mut from).await?;
            commit.extend(&message.0);
            if message.kind() == SYNC {
                break;
            }
        }
        let mut cut = (shared.plan.lock().expect("nobody panics with it"))();
        if let Cut::Ask(tell) = cut {
            let (then, decided) = oneshot::channel();
            cut = match tell.send(Held(then)) {
                Ok(()) => decided.await.unwrap_or(Cut::Before),
                Err(_) => Cut::None,
            };
        }
        let count = |of: &AtomicU64| of.fetch_add(1, Ordering::Relaxed);
        match cut {
            Cut::None | Cut::Ask(_) => to.write_all(&commit).await?,
            Cut::Before => {
                count(&shared.cuts.before);
                return Ok(());
            }
            Cut::After => {
                link.swallow.store(true, Ordering::Release);
                to.write_all(&commit).await?;
                link.over.notified().await;
                count(&shared.cuts.after);
                return Ok(());
            }
            Cut::Late => {
                count(&shared.cuts.late);
                link.swallow.store(true, Ordering::Release);
                link.cut_client();
                drop(from);
                tokio::time::sleep(LATE).await;
                to.write_all(&commit).await?;
                link.over.notified().await;
                return Ok(());
            }
        }
    }
}
