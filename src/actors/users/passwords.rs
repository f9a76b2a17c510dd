//! Passwords: asking for a reset by mail, resetting with its token, changing with the present one.
//!
//! What replaces a password ends every session and every open reset in the same commit, and begins the session of who
//! did it. A reset ends the API keys too: whoever had the account until then keeps nothing. A change does not: its user had
//! the password, and machines go on.

use actix::{Context, Handler, ResponseFuture};
use uuid::Uuid;

use super::hasher::check_new_password;
use super::messages::{ChangePassword, Password, RequestPasswordReset, ResetPassword, SignInClient, SignedIn};
use super::{SignInChange, UserActor, UserTools, new_refresh_token, parse_email, token_hash};
use crate::actors::clock::now;
use crate::actors::errors::DomainError;
use crate::domain::ids::{MailRequestId, TypedId, UserId};
use crate::domain::mail_requests::MailRequestKind;
use crate::domain::users::{PasswordHash, User};
use crate::store::users::{NewMailRequest, NewPassword, PasswordProof};

/// How often the present password is checked for one change: a sign-in may put another hash of it in the place of the one
/// that it was checked against, once for each cost.
pub(super) const PROOFS: usize = 2;

/// Who begins a session with a new password.
struct Begins {
    user_id: UserId,
    client: SignInClient,
}

impl UserTools {
    /// A mail request that begins now, its token not yet told to anybody.
    pub(super) fn new_mail_request(&self, kind: MailRequestKind) -> NewMailRequest {
        let id = MailRequestId::from_uuid(Uuid::now_v7());
        NewMailRequest { id, token: token_hash(&self.mail_tokens.of_request(kind, id)), at: now() }
    }

    /// The user with the hash of their password, if this is it. Refusals: WrongPassword, NotFound, Busy.
    pub(super) async fn known_password(
        &self,
        user_id: UserId,
        password: &Password,
    ) -> Result<(User, PasswordHash), DomainError> {
        let missing = DomainError::NotFound { what: "the user", field: Vec::new() };
        let (user, hash) = self.store.credentials_of(user_id).await?.ok_or(missing)?;
        if !self.hasher.verify(password, Some(&hash)).await? {
            return Err(DomainError::WrongPassword);
        }
        Ok((user, hash))
    }

    /// `None`: the proof did not hold.
    async fn replace_password(
        &self,
        proof: PasswordProof,
        password: &Password,
        begins: Option<Begins>,
    ) -> Result<Option<(User, Option<SignedIn>)>, DomainError> {
        let hash = self.hasher.hash(password).await?;
        let refresh_token = new_refresh_token();
        let at = now();
        let session = begins.map(|begins| self.new_session(begins.user_id, begins.client, &refresh_token, at));
        let session_id = session.as_ref().map(|new| new.session.id);
        let Some(user) = self.store.replace_password(NewPassword { proof, hash, session, at }).await? else {
            return Ok(None);
        };
        (self.sign_in_changed)(SignInChange::Any);
        let signed_in = session_id.map(|session_id| self.signed_in(user.clone(), session_id, refresh_token));
        Ok(Some((user, signed_in)))
    }
}

impl Handler<RequestPasswordReset> for UserActor {
    type Result = ResponseFuture<Result<(), DomainError>>;

    fn handle(&mut self, RequestPasswordReset { email }: RequestPasswordReset, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let email = parse_email(&email)?;
            let request = tools.new_mail_request(MailRequestKind::PasswordReset);
            Ok(tools.store.request_password_reset(&email, request).await?)
        })
    }
}

impl Handler<ResetPassword> for UserActor {
    type Result = ResponseFuture<Result<Option<SignedIn>, DomainError>>;

    fn handle(&mut self, message: ResetPassword, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let ResetPassword { token, new_password, signs_in, client } = message;
            check_new_password(&new_password)?;
            let token = token_hash(&token);
            // Looked at before the password is hashed: a made-up token costs no hash.
            let request = tools.store.open_mail_request(token, MailRequestKind::PasswordReset, now()).await?;
            let user_id = request.ok_or(DomainError::TokenInvalid)?.user_id;
            let begins = signs_in.then_some(Begins { user_id, client });
            let replaced = tools.replace_password(PasswordProof::ResetToken(token), &new_password, begins).await?;
            Ok(replaced.ok_or(DomainError::TokenInvalid)?.1)
        })
    }
}

impl Handler<ChangePassword> for UserActor {
    type Result = ResponseFuture<Result<SignedIn, DomainError>>;

    fn handle(&mut self, message: ChangePassword, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let ChangePassword { user_id, current_password, new_password, client } = message;
            check_new_password(&new_password)?;
            for _ in 0..PROOFS {
                let (_, hash) = tools.known_password(user_id, &current_password).await?;
                let begins = Some(Begins { user_id, client: client.clone() });
                let proof = PasswordProof::Present(user_id, hash);
                if let Some((_, Some(signed_in))) = tools.replace_password(proof, &new_password, begins).await? {
                    return Ok(signed_in);
                }
            }
            // Another change came first: what was checked is the password no longer.
            Err(DomainError::WrongPassword)
        })
    }
}
