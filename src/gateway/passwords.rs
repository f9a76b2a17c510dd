//! Passwords: resetting one by mail and changing one.

use async_graphql::{Context, Error, Object, SimpleObject};
use tokio::time::Instant;

use super::answer_times;
use super::connections::mutation_cost;
use super::context::{RequestInfo, Shop, Viewer, answered};
use super::errors::{Inputs, UserError, user_errors};
use super::sessions::SessionPayload;
use crate::actors::errors::DomainError;
use crate::actors::users::messages::{ChangePassword, Password, RequestPasswordReset, ResetPassword};

/// What asking for a password reset answers.
#[derive(SimpleObject)]
pub struct PasswordResetRequestPayload {
    /// True when the request was taken. It does not tell whether there is such an account.
    accepted: bool,
    /// Why the request was not taken; empty when it was.
    user_errors: Vec<UserError>,
}

#[derive(Default)]
pub struct PasswordMutation;

#[Object]
impl PasswordMutation {
    /// Has a link to reset the password sent to an address; it serves for 15 minutes. The answer is the same, and takes the
    /// same time, whether the account exists or not.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn password_reset_request(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The address of the account; case does not count.")] email: String,
    ) -> Result<PasswordResetRequestPayload, Error> {
        let (shop, info, came_at) = (ctx.data::<Shop>()?, ctx.data::<RequestInfo>()?, Instant::now());
        if let Err(limit) = shop.rate_limits.check_reset(&email, info.client_address) {
            return Ok(PasswordResetRequestPayload { accepted: false, user_errors: vec![limit.into()] });
        }
        let result = answered(shop.users.ask(RequestPasswordReset { email }, shop.ask_deadline).await);
        // An address with an account costs a durable write more than one without.
        answer_times::next_step(came_at).await;
        Ok(match result {
            Ok(()) => PasswordResetRequestPayload { accepted: true, user_errors: Vec::new() },
            Err(error) => {
                PasswordResetRequestPayload { accepted: false, user_errors: user_errors(ctx, Inputs::PLAIN, error)? }
            }
        })
    }

    /// Sets a new password by the token of a mailed link, ends all sessions and API keys of the user and begins a new
    /// session. A password that is refused does not use the token up.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn password_reset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token of the link.", secret)] token: String,
        #[graphql(desc = "The new password, 8 to 128 characters.", secret)] new_password: String,
    ) -> Result<SessionPayload, Error> {
        let (shop, info) = (ctx.data::<Shop>()?, ctx.data::<RequestInfo>()?);
        let message = ResetPassword {
            token,
            new_password: Password(new_password),
            signs_in: true,
            client: info.sign_in_client(),
        };
        let result = answered(shop.users.ask(message, shop.ask_deadline).await);
        let signed_in = result.and_then(|signed_in| signed_in.ok_or(DomainError::TokenInvalid));
        SessionPayload::answer(ctx, Inputs::PLAIN.renaming(&[("password", "newPassword")]), signed_in)
    }

    /// Changes the password, ends all sessions of the user and begins a new one.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn password_change(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The present password.", secret)] current_password: String,
        #[graphql(desc = "The new password, 8 to 128 characters.", secret)] new_password: String,
    ) -> Result<SessionPayload, Error> {
        let (shop, info) = (ctx.data::<Shop>()?, ctx.data::<RequestInfo>()?);
        let Some(user_id) = Viewer::of(ctx).user_id() else {
            return SessionPayload::answer(ctx, Inputs::PLAIN, Err(DomainError::WrongPassword));
        };
        if let Err(limit) = shop.rate_limits.check_password(user_id) {
            return Ok(limit.into());
        }
        let message = ChangePassword {
            user_id,
            current_password: Password(current_password),
            new_password: Password(new_password),
            client: info.sign_in_client(),
        };
        let result = answered(shop.users.ask(message, shop.ask_deadline).await);
        let inputs = Inputs::PLAIN.renaming(&[("password", "newPassword")]);
        SessionPayload::answer(ctx, inputs, result)
    }
}
