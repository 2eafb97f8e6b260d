//! A commit that was sent and never answered: what became of it, and what its jobs are told.

use std::time::{Duration, Instant};

use crate::error::StoreError;
use crate::flush::After;
use crate::job::Done;

use super::super::fate::{CONFIRM, Fate, Mark};
use super::super::pool::{FIRST_PAUSE, LONGEST_PAUSE};
use super::super::queue::Queued;
use super::super::statement::{Execute, Statement};
use super::{Committed, Committer, refuse};

impl Committer {
    /// What became of a transaction whose commit was sent and never answered.
    pub(super) async fn find_out(
        &mut self,
        xid: i64,
        mark: &Mark,
        committed: Committed,
        batch: Vec<Queued>,
    ) -> Result<(), (StoreError, Vec<Queued>)> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        // Until a batch is through again.
        self.away = Some(self.shared.away());
        while begun.elapsed() < self.shared.patience {
            match self.fate_of(xid, mark).await {
                Ok(Fate::Committed) => {
                    let left = self.shared.patience.saturating_sub(begun.elapsed());
                    match self.confirm(left).await {
                        Ok(()) => {
                            self.answer(batch, committed).await;
                            return Ok(());
                        }
                        Err(error) => {
                            tracing::warn!(%error, "can't tell yet whether a commit is durable");
                        }
                    }
                }
                Ok(Fate::Aborted) => {
                    let batch = match mark {
                        Mark::Again => self.answer_notices(batch, committed),
                        _ => batch,
                    };
                    return Err((self.shared.away(), batch));
                }
                Ok(Fate::Open) => {}
                Err(error) => tracing::warn!(%error, "can't tell yet whether a commit happened"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let error = StoreError::Io {
            path: self.shared.address.database(),
            detail: "the connection was lost while it committed".to_owned(),
            unknown: true,
        };
        // It may have been written, so that there is something to do.
        self.tell(After {
            timers_read: None,
            ..committed.after
        });
        refuse(batch, &error);
        Ok(())
    }

    /// What is to be done again may have been done. So everybody looks, and those who asked for work
    /// are told what they were told by a flush that claimed nothing: it is not there a second time.
    /// Answers the others.
    fn answer_notices(&self, batch: Vec<Queued>, committed: Committed) -> Vec<Queued> {
        self.tell(committed.after);
        let mut others = Vec::new();
        for (queued, done) in batch.into_iter().zip(committed.done) {
            match done {
                Done::Claim(_) => queued.answer(done),
                _ => others.push(queued),
            }
        }
        others
    }

    /// Waits until what was committed before is as durable as the server makes a commit before it
    /// answers: one whose answer was lost may have waited for a standby that never got it.
    async fn confirm(&mut self, limit: Duration) -> Result<(), StoreError> {
        let session = self.take_session().await?;
        let statements = ["BEGIN", CONFIRM, "COMMIT"].map(|sql| Statement::new(sql, Vec::new()));
        let confirmed = tokio::time::timeout(limit, session.run(statements.into())).await;
        confirmed.unwrap_or_else(|_| Err(self.shared.away()))?;
        self.session = Some(session);
        Ok(())
    }

    async fn fate_of(&mut self, xid: i64, mark: &Mark) -> Result<Fate, StoreError> {
        let session = self.take_session().await?;
        let fate = mark.fate(&session, xid).await?;
        self.session = Some(session);
        Ok(fate)
    }
}
