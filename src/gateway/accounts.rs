//! A user's own account: its address verified, its name changed, mails ended, what is kept about it, and its end.

use async_graphql::{Context, Error, InputObject, Object, SimpleObject};

use super::connections::mutation_cost;
use super::context::{Shop, Viewer, answered};
use super::errors::{Inputs, UserError, user_errors};
use super::users::UserPayload;
use crate::actors::errors::DomainError;
use crate::actors::users::messages::{
    DeleteAccount, EndSubscription, ExportAccount, Password, RequestVerification, UpdateUser, VerifyEmail,
};
use crate::domain::ids::UserId;
use crate::gateway::rate_limits::RetryAfter;

/// So much longer than other questions an export may take: every domain is asked, in pages.
const EXPORT_ASKS: u32 = 2;

/// A change of an account: what is left out stays as it is.
#[derive(InputObject)]
pub struct UserUpdateInput {
    /// The user's name, 1 to 100 characters.
    name: Option<String>,
}

/// What ending mails answers.
#[derive(SimpleObject)]
pub struct UnsubscribePayload {
    /// True when these mails have ended, now or before.
    unsubscribed: bool,
    /// Why they have not; empty when they have.
    user_errors: Vec<UserError>,
}

/// What an export answers.
#[derive(SimpleObject)]
pub struct AccountExportPayload {
    /// All that is kept about the user, as JSON; null when it was refused.
    export: Option<String>,
    /// Why there is no export; empty when there is.
    user_errors: Vec<UserError>,
}

/// What deleting an account answers.
#[derive(SimpleObject)]
pub struct AccountDeletePayload {
    /// True when the account is gone.
    deleted: bool,
    /// Why it is not; empty when it is.
    user_errors: Vec<UserError>,
}

/// Whose account it is. The rules of access let nobody else come here.
fn owner(ctx: &Context<'_>) -> Result<UserId, DomainError> {
    let missing = DomainError::NotFound { what: "the user", field: Vec::new() };
    Viewer::of(ctx).user_id().ok_or(missing)
}

/// The owner, if passwords of the account were not tried too often of late.
fn owner_within_limits(ctx: &Context<'_>, shop: &Shop) -> Result<Result<UserId, RetryAfter>, DomainError> {
    let user_id = owner(ctx)?;
    Ok(shop.rate_limits.check_password(user_id).map(|()| user_id))
}

#[derive(Default)]
pub struct AccountMutation;

#[Object]
impl AccountMutation {
    /// Marks an address as verified by the token of a mailed link.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn email_verify(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token of the link.", secret)] token: String,
    ) -> Result<UserPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = answered(shop.users.ask(VerifyEmail { token }, shop.ask_deadline).await);
        UserPayload::answer_to_its_user(ctx, Inputs::PLAIN, result)
    }

    /// Has another link to verify the signed-in user's address sent; the ones before end. A verified address gets none.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn email_verification_resend(&self, ctx: &Context<'_>) -> Result<UserPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match owner(ctx) {
            Ok(user_id) => {
                if let Err(limit) = shop.rate_limits.check_verification(user_id) {
                    return Ok(limit.into());
                }
                answered(shop.users.ask(RequestVerification { user_id }, shop.ask_deadline).await)
            }
            Err(refusal) => Err(refusal),
        };
        UserPayload::answer(ctx, Inputs::PLAIN, result)
    }

    /// Ends the mails that the token of an unsubscribe link is about. No sign-in is needed, and again changes nothing.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn unsubscribe(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token of the link.", secret)] token: String,
    ) -> Result<UnsubscribePayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = answered(shop.users.ask(EndSubscription { token }, shop.ask_deadline).await);
        Ok(match result {
            Ok(()) => UnsubscribePayload { unsubscribed: true, user_errors: Vec::new() },
            Err(error) => {
                UnsubscribePayload { unsubscribed: false, user_errors: user_errors(ctx, Inputs::PLAIN, error)? }
            }
        })
    }

    /// Changes the signed-in user's account.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn user_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The change.")] input: UserUpdateInput,
    ) -> Result<UserPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match owner(ctx) {
            Ok(user_id) => answered(shop.users.ask(UpdateUser { user_id, name: input.name }, shop.ask_deadline).await),
            Err(refusal) => Err(refusal),
        };
        UserPayload::answer(ctx, Inputs::OBJECT, result)
    }

    /// All that is kept about the signed-in user, as JSON.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn account_export(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user's password.", secret)] password: String,
    ) -> Result<AccountExportPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match owner_within_limits(ctx, shop) {
            Ok(Ok(user_id)) => {
                let message = ExportAccount { user_id, password: Password(password) };
                answered(shop.users.ask(message, shop.ask_deadline * EXPORT_ASKS).await)
            }
            Ok(Err(limit)) => return Ok(AccountExportPayload { export: None, user_errors: vec![limit.into()] }),
            Err(refusal) => Err(refusal),
        };
        Ok(match result {
            Ok(export) => AccountExportPayload { export: Some(export.to_string()), user_errors: Vec::new() },
            Err(error) => AccountExportPayload { export: None, user_errors: user_errors(ctx, PASSWORD, error)? },
        })
    }

    /// Deletes the signed-in user's account: name, e-mail, mail bodies and history are erased, orders stay without them.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn account_delete(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The user's password.", secret)] password: String,
    ) -> Result<AccountDeletePayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let result = match owner_within_limits(ctx, shop) {
            Ok(Ok(user_id)) => {
                let message = DeleteAccount { user_id, password: Password(password) };
                answered(shop.users.ask(message, shop.ask_deadline).await)
            }
            Ok(Err(limit)) => return Ok(AccountDeletePayload { deleted: false, user_errors: vec![limit.into()] }),
            Err(refusal) => Err(refusal),
        };
        Ok(match result {
            Ok(()) => AccountDeletePayload { deleted: true, user_errors: Vec::new() },
            Err(error) => AccountDeletePayload { deleted: false, user_errors: user_errors(ctx, PASSWORD, error)? },
        })
    }
}

/// The argument of an account's own password.
const PASSWORD: Inputs = Inputs::PLAIN.renaming(&[("currentPassword", "password")]);
