//! Any object by its id alone, as Relay clients refetch it.

use async_graphql::{Context, Error, ID, Interface, Object};

use super::campaigns::{Campaign, visible_campaign};
use super::connections::root_cost;
use super::dead_letters::{self, DeadLetter, visible_dead_letter};
use super::notifications::{Notification, visible_notification};
use super::orders::{Order, visible_order};
use super::products::{Product, product_by_id};
use super::scopes;
use super::users::{User, visible_user};
use crate::domain::ids::{CampaignId, NotificationId, OrderId, ProductId, TypedId, UserId};

/// An object with an id of its own.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "The object's id, unique in the shop."))]
pub enum Node {
    User(User),
    Product(Product),
    Order(Order),
    Campaign(Campaign),
    DeadLetter(DeadLetter),
    Notification(Notification),
}

/// The type of the objects whose ids begin so.
fn type_of(prefix: &str) -> Option<&'static str> {
    Some(match prefix {
        UserId::PREFIX => "User",
        ProductId::PREFIX => "Product",
        OrderId::PREFIX => "Order",
        CampaignId::PREFIX => "Campaign",
        dead_letters::ID_PREFIX => "DeadLetter",
        NotificationId::PREFIX => "Notification",
        _ => return None,
    })
}

#[derive(Default)]
pub struct NodeQuery;

#[Object]
impl NodeQuery {
    /// An object by its id; null when there is none, or when you may not see it.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The object's id.")] id: ID,
    ) -> Result<Option<Node>, Error> {
        let Some((prefix, _)) = id.split_once('_') else { return Ok(None) };
        if let Some(type_name) = type_of(prefix) {
            scopes::check_object(ctx, type_name)?;
        }
        Ok(match prefix {
            UserId::PREFIX => match id.parse() {
                Ok(id) => visible_user(ctx, id).await?.map(Node::User),
                Err(_) => None,
            },
            ProductId::PREFIX => match id.parse() {
                Ok(id) => product_by_id(ctx, id).await?.map(Node::Product),
                Err(_) => None,
            },
            OrderId::PREFIX => match id.parse() {
                Ok(id) => visible_order(ctx, id).await?.map(Node::Order),
                Err(_) => None,
            },
            CampaignId::PREFIX => match id.parse() {
                Ok(id) => visible_campaign(ctx, id).await?.map(Node::Campaign),
                Err(_) => None,
            },
            dead_letters::ID_PREFIX => visible_dead_letter(ctx, &id).await?.map(Node::DeadLetter),
            NotificationId::PREFIX => match id.parse() {
                Ok(id) => visible_notification(ctx, id).await?.map(Node::Notification),
                Err(_) => None,
            },
            _ => None,
        })
    }
}
