//! What the mail of a notification is about, as its document holds it.

use serde::{Deserialize, Serialize};

use super::money::MoneyDocument;
use crate::domain::events::RecommendedItem;
use crate::domain::ids::{CampaignId, MailRequestId, ProductId};
use crate::domain::notifications::content::{Content, OrderNews, OrderedItem};
use crate::domain::orders::OrderStatus;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub(super) enum ContentDocument {
    Welcome {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<MailRequestId>,
    },
    Verification {
        request_id: MailRequestId,
    },
    PasswordReset {
        request_id: MailRequestId,
    },
    PasswordChanged,
    Order(OrderDocument),
    Promotion {
        campaign_id: CampaignId,
        subject: String,
        message: String,
        products: Vec<String>,
    },
    Digest {
        items: Vec<RecommendedDocument>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderDocument {
    number: String,
    status: OrderStatus,
    lines: Vec<LineDocument>,
    total: MoneyDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LineDocument {
    name: String,
    quantity: u32,
    total: MoneyDocument,
}

/// A recommendation as a mail names it, here and where it was last announced.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecommendedDocument {
    product_id: ProductId,
    name: String,
    reason: String,
}

impl From<RecommendedItem> for RecommendedDocument {
    fn from(item: RecommendedItem) -> Self {
        Self { product_id: item.product_id, name: item.name, reason: item.reason }
    }
}

impl From<RecommendedDocument> for RecommendedItem {
    fn from(item: RecommendedDocument) -> Self {
        Self { product_id: item.product_id, name: item.name, reason: item.reason }
    }
}

impl From<OrderNews> for OrderDocument {
    fn from(news: OrderNews) -> Self {
        let line =
            |item: OrderedItem| LineDocument { name: item.name, quantity: item.quantity, total: item.total.into() };
        Self {
            number: news.number,
            status: news.status,
            lines: news.lines.into_iter().map(line).collect(),
            total: news.total.into(),
            note: news.note,
            missing: news.missing,
        }
    }
}

impl From<OrderDocument> for OrderNews {
    fn from(order: OrderDocument) -> Self {
        let item =
            |line: LineDocument| OrderedItem { name: line.name, quantity: line.quantity, total: line.total.into() };
        Self {
            number: order.number,
            status: order.status,
            lines: order.lines.into_iter().map(item).collect(),
            total: order.total.into(),
            note: order.note,
            missing: order.missing,
        }
    }
}

impl From<Content> for ContentDocument {
    fn from(content: Content) -> Self {
        match content {
            Content::Welcome { request_id } => Self::Welcome { request_id },
            Content::Verification { request_id } => Self::Verification { request_id },
            Content::PasswordReset { request_id } => Self::PasswordReset { request_id },
            Content::PasswordChanged => Self::PasswordChanged,
            Content::Order(news) => Self::Order(news.into()),
            Content::Promotion { campaign_id, subject, message, products } => {
                Self::Promotion { campaign_id, subject, message, products }
            }
            Content::Digest { items } => Self::Digest { items: items.into_iter().map(Into::into).collect() },
        }
    }
}

impl From<ContentDocument> for Content {
    fn from(content: ContentDocument) -> Self {
        match content {
            ContentDocument::Welcome { request_id } => Self::Welcome { request_id },
            ContentDocument::Verification { request_id } => Self::Verification { request_id },
            ContentDocument::PasswordReset { request_id } => Self::PasswordReset { request_id },
            ContentDocument::PasswordChanged => Self::PasswordChanged,
            ContentDocument::Order(order) => Self::Order(order.into()),
            ContentDocument::Promotion { campaign_id, subject, message, products } => {
                Self::Promotion { campaign_id, subject, message, products }
            }
            ContentDocument::Digest { items } => Self::Digest { items: items.into_iter().map(Into::into).collect() },
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, deserialize_from_bson, doc, serialize_to_bson};
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::TypedId;
    use crate::domain::money::Money;

    fn id<I: TypedId>() -> I {
        I::from_uuid(Uuid::from_u128(7))
    }

    fn kept(content: &Content) -> Bson {
        let document = serialize_to_bson(&ContentDocument::from(content.clone())).unwrap();
        let back: ContentDocument = deserialize_from_bson(document.clone()).unwrap();
        assert_eq!(Content::from(back), *content);
        document
    }

    #[test]
    fn content_survives_its_document() {
        let total = Money::new(9_980, "EUR".parse().unwrap());
        let line = OrderedItem { name: "Lamp".into(), quantity: 2, total };
        let order = Content::Order(OrderNews {
            number: "S-1".into(),
            status: OrderStatus::Rejected,
            lines: vec![line],
            total,
            note: Some("sorry".into()),
            missing: vec!["Lamp".into()],
        });
        let document = kept(&order);
        let money = doc! { "minorUnits": 9_980_i64, "currency": "EUR" };
        assert_eq!(document.as_document().unwrap().get_document("total").unwrap(), &money);
        let item = RecommendedItem { product_id: id(), name: "Lamp".into(), reason: "Popular".into() };
        for content in [
            Content::Welcome { request_id: None },
            Content::Welcome { request_id: Some(id()) },
            Content::Verification { request_id: id() },
            Content::PasswordReset { request_id: id() },
            Content::PasswordChanged,
            Content::Promotion {
                campaign_id: id(),
                subject: "Lamps".into(),
                message: "Cheaper".into(),
                products: vec!["Lamp".into()],
            },
            Content::Digest { items: vec![item] },
        ] {
            kept(&content);
        }
    }
}
