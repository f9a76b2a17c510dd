//! The users store.

use futures_util::future::join_all;
use souk::domain::ids::{SessionId, UserId};
use souk::domain::mail_requests::{MailRequest, MailRequestKind};
use souk::domain::page::PageRequest;
use souk::domain::signing_keys::KeyTerm;
use souk::domain::text::Email;
use souk::domain::time::Timestamp;
use souk::domain::users::{PreferencesEdit, RefreshVerdict, Role, Session, Subscription, TokenHash};
use souk::store::StoreError;
use souk::store::users::{Exchanged, InsertUser, NewSession, StoredSecret, StoredSigningKey, UserStore};

use crate::harness::{Under, at, id, session_id, user};

pub type Users = Under<dyn UserStore>;

conformance!(users:
    a_saved_user_is_found_by_id_and_by_address,
    unknown_users_are_absent,
    an_address_belongs_to_one_user_whatever_its_case,
    of_simultaneous_sign_ups_with_one_address_one_wins,
    a_user_is_saved_with_its_event_or_not_at_all,
    preferences_change_and_are_announced,
    a_role_change_voids_tokens_once_and_ends_sessions,
    lists_are_newest_first_and_stable_while_users_come,
    a_search_finds_beginnings_of_words,
    a_broken_cursor_is_refused,
    admins_are_no_shoppers,
    a_refresh_token_is_exchanged_once,
    of_a_long_session_the_tokens_that_have_outlived_themselves_are_forgotten,
    of_simultaneous_exchanges_one_wins_and_its_line_lives,
    a_token_shown_again_later_ends_its_session,
    a_token_whose_successor_was_used_ends_its_session,
    sign_out_ends_the_session_of_the_token_only_for_its_user,
    sign_out_everywhere_ends_all_and_raises_the_epoch,
    expired_sessions_are_ended_and_purged,
    all_sessions_that_expired_go_however_many_they_are,
    an_exchange_moves_the_end_of_its_session,
    the_first_signing_key_stays,
    a_rotation_adds_a_key_ends_the_others_and_removes_what_is_over,
    simultaneous_rotations_each_end_the_keys_before_theirs,
    the_first_server_secret_stays,
    what_is_stored_as_it_is_can_be_sealed_and_what_is_sealed_stays,
    a_sign_up_and_its_verification_are_one_commit,
    an_audience_is_who_wants_it_by_id_in_pages,
);

pub async fn insert(users: &Users, email: &str, name: &str) -> UserId {
    let new = user(email, name);
    let id = new.user.id;
    assert_eq!(users.port.insert_user(new).await.unwrap(), InsertUser::Inserted);
    id
}

pub fn token(n: u8) -> TokenHash {
    TokenHash([n; 32])
}

pub async fn sign_in(users: &Users, user_id: UserId, first: TokenHash, expires_at: Timestamp) -> SessionId {
    let session = Session {
        id: session_id(),
        user_id,
        user_agent: Some("a browser".into()),
        network: None,
        created_at: at(0),
        last_used_at: at(0),
        expires_at,
        revoked_at: None,
    };
    let session_id = session.id;
    assert!(users.port.insert_session(NewSession { session, token: first }, 1).await.unwrap());
    session_id
}

pub async fn ended(users: &Users, session: SessionId, now: Timestamp) -> bool {
    users.port.session_state(session, now).await.unwrap().unwrap().ended
}

async fn a_saved_user_is_found_by_id_and_by_address(users: Users) {
    let new = user("Ada@Example.com", "Ada Lovelace");
    users.port.insert_user(new.clone()).await.unwrap();
    assert_eq!(users.port.users(&[new.user.id]).await.unwrap(), std::slice::from_ref(&new.user));
    let email = Email::parse("aDA@eXAMPLE.COM").unwrap();
    let (found, hash) = users.port.credentials(&email).await.unwrap().unwrap();
    assert_eq!(found, new.user);
    assert_eq!(hash, new.password_hash);
}

async fn unknown_users_are_absent(users: Users) {
    assert_eq!(users.port.users(&[id(), id()]).await.unwrap(), []);
    assert!(users.port.credentials(&Email::parse("no@body.example").unwrap()).await.unwrap().is_none());
    assert_eq!(users.port.edit_preferences(id(), PreferencesEdit::default(), at(2)).await.unwrap(), None);
    assert_eq!(users.port.change_role(id(), Role::Staff, at(2)).await.unwrap(), None);
    assert_eq!(users.port.session_state(id(), at(2)).await.unwrap(), None);
    assert_eq!(users.port.end_session(id(), token(1), at(2)).await.unwrap(), None);
    let exchanged = users.port.exchange_refresh_token(token(1), token(2), at(2), at(100_000)).await.unwrap();
    assert!(matches!(exchanged, Exchanged::Unknown));
}

async fn an_address_belongs_to_one_user_whatever_its_case(users: Users) {
    insert(&users, "ada@example.com", "Ada").await;
    let second = user("ADA@example.COM", "Another");
    assert_eq!(users.port.insert_user(second.clone()).await.unwrap(), InsertUser::EmailTaken);
    assert_eq!(users.port.users(&[second.user.id]).await.unwrap(), []);
    assert_eq!(users.pending().await.len(), 1);
}

async fn of_simultaneous_sign_ups_with_one_address_one_wins(users: Users) {
    let sign_ups = (0..20).map(|_| {
        let port = users.port.clone();
        tokio::spawn(async move { port.insert_user(user("ada@example.com", "Ada")).await.unwrap() })
    });
    let mut inserted = 0;
    for sign_up in sign_ups.collect::<Vec<_>>() {
        inserted += usize::from(sign_up.await.unwrap() == InsertUser::Inserted);
    }
    assert_eq!(inserted, 1);
    assert_eq!(users.pending().await.len(), 1);
}

async fn a_user_is_saved_with_its_event_or_not_at_all(users: Users) {
    let first = user("ada@example.com", "Ada");
    users.port.insert_user(first.clone()).await.unwrap();
    assert_eq!(users.pending().await, std::slice::from_ref(&first.event));
    // An event that cannot be saved takes its user with it.
    let mut second = user("bea@example.com", "Bea");
    second.event.aggregate = first.event.aggregate;
    assert!(matches!(users.port.insert_user(second.clone()).await, Err(StoreError::Broken(_))));
    assert_eq!(users.port.users(&[second.user.id]).await.unwrap(), []);
    assert_eq!(users.port.list_users(Some("bea"), &PageRequest::first(5)).await.unwrap().total, 0);
}

async fn preferences_change_and_are_announced(users: Users) {
    let id = insert(&users, "ada@example.com", "Ada").await;
    let edit = PreferencesEdit { promotions: Some(true), ..PreferencesEdit::default() };
    let changed = users.port.edit_preferences(id, edit, at(5)).await.unwrap().unwrap();
    assert!(changed.preferences.promotions && changed.preferences.order_updates);
    assert_eq!(changed.updated_at, at(5));
    assert_eq!(users.port.users(&[id]).await.unwrap(), [changed]);
    let sequences: Vec<i64> = users.pending().await.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2]);
    // Nothing differs: nothing to announce.
    users.port.edit_preferences(id, edit, at(6)).await.unwrap().unwrap();
    assert_eq!(users.pending().await.len(), 2);
}

async fn a_role_change_voids_tokens_once_and_ends_sessions(users: Users) {
    let id = insert(&users, "ada@example.com", "Ada").await;
    let session = sign_in(&users, id, token(1), at(100_000)).await;
    let staff = users.port.change_role(id, Role::Staff, at(5)).await.unwrap().unwrap();
    assert_eq!((staff.role, staff.token_epoch), (Role::Staff, 2));
    assert!(ended(&users, session, at(6)).await);
    let dead = users.port.exchange_refresh_token(token(1), token(2), at(6), at(100_000)).await.unwrap();
    assert!(matches!(dead, Exchanged::Refused(RefreshVerdict::Dead)));
    let again = users.port.change_role(id, Role::Staff, at(6)).await.unwrap().unwrap();
    assert_eq!(again, staff);
    assert_eq!(users.pending().await.len(), 2);
}

async fn lists_are_newest_first_and_stable_while_users_come(users: Users) {
    for n in 0..5 {
        insert(&users, &format!("u{n}@example.com"), &format!("User {n}")).await;
    }
    let mut request = PageRequest::first(2);
    let mut names = Vec::new();
    for n in 5..8 {
        let page = users.port.list_users(None, &request).await.unwrap();
        assert_eq!(page.has_previous, request.after.is_some());
        assert_eq!(page.total, n);
        assert_eq!(page.has_next, n < 7);
        names.extend(page.entries.iter().map(|(_, user)| user.name.clone()));
        request.after = page.entries.last().map(|(cursor, _)| cursor.clone());
        insert(&users, &format!("u{n}@example.com"), &format!("User {n}")).await;
    }
    assert_eq!(names, ["User 4", "User 3", "User 2", "User 1", "User 0"]);
}

async fn a_search_finds_beginnings_of_words(users: Users) {
    insert(&users, "ada.lovelace@example.com", "Ada King").await;
    insert(&users, "grace@navy.example", "Grace Hopper").await;
    for (search, found) in [
        ("ada", 1),
        ("LOVE", 1),
        ("ki", 1),
        ("ing", 0),
        ("example", 2),
        ("grace hop", 1),
        ("grace ada", 0),
        ("g g gr", 1),
        ("  ", 2),
        ("%", 2),
        ("gr%", 1),
    ] {
        let page = users.port.list_users(Some(search), &PageRequest::first(10)).await.unwrap();
        assert_eq!((page.total, page.entries.len()), (found, found as usize), "{search}");
    }
    let many: String = (0..3_000).map(|n| format!("w{n} ")).collect();
    assert_eq!(users.port.list_users(Some(&many), &PageRequest::first(10)).await.unwrap().total, 0);
}

async fn a_broken_cursor_is_refused(users: Users) {
    insert(&users, "ada@example.com", "Ada").await;
    for cursor in ["", "x", "%%%", "bm90IGEgbnVtYmVy", "🦀"] {
        let request = PageRequest { first: 2, after: Some(cursor.into()) };
        assert!(matches!(users.port.list_users(None, &request).await, Err(StoreError::InvalidCursor)), "{cursor}");
    }
}

async fn admins_are_no_shoppers(users: Users) {
    insert(&users, "ada@example.com", "Ada").await;
    let id = insert(&users, "root@example.com", "Root").await;
    assert_eq!(users.port.count_shoppers().await.unwrap(), 2);
    users.port.change_role(id, Role::Admin, at(2)).await.unwrap();
    assert_eq!(users.port.count_shoppers().await.unwrap(), 1);
}

async fn a_refresh_token_is_exchanged_once(users: Users) {
    let user_id = insert(&users, "ada@example.com", "Ada").await;
    let session = sign_in(&users, user_id, token(1), at(100_000)).await;
    let exchanged = users.port.exchange_refresh_token(token(1), token(2), at(10), at(100_000)).await.unwrap();
    let Exchanged::Done { session: used, user } = exchanged else { panic!("{exchanged:?}") };
    assert_eq!((used.id, used.last_used_at, user.id), (session, at(10), user_id));
    let again = users.port.exchange_refresh_token(token(1), token(3), at(20), at(100_000)).await.unwrap();
    assert!(matches!(again, Exchanged::Refused(RefreshVerdict::Race)));
    // The race left no token behind, and the winner's line lives.
    assert!(matches!(
        users.port.exchange_refresh_token(token(3), token(4), at(20), at(100_000)).await.unwrap(),
        Exchanged::Unknown
    ));
    assert!(matches!(
        users.port.exchange_refresh_token(token(2), token(4), at(30), at(100_000)).await.unwrap(),
        Exchanged::Done { .. }
    ));
}

async fn of_simultaneous_exchanges_one_wins_and_its_line_lives(users: Users) {
    let user_id = insert(&users, "ada@example.com", "Ada").await;
    let session = sign_in(&users, user_id, token(1), at(100_000)).await;
    let exchanges = (10..30).map(|n| {
        let port = users.port.clone();
        tokio::spawn(async move {
            matches!(
                port.exchange_refresh_token(token(1), token(n), at(10), at(100_000)).await.unwrap(),
                Exchanged::Done { .. }
            )
            .then_some(n)
        })
    });
    let mut winners = Vec::new();
    for exchange in exchanges.collect::<Vec<_>>() {
        winners.extend(exchange.await.unwrap());
    }
    assert_eq!(winners.len(), 1);
    assert!(!ended(&users, session, at(11)).await);
    let next = users.port.exchange_refresh_token(token(winners[0]), token(99), at(12), at(100_000)).await.unwrap();
    assert!(matches!(next, Exchanged::Done { .. }));
}

async fn of_a_long_session_the_tokens_that_have_outlived_themselves_are_forgotten(users: Users) {
    const LIVES: i64 = 100;
    let user_id = insert(&users, "ada@example.com", "Ada").await;
    let session = sign_in(&users, user_id, token(1), at(LIVES)).await;
    let exchange = async |shown, successor, now| {
        users.port.exchange_refresh_token(token(shown), token(successor), at(now), at(now + LIVES)).await.unwrap()
    };
    for (shown, now) in [(1, 10), (2, 60), (3, 120)] {
        assert!(matches!(exchange(shown, shown + 1, now).await, Exchanged::Done { .. }), "{shown}");
    }
    assert!(matches!(exchange(1, 9, 121).await, Exchanged::Unknown), "exchanged more than its life ago");
    assert!(!ended(&users, session, at(121)).await);
    assert!(matches!(exchange(2, 9, 122).await, Exchanged::Refused(RefreshVerdict::Reuse)));
    assert!(ended(&users, session, at(123)).await);
}

async fn a_token_shown_again_later_ends_its_session(users: Users) {
    let user_id = insert(&users, "ada@example.com", "Ada").await;
    let session = sign_in(&users, user_id, token(1), at(100_000)).await;
    users.port.exchange_refresh_token(token(1), token(2), at(10), at(100_000)).await.unwrap();
    let reuse = users.port.exchange_refresh_token(token(1), token(3), at(10_011), at(100_000)).await.unwrap();
    assert!(matches!(reuse, Exchanged::Refused(RefreshVerdict::Reuse)));
    assert!(ended(&users, session, at(10_012)).await);
    let dead = users.port.exchange_refresh_token(token(2), token(3), at(10_013), at(100_000)).await.unwrap();
    assert!(matches!(dead, Exchanged::Refused(RefreshVerdict::Dead)));
}

async fn a_token_whose_successor_was_used_ends_its_session(users: Users) {
    let user_id = insert(&users, "ada@example.com", "Ada").await;
    let session = sign_in(&users, user_id, token(1), at(100_000)).await;
    users.port.exchange_refresh_token(token(1), token(2), at(10), at(100_000)).await.unwrap();
    users.port.exchange_refresh_token(token(2), token(3), at(20), at(100_000)).await.unwrap();
    let reuse = users.port.exchange_refresh_token(token(1), token(4), at(30), at(100_000)).await.unwrap();
    assert!(matches!(reuse, Exchanged::Refused(RefreshVerdict::Reuse)));
    assert!(ended(&users, session, at(31)).await);
}

async fn sign_out_ends_the_session_of_the_token_only_for_its_user(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let eve = insert(&users, "eve@example.com", "Eve").await;
    let session = sign_in(&users, ada, token(1), at(100_000)).await;
    users.port.exchange_refresh_token(token(1), token(2), at(10), at(100_000)).await.unwrap();
    assert_eq!(users.port.end_session(eve, token(2), at(20)).await.unwrap(), None);
    assert!(!ended(&users, session, at(20)).await);
    // A used token names the session as well as its successor.
    assert_eq!(users.port.end_session(ada, token(1), at(20)).await.unwrap(), Some(session));
    assert!(ended(&users, session, at(20)).await);
    assert_eq!(users.port.end_session(ada, token(2), at(30)).await.unwrap(), Some(session));
}

async fn sign_out_everywhere_ends_all_and_raises_the_epoch(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let eve = insert(&users, "eve@example.com", "Eve").await;
    let one = sign_in(&users, ada, token(1), at(100_000)).await;
    let two = sign_in(&users, ada, token(2), at(100_000)).await;
    let other = sign_in(&users, eve, token(3), at(100_000)).await;
    users.port.end_all_sessions(ada, at(10)).await.unwrap();
    assert!(ended(&users, one, at(10)).await && ended(&users, two, at(10)).await);
    assert!(!ended(&users, other, at(10)).await);
    assert_eq!(users.port.session_state(one, at(10)).await.unwrap().unwrap().token_epoch, 2);
    assert_eq!(users.port.session_state(other, at(10)).await.unwrap().unwrap().token_epoch, 1);
}

async fn expired_sessions_are_ended_and_purged(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let old = sign_in(&users, ada, token(1), at(100)).await;
    let new = sign_in(&users, ada, token(2), at(200)).await;
    assert!(!ended(&users, old, at(99)).await && ended(&users, old, at(100)).await);
    assert_eq!(users.port.purge_sessions(at(150)).await.unwrap(), 1);
    assert_eq!(users.port.session_state(old, at(150)).await.unwrap(), None);
    assert!(users.port.session_state(new, at(150)).await.unwrap().is_some());
    let states = users.port.session_states(&[new, old, session_id()], at(150)).await.unwrap();
    assert_eq!(states, [(new, users.port.session_state(new, at(150)).await.unwrap().unwrap())]);
    let exchanged = users.port.exchange_refresh_token(token(1), token(3), at(50), at(100_000)).await.unwrap();
    assert!(matches!(exchanged, Exchanged::Unknown));
}

async fn all_sessions_that_expired_go_however_many_they_are(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    for n in 1..=205 {
        sign_in(&users, ada, token(n), at(100)).await;
    }
    let living = sign_in(&users, ada, token(206), at(200)).await;
    assert_eq!(users.port.purge_sessions(at(150)).await.unwrap(), 205);
    assert_eq!(users.port.purge_sessions(at(150)).await.unwrap(), 0);
    assert!(users.port.session_state(living, at(150)).await.unwrap().is_some());
}

async fn an_exchange_moves_the_end_of_its_session(users: Users) {
    let ada = insert(&users, "ada@example.com", "Ada").await;
    let used = sign_in(&users, ada, token(1), at(100)).await;
    let unused = sign_in(&users, ada, token(2), at(100)).await;
    let exchanged = users.port.exchange_refresh_token(token(1), token(3), at(90), at(190)).await.unwrap();
    let Exchanged::Done { session, .. } = exchanged else { panic!("{exchanged:?}") };
    assert_eq!(session.expires_at, at(190));
    assert!(ended(&users, unused, at(100)).await && !ended(&users, used, at(189)).await);
    assert_eq!(users.port.purge_sessions(at(150)).await.unwrap(), 1);
    let late = users.port.exchange_refresh_token(token(3), token(4), at(190), at(290)).await.unwrap();
    assert!(matches!(late, Exchanged::Refused(RefreshVerdict::Dead)));
}

async fn the_first_signing_key_stays(users: Users) {
    let key = |kid: &str| StoredSigningKey {
        kid: kid.into(),
        private_key: vec![1, 2, 3],
        encrypted: true,
        created_at: at(1),
        term: KeyTerm { signs_from: at(1), accepted_until: None },
    };
    assert!(users.port.signing_keys().await.unwrap().is_empty());
    assert!(users.port.ensure_signing_key(key("one")).await.unwrap() == [key("one")]);
    assert!(users.port.ensure_signing_key(key("two")).await.unwrap() == [key("one")]);
    assert!(users.port.signing_keys().await.unwrap() == [key("one")]);
}

async fn a_rotation_adds_a_key_ends_the_others_and_removes_what_is_over(users: Users) {
    let key = |kid: &str, created_at: i64, accepted_until: Option<i64>| StoredSigningKey {
        kid: kid.into(),
        private_key: kid.as_bytes().to_vec(),
        encrypted: false,
        created_at: at(created_at),
        term: KeyTerm { signs_from: at(created_at + 15), accepted_until: accepted_until.map(at) },
    };
    users.port.ensure_signing_key(key("one", 1, None)).await.unwrap();
    let rotated = users.port.rotate_signing_key(key("two", 100, None), at(1_000)).await.unwrap();
    assert!(rotated == [key("two", 100, None), key("one", 1, Some(1_000))]);
    // An end that is nearer stays.
    let rotated = users.port.rotate_signing_key(key("three", 200, None), at(1_100)).await.unwrap();
    assert!(rotated == [key("three", 200, None), key("two", 100, Some(1_100)), key("one", 1, Some(1_000))]);
    let rotated = users.port.rotate_signing_key(key("four", 1_000, None), at(1_000)).await.unwrap();
    assert!(rotated == [key("four", 1_000, None), key("three", 200, Some(1_000)), key("two", 100, Some(1_000))]);
    assert!(users.port.signing_keys().await.unwrap() == rotated);
    users.port.ensure_signing_key(key("late", 5, None)).await.unwrap();
    assert!(users.port.signing_keys().await.unwrap() == rotated);
}

async fn simultaneous_rotations_each_end_the_keys_before_theirs(users: Users) {
    let key = |kid: String| StoredSigningKey {
        kid,
        private_key: vec![1],
        encrypted: false,
        created_at: at(100),
        term: KeyTerm { signs_from: at(115), accepted_until: None },
    };
    users.port.ensure_signing_key(key("first".into())).await.unwrap();
    let rotations = (0..4).map(|n| users.port.rotate_signing_key(key(format!("key {n}")), at(1_000)));
    for rotated in join_all(rotations).await {
        rotated.unwrap();
    }
    let keys = users.port.signing_keys().await.unwrap();
    assert_eq!(keys.len(), 5);
    let ends: Vec<_> = keys.iter().map(|key| key.term.accepted_until).collect();
    assert_eq!(ends, [None, Some(at(1_000)), Some(at(1_000)), Some(at(1_000)), Some(at(1_000))]);
}

async fn the_first_server_secret_stays(users: Users) {
    let secret = |byte: u8| StoredSecret { secret: vec![byte; 32], encrypted: true, created_at: at(1) };
    assert!(users.port.server_secret().await.unwrap().is_none());
    assert!(users.port.ensure_server_secret(secret(1)).await.unwrap() == secret(1));
    assert!(users.port.ensure_server_secret(secret(2)).await.unwrap() == secret(1));
    assert!(users.port.server_secret().await.unwrap() == Some(secret(1)));
}

async fn what_is_stored_as_it_is_can_be_sealed_and_what_is_sealed_stays(users: Users) {
    let term = KeyTerm { signs_from: at(1), accepted_until: None };
    let (kid, private_key) = ("one".to_owned(), vec![1; 48]);
    let plain = StoredSigningKey { kid, private_key, encrypted: false, created_at: at(1), term };
    users.port.ensure_signing_key(plain.clone()).await.unwrap();
    users
        .port
        .ensure_server_secret(StoredSecret { secret: vec![1; 32], encrypted: false, created_at: at(1) })
        .await
        .unwrap();
    let stored = async || (users.port.signing_keys().await.unwrap(), users.port.server_secret().await.unwrap());
    let before = stored().await;
    let sealed = |kid: &str, byte| vec![(kid.to_owned(), vec![byte; 60])];
    assert!(!users.port.seal_secrets(sealed("unknown", 9), Some(vec![9; 60])).await.unwrap());
    assert!(stored().await == before, "all or nothing");
    assert!(users.port.seal_secrets(sealed("one", 9), Some(vec![9; 60])).await.unwrap());
    let key = StoredSigningKey { private_key: vec![9; 60], encrypted: true, ..plain };
    let secret = StoredSecret { secret: vec![9; 60], encrypted: true, created_at: at(1) };
    let after = (vec![key], Some(secret));
    assert!(stored().await == after);
    for (keys, server) in [(sealed("one", 8), None), (Vec::new(), Some(vec![8; 60]))] {
        assert!(!users.port.seal_secrets(keys, server).await.unwrap());
        assert!(stored().await == after, "what is sealed stays");
    }
}

async fn a_sign_up_and_its_verification_are_one_commit(users: Users) {
    let verification = |user_id| MailRequest::new(id(), user_id, MailRequestKind::Verification, token(1), at(5));
    let mut ada = user("ada@example.com", "Ada");
    ada.verification = Some(verification(ada.user.id));
    users.port.insert_user(ada.clone()).await.unwrap();
    let request = ada.verification.unwrap();
    assert_eq!(users.port.mail_request(request.id).await.unwrap(), Some(request));
    // Of a sign-up that is refused nothing stays.
    let mut again = user("ada@example.com", "Ada");
    let refused = MailRequest { token: token(2), ..verification(again.user.id) };
    again.verification = Some(refused.clone());
    assert_eq!(users.port.insert_user(again).await.unwrap(), InsertUser::EmailTaken);
    assert_eq!(users.port.mail_request(refused.id).await.unwrap(), None);
    // A request that cannot be saved takes its user with it.
    let mut bea = user("bea@example.com", "Bea");
    bea.verification = Some(verification(bea.user.id));
    assert!(matches!(users.port.insert_user(bea.clone()).await, Err(StoreError::Broken(_))));
    assert_eq!(users.port.users(&[bea.user.id]).await.unwrap(), []);
}

async fn an_audience_is_who_wants_it_by_id_in_pages(users: Users) {
    let mut wanting = Vec::new();
    for n in 0..7 {
        let id = insert(&users, &format!("u{n}@example.com"), "User").await;
        if n % 2 == 0 {
            let edit = PreferencesEdit { promotions: Some(true), ..PreferencesEdit::default() };
            users.port.edit_preferences(id, edit, at(2)).await.unwrap();
            wanting.push(id);
        }
    }
    wanting.sort();
    let page = async |subscription, after, limit| users.port.audience(subscription, after, limit).await.unwrap();
    assert_eq!(page(Subscription::Promotions, None, 3).await, wanting[..3]);
    assert_eq!(page(Subscription::Promotions, Some(wanting[2]), 3).await, wanting[3..]);
    assert_eq!(page(Subscription::Promotions, Some(wanting[3]), 3).await, []);
    assert_eq!(page(Subscription::OrderUpdates, None, 100).await.len(), 7);
    assert_eq!(page(Subscription::Recommendations, None, 100).await, []);
}
