//! How a batch of new orders becomes documents: one unordered insert outside a transaction, so that one order's failure
//! fails none of its neighbours.
//!
//! An order whose key, number or id is taken is told by what is stored under its key. After an answer that does not say
//! what was written, the orders are looked up by their ids, and those that are not there are inserted again: the same
//! documents, so none of them can be there twice.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, doc};
use mongodb::error::{Error, ErrorKind, InsertManyError};

use super::database::MongoDatabase;
use super::failure::{Failure, is_duplicate};
use super::order_documents::{ORDERS, OrderDocument};
use crate::domain::events::PendingEvent;
use crate::domain::ids::{OrderId, UserId};
use crate::store::orders::InsertOrder;

/// After this long an insert counts as one of unknown outcome; a call has time for another one.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long orders are looked up that a server which was searched for in vain may have taken.
const LAST_LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// Inserts of one call.
const ATTEMPTS: u32 = 3;

/// Inserts orders with their events and announces those of the inserted ones; the outcomes are in the batch's order.
pub(super) async fn insert(
    database: &MongoDatabase,
    documents: Vec<OrderDocument>,
    events: Vec<PendingEvent>,
) -> Result<Vec<InsertOrder>, Failure> {
    let orders = database.collection::<OrderDocument>(ORDERS);
    let mut insertion = Insertion { orders, outcomes: vec![None; documents.len()], documents, attempts: 0 };
    let mut done = Ok(());
    while done.is_ok() && insertion.outcomes.contains(&None) {
        done = insertion.attempt().await;
    }
    // Also when another order's outcome could not be learned: nobody else publishes these soon.
    let inserted =
        insertion.outcomes.iter().zip(events).filter(|(outcome, _)| **outcome == Some(InsertOrder::Inserted));
    database.announce(inserted.map(|(_, event)| event).collect());
    done?;
    Ok(insertion.outcomes.into_iter().flatten().collect())
}

struct Insertion {
    orders: Collection<OrderDocument>,
    documents: Vec<OrderDocument>,
    outcomes: Vec<Option<InsertOrder>>,
    attempts: u32,
}

/// What an insert's answer says.
enum Answer {
    /// All but these places of what was inserted are there.
    Refused(HashSet<usize>),
    Unknown(Failure),
}

impl Insertion {
    async fn attempt(&mut self) -> Result<(), Failure> {
        let open: Vec<usize> = (0..self.documents.len()).filter(|place| self.outcomes[*place].is_none()).collect();
        let insert = self.orders.insert_many(open.iter().map(|place| &self.documents[*place])).ordered(false);
        let answer = match tokio::time::timeout(ATTEMPT_TIMEOUT, insert.into_future()).await {
            Ok(Ok(_)) => Answer::Refused(HashSet::new()),
            Ok(Err(error)) => answer_of(error)?,
            Err(_) => Answer::Unknown(Failure::TimedOut(ATTEMPT_TIMEOUT.as_secs())),
        };
        self.attempts += 1;
        match answer {
            Answer::Refused(places) => {
                let (refused, inserted): (Vec<_>, Vec<_>) =
                    open.into_iter().enumerate().partition(|(number, _)| places.contains(number));
                for (_, place) in inserted {
                    self.outcomes[place] = Some(InsertOrder::Inserted);
                }
                self.tell_refused(refused.into_iter().map(|(_, place)| place).collect()).await
            }
            Answer::Unknown(failure) => {
                let limit = match &failure {
                    Failure::Mongo(_) if failure.is_unreachable() => LAST_LOOK_TIMEOUT,
                    _ => ATTEMPT_TIMEOUT,
                };
                let Ok(looked_up) = tokio::time::timeout(limit, self.look_up(&open)).await else {
                    return Err(failure);
                };
                looked_up?;
                if self.attempts == ATTEMPTS && self.outcomes.contains(&None) { Err(failure) } else { Ok(()) }
            }
        }
    }

    /// An order's key is what tells a replay; under one that is free the number or the id is taken.
    async fn tell_refused(&mut self, places: Vec<usize>) -> Result<(), Failure> {
        if places.is_empty() {
            return Ok(());
        }
        let keys: Vec<Bson> = places
            .iter()
            .map(|place| &self.documents[*place])
            .map(|order| doc! { "customerId": order.customer_id.to_string(), "idempotencyKey": &order.idempotency_key })
            .map(Bson::from)
            .collect();
        let found: Vec<OrderDocument> = self.orders.find(doc! { "$or": keys }).await?.try_collect().await?;
        let found: HashMap<(UserId, String), OrderDocument> =
            found.into_iter().map(|order| ((order.customer_id, order.idempotency_key.clone()), order)).collect();
        for place in places {
            let order = &self.documents[place];
            let outcome = match found.get(&(order.customer_id, order.idempotency_key.clone())) {
                // An earlier attempt of this call has written it after all.
                Some(own) if own.id == order.id && self.attempts > 1 => InsertOrder::Inserted,
                Some(earlier) => InsertOrder::Replayed(Box::new(earlier.clone().order()?)),
                None => InsertOrder::NumberTaken,
            };
            self.outcomes[place] = Some(outcome);
        }
        Ok(())
    }

    async fn look_up(&mut self, places: &[usize]) -> Result<(), Failure> {
        let ids: Vec<Bson> = places.iter().map(|place| self.documents[*place].id.to_string().into()).collect();
        let found = self.orders.find(doc! { "_id": { "$in": ids } }).await?;
        let found: Vec<OrderDocument> = found.try_collect().await?;
        let found: HashMap<OrderId, OrderDocument> = found.into_iter().map(|order| (order.id, order)).collect();
        for &place in places {
            let order = &self.documents[place];
            let is_own = |found: &OrderDocument| {
                found.customer_id == order.customer_id && found.idempotency_key == order.idempotency_key
            };
            if found.get(&order.id).is_some_and(is_own) {
                self.outcomes[place] = Some(InsertOrder::Inserted);
            }
        }
        Ok(())
    }
}

/// Refuses what says that nothing was written, or that the store does not take such documents.
fn answer_of(error: Error) -> Result<Answer, Failure> {
    if let ErrorKind::InsertMany(InsertManyError { write_errors, write_concern_error, .. }) = &*error.kind {
        let refused: Vec<_> = write_errors.iter().flatten().collect();
        if refused.iter().any(|refusal| !is_duplicate(refusal.code)) {
            return Err(error.into());
        }
        return Ok(match write_concern_error {
            Some(concern) => Answer::Unknown(Failure::Unsettled(concern.message.clone())),
            None => Answer::Refused(refused.iter().map(|refusal| refusal.index).collect()),
        });
    }
    if matches!(*error.kind, ErrorKind::ServerSelection { .. }) {
        return Err(error.into());
    }
    let failure = Failure::from(error);
    if failure.is_passing() { Ok(Answer::Unknown(failure)) } else { Err(failure) }
}
