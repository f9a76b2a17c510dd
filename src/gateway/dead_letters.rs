//! Dead letters: what failed for good, for staff: browse, inspect, send back, give up, watch.

use async_graphql::{Context, Error, ID, Object, SimpleObject, Subscription};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::access::Denied;
use super::connections::{Connection, TEXT_COST, list_cost, mutation_cost, page_cost, page_request, root_cost};
use super::context::{Shop, Viewer, answered};
use super::cursors::CursorKind;
use super::errors::{Inputs, UserError, bad_input, query_error, user_errors};
use super::following::{GrowingList, follow};
use super::scalars::{Cursor, DateTime};
use crate::actors::errors::DomainError;
use crate::actors::live::LiveKey;
use crate::actors::operations::messages::{
    DeadLettersAfter, GetDeadLetters, LatestDeadLetter, ListDeadLetters, SettleDeadLetters, Settling,
};
use crate::domain::dead_letters::DeadLetter as DomainLetter;
use crate::domain::text::{MAX_NAME, check_text};

/// Before the ids of dead letters.
pub const ID_PREFIX: &str = "dlt";

/// The store's own id of a letter says where it failed; to a client it is as opaque as any other.
fn id_of(stored: &str) -> ID {
    format!("{ID_PREFIX}_{}", URL_SAFE_NO_PAD.encode(stored)).into()
}

/// The store's own id behind a client's; `None` when no letter has such an id.
pub fn stored_id(id: &str) -> Option<String> {
    let encoded = id.strip_prefix(ID_PREFIX)?.strip_prefix('_')?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// A header of a message.
#[derive(SimpleObject)]
pub struct Header {
    /// What it is called.
    name: String,
    /// What it says.
    value: String,
}

/// A dead letter; see its fields.
pub struct DeadLetter(pub DomainLetter);

/// A message that failed for good: kept as it came, until somebody sends it back or gives it up.
#[Object]
impl DeadLetter {
    /// The letter's id.
    pub async fn id(&self) -> ID {
        id_of(&self.0.id)
    }

    /// The consumer group that failed on it; `notifications` for a mail.
    async fn source(&self) -> &str {
        &self.0.source
    }

    /// Why it failed the last time.
    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// How often it was tried.
    async fn attempts(&self) -> i32 {
        i32::try_from(self.0.attempts).unwrap_or(i32::MAX)
    }

    /// The key that kept it in order: the id of what it is about.
    async fn key(&self) -> Option<&str> {
        Some(self.0.record.key.as_str()).filter(|key| !key.is_empty())
    }

    /// Its body, as it came.
    #[graphql(complexity = "TEXT_COST")]
    async fn payload(&self) -> &str {
        &self.0.record.body
    }

    /// Its headers, as they came.
    #[graphql(complexity = "list_cost(child_complexity)")]
    async fn headers(&self) -> Vec<Header> {
        let headers = self.0.record.headers.iter();
        headers.map(|(name, value)| Header { name: name.clone(), value: value.clone() }).collect()
    }

    /// When it was given up.
    async fn failed_at(&self) -> DateTime {
        DateTime(self.0.failed_at)
    }

    /// When it was sent back to its group. One that fails again is a new letter.
    async fn replayed_at(&self) -> Option<DateTime> {
        self.0.replayed_at.map(DateTime)
    }

    /// Who sent it back: the id of a user, or `command line`.
    async fn replayed_by(&self) -> Option<&str> {
        self.0.replayed_by.as_deref()
    }

    /// When somebody decided that it need not be looked at any more.
    async fn discarded_at(&self) -> Option<DateTime> {
        self.0.discarded_at.map(DateTime)
    }

    /// Who decided so: the id of a user, or `command line`.
    async fn discarded_by(&self) -> Option<&str> {
        self.0.discarded_by.as_deref()
    }
}

/// The letter of an id, for staff; to everybody else there is none.
pub async fn visible_dead_letter(ctx: &Context<'_>, id: &str) -> Result<Option<DeadLetter>, Error> {
    let Some(id) = stored_id(id).filter(|_| Viewer::of(ctx).is_staff()) else { return Ok(None) };
    let shop = ctx.data::<Shop>()?;
    let letters = answered(shop.operations.ask(GetDeadLetters { ids: vec![id] }, shop.ask_deadline).await);
    Ok(letters.map_err(|error| query_error(ctx, error))?.into_iter().next().map(DeadLetter))
}

#[derive(Default)]
pub struct DeadLetterQuery;

#[Object]
impl DeadLetterQuery {
    /// Dead letters, newest first, with those that were sent back or given up.
    #[graphql(complexity = "page_cost(first, child_complexity)")]
    async fn dead_letters(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The size of the page: 1 to 100, 20 unless given.")] first: Option<i32>,
        #[graphql(desc = "The page starts after this cursor; it is good only under the same `source`.")] after: Option<
            Cursor,
        >,
        #[graphql(desc = "Only those of this consumer group.")] source: Option<String>,
    ) -> Result<Connection<DeadLetter>, Error> {
        let page = page_request(ctx, first, after.as_ref(), CursorKind::DeadLetters)?;
        if let Some(source) = &source {
            check_text("source", source, 0, MAX_NAME).map_err(|refusal| bad_input("source", refusal))?;
        }
        let shop = ctx.data::<Shop>()?;
        let page = answered(shop.operations.ask(ListDeadLetters { source, page }, shop.ask_deadline).await)
            .map_err(|error| query_error(ctx, error))?;
        Ok(Connection::of(page, CursorKind::DeadLetters, DeadLetter))
    }
}

/// What a mutation of dead letters answers.
#[derive(SimpleObject)]
pub struct DeadLetterPayload {
    /// The letters after the change; those that were so already, too.
    dead_letters: Vec<DeadLetter>,
    /// Why a letter was not changed; one for each that was refused.
    user_errors: Vec<UserError>,
}

async fn settle(ctx: &Context<'_>, ids: Vec<ID>, settling: Settling) -> Result<DeadLetterPayload, Error> {
    let by = Viewer::of(ctx).user_id().ok_or(Denied::Unauthenticated)?.to_string();
    let shop = ctx.data::<Shop>()?;
    let message = SettleDeadLetters { ids: ids.iter().map(|id| stored_id(id)).collect(), settling, by };
    let (letters, refusals) = match answered(shop.operations.ask(message, shop.ask_deadline).await) {
        Ok(settled) => (settled.letters, settled.refusals),
        Err(error) => (Vec::new(), vec![error]),
    };
    let mut errors = Vec::new();
    for refusal in refusals {
        errors.extend(user_errors(ctx, Inputs::PLAIN, refusal)?);
    }
    Ok(DeadLetterPayload { dead_letters: letters.into_iter().map(DeadLetter).collect(), user_errors: errors })
}

#[derive(Default)]
pub struct DeadLetterMutation;

#[Object]
impl DeadLetterMutation {
    /// Sends messages back to the one group that failed on them. A letter goes back once, however often this is asked;
    /// one that fails again is a new letter.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn dead_letter_replay(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The letters, 1 to 100.")] ids: Vec<ID>,
    ) -> Result<DeadLetterPayload, Error> {
        settle(ctx, ids, Settling::Replay).await
    }

    /// Gives letters up: they cannot be sent back any more, and stay in the list with who gave them up and when.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn dead_letter_discard(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The letters, 1 to 100.")] ids: Vec<ID>,
    ) -> Result<DeadLetterPayload, Error> {
        settle(ctx, ids, Settling::Discard).await
    }
}

/// The letters in the order in which they are kept.
struct KeptLetters;

#[async_trait]
impl GrowingList for KeptLetters {
    type Entry = DomainLetter;

    async fn end(&self, shop: &Shop) -> Result<String, DomainError> {
        answered(shop.operations.ask(LatestDeadLetter, shop.ask_deadline).await)
    }

    async fn after(&self, shop: &Shop, cursor: String, limit: u32) -> Result<Vec<(String, DomainLetter)>, DomainError> {
        let entries = answered(shop.operations.ask(DeadLettersAfter { cursor, limit }, shop.ask_deadline).await)?;
        Ok(entries.into_iter().map(|entry| (entry.cursor, entry.letter)).collect())
    }
}

#[derive(Default)]
pub struct DeadLetterSubscription;

#[Subscription]
impl DeadLetterSubscription {
    /// Every dead letter that is added from now on, once, in order.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn dead_letter_added(
        &self,
        ctx: &Context<'_>,
    ) -> Result<BoxStream<'static, Result<DeadLetter, Error>>, Error> {
        let letters = follow(ctx, LiveKey::DeadLetters, KeptLetters, None).await?;
        Ok(letters.map_ok(|(_, letter)| DeadLetter(letter)).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_opaque_and_leads_back_to_the_letter() {
        let stored = "inventory/order-events/3/14/0";
        let id = id_of(stored);
        assert!(id.starts_with("dlt_") && !id.contains("inventory"));
        assert_eq!(stored_id(&id).as_deref(), Some(stored));
        for broken in ["", "dlt", "dlt_?", "dlt_/", "ord_00000000000000000000000001", stored, "dlt__w", "dlt_YQ=="] {
            assert_eq!(stored_id(broken), None, "{broken}");
        }
    }
}
