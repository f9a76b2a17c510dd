//! What happens to an account besides an edit, in the users database: requests of mails made and used, passwords
//! replaced, the end of an account. Each is one transaction with the event that announces it.
//!
//! Every one of them writes the user's own document, so that two at once run into one another and the later sees what the
//! earlier did.

use super::failure::Failure;
use super::transaction::Tx;
use super::users::{find, find_credentials, present, save, save_password, signing_in_as};
use super::{api_keys, mail_requests, sessions};
use crate::domain::events::event_type;
use crate::domain::ids::{TypedId, UserId};
use crate::domain::mail_requests::{MailRequest, MailRequestKind};
use crate::domain::time::Timestamp;
use crate::domain::users::{PasswordHash, Role, TokenHash, User};
use crate::store::users::{NewMailRequest, NewPassword, PasswordProof};

/// An unknown address costs as many commands as a known one, and what it wrote is removed in the same transaction.
pub(super) async fn request_password_reset(tx: &mut Tx, sign_in_key: &str, new: NewMailRequest) -> Result<(), Failure> {
    let NewMailRequest { id, token, at } = new;
    let known = find(tx, signing_in_as(sign_in_key)).await?;
    let owner = known.as_ref().map_or(UserId::from_uuid(id.uuid()), |user| user.id);
    mail_requests::insert(tx, &MailRequest::new(id, owner, MailRequestKind::PasswordReset, token, at)).await?;
    match known {
        Some(mut user) => {
            let event = user.event_about(Some(id), event_type::USER_PASSWORD_RESET_REQUESTED, at);
            save(tx, &user).await?;
            tx.emit(event);
        }
        None => {
            mail_requests::remove(tx, id).await?;
            mail_requests::remove_all(tx, owner).await?;
        }
    }
    Ok(())
}

pub(super) async fn request_verification(
    tx: &mut Tx,
    user_id: UserId,
    new: NewMailRequest,
) -> Result<Option<User>, Failure> {
    let Some(mut user) = find(tx, present(user_id)).await? else { return Ok(None) };
    if user.email_verified {
        return Ok(Some(user));
    }
    let NewMailRequest { id, token, at } = new;
    mail_requests::insert(tx, &MailRequest::new(id, user_id, MailRequestKind::Verification, token, at)).await?;
    let event = user.event_about(Some(id), event_type::USER_VERIFICATION_REQUESTED, at);
    save(tx, &user).await?;
    tx.emit(event);
    Ok(Some(user))
}

pub(super) async fn verify_email(tx: &mut Tx, token: TokenHash, at: Timestamp) -> Result<Option<User>, Failure> {
    let Some(request) = mail_requests::take(tx, token, MailRequestKind::Verification, at).await? else {
        return Ok(None);
    };
    let Some(mut user) = find(tx, present(request.user_id)).await? else { return Ok(None) };
    user.email_verified = true;
    user.updated_at = at;
    let event = user.event(event_type::USER_VERIFIED, at);
    save(tx, &user).await?;
    tx.emit(event);
    Ok(Some(user))
}

pub(super) async fn replace_password(tx: &mut Tx, new: &NewPassword) -> Result<Option<User>, Failure> {
    let NewPassword { proof, hash, session, at } = new;
    let Some(mut user) = proven(tx, proof, *at).await? else { return Ok(None) };
    user.token_epoch += 1;
    user.updated_at = *at;
    let mut events = vec![user.event(event_type::USER_PASSWORD_CHANGED, *at)];
    if proof.is_reset() {
        events.extend(api_keys::revoke_all(tx, &mut user, *at).await?);
    }
    save(tx, &user).await?;
    save_password(tx, user.id, hash).await?;
    mail_requests::replace_open(tx, user.id, MailRequestKind::PasswordReset, *at).await?;
    sessions::revoke_all(tx, user.id, *at).await?;
    if let Some(session) = session {
        sessions::insert(tx, session).await?;
    }
    events.into_iter().for_each(|event| tx.emit(event));
    Ok(Some(user))
}

pub(super) async fn change_role(tx: &mut Tx, id: UserId, role: Role, at: Timestamp) -> Result<Option<User>, Failure> {
    let Some(mut user) = find(tx, present(id)).await? else { return Ok(None) };
    if user.role == role {
        return Ok(Some(user));
    }
    user.change_role(role, at);
    let mut events = vec![user.event(event_type::USER_UPDATED, at)];
    events.extend(api_keys::revoke_all(tx, &mut user, at).await?);
    save(tx, &user).await?;
    sessions::revoke_all(tx, user.id, at).await?;
    events.into_iter().for_each(|event| tx.emit(event));
    Ok(Some(user))
}

/// The user whose password may be replaced.
async fn proven(tx: &mut Tx, proof: &PasswordProof, at: Timestamp) -> Result<Option<User>, Failure> {
    match proof {
        PasswordProof::ResetToken(token) => {
            match mail_requests::take(tx, *token, MailRequestKind::PasswordReset, at).await? {
                Some(request) => find(tx, present(request.user_id)).await,
                None => Ok(None),
            }
        }
        PasswordProof::Present(user, hash) => with_password(tx, *user, hash).await,
    }
}

async fn with_password(tx: &mut Tx, user: UserId, hash: &PasswordHash) -> Result<Option<User>, Failure> {
    let credentials = find_credentials(tx, present(user)).await?;
    Ok(credentials.filter(|(_, stored)| stored == hash).map(|(user, _)| user))
}

pub(super) async fn erase(tx: &mut Tx, id: UserId, hash: &PasswordHash, at: Timestamp) -> Result<bool, Failure> {
    let Some(mut user) = with_password(tx, id, hash).await? else { return Ok(false) };
    user.erase(at);
    let event = user.event(event_type::USER_DELETED, at);
    save(tx, &user).await?;
    // No password has an empty hash.
    save_password(tx, id, &PasswordHash(String::new())).await?;
    sessions::remove_all(tx, id).await?;
    api_keys::remove_all(tx, id).await?;
    mail_requests::remove_all(tx, id).await?;
    tx.emit(event);
    Ok(true)
}
