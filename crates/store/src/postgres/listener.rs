//! The listener: one connection per process that hears what others tell, tells what this process
//! committed, and looks around once after every reconnect and now and then, in case that news were
//! lost.

use std::sync::Arc;
use std::time::Duration;

use abide_core::ids::Timestamp;
use abide_core::timer::NEVER;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::AsyncMessage;

use crate::error::StoreError;

use super::Shared;
use super::connect::{Session, by_index};
use super::name::quoted;
use super::news::{self, Pending};
use super::statement::{Execute, Param, Statement, Value};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs for as long as the driver's thread does.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    let mut unheard = next_look(shared.poll);
    loop {
        match connect(&shared).await {
            Ok(listening) => {
                pause = FIRST_PAUSE;
                // Whatever happened before somebody listened.
                shared.look_around().await;
                let error = listen(&shared, listening).await;
                unheard = next_look(shared.poll);
                tracing::warn!(%error, "news from other processes are cut off; connecting again");
            }
            Err(error) => tracing::warn!(%error, "can't listen for news from other processes"),
        }
        sleep(pause.min(shared.poll)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        // There may be no connection to spare for news while others work.
        if unheard <= Instant::now() {
            shared.look_around().await;
            unheard = next_look(shared.poll);
        }
    }
}

/// A connection that listens. It ends when this is dropped.
struct Listening {
    session: Session,
    messages: mpsc::UnboundedReceiver<AsyncMessage>,
}

async fn connect(shared: &Shared) -> Result<Listening, StoreError> {
    let (session, mut link) = Session::connect(&shared.address).await?;
    let session = session.counted(&shared.counters);
    let (forward, messages) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        // Ends when the connection does, or when nobody takes the messages.
        while let Some(Ok(message)) = link.next().await {
            forward.send(message).ok();
        }
    });
    let channel = quoted(&shared.address.schema.channel());
    let listen = Statement {
        sql: format!("LISTEN {channel}").into(),
        params: Vec::new(),
    };
    // A hint needs not survive a crash, and is not to wait for the disk.
    let at_once = Statement::new("SET synchronous_commit = off", Vec::new());
    session.run(vec![listen, at_once, by_index()]).await?;
    Ok(Listening { session, messages })
}

/// Hears and tells until the connection is lost.
async fn listen(shared: &Shared, mut listening: Listening) -> StoreError {
    let mut may_tell = Instant::now();
    let mut next_look = next_look(shared.poll);
    loop {
        let told = async {
            // In this order: a permit that was taken before the pause would be lost to a message
            // that comes meanwhile.
            sleep_until(may_tell).await;
            shared.news.some.notified().await;
        };
        tokio::select! {
            message = listening.messages.recv() => match message {
                Some(AsyncMessage::Notification(heard)) => hear(shared, heard.payload()).await,
                Some(_) => {}
                None => return shared.away(),
            },
            () = told => {
                may_tell = Instant::now() + news::PAUSE;
                if let Some(news) = shared.news.take()
                    && let Err(error) = tell(shared, &listening, &news).await
                {
                    shared.news.put_back(news);
                    return error;
                }
            }
            () = sleep_until(next_look) => {
                if let Err(error) = poll(shared, &listening).await {
                    return error;
                }
                next_look = self::next_look(shared.poll);
            }
        }
    }
}

async fn hear(shared: &Shared, text: &str) {
    let Some(news) = Pending::from_text(text, &shared.token) else {
        return;
    };
    if let Some(since) = news.since {
        shared.low_water.came(since);
    }
    if news.tell(&shared.hints) {
        shared.look_for_ends().await;
    }
}

async fn tell(shared: &Shared, listening: &Listening, news: &Pending) -> Result<(), StoreError> {
    let text = news.to_text(&shared.token);
    let channel = shared.address.schema.channel();
    let params = vec![
        Param::Text(Some(channel.into())),
        Param::Text(Some(text.into())),
    ];
    let notify = Statement::new("SELECT pg_notify($1, $2)", params);
    listening.session.run(vec![notify]).await.map(drop)
}

/// Looks whether there is anything that nobody told of: one statement while there is nothing. Relies on
/// the keys of both tables, whose indexes lead past rows that are dead.
async fn poll(shared: &Shared, listening: &Listening) -> Result<(), StoreError> {
    let params = vec![Param::Int(Some(NEVER.0))];
    let look = Statement::new(
        "SELECT EXISTS (SELECT FROM ~task_outbox), (SELECT min(due_at) FROM ~timers WHERE due_at < $1::bigint)",
        params,
    );
    let answers = listening.session.run(vec![look]).await?;
    let mut values = answers.into_iter().flatten().flatten();
    if let (Some(Value::Bool(false)), Some(due)) = (values.next(), values.next()) {
        if let Value::Int(due) = due {
            shared.hints.timer_set(Timestamp(due));
        }
        shared.hints.changed.notify_waiters();
        shared.look_for_ends().await;
    } else {
        shared.look_around().await;
    }
    Ok(())
}

/// The polls of many processes are spread out.
fn next_look(poll: Duration) -> Instant {
    let spread = f64::from(jitter()) / f64::from(u32::MAX);
    Instant::now() + poll.mul_f64(0.8 + 0.4 * spread)
}

fn jitter() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() as u32
}
