//! API keys in the users store.

use futures_util::future::join_all;
use souk::domain::api_keys::{ApiKey, ApiKeyScope, InvalidKey, MAX_KEPT, MAX_LIVING};
use souk::domain::events::{ApiKeyChanged, event_type};
use souk::domain::ids::{ApiKeyId, SessionId, UserId};
use souk::domain::text::Email;
use souk::domain::time::Timestamp;
use souk::domain::users::{PasswordHash, Role, Session, TokenHash};
use souk::store::api_keys::{ApiKeyState, InsertApiKey, NewApiKey};
use souk::store::users::{InsertUser, NewMailRequest, NewPassword, NewSession, PasswordProof};

use crate::harness::{Accounts, Under, at, id, session_id, user};
use crate::users::token;

pub type Keys = Under<dyn Accounts>;

conformance!(api_keys:
    a_key_is_saved_and_announced_without_its_token,
    a_key_is_made_in_a_living_session_of_its_user_only,
    scopes_of_staff_are_refused_to_customers,
    a_user_has_so_many_keys_that_serve_and_no_more,
    of_simultaneous_keys_no_more_are_made_than_there_is_room_for,
    keys_that_serve_no_more_make_room_for_new_ones,
    a_key_is_revoked_once_and_by_whom_it_belongs_to,
    a_reset_and_another_role_end_all_keys_and_a_change_and_a_sign_out_do_not,
    the_keys_of_an_erased_account_are_gone,
    a_key_has_the_role_that_its_user_has_now,
    the_latest_use_is_kept,
);

const SCOPES: [ApiKeyScope; 2] = [ApiKeyScope::AccountRead, ApiKeyScope::OrdersWrite];

fn key(user_id: UserId, created_at: Timestamp) -> ApiKey {
    ApiKey {
        id: id(),
        user_id,
        name: "Warehouse".into(),
        scopes: SCOPES.into_iter().collect(),
        created_at,
        last_used_at: None,
        expires_at: None,
        revoked_at: None,
    }
}

/// A user with a session that lives until 100,000.
async fn sign_up(keys: &Keys, email: &str) -> (UserId, SessionId) {
    let new = user(email, "Ada");
    let user_id = new.user.id;
    assert_eq!(keys.port.insert_user(new).await.unwrap(), InsertUser::Inserted);
    (user_id, sign_in(keys, user_id, 1).await)
}

async fn sign_in(keys: &Keys, user_id: UserId, epoch: i64) -> SessionId {
    let session = Session {
        id: session_id(),
        user_id,
        user_agent: None,
        network: None,
        created_at: at(0),
        last_used_at: at(0),
        expires_at: at(100_000),
        revoked_at: None,
    };
    let session_id = session.id;
    let first = TokenHash(*session_id.as_bytes().repeat(2).first_chunk().unwrap());
    assert!(keys.port.insert_session(NewSession { session, token: first }, epoch).await.unwrap());
    session_id
}

async fn insert(keys: &Keys, key: &ApiKey, session: SessionId) -> InsertApiKey {
    keys.port.insert_api_key(NewApiKey { key: key.clone(), token: token(7), session }).await.unwrap()
}

async fn make(keys: &Keys, user_id: UserId, session: SessionId, at: Timestamp) -> ApiKey {
    let key = key(user_id, at);
    assert_eq!(insert(keys, &key, session).await, InsertApiKey::Inserted);
    key
}

async fn state(keys: &Keys, key: ApiKeyId) -> Option<ApiKeyState> {
    keys.port.api_key_states(&[key]).await.unwrap().pop().map(|(_, state)| state)
}

async fn is_revoked(keys: &Keys, key: &ApiKey) -> bool {
    state(keys, key.id).await.unwrap().revoked
}

/// The types of a user's events, in their order.
async fn announced(keys: &Keys, user_id: UserId) -> Vec<String> {
    let events = keys.pending().await;
    let own = events.iter().filter(|event| event.aggregate == user_id.to_string());
    own.map(|event| event.event_type.to_string()).collect()
}

async fn a_key_is_saved_and_announced_without_its_token(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    let older = make(&keys, ada, session, at(10)).await;
    let newer = ApiKey { expires_at: Some(at(5_000)), ..key(ada, at(20)) };
    assert_eq!(insert(&keys, &newer, session).await, InsertApiKey::Inserted);
    assert_eq!(keys.port.api_keys(ada).await.unwrap(), [newer.clone(), older.clone()], "newest first");
    assert_eq!(keys.port.api_keys(id()).await.unwrap(), []);
    let expected = ApiKeyState {
        user_id: ada,
        role: Role::Customer,
        scopes: newer.scopes,
        token: token(7),
        expires_at: Some(at(5_000)),
        revoked: false,
    };
    let states = keys.port.api_key_states(&[newer.id, id(), older.id]).await.unwrap();
    assert_eq!(states, [(newer.id, expected), (older.id, ApiKeyState { expires_at: None, ..expected })]);

    let events = keys.pending().await;
    let event = events.last().unwrap();
    assert_eq!((event.event_type.as_ref(), event.sequence), (event_type::USER_API_KEY_CREATED, 3));
    assert_eq!((&event.key, event.at), (&ada.to_string(), at(20)));
    let body: ApiKeyChanged = serde_json::from_str(&event.body).unwrap();
    let told = ApiKeyChanged { user_id: ada, api_key_id: newer.id, scopes: SCOPES.into(), expires_at: Some(at(5_000)) };
    assert_eq!(body, told);
    assert_eq!(keys.port.users(&[ada]).await.unwrap()[0].event_sequence, 3);
}

async fn a_key_is_made_in_a_living_session_of_its_user_only(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    let (_, of_eve) = sign_up(&keys, "eve@example.com").await;
    let before = keys.pending().await.len();
    for (name, user_id, session, at) in [
        ("of nobody", ada, session_id(), at(10)),
        ("of somebody else", ada, of_eve, at(10)),
        ("of nobody that there is", id(), session, at(10)),
        ("expired", ada, session, at(100_000)),
    ] {
        assert_eq!(insert(&keys, &key(user_id, at), session).await, InsertApiKey::SignedOut, "{name}");
    }
    keys.port.end_all_sessions(ada, at(10)).await.unwrap();
    assert_eq!(insert(&keys, &key(ada, at(11)), session).await, InsertApiKey::SignedOut, "ended");
    assert_eq!(keys.port.api_keys(ada).await.unwrap(), []);
    assert_eq!(keys.pending().await.len(), before);
}

async fn scopes_of_staff_are_refused_to_customers(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    let of_staff = ApiKey { scopes: [ApiKeyScope::CatalogueWrite].into_iter().collect(), ..key(ada, at(10)) };
    let refused = InsertApiKey::Refused(InvalidKey::StaffScope(ApiKeyScope::CatalogueWrite));
    assert_eq!(insert(&keys, &of_staff, session).await, refused);
    let staff = keys.port.change_role(ada, Role::Staff, at(20)).await.unwrap().unwrap();
    assert_eq!(insert(&keys, &of_staff, session).await, InsertApiKey::SignedOut);
    let session = sign_in(&keys, ada, staff.token_epoch).await;
    assert_eq!(insert(&keys, &of_staff, session).await, InsertApiKey::Inserted);
}

async fn a_user_has_so_many_keys_that_serve_and_no_more(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    let (eve, of_eve) = sign_up(&keys, "eve@example.com").await;
    let mut made = Vec::new();
    for n in 1..MAX_LIVING as i64 {
        made.push(make(&keys, ada, session, at(n)).await);
    }
    let expiring = ApiKey { expires_at: Some(at(1_000)), ..key(ada, at(30)) };
    assert_eq!(insert(&keys, &expiring, session).await, InsertApiKey::Inserted);
    let another = async |at| insert(&keys, &key(ada, at), session).await;
    assert_eq!(another(at(999)).await, InsertApiKey::Refused(InvalidKey::TooMany));
    make(&keys, eve, of_eve, at(999)).await;
    assert_eq!(another(at(1_000)).await, InsertApiKey::Inserted, "one has expired");
    assert_eq!(another(at(1_001)).await, InsertApiKey::Refused(InvalidKey::TooMany));
    keys.port.revoke_api_key(made[0].id, Some(ada), at(1_002)).await.unwrap().unwrap();
    assert_eq!(another(at(1_003)).await, InsertApiKey::Inserted, "one was revoked");
    assert_eq!(keys.port.api_keys(ada).await.unwrap().len(), MAX_LIVING + 2);
}

async fn of_simultaneous_keys_no_more_are_made_than_there_is_room_for(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    for n in 0..MAX_LIVING as i64 - 2 {
        make(&keys, ada, session, at(n)).await;
    }
    let made = (0..8).map(|_| {
        let port = keys.port.clone();
        let new = NewApiKey { key: key(ada, at(50)), token: token(7), session };
        tokio::spawn(async move { port.insert_api_key(new).await.unwrap() })
    });
    let made = join_all(made.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap);
    assert_eq!(made.filter(|made| *made == InsertApiKey::Inserted).count(), 2);
    assert_eq!(keys.port.api_keys(ada).await.unwrap().len(), MAX_LIVING);
}

async fn keys_that_serve_no_more_make_room_for_new_ones(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    let first = make(&keys, ada, session, at(1)).await;
    let mut ended = Vec::new();
    for n in 1..MAX_KEPT as i64 {
        let key = make(&keys, ada, session, at(n)).await;
        ended.push(keys.port.revoke_api_key(key.id, None, at(n)).await.unwrap().unwrap());
    }
    assert_eq!(keys.port.api_keys(ada).await.unwrap().len(), MAX_KEPT);
    let last = make(&keys, ada, session, at(200)).await;
    let kept = keys.port.api_keys(ada).await.unwrap();
    assert_eq!((kept.len(), &kept[0], kept.last()), (MAX_KEPT, &last, Some(&first)), "what serves stays");
    assert!(!kept.contains(&ended[0]) && kept.contains(&ended[1]), "the oldest goes");
    assert_eq!(state(&keys, ended[0].id).await, None);
}

async fn a_key_is_revoked_once_and_by_whom_it_belongs_to(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    let (eve, _) = sign_up(&keys, "eve@example.com").await;
    let key = make(&keys, ada, session, at(10)).await;
    let other = make(&keys, ada, session, at(10)).await;
    assert_eq!(keys.port.revoke_api_key(key.id, Some(eve), at(20)).await.unwrap(), None);
    assert_eq!(keys.port.revoke_api_key(id(), None, at(20)).await.unwrap(), None);
    assert!(!is_revoked(&keys, &key).await);
    let revoked = ApiKey { revoked_at: Some(at(20)), ..key.clone() };
    assert_eq!(keys.port.revoke_api_key(key.id, Some(ada), at(20)).await.unwrap().as_ref(), Some(&revoked));
    assert_eq!(keys.port.revoke_api_key(key.id, None, at(30)).await.unwrap().as_ref(), Some(&revoked), "as it was");
    assert!(is_revoked(&keys, &key).await && !is_revoked(&keys, &other).await);
    let types = announced(&keys, ada).await;
    assert_eq!(types.iter().filter(|kind| *kind == event_type::USER_API_KEY_REVOKED).count(), 1, "{types:?}");
    assert!(keys.port.revoke_api_key(other.id, None, at(30)).await.unwrap().is_some(), "by staff");
}

async fn a_reset_and_another_role_end_all_keys_and_a_change_and_a_sign_out_do_not(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    let (eve, of_eve) = sign_up(&keys, "eve@example.com").await;
    let of_eve = make(&keys, eve, of_eve, at(10)).await;
    let key = make(&keys, ada, session, at(10)).await;
    let expired = ApiKey { expires_at: Some(at(12)), ..self::key(ada, at(11)) };
    insert(&keys, &expired, session).await;
    let hash = |text: &str| PasswordHash(text.into());
    let proof = PasswordProof::Present(ada, hash("hash of ada@example.com"));
    let change = NewPassword { proof, hash: hash("second"), session: None, at: at(20) };
    assert!(keys.port.replace_password(change).await.unwrap().is_some());
    keys.port.end_all_sessions(ada, at(21)).await.unwrap();
    assert!(!is_revoked(&keys, &key).await);

    let request = NewMailRequest { id: id(), token: token(9), at: at(22) };
    keys.port.request_password_reset(&Email::parse("ada@example.com").unwrap(), request).await.unwrap();
    let before = announced(&keys, ada).await.len();
    let reset =
        NewPassword { proof: PasswordProof::ResetToken(token(9)), hash: hash("third"), session: None, at: at(23) };
    let user = keys.port.replace_password(reset).await.unwrap().unwrap();
    assert!(is_revoked(&keys, &key).await && !is_revoked(&keys, &of_eve).await);
    let announced_then = announced(&keys, ada).await[before..].to_vec();
    assert_eq!(
        announced_then,
        [event_type::USER_PASSWORD_CHANGED, event_type::USER_API_KEY_REVOKED],
        "not the expired"
    );
    assert_eq!(keys.port.users(&[ada]).await.unwrap(), std::slice::from_ref(&user));

    let session = sign_in(&keys, ada, user.token_epoch).await;
    let key = make(&keys, ada, session, at(30)).await;
    keys.port.change_role(ada, Role::Customer, at(31)).await.unwrap().unwrap();
    assert!(!is_revoked(&keys, &key).await, "the role is the same");
    keys.port.change_role(ada, Role::Staff, at(32)).await.unwrap().unwrap();
    assert!(is_revoked(&keys, &key).await);
    let types = announced(&keys, ada).await;
    assert_eq!(types[types.len() - 2..], [event_type::USER_UPDATED, event_type::USER_API_KEY_REVOKED]);
}

async fn the_keys_of_an_erased_account_are_gone(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    let (eve, of_eve) = sign_up(&keys, "eve@example.com").await;
    let (key, other) = (make(&keys, ada, session, at(10)).await, make(&keys, eve, of_eve, at(10)).await);
    let hash = PasswordHash("hash of ada@example.com".into());
    assert!(keys.port.erase_user(ada, &hash, at(20)).await.unwrap());
    assert_eq!(keys.port.api_keys(ada).await.unwrap(), []);
    assert_eq!(state(&keys, key.id).await, None);
    assert_eq!(keys.port.revoke_api_key(key.id, None, at(30)).await.unwrap(), None);
    assert!(!is_revoked(&keys, &other).await);
}

async fn a_key_has_the_role_that_its_user_has_now(keys: Keys) {
    let (ada, _) = sign_up(&keys, "ada@example.com").await;
    let staff = keys.port.change_role(ada, Role::Staff, at(5)).await.unwrap().unwrap();
    let session = sign_in(&keys, ada, staff.token_epoch).await;
    let key = make(&keys, ada, session, at(10)).await;
    assert_eq!(state(&keys, key.id).await.unwrap().role, Role::Staff);
    keys.port.change_role(ada, Role::Customer, at(20)).await.unwrap();
    assert_eq!(state(&keys, key.id).await.unwrap().role, Role::Customer);
}

async fn the_latest_use_is_kept(keys: Keys) {
    let (ada, session) = sign_up(&keys, "ada@example.com").await;
    let (first, second) = (make(&keys, ada, session, at(1)).await, make(&keys, ada, session, at(2)).await);
    let before = keys.pending().await.len();
    keys.port.record_api_key_uses(&[]).await.unwrap();
    keys.port.record_api_key_uses(&[(first.id, at(50)), (id(), at(60)), (second.id, at(70))]).await.unwrap();
    keys.port.record_api_key_uses(&[(first.id, at(40)), (second.id, at(80))]).await.unwrap();
    let uses: Vec<_> = keys.port.api_keys(ada).await.unwrap().iter().map(|key| key.last_used_at).collect();
    assert_eq!(uses, [Some(at(80)), Some(at(50))]);
    assert_eq!(keys.pending().await.len(), before, "nobody is told");
}
