//! What a record of the log wakes in the live hub.

use serde::Deserialize;

use super::Record;
use super::envelope;
use super::tail::LiveSink;
use crate::actors::live::{LiveHub, LiveKey};
use crate::domain::events::{Topic, event_type};
use crate::domain::ids::UserId;

/// The topics that live subscriptions depend on.
pub const TOPICS: [Topic; 5] = [
    Topic::OrderEvents,
    Topic::InventoryEvents,
    Topic::RecommendationEvents,
    Topic::NotificationEvents,
    Topic::DeadLetterQueue,
];

/// Of an order event, as far as it matters here.
#[derive(Deserialize)]
struct OrderedBy {
    customer_id: UserId,
}

pub struct HubSink(pub LiveHub);

impl LiveSink for HubSink {
    fn wake(&self, record: &Record) {
        match record.topic {
            Topic::OrderEvents => {
                if let Ok(order_id) = record.key.parse() {
                    self.0.wake(LiveKey::Order(order_id));
                }
                // Only somebody who watches all orders of a customer makes reading the body worth its while.
                if self.0.watches_customers()
                    && let Ok(order) = serde_json::from_str::<OrderedBy>(&record.body)
                {
                    self.0.wake(LiveKey::Customer(order.customer_id));
                }
            }
            Topic::InventoryEvents if record.header(envelope::TYPE) == Some(event_type::STOCK_CHANGED) => {
                if let Ok(product_id) = record.key.parse() {
                    self.0.wake(LiveKey::Product(product_id));
                }
            }
            Topic::RecommendationEvents => {
                if let Ok(user_id) = record.key.parse() {
                    self.0.wake(LiveKey::Recommendations(user_id));
                }
            }
            // Not at the letter itself, which the store does not have yet.
            Topic::DeadLetterQueue if record.header(envelope::TYPE) == Some(event_type::DEAD_LETTER_KEPT) => {
                self.0.wake(LiveKey::DeadLetters);
            }
            Topic::NotificationEvents => {
                if let Ok(user_id) = record.key.parse() {
                    self.0.wake(LiveKey::Inbox(user_id));
                }
            }
            _ => {}
        }
    }

    fn wake_all(&self) {
        self.0.wake_all();
    }
}
