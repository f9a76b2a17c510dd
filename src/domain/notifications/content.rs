//! What the mail of a notification is about. Texts and links of the mail are made when it is sent; what is kept holds no
//! token and no address.

use serde::{Deserialize, Serialize};

use super::NotificationKind;
use crate::domain::events::{OrderChanged, RecommendedItem};
use crate::domain::ids::{CampaignId, MailRequestId};
use crate::domain::money::Money;
use crate::domain::orders::OrderStatus;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Content {
    /// A new account; with a link that verifies its address, when that is asked for.
    Welcome {
        request_id: Option<MailRequestId>,
    },
    Verification {
        request_id: MailRequestId,
    },
    PasswordReset {
        request_id: MailRequestId,
    },
    PasswordChanged,
    Order(OrderNews),
    Promotion {
        campaign_id: CampaignId,
        subject: String,
        /// Plain text.
        message: String,
        /// Products chosen for this user, by name; empty when everybody gets the same.
        products: Vec<String>,
    },
    /// Recommendations, best first.
    Digest {
        items: Vec<RecommendedItem>,
    },
}

/// What happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderNews {
    pub number: String,
    /// What it is now.
    pub status: OrderStatus,
    pub lines: Vec<OrderedItem>,
    pub total: Money,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Of a rejected order: the products of which there was too little or which are no longer sold, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A line of an order as a mail names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedItem {
    pub name: String,
    pub quantity: u32,
    pub total: Money,
}

impl OrderNews {
    pub fn of(order: OrderChanged) -> Self {
        let is_missing =
            |id| order.unavailable.contains(&id) || order.shortages.iter().any(|shortage| shortage.product_id == id);
        let missing =
            order.lines.iter().filter(|line| is_missing(line.product_id)).map(|line| line.name.clone()).collect();
        let item = |line: &crate::domain::orders::OrderLine| OrderedItem {
            name: line.name.clone(),
            quantity: line.quantity,
            total: line.total(),
        };
        Self {
            lines: order.lines.iter().map(item).collect(),
            missing,
            number: order.number,
            status: order.status,
            total: order.total,
            note: order.note,
        }
    }
}

impl Content {
    pub fn kind(&self) -> NotificationKind {
        match self {
            Self::Welcome { .. } | Self::Verification { .. } | Self::PasswordReset { .. } | Self::PasswordChanged => {
                NotificationKind::Account
            }
            Self::Order(_) => NotificationKind::OrderUpdate,
            Self::Promotion { .. } => NotificationKind::Promotion,
            Self::Digest { .. } => NotificationKind::Recommendation,
        }
    }

    /// True of the mail that confirms an order: it goes out whatever the preferences say.
    pub fn is_confirmation(&self) -> bool {
        matches!(self, Self::Order(news) if news.status == OrderStatus::Confirmed)
    }

    pub fn campaign_id(&self) -> Option<CampaignId> {
        match self {
            Self::Promotion { campaign_id, .. } => Some(*campaign_id),
            _ => None,
        }
    }

    /// The request whose link the mail carries.
    pub fn request_id(&self) -> Option<MailRequestId> {
        match self {
            Self::Welcome { request_id } => *request_id,
            Self::Verification { request_id } | Self::PasswordReset { request_id } => Some(*request_id),
            _ => None,
        }
    }

    /// The subject, of the mail and in the inbox.
    pub fn subject(&self) -> String {
        match self {
            Self::Welcome { .. } => "Welcome to Souk".to_owned(),
            Self::Verification { .. } => "Verify your e-mail address".to_owned(),
            Self::PasswordReset { .. } => "Choose a new password".to_owned(),
            Self::PasswordChanged => "Your password was changed".to_owned(),
            Self::Order(news) => format!("Order {} {}", news.number, order_words(news.status)),
            Self::Promotion { subject, .. } => subject.clone(),
            Self::Digest { .. } => "Picked for you".to_owned(),
        }
    }

    /// The text of the inbox.
    pub fn body(&self) -> String {
        match self {
            Self::Welcome { request_id: Some(_) } => {
                "Your account is ready. A link that verifies your e-mail address was sent to it.".to_owned()
            }
            Self::Welcome { request_id: None } => "Your account is ready.".to_owned(),
            Self::Verification { .. } => "A link that verifies your e-mail address was sent to it.".to_owned(),
            Self::PasswordReset { .. } => {
                "A link with which you can choose a new password was sent to your e-mail address.".to_owned()
            }
            Self::PasswordChanged => {
                "The password of your account was changed. If it was not you, choose a new one at once.".to_owned()
            }
            Self::Order(news) => order_body(news),
            Self::Promotion { message, products, .. } => with_list(message, products.iter().cloned()),
            Self::Digest { items } => {
                let lines = items.iter().map(|item| format!("{}: {}", item.name, item.reason));
                with_list("Products that may be for you:", lines)
            }
        }
    }
}

/// What became of an order, behind its number.
fn order_words(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "was received",
        OrderStatus::Confirmed => "is confirmed",
        OrderStatus::Rejected => "could not be accepted",
        OrderStatus::Shipped => "is on its way",
        OrderStatus::Delivered => "was delivered",
        OrderStatus::Cancelled => "was cancelled",
    }
}

fn order_body(news: &OrderNews) -> String {
    let lines = news.lines.iter().map(|line| format!("{} x {}", line.quantity, line.name));
    let total = format!("Total: {} {}", news.total.decimal(), news.total.currency.as_str());
    let mut body = with_list(&format!("Order {} {}.", news.number, order_words(news.status)), lines.chain([total]));
    if !news.missing.is_empty() {
        body.push_str(&format!("\nNot available: {}", news.missing.join(", ")));
    }
    if let Some(note) = &news.note {
        body.push_str(&format!("\nNote: {note}"));
    }
    body
}

fn with_list(head: &str, lines: impl Iterator<Item = String>) -> String {
    lines.fold(head.to_owned(), |text, line| text + "\n" + &line)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::ids::{OrderId, ProductId, TypedId, UserId};
    use crate::domain::inventory::Shortage;
    use crate::domain::orders::OrderLine;
    use uuid::Uuid;

    fn eur(minor_units: i64) -> Money {
        Money::new(minor_units, "EUR".parse().unwrap())
    }

    pub(in crate::domain::notifications) fn order_changed(status: OrderStatus) -> OrderChanged {
        let line = |id: u128, name: &str| OrderLine {
            product_id: ProductId::from_uuid(Uuid::from_u128(id)),
            sku: format!("SKU-{id}"),
            name: name.to_owned(),
            category: "Lighting".into(),
            unit_price: eur(4_990),
            quantity: 2,
        };
        OrderChanged {
            order_id: OrderId::from_uuid(Uuid::from_u128(1)),
            number: "261123-AAAA-BBBB".into(),
            customer_id: UserId::from_uuid(Uuid::from_u128(2)),
            status,
            sequence: 2,
            note: None,
            lines: vec![line(3, "Brass Lamp"), line(4, "Opal Pendant")],
            total: eur(19_960),
            shortages: Vec::new(),
            unavailable: Vec::new(),
        }
    }

    pub(in crate::domain::notifications) fn order_news(status: OrderStatus) -> OrderNews {
        OrderNews::of(order_changed(status))
    }

    pub(in crate::domain::notifications) fn promotion() -> Content {
        Content::Promotion {
            campaign_id: CampaignId::from_uuid(Uuid::from_u128(5)),
            subject: "Lamps".into(),
            message: "All lamps are cheaper.".into(),
            products: vec!["Brass Lamp".into()],
        }
    }

    pub(in crate::domain::notifications) fn digest() -> Content {
        let product_id = ProductId::from_uuid(Uuid::from_u128(3));
        Content::Digest {
            items: vec![RecommendedItem { product_id, name: "Brass Lamp".into(), reason: "Goes with shades".into() }],
        }
    }

    #[test]
    fn an_order_is_told_by_number_products_and_total() {
        let news = Content::Order(order_news(OrderStatus::Confirmed));
        assert_eq!(news.subject(), "Order 261123-AAAA-BBBB is confirmed");
        assert_eq!(
            news.body(),
            "Order 261123-AAAA-BBBB is confirmed.\n2 x Brass Lamp\n2 x Opal Pendant\nTotal: 199.60 EUR"
        );
    }

    #[test]
    fn a_rejected_order_names_what_was_missing() {
        let pendant = ProductId::from_uuid(Uuid::from_u128(4));
        let shortages = vec![Shortage { product_id: pendant, requested: 2, available: 1 }];
        let short = OrderChanged { shortages, ..order_changed(OrderStatus::Rejected) };
        let gone = OrderChanged { unavailable: vec![pendant], ..order_changed(OrderStatus::Rejected) };
        for order in [short, gone] {
            let body = Content::Order(OrderNews::of(order)).body();
            assert!(body.ends_with("\nNot available: Opal Pendant"), "{body}");
        }
    }

    #[test]
    fn what_is_kept_of_a_mail_with_a_link_only_says_that_one_was_sent() {
        let request_id = MailRequestId::from_uuid(Uuid::from_u128(7));
        for content in [
            Content::Welcome { request_id: Some(request_id) },
            Content::Verification { request_id },
            Content::PasswordReset { request_id },
        ] {
            assert!(content.body().contains("link"), "{content:?}");
            assert!(!content.body().contains("mrq_"), "{content:?}");
            assert_eq!(content.request_id(), Some(request_id));
        }
    }

    #[test]
    fn content_survives_its_stored_form() {
        for content in [
            Content::Welcome { request_id: None },
            Content::PasswordChanged,
            Content::Order(order_news(OrderStatus::Shipped)),
            promotion(),
            digest(),
        ] {
            let stored = serde_json::to_string(&content).unwrap();
            assert_eq!(serde_json::from_str::<Content>(&stored).unwrap(), content, "{stored}");
        }
    }
}
