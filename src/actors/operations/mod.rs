//! The operations actor: dead letters, shown, sent back, given up.
//!
//! The store's condition decides of two who settle the same letter; the event of a replay is saved with the mark that it
//! was replayed, so a letter goes back once however often it is asked for.

pub mod messages;

use std::future::Future;
use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture, Supervised};
use futures_util::future::join_all;

use self::messages::{
    DeadLettersAfter, GetDeadLetters, LatestDeadLetter, ListDeadLetters, MAX_LETTERS, SettleDeadLetters,
    SettledDeadLetters, Settling,
};
use crate::actors::clock::now;
use crate::actors::errors::{DomainError, path};
use crate::domain::dead_letters::{DeadLetter, NotReplayable};
use crate::domain::page::Page;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::operations::{DeadLetterEntry, OperationsStore, SettleDeadLetter};

pub struct OperationsActor {
    store: Arc<dyn OperationsStore>,
}

impl OperationsActor {
    pub fn new(store: Arc<dyn OperationsStore>) -> Self {
        Self { store }
    }

    fn beside<T, F>(&self, work: impl FnOnce(Arc<dyn OperationsStore>) -> F) -> ResponseFuture<Result<T, DomainError>>
    where
        F: Future<Output = Result<T, DomainError>> + 'static,
    {
        Box::pin(work(Arc::clone(&self.store)))
    }
}

impl Actor for OperationsActor {
    type Context = Context<Self>;
}

impl Supervised for OperationsActor {}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    Settled(SettleDeadLetter),
    NotReplayable(NotReplayable),
}

/// Sends a letter's event back to the group that failed on it. A letter is replayed once; when it fails again it is a
/// new letter of the next round.
pub async fn replay(store: &dyn OperationsStore, id: &str, by: &str, at: Timestamp) -> Result<Replay, StoreError> {
    let Some(letter) = store.dead_letters(&[id.to_owned()]).await?.pop() else {
        return Ok(Replay::Settled(SettleDeadLetter::NotFound));
    };
    match letter.replay_event(at) {
        Ok(event) => store.replay_dead_letter(id, event, by, at).await.map(Replay::Settled),
        Err(reason) => Ok(Replay::NotReplayable(reason)),
    }
}

/// Settles one letter; `field` is where its id stands in the message.
async fn settle(
    store: &dyn OperationsStore,
    id: Option<&str>,
    settling: Settling,
    by: &str,
    field: &str,
) -> Result<DeadLetter, DomainError> {
    let missing = || DomainError::NotFound { what: "the dead letter", field: path(field) };
    let id = id.ok_or_else(missing)?;
    let outcome = match settling {
        Settling::Replay => match replay(store, id, by, now()).await? {
            Replay::Settled(outcome) => outcome,
            Replay::NotReplayable(reason) => {
                return Err(DomainError::invalid(field, format!("the dead letter cannot be replayed: {reason}")));
            }
        },
        Settling::Discard => store.discard_dead_letter(id, by, now()).await?,
    };
    match outcome {
        SettleDeadLetter::Settled(letter) => Ok(*letter),
        SettleDeadLetter::AlreadySettled(letter) if settling == Settling::Replay && letter.replayed_at.is_none() => {
            Err(DomainError::DeadLetterDiscarded { field: path(field) })
        }
        SettleDeadLetter::AlreadySettled(letter) => Ok(*letter),
        SettleDeadLetter::NotFound => Err(missing()),
    }
}

/// A fault is the whole message's: what was settled by then stays so, and asking again finishes the rest.
fn is_refusal(error: &DomainError) -> bool {
    matches!(
        error,
        DomainError::NotFound { .. } | DomainError::InvalidInput { .. } | DomainError::DeadLetterDiscarded { .. }
    )
}

impl Handler<SettleDeadLetters> for OperationsActor {
    type Result = ResponseFuture<Result<SettledDeadLetters, DomainError>>;

    fn handle(&mut self, message: SettleDeadLetters, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store| async move {
            let SettleDeadLetters { ids, settling, by } = message;
            if !(1..=MAX_LETTERS).contains(&ids.len()) {
                return Err(DomainError::invalid("ids", format!("name 1 to {MAX_LETTERS} dead letters")));
            }
            let named_before = |position: usize| ids[position].is_some() && ids[..position].contains(&ids[position]);
            let settled = (0..ids.len()).filter(|position| !named_before(*position)).map(|position| {
                let (store, id, by) = (store.as_ref(), ids[position].as_deref(), by.as_str());
                async move { settle(store, id, settling, by, &format!("ids.{position}")).await }
            });
            let mut answer = SettledDeadLetters { letters: Vec::new(), refusals: Vec::new() };
            for outcome in join_all(settled).await {
                match outcome {
                    Ok(letter) => answer.letters.push(letter),
                    Err(refusal) if is_refusal(&refusal) => answer.refusals.push(refusal),
                    Err(fault) => return Err(fault),
                }
            }
            Ok(answer)
        })
    }
}

impl Handler<GetDeadLetters> for OperationsActor {
    type Result = ResponseFuture<Result<Vec<DeadLetter>, DomainError>>;

    fn handle(&mut self, GetDeadLetters { ids }: GetDeadLetters, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store| async move { Ok(store.dead_letters(&ids).await?) })
    }
}

impl Handler<ListDeadLetters> for OperationsActor {
    type Result = ResponseFuture<Result<Page<DeadLetter>, DomainError>>;

    fn handle(&mut self, ListDeadLetters { source, page }: ListDeadLetters, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store| async move { Ok(store.list_dead_letters(source.as_deref(), false, &page).await?) })
    }
}

impl Handler<LatestDeadLetter> for OperationsActor {
    type Result = ResponseFuture<Result<String, DomainError>>;

    fn handle(&mut self, _: LatestDeadLetter, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store| async move { Ok(store.latest_dead_letter().await?) })
    }
}

impl Handler<DeadLettersAfter> for OperationsActor {
    type Result = ResponseFuture<Result<Vec<DeadLetterEntry>, DomainError>>;

    fn handle(&mut self, DeadLettersAfter { cursor, limit }: DeadLettersAfter, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store| async move { Ok(store.dead_letters_after(&cursor, limit).await?) })
    }
}
