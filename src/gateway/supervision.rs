//! The supervision tree of the answering process, once and as it changes.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, Enum, Error, Object, SimpleObject, Subscription};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

use super::connections::{list_cost, root_cost};
use super::context::{ActorStateView, ActorStatusView, Shop, SupervisionView};
use super::scalars::Long;

/// The tree is sent at most once in this time: a storm of restarts is one picture.
const SMALLEST_GAP: Duration = Duration::from_millis(100);

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "ActorStateView")]
pub enum ActorState {
    /// At work.
    Running,
    /// Down; it is coming back.
    Restarting,
    /// Ended on purpose.
    Stopped,
    /// Given up: it failed too often, and its supervisor has to decide.
    Escalated,
}

/// An actor or a supervisor of the answering process.
#[derive(SimpleObject)]
pub struct ActorStatus {
    /// What it is called, e.g. `orders` or `orders.writer`; the root is named after the process.
    name: String,
    /// What it is doing.
    state: ActorState,
    /// How often it was restarted since the process started.
    restarts: i32,
    /// What its last panic said, and where.
    last_panic: Option<String>,
    /// How many messages wait for it.
    mailbox_depth: i32,
    /// How many messages it has answered.
    handled: Long,
    /// Whom it supervises.
    #[graphql(complexity = "list_cost(child_complexity)")]
    children: Vec<Self>,
}

impl From<ActorStatusView> for ActorStatus {
    fn from(view: ActorStatusView) -> Self {
        Self {
            name: view.name,
            state: view.state.into(),
            restarts: i32::try_from(view.restarts).unwrap_or(i32::MAX),
            last_panic: view.last_panic,
            mailbox_depth: i32::try_from(view.mailbox_depth).unwrap_or(i32::MAX),
            handled: view.handled.into(),
            children: view.children.into_iter().map(Self::from).collect(),
        }
    }
}

#[derive(Default)]
pub struct SupervisionQuery;

#[Object]
impl SupervisionQuery {
    /// The supervision tree of the process that answers.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn supervision(&self, ctx: &Context<'_>) -> Result<ActorStatus, Error> {
        Ok(ctx.data::<Shop>()?.supervision.status().into())
    }
}

struct Feed {
    tree: Arc<dyn SupervisionView>,
    changes: watch::Receiver<u64>,
    /// True until the first picture is sent.
    fresh: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<ActorStatus> {
        if !std::mem::take(&mut self.fresh) {
            tokio::time::sleep(SMALLEST_GAP).await;
            // The tree is gone with its process.
            self.changes.changed().await.ok()?;
        }
        self.changes.mark_unchanged();
        Some(self.tree.status().into())
    }
}

#[derive(Default)]
pub struct SupervisionSubscription;

#[Subscription]
impl SupervisionSubscription {
    /// The supervision tree now, and again whenever a state or a restart count changes, at most ten times a second.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn supervision_changed(&self, ctx: &Context<'_>) -> Result<BoxStream<'static, ActorStatus>, Error> {
        let tree = Arc::clone(&ctx.data::<Shop>()?.supervision);
        let feed = Feed { changes: tree.changes(), tree, fresh: true };
        let pictures = stream::unfold(feed, |mut feed| async move { Some((feed.next().await?, feed)) });
        Ok(pictures.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(watch::Sender<u64>);

    impl SupervisionView for Tree {
        fn status(&self) -> ActorStatusView {
            ActorStatusView {
                name: "all".into(),
                state: ActorStateView::Running,
                restarts: *self.0.borrow(),
                last_panic: None,
                mailbox_depth: 0,
                handled: 0,
                children: Vec::new(),
            }
        }

        fn changes(&self) -> watch::Receiver<u64> {
            self.0.subscribe()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_changes_is_one_picture() {
        let tree = Arc::new(Tree(watch::channel(0).0));
        let mut feed = Feed { changes: tree.changes(), tree: tree.clone(), fresh: true };
        assert_eq!(feed.next().await.unwrap().restarts, 0);
        for count in 1..=50 {
            tree.0.send_replace(count);
        }
        assert_eq!(feed.next().await.unwrap().restarts, 50);
        assert!(tokio::time::timeout(Duration::from_secs(60), feed.next()).await.is_err());
    }
}
