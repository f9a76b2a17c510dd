//! Following a list while it grows: each wake reads on from the last entry that was sent.
//!
//! The live hub is watched before the first read, and a wake carries no data: nothing is lost or repeated, however often
//! it comes. A read that fails because an actor is busy or coming back is tried again; the stream goes on.

use std::collections::VecDeque;
use std::time::Duration;

use async_graphql::{Context, Error};
use async_trait::async_trait;
use futures_util::stream::{self, Stream};

use super::context::{RequestInfo, Shop};
use super::errors::top_level;
use crate::actors::errors::DomainError;
use crate::actors::live::{LiveKey, LiveWatch};

/// How long a failed read waits before it is tried again, from and to.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How many reads may fail before a stream that has sent nothing yet is given up.
pub const FIRST_READ_ATTEMPTS: u32 = 4;
/// How many entries one read takes.
const ENTRIES_PER_READ: u32 = 100;

/// Reads until it succeeds or there is no point in going on.
pub async fn read_again_and_again<T, F>(
    attempts: Option<u32>,
    mut read: impl FnMut() -> F + Send,
) -> Result<T, DomainError>
where
    F: Future<Output = Result<T, DomainError>> + Send,
{
    let mut pause = RETRY.0;
    let mut failures = 0;
    loop {
        match read().await {
            Err(DomainError::Busy { .. } | DomainError::Unavailable(_) | DomainError::Timeout)
                if attempts.is_none_or(|most| failures + 1 < most) =>
            {
                failures += 1;
                // Spread over time: an actor that comes back is not met by all its streams at once.
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                pause = (pause * 2).min(RETRY.1);
            }
            answer => return answer,
        }
    }
}

/// A list to whose end entries are added, each with a position in the store's own terms.
#[async_trait]
pub trait GrowingList: Send + Sync + 'static {
    type Entry: Send + 'static;

    /// The position behind its newest entry.
    async fn end(&self, shop: &Shop) -> Result<String, DomainError>;

    /// At most `limit` of the entries after a position, oldest first. Fewer: those were all.
    async fn after(&self, shop: &Shop, position: String, limit: u32)
    -> Result<Vec<(String, Self::Entry)>, DomainError>;
}

struct Following<L: GrowingList> {
    list: L,
    shop: Shop,
    info: Option<RequestInfo>,
    watch: LiveWatch,
    /// Of the last entry that was read.
    position: String,
    waiting: VecDeque<(String, L::Entry)>,
    /// True when there may be more to read without a wake.
    behind: bool,
    ended: bool,
}

impl<L: GrowingList> Following<L> {
    async fn read(&mut self, attempts: Option<u32>) -> Result<(), DomainError> {
        let Self { list, shop, position, .. } = self;
        let (list, shop, position) = (&*list, &*shop, &*position);
        let entries = read_again_and_again(attempts, || list.after(shop, position.clone(), ENTRIES_PER_READ)).await?;
        self.behind = entries.len() >= ENTRIES_PER_READ as usize;
        if let Some((last, _)) = entries.last() {
            self.position.clone_from(last);
        }
        self.waiting.extend(entries);
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<(String, L::Entry), Error>> {
        while !self.ended {
            if let Some(entry) = self.waiting.pop_front() {
                return Some(Ok(entry));
            }
            if !self.behind {
                self.watch.changed().await;
            }
            if let Err(fault) = self.read(None).await {
                self.ended = true;
                return Some(Err(top_level(self.info.as_ref(), fault)));
            }
        }
        None
    }
}

/// The entries of a list after a position, or those that are added from now on; `key` wakes when there are any. A
/// position that is none of this list is told before anything is sent.
pub async fn follow<L: GrowingList>(
    ctx: &Context<'_>,
    key: LiveKey,
    list: L,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<(String, L::Entry), Error>> + Send + use<L>, Error> {
    let shop = ctx.data::<Shop>()?.clone();
    let info = ctx.data_opt::<RequestInfo>().cloned();
    let watch = shop.live.watch(key);
    let fault = |fault| top_level(info.as_ref(), fault);
    let resumed = after.is_some();
    let position = match after {
        Some(position) => position,
        None => read_again_and_again(Some(FIRST_READ_ATTEMPTS), || list.end(&shop)).await.map_err(fault)?,
    };
    let mut following = Following {
        list,
        shop,
        info: info.clone(),
        watch,
        position,
        waiting: VecDeque::new(),
        behind: false,
        ended: false,
    };
    if resumed {
        following.read(Some(FIRST_READ_ATTEMPTS)).await.map_err(fault)?;
    }
    Ok(stream::unfold(following, |mut following| async move { Some((following.next().await?, following)) }))
}
