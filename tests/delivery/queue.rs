//! People and what is queued for them, put into the files of a shop that does not run.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use souk::domain::events::event_type;
use souk::domain::ids::{CampaignId, NotificationId, TypedId, UserId};
use souk::domain::notifications::NewNotification;
use souk::domain::notifications::content::Content;
use souk::domain::text::Email;
use souk::domain::time::Timestamp;
use souk::domain::users::{PasswordHash, Preferences, Role, User};
use souk::store::notifications::NotificationStore;
use souk::store::sqlite::{SqliteNotificationStore, SqliteUserStore};
use souk::store::users::{NewUser, UserStore};
use uuid::Uuid;

pub fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap())
}

/// Users with these addresses, who want promotions or not. Nobody is told of them.
pub async fn people(data_dir: &Path, people: &[(String, bool)]) -> Vec<UserId> {
    let (store, _) = SqliteUserStore::open_in(data_dir).unwrap();
    let mut ids = Vec::new();
    for (email, promotions) in people {
        let at = now();
        let mut user = User {
            id: UserId::from_uuid(Uuid::now_v7()),
            email: Email::parse(email).unwrap(),
            name: "Test Customer".into(),
            role: Role::Customer,
            email_verified: true,
            preferences: Preferences { promotions: *promotions, ..Preferences::default() },
            token_epoch: 1,
            demo: false,
            created_at: at,
            updated_at: at,
            event_sequence: 0,
            erased_at: None,
        };
        ids.push(user.id);
        let event = user.event(event_type::USER_UPDATED, at);
        let new = NewUser { user, password_hash: PasswordHash("none".into()), verification: None, event };
        store.insert_user(new).await.unwrap();
    }
    store.close();
    ids
}

/// So many promotions, to each of these people in turn.
pub async fn promotions(data_dir: &Path, people: &[UserId], count: usize) -> Vec<NotificationId> {
    let (store, _) = SqliteNotificationStore::open_in(data_dir).unwrap();
    let campaign_id = CampaignId::from_uuid(Uuid::now_v7());
    let mut ids = Vec::new();
    while ids.len() < count {
        let batch: Vec<_> = (ids.len()..count.min(ids.len() + 5_000))
            .map(|number| NewNotification {
                id: NotificationId::from_uuid(Uuid::now_v7()),
                user_id: people[number % people.len()],
                content: Content::Promotion {
                    campaign_id,
                    subject: format!("Lamps {number}"),
                    message: "All lamps are cheaper.".into(),
                    products: Vec::new(),
                },
                dedupe_key: format!("test-{number}"),
                traceparent: None,
            })
            .collect();
        ids.extend(batch.iter().map(|new| new.id));
        store.insert_notifications(batch, now()).await.unwrap();
    }
    store.close();
    ids
}
