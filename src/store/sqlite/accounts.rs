//! What happens to an account besides an edit, in the users file: requests of mails made and used, passwords replaced, the
//! end of an account. Each is one transaction with the event that announces it.

use rusqlite::Connection;

use super::database::Write;
use super::failure::Failure;
use super::users::{by_sign_in_key, credentials_of, present, save};
use super::{api_keys, mail_requests, sessions};
use crate::domain::events::event_type;
use crate::domain::ids::{TypedId, UserId};
use crate::domain::mail_requests::{MailRequest, MailRequestKind};
use crate::domain::time::Timestamp;
use crate::domain::users::{PasswordHash, Role, TokenHash, User};
use crate::store::users::{NewMailRequest, NewPassword, PasswordProof};

/// What an unknown address writes is removed in the same transaction: its commit is as long as a known one's.
pub(super) fn request_password_reset(
    write: &mut Write<'_>,
    email_key: &str,
    new: NewMailRequest,
) -> Result<(), Failure> {
    let NewMailRequest { id, token, at } = new;
    let known = by_sign_in_key(write.sql(), email_key)?;
    let owner = known.as_ref().map_or(UserId::from_uuid(id.uuid()), |user| user.id);
    mail_requests::insert(write.sql(), &MailRequest::new(id, owner, MailRequestKind::PasswordReset, token, at))?;
    match known {
        Some(before) => {
            let mut user = before.clone();
            let event = user.event_about(Some(id), event_type::USER_PASSWORD_RESET_REQUESTED, at);
            save(write.sql(), &before, &user)?;
            write.emit(event)
        }
        None => mail_requests::remove(write.sql(), id),
    }
}

pub(super) fn request_verification(
    write: &mut Write<'_>,
    user_id: UserId,
    new: NewMailRequest,
) -> Result<Option<User>, Failure> {
    let Some(before) = present(write.sql(), user_id)? else { return Ok(None) };
    if before.email_verified {
        return Ok(Some(before));
    }
    let NewMailRequest { id, token, at } = new;
    mail_requests::insert(write.sql(), &MailRequest::new(id, user_id, MailRequestKind::Verification, token, at))?;
    let mut user = before.clone();
    let event = user.event_about(Some(id), event_type::USER_VERIFICATION_REQUESTED, at);
    save(write.sql(), &before, &user)?;
    write.emit(event)?;
    Ok(Some(user))
}

pub(super) fn verify_email(write: &mut Write<'_>, token: TokenHash, at: Timestamp) -> Result<Option<User>, Failure> {
    let Some(request) = mail_requests::take(write.sql(), token, MailRequestKind::Verification, at)? else {
        return Ok(None);
    };
    let Some(before) = present(write.sql(), request.user_id)? else { return Ok(None) };
    let mut user = before.clone();
    user.email_verified = true;
    user.updated_at = at;
    let event = user.event(event_type::USER_VERIFIED, at);
    save(write.sql(), &before, &user)?;
    write.emit(event)?;
    Ok(Some(user))
}

pub(super) fn replace_password(write: &mut Write<'_>, new: NewPassword) -> Result<Option<User>, Failure> {
    let NewPassword { proof, hash, session, at } = new;
    let Some(before) = proven(write.sql(), &proof, at)? else { return Ok(None) };
    let mut user = before.clone();
    user.token_epoch += 1;
    user.updated_at = at;
    let mut events = vec![user.event(event_type::USER_PASSWORD_CHANGED, at)];
    if proof.is_reset() {
        events.extend(api_keys::revoke_all(write.sql(), &mut user, at)?);
    }
    save(write.sql(), &before, &user)?;
    save_password(write.sql(), user.id, &hash)?;
    mail_requests::replace_open(write.sql(), user.id, MailRequestKind::PasswordReset, at)?;
    sessions::revoke_all(write.sql(), user.id, at)?;
    if let Some(session) = session {
        sessions::insert(write.sql(), &session)?;
    }
    events.into_iter().try_for_each(|event| write.emit(event))?;
    Ok(Some(user))
}

pub(super) fn change_role(
    write: &mut Write<'_>,
    id: UserId,
    role: Role,
    at: Timestamp,
) -> Result<Option<User>, Failure> {
    let Some(before) = present(write.sql(), id)? else { return Ok(None) };
    if before.role == role {
        return Ok(Some(before));
    }
    let mut user = before.clone();
    user.change_role(role, at);
    let mut events = vec![user.event(event_type::USER_UPDATED, at)];
    events.extend(api_keys::revoke_all(write.sql(), &mut user, at)?);
    save(write.sql(), &before, &user)?;
    sessions::revoke_all(write.sql(), user.id, at)?;
    events.into_iter().try_for_each(|event| write.emit(event))?;
    Ok(Some(user))
}

/// The user whose password may be replaced.
fn proven(connection: &Connection, proof: &PasswordProof, at: Timestamp) -> Result<Option<User>, Failure> {
    match proof {
        PasswordProof::ResetToken(token) => {
            match mail_requests::take(connection, *token, MailRequestKind::PasswordReset, at)? {
                Some(request) => present(connection, request.user_id),
                None => Ok(None),
            }
        }
        PasswordProof::Present(user, hash) => with_password(connection, *user, hash),
    }
}

fn with_password(connection: &Connection, user: UserId, hash: &PasswordHash) -> Result<Option<User>, Failure> {
    let credentials = credentials_of(connection, user)?;
    Ok(credentials.filter(|(_, stored)| stored == hash).map(|(user, _)| user))
}

fn save_password(connection: &Connection, user: UserId, hash: &PasswordHash) -> Result<(), Failure> {
    connection
        .prepare_cached("UPDATE users SET password_hash = ?2 WHERE id = ?1")?
        .execute((user.as_bytes(), &hash.0))?;
    Ok(())
}

pub(super) fn renew_password_hash(
    connection: &Connection,
    user: UserId,
    present: &PasswordHash,
    renewed: &PasswordHash,
) -> Result<bool, Failure> {
    let renewed = connection
        .prepare_cached("UPDATE users SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2")?
        .execute((user.as_bytes(), &present.0, &renewed.0))?;
    Ok(renewed == 1)
}

pub(super) fn erase(write: &mut Write<'_>, id: UserId, hash: &PasswordHash, at: Timestamp) -> Result<bool, Failure> {
    let Some(before) = with_password(write.sql(), id, hash)? else { return Ok(false) };
    let mut user = before.clone();
    user.erase(at);
    let event = user.event(event_type::USER_DELETED, at);
    save(write.sql(), &before, &user)?;
    // No password has an empty hash.
    save_password(write.sql(), id, &PasswordHash(String::new()))?;
    sessions::remove_all(write.sql(), id)?;
    api_keys::remove_all(write.sql(), id)?;
    mail_requests::remove_all(write.sql(), id)?;
    write.emit(event)?;
    Ok(true)
}
