//! The users store: mail requests, passwords, names, the end of an account.

use souk::domain::events::event_type;
use souk::domain::ids::{MailRequestId, UserId};
use souk::domain::mail_requests::{MailRequest, MailRequestKind};
use souk::domain::networks::NetworkDigest;
use souk::domain::page::PageRequest;
use souk::domain::text::Email;
use souk::domain::time::Timestamp;
use souk::domain::users::{PasswordHash, PreferencesEdit, Role, Session, Subscription, TokenHash};
use souk::store::users::{Exchanged, NewMailRequest, NewPassword, NewSession, PasswordProof};

use crate::harness::{at, id, session_id, user};
use crate::users::{Users, ended, insert, sign_in, token};

conformance!(users:
    a_reset_request_is_saved_for_a_known_address_only,
    a_newer_request_of_a_kind_replaces_the_older,
    a_verification_is_used_once_and_announced,
    a_verified_address_asks_for_no_verification,
    a_reset_replaces_the_password_once_and_ends_what_went_before,
    of_simultaneous_resets_with_one_token_one_wins,
    an_expired_or_foreign_token_replaces_nothing,
    a_change_needs_the_hash_that_is_there_now,
    a_renewed_hash_takes_the_place_of_the_one_it_was_made_for_and_tells_nobody,
    a_sign_in_that_was_judged_before_a_change_begins_no_session,
    a_network_is_known_by_the_sessions_that_began_in_it,
    sessions_and_requests_are_listed_newest_first,
    a_renamed_user_is_found_by_the_new_name_only,
    an_erased_account_leaves_a_tombstone_and_frees_its_address,
    an_account_is_erased_once_and_only_under_its_own_password,
    an_erased_account_cannot_be_changed_any_more,
    expired_requests_are_purged,
);

fn new_request(n: u8, at: Timestamp) -> NewMailRequest {
    NewMailRequest { id: id(), token: token(n), at }
}

fn email(text: &str) -> Email {
    Email::parse(text).unwrap()
}

fn hash_of(email: &str) -> PasswordHash {
    PasswordHash(format!("hash of {email}"))
}

fn new_session(user_id: UserId, first: TokenHash) -> NewSession {
    let session = Session {
        id: session_id(),
        user_id,
        user_agent: None,
        network: None,
        created_at: at(10),
        last_used_at: at(10),
        expires_at: at(100_000),
        revoked_at: None,
    };
    NewSession { session, token: first }
}

async fn request_reset(users: &Users, address: &str, n: u8, at: Timestamp) -> MailRequestId {
    let request = new_request(n, at);
    users.port.request_password_reset(&email(address), request).await.unwrap();
    request.id
}

/// The last event of a user: its type and the request that it names.
async fn last_event(users: &Users, user: UserId) -> (String, Option<String>) {
    let events = users.pending().await;
    let event = events.iter().rfind(|event| event.aggregate == user.to_string()).unwrap();
    let body: serde_json::Value = serde_json::from_str(&event.body).unwrap();
    (event.event_type.to_string(), body["request_id"].as_str().map(str::to_owned))
}

fn reset(n: u8, password: &str, session: Option<NewSession>, at: Timestamp) -> NewPassword {
    NewPassword { proof: PasswordProof::ResetToken(token(n)), hash: PasswordHash(password.into()), session, at }
}

async fn a_reset_request_is_saved_for_a_known_address_only(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let known = request_reset(&users, "ADA@example.com", 1, at(5)).await;
    let saved = users.port.mail_request(known).await.unwrap().unwrap();
    assert_eq!(saved, MailRequest::new(known, ada, MailRequestKind::PasswordReset, token(1), at(5)));
    let announced = (event_type::USER_PASSWORD_RESET_REQUESTED.to_owned(), Some(known.to_string()));
    assert_eq!(last_event(&users, ada).await, announced);
    let body = users.pending().await.iter().map(|event| event.body.clone()).collect::<String>();
    assert!(!body.contains("ada@"), "{body}");
    // Of an unknown address nothing stays: no request, no event.
    let unknown = request_reset(&users, "nobody@example.com", 2, at(5)).await;
    assert_eq!(users.port.mail_request(unknown).await.unwrap(), None);
    assert_eq!(users.pending().await.len(), 2);
}

async fn a_newer_request_of_a_kind_replaces_the_older(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let verification = new_request(9, at(4));
    users.port.request_verification(ada, verification).await.unwrap().unwrap();
    let older = request_reset(&users, "ada@example.com", 1, at(5)).await;
    let newer = request_reset(&users, "ada@example.com", 2, at(6)).await;
    let request = async |id| users.port.mail_request(id).await.unwrap().unwrap();
    assert_eq!(request(older).await.replaced_at, Some(at(6)));
    assert!(request(newer).await.is_open(at(7)));
    assert!(request(verification.id).await.is_open(at(7)), "another kind");
    let open = async |n, kind| users.port.open_mail_request(token(n), kind, at(7)).await.unwrap().map(|found| found.id);
    assert_eq!(open(1, MailRequestKind::PasswordReset).await, None);
    assert_eq!(open(2, MailRequestKind::PasswordReset).await, Some(newer));
    assert_eq!(open(2, MailRequestKind::Verification).await, None);
    assert_eq!(open(3, MailRequestKind::PasswordReset).await, None);
}

async fn a_verification_is_used_once_and_announced(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let request = new_request(1, at(5));
    users.port.request_verification(ada, request).await.unwrap().unwrap();
    let announced = (event_type::USER_VERIFICATION_REQUESTED.to_owned(), Some(request.id.to_string()));
    assert_eq!(last_event(&users, ada).await, announced);
    assert!(users.port.verify_email(token(2), at(6)).await.unwrap().is_none());
    let verified = users.port.verify_email(token(1), at(6)).await.unwrap().unwrap();
    assert!(verified.email_verified);
    assert_eq!(users.port.users(&[ada]).await.unwrap(), [verified]);
    assert_eq!(last_event(&users, ada).await, (event_type::USER_VERIFIED.to_owned(), None));
    assert_eq!(users.port.mail_request(request.id).await.unwrap().unwrap().used_at, Some(at(6)));
    assert!(users.port.verify_email(token(1), at(7)).await.unwrap().is_none());
    assert_eq!(users.pending().await.len(), 3);
}

async fn a_verified_address_asks_for_no_verification(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    users.port.request_verification(ada, new_request(1, at(5))).await.unwrap();
    users.port.verify_email(token(1), at(6)).await.unwrap().unwrap();
    let again = new_request(2, at(7));
    assert!(users.port.request_verification(ada, again).await.unwrap().unwrap().email_verified);
    assert_eq!(users.port.mail_request(again.id).await.unwrap(), None);
    assert_eq!(users.pending().await.len(), 3);
    assert!(users.port.request_verification(id(), new_request(3, at(7))).await.unwrap().is_none());
}

async fn a_reset_replaces_the_password_once_and_ends_what_went_before(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let eve = insert(&users, "eve@example.com", "Eve").await;
    let before = sign_in(&users, ada, token(1), at(100_000)).await;
    let other = sign_in(&users, eve, token(2), at(100_000)).await;
    request_reset(&users, "ada@example.com", 7, at(5)).await;
    let begins = new_session(ada, token(3));
    let session = begins.session.id;
    let changed = users.port.replace_password(reset(7, "new", Some(begins), at(10))).await.unwrap().unwrap();
    assert_eq!((changed.id, changed.token_epoch), (ada, 2));
    let (stored, hash) = users.port.credentials(&email("ada@example.com")).await.unwrap().unwrap();
    assert_eq!((stored, hash), (changed, PasswordHash("new".into())));
    assert!(ended(&users, before, at(11)).await);
    assert!(!ended(&users, session, at(11)).await && !ended(&users, other, at(11)).await);
    assert_eq!(users.port.session_state(session, at(11)).await.unwrap().unwrap().token_epoch, 2);
    assert_eq!(last_event(&users, ada).await, (event_type::USER_PASSWORD_CHANGED.to_owned(), None));
    // The new session's line lives, the token is used up.
    let exchanged = users.port.exchange_refresh_token(token(3), token(4), at(12), at(100_000)).await.unwrap();
    assert!(matches!(exchanged, Exchanged::Done { .. }));
    let events = users.pending().await.len();
    assert!(users.port.replace_password(reset(7, "again", None, at(13))).await.unwrap().is_none());
    assert_eq!(users.port.credentials_of(ada).await.unwrap().unwrap().1, PasswordHash("new".into()));
    assert_eq!(users.pending().await.len(), events);
}

async fn of_simultaneous_resets_with_one_token_one_wins(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    request_reset(&users, "ada@example.com", 7, at(5)).await;
    let resets = (0..20).map(|n| {
        let port = users.port.clone();
        tokio::spawn(async move { port.replace_password(reset(7, &format!("new {n}"), None, at(10))).await.unwrap() })
    });
    let mut winners = 0;
    for reset in resets.collect::<Vec<_>>() {
        winners += usize::from(reset.await.unwrap().is_some());
    }
    assert_eq!(winners, 1);
    assert_eq!(users.port.users(&[ada]).await.unwrap()[0].token_epoch, 2);
}

async fn an_expired_or_foreign_token_replaces_nothing(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    request_reset(&users, "ada@example.com", 1, at(5)).await;
    users.port.request_verification(ada, new_request(2, at(5))).await.unwrap();
    let late = at(5 + MailRequestKind::PasswordReset.lifetime_ms());
    for (n, when) in [(1, late), (2, at(6)), (3, at(6))] {
        assert!(users.port.replace_password(reset(n, "new", None, when)).await.unwrap().is_none(), "{n}");
    }
    assert!(users.port.verify_email(token(1), at(6)).await.unwrap().is_none(), "a reset's token verifies nothing");
    assert_eq!(users.port.credentials_of(ada).await.unwrap().unwrap().1, hash_of("ada@example.com"));
    assert_eq!(users.port.users(&[ada]).await.unwrap()[0].token_epoch, 1);
}

async fn a_change_needs_the_hash_that_is_there_now(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let before = sign_in(&users, ada, token(1), at(100_000)).await;
    request_reset(&users, "ada@example.com", 7, at(5)).await;
    let change = |present: &str, new: &str| NewPassword {
        proof: PasswordProof::Present(ada, PasswordHash(present.into())),
        hash: PasswordHash(new.into()),
        session: None,
        at: at(10),
    };
    assert!(users.port.replace_password(change("another hash", "new")).await.unwrap().is_none());
    assert!(!ended(&users, before, at(11)).await);
    users.port.replace_password(change("hash of ada@example.com", "new")).await.unwrap().unwrap();
    assert!(ended(&users, before, at(11)).await);
    assert!(users.port.replace_password(change("hash of ada@example.com", "third")).await.unwrap().is_none());
    // A reset that was asked for before the change serves no more.
    assert!(users.port.replace_password(reset(7, "fourth", None, at(12))).await.unwrap().is_none());
    assert_eq!(users.port.credentials_of(ada).await.unwrap().unwrap().1, PasswordHash("new".into()));
}

async fn a_renewed_hash_takes_the_place_of_the_one_it_was_made_for_and_tells_nobody(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let eve = insert(&users, "eve@example.com", "Eve").await;
    let session = sign_in(&users, ada, token(1), at(100_000)).await;
    let (before, told) = (users.port.users(&[ada]).await.unwrap(), users.pending().await.len());
    let hash = |text: &str| PasswordHash(text.into());
    let present = hash_of("ada@example.com");
    assert!(!users.port.renew_password_hash(ada, &hash("another"), hash("renewed")).await.unwrap());
    assert!(users.port.renew_password_hash(ada, &present, hash("renewed")).await.unwrap());
    assert!(!users.port.renew_password_hash(ada, &present, hash("again")).await.unwrap());
    assert_eq!(users.port.credentials_of(ada).await.unwrap(), Some((before[0].clone(), hash("renewed"))));
    assert_eq!(users.port.credentials_of(eve).await.unwrap().unwrap().1, hash_of("eve@example.com"));
    assert!(!ended(&users, session, at(11)).await);
    assert_eq!(users.pending().await.len(), told);
}

async fn a_sign_in_that_was_judged_before_a_change_begins_no_session(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let late = new_session(ada, token(1));
    users.port.end_all_sessions(ada, at(5)).await.unwrap();
    assert!(!users.port.insert_session(late.clone(), 1).await.unwrap());
    assert_eq!(users.port.session_state(late.session.id, at(6)).await.unwrap(), None);
    assert!(users.port.insert_session(late, 2).await.unwrap());
    assert!(!users.port.insert_session(new_session(id(), token(2)), 1).await.unwrap(), "no such user");
}

async fn a_network_is_known_by_the_sessions_that_began_in_it(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    insert(&users, "eve@example.com", "Eve").await;
    let (home, cafe) = (NetworkDigest([1; 16]), NetworkDigest([2; 16]));
    let mut from_home = new_session(ada, token(1));
    from_home.session.network = Some(home);
    let began_at = from_home.session.created_at;
    assert!(users.port.insert_session(from_home, 1).await.unwrap());
    assert!(users.port.insert_session(new_session(ada, token(2)), 1).await.unwrap());
    let known = async |email: &str, network, since| {
        users.port.signed_in_from(&Email::parse(email).unwrap(), network, since).await.unwrap()
    };
    assert!(known("ADA@example.com", home, began_at).await, "case does not count");
    assert!(!known("ada@example.com", home, Timestamp(began_at.0 + 1)).await, "longer ago than asked for");
    assert!(!known("ada@example.com", cafe, at(0)).await);
    assert!(!known("eve@example.com", home, at(0)).await, "somebody else's");
    assert!(!known("nobody@example.com", home, at(0)).await);
    let listed = users.port.sessions(ada).await.unwrap();
    let networks: Vec<_> = listed.iter().filter_map(|session| session.network).collect();
    assert_eq!(networks, [home]);
    users.port.end_all_sessions(ada, at(20)).await.unwrap();
    assert!(known("ada@example.com", home, began_at).await, "a session that has ended began there, too");
}

async fn sessions_and_requests_are_listed_newest_first(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let eve = insert(&users, "eve@example.com", "Eve").await;
    let first = sign_in(&users, ada, token(1), at(100_000)).await;
    let second = sign_in(&users, ada, token(2), at(200_000)).await;
    sign_in(&users, eve, token(3), at(100_000)).await;
    users.port.end_session(ada, token(1), at(9)).await.unwrap().unwrap();
    let listed = users.port.sessions(ada).await.unwrap();
    assert_eq!(listed.iter().map(|session| session.id).collect::<Vec<_>>(), [second, first]);
    assert_eq!(listed.iter().map(|session| session.is_alive(at(10))).collect::<Vec<_>>(), [true, false]);
    assert_eq!(listed[0].user_agent.as_deref(), Some("a browser"));
    let older = request_reset(&users, "ada@example.com", 4, at(5)).await;
    let newer = request_reset(&users, "ada@example.com", 5, at(6)).await;
    let requests: Vec<_> = users.port.mail_requests(ada).await.unwrap().iter().map(|request| request.id).collect();
    assert_eq!(requests, [newer, older]);
    assert_eq!(users.port.mail_requests(eve).await.unwrap(), []);
}

async fn a_renamed_user_is_found_by_the_new_name_only(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada King").await;
    let renamed = users.port.rename(ada, "Augusta Byron".into(), at(5)).await.unwrap().unwrap();
    assert_eq!((renamed.name.as_str(), renamed.updated_at), ("Augusta Byron", at(5)));
    assert_eq!(last_event(&users, ada).await.0, event_type::USER_UPDATED);
    for (search, found) in [("king", 0), ("byron", 1), ("ada", 1)] {
        let page = users.port.list_users(Some(search), &PageRequest::first(5)).await.unwrap();
        assert_eq!(page.total, found, "{search}");
    }
    users.port.rename(ada, "Augusta Byron".into(), at(6)).await.unwrap().unwrap();
    assert_eq!(users.pending().await.len(), 2, "the same name is no change");
    assert_eq!(users.port.rename(id(), "Nobody".into(), at(6)).await.unwrap(), None);
}

async fn an_erased_account_leaves_a_tombstone_and_frees_its_address(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada King").await;
    let eve = insert(&users, "eve@example.com", "Eve").await;
    let session = sign_in(&users, ada, token(1), at(100_000)).await;
    request_reset(&users, "ada@example.com", 7, at(5)).await;
    let edit = PreferencesEdit { promotions: Some(true), ..PreferencesEdit::default() };
    users.port.edit_preferences(ada, edit, at(6)).await.unwrap().unwrap();
    assert!(users.port.erase_user(ada, &hash_of("ada@example.com"), at(10)).await.unwrap());

    let left = users.port.users(&[ada]).await.unwrap().remove(0);
    assert_eq!((left.erased_at, left.role, left.email_verified), (Some(at(10)), Role::Customer, false));
    assert!(!left.name.contains("Ada") && !left.email.as_str().contains("ada"));
    assert!(users.port.credentials(&email("ada@example.com")).await.unwrap().is_none());
    assert!(users.port.credentials_of(ada).await.unwrap().is_none());
    assert_eq!(users.port.session_state(session, at(11)).await.unwrap(), None);
    let exchanged = users.port.exchange_refresh_token(token(1), token(2), at(11), at(100_000)).await.unwrap();
    assert!(matches!(exchanged, Exchanged::Unknown));
    assert_eq!(users.port.sessions(ada).await.unwrap(), []);
    assert_eq!(users.port.mail_requests(ada).await.unwrap(), []);
    assert_eq!(last_event(&users, ada).await, (event_type::USER_DELETED.to_owned(), None));
    for subscription in Subscription::ALL {
        assert!(!users.port.audience(subscription, None, 10).await.unwrap().contains(&ada));
    }
    let listed = users.port.list_users(None, &PageRequest::first(5)).await.unwrap();
    assert_eq!((listed.total, listed.entries.len(), listed.entries[0].1.id), (1, 1, eve));
    for word in ["ada", "king", "deleted"] {
        assert_eq!(users.port.list_users(Some(word), &PageRequest::first(5)).await.unwrap().total, 0, "{word}");
    }
    // The address is free, also for a second account that is erased.
    let again = insert(&users, "ada@example.com", "Ada again").await;
    assert_ne!(again, ada);
    assert!(users.port.erase_user(again, &hash_of("ada@example.com"), at(12)).await.unwrap());
}

async fn an_account_is_erased_once_and_only_under_its_own_password(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    assert!(!users.port.erase_user(ada, &PasswordHash("another".into()), at(5)).await.unwrap());
    assert!(!users.port.erase_user(id(), &hash_of("ada@example.com"), at(5)).await.unwrap());
    assert!(users.port.credentials_of(ada).await.unwrap().is_some());
    assert!(users.port.erase_user(ada, &hash_of("ada@example.com"), at(6)).await.unwrap());
    assert!(!users.port.erase_user(ada, &hash_of("ada@example.com"), at(7)).await.unwrap());
    assert!(!users.port.erase_user(ada, &PasswordHash(String::new()), at(7)).await.unwrap());
    assert_eq!(users.pending().await.len(), 2);
}

async fn an_erased_account_cannot_be_changed_any_more(users: Users) {
    let new = user("ada@example.com", "Ada");
    let ada = new.user.id;
    users.port.insert_user(new).await.unwrap();
    users.port.erase_user(ada, &hash_of("ada@example.com"), at(6)).await.unwrap();
    let left = users.port.users(&[ada]).await.unwrap();
    assert_eq!(users.port.rename(ada, "Ada".into(), at(7)).await.unwrap(), None);
    assert_eq!(users.port.change_role(ada, Role::Admin, at(7)).await.unwrap(), None);
    let edit = PreferencesEdit { promotions: Some(true), ..PreferencesEdit::default() };
    assert_eq!(users.port.edit_preferences(ada, edit, at(7)).await.unwrap(), None);
    assert_eq!(users.port.request_verification(ada, new_request(1, at(7))).await.unwrap(), None);
    // Neither its id nor the address of its tombstone is an address that mail is asked for.
    let request = request_reset(&users, left[0].email.as_str(), 2, at(7)).await;
    assert_eq!(users.port.mail_request(request).await.unwrap(), None);
    assert_eq!(users.port.users(&[ada]).await.unwrap(), left);
}

async fn expired_requests_are_purged(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let reset = request_reset(&users, "ada@example.com", 1, at(5)).await;
    let verification = new_request(2, at(5));
    users.port.request_verification(ada, verification).await.unwrap();
    let expiry = 5 + MailRequestKind::PasswordReset.lifetime_ms();
    assert_eq!(users.port.purge_mail_requests(at(expiry)).await.unwrap(), 0);
    assert_eq!(users.port.purge_mail_requests(at(expiry + 1)).await.unwrap(), 1);
    assert_eq!(users.port.mail_request(reset).await.unwrap(), None);
    assert!(users.port.mail_request(verification.id).await.unwrap().is_some());
}
