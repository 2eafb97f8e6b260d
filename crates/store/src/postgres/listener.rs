//! The listener: one connection per process that hears what others tell, tells what this process
//! committed, and looks around once after every reconnect and now and then, in case that news were
//! lost. What is heard is merged as it comes, so that no flood of notifications fills the memory.

use std::sync::Arc;
use std::time::Duration;

use abide_core::ids::Timestamp;
use abide_core::timer::NEVER;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::AsyncMessage;

use crate::error::StoreError;

use super::Shared;
use super::connect::{Session, by_index};
use super::name::quoted;
use super::news::{self, News, Pending};
use super::statement::{Execute, Param, Statement, Value};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// What it asks is answered at once, unless its process of the server stands still.
const SILENCE: Duration = Duration::from_secs(5);

/// Runs for as long as the driver's thread does.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    let mut unheard = next_look(shared.poll);
    let mut was_cut_off = false;
    loop {
        match connect(&shared).await {
            Ok(listening) => {
                pause = FIRST_PAUSE;
                // Whatever happened before somebody listened.
                shared.look_around().await;
                if was_cut_off {
                    shared.hints.reconnected.notify_one();
                }
                let error = listen(&shared, listening).await;
                unheard = next_look(shared.poll);
                was_cut_off = true;
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
    /// What came over it and was not looked at yet.
    heard: Arc<News>,
    /// Told, or closed, when the connection has ended.
    ended: oneshot::Receiver<()>,
}

async fn connect(shared: &Shared) -> Result<Listening, StoreError> {
    let (session, mut link) = Session::connect(&shared.address).await?;
    let session = session.counted(&shared.counters).answering_within(SILENCE);
    let heard = Arc::<News>::default();
    let (end, ended) = oneshot::channel();
    let (own, hearing) = (shared.token.clone(), heard.clone());
    tokio::spawn(async move {
        // Ends when the connection does, which it does when its session is dropped.
        while let Some(Ok(message)) = link.next().await {
            if let AsyncMessage::Notification(message) = message
                && let Some(news) = Pending::from_text(message.payload(), &own)
            {
                hearing.merge(news);
            }
        }
        // An error means that nobody listens any more.
        end.send(()).ok();
    });
    let channel = quoted(&shared.channel);
    let listen = Statement {
        sql: format!("LISTEN {channel}").into(),
        params: Vec::new(),
    };
    // Last, so that the server's list of connections tells what this one is for.
    session.run(vec![by_index(), listen]).await?;
    Ok(Listening {
        session,
        heard,
        ended,
    })
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
            _ = &mut listening.ended => return shared.away(),
            () = listening.heard.some.notified() => {
                if let Some(news) = listening.heard.take() {
                    hear(shared, news).await;
                }
            }
            () = told => {
                may_tell = Instant::now() + news::PAUSE;
                if let Some(news) = shared.news.take()
                    && let Err(error) = news.send(&listening.session, shared).await
                {
                    shared.news.merge(news);
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

async fn hear(shared: &Shared, news: Pending) {
    if let Some(since) = news.since {
        shared.low_water.came(since);
    }
    if news.tell(&shared.hints) {
        shared.look_for_ends().await;
    }
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
