//! What users do with their own accounts: verify the address, end mails, change the name, see where they are signed in,
//! take away what is kept about them, and leave.

use actix::{Context, Handler, ResponseFuture};
use serde_json::{Value, json};

use super::messages::{
    DeleteAccount, EndSubscription, ExportAccount, ListSessions, RequestVerification, UpdateUser, VerifyEmail,
};
use super::passwords::PROOFS;
use super::{SignInChange, UserActor, UserTools, found, token_hash};
use crate::actors::clock::now;
use crate::actors::errors::DomainError;
use crate::actors::notifications::messages::ExportNotifications;
use crate::actors::orders::messages::ListOrders;
use crate::actors::recommendations::messages::ExportHistory;
use crate::domain::ids::UserId;
use crate::domain::mail_requests::MailRequestKind;
use crate::domain::orders::{Order, OrderFilter};
use crate::domain::page::{MAX_PAGE_SIZE, PageRequest};
use crate::domain::text::{MAX_NAME, check_text};
use crate::domain::users::{Session, User};

impl Handler<VerifyEmail> for UserActor {
    type Result = ResponseFuture<Result<User, DomainError>>;

    fn handle(&mut self, VerifyEmail { token }: VerifyEmail, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let verified = tools.store.verify_email(token_hash(&token), now()).await?;
            verified.ok_or(DomainError::TokenInvalid)
        })
    }
}

impl Handler<RequestVerification> for UserActor {
    type Result = ResponseFuture<Result<User, DomainError>>;

    fn handle(&mut self, RequestVerification { user_id }: RequestVerification, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let request = tools.new_mail_request(MailRequestKind::Verification);
            found(tools.store.request_verification(user_id, request).await?)
        })
    }
}

impl Handler<EndSubscription> for UserActor {
    type Result = ResponseFuture<Result<(), DomainError>>;

    fn handle(&mut self, EndSubscription { token }: EndSubscription, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let at = now();
            let opened = tools.mail_tokens.open_unsubscribe(&token, at);
            let (user_id, subscription) = opened.ok_or(DomainError::TokenInvalid)?;
            // An account that was deleted since is written to no more: that is what was asked.
            tools.store.edit_preferences(user_id, subscription.off(), at).await?;
            Ok(())
        })
    }
}

impl Handler<UpdateUser> for UserActor {
    type Result = ResponseFuture<Result<User, DomainError>>;

    fn handle(&mut self, UpdateUser { user_id, name }: UpdateUser, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let Some(name) = name else {
                return found(tools.store.users(&[user_id]).await?.into_iter().next());
            };
            check_text("name", &name, 1, MAX_NAME).map_err(|reason| DomainError::invalid("name", reason))?;
            found(tools.store.rename(user_id, name, now()).await?)
        })
    }
}

impl Handler<ListSessions> for UserActor {
    type Result = ResponseFuture<Result<Vec<Session>, DomainError>>;

    fn handle(&mut self, ListSessions { user_id }: ListSessions, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let mut sessions = tools.store.sessions(user_id).await?;
            let at = now();
            sessions.retain(|session| session.is_alive(at));
            Ok(sessions)
        })
    }
}

impl Handler<DeleteAccount> for UserActor {
    type Result = ResponseFuture<Result<(), DomainError>>;

    fn handle(&mut self, DeleteAccount { user_id, password }: DeleteAccount, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            for _ in 0..PROOFS {
                let (_, hash) = tools.known_password(user_id, &password).await?;
                if tools.store.erase_user(user_id, &hash, now()).await? {
                    (tools.sign_in_changed)(SignInChange::Any);
                    return Ok(());
                }
            }
            // The password was changed meanwhile: what was checked is it no longer.
            Err(DomainError::WrongPassword)
        })
    }
}

impl Handler<ExportAccount> for UserActor {
    type Result = ResponseFuture<Result<Value, DomainError>>;

    fn handle(&mut self, ExportAccount { user_id, password }: ExportAccount, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let (user, _) = tools.known_password(user_id, &password).await?;
            tools.export(user).await
        })
    }
}

impl UserTools {
    /// All that is kept about a user: each domain is asked for its own.
    async fn export(&self, user: User) -> Result<Value, DomainError> {
        let sessions = self.store.sessions(user.id).await?;
        let notifications = ExportNotifications { user_id: user.id };
        let requests = self.store.mail_requests(user.id).await?;
        let keys = self.api_keys.api_keys(user.id).await?;
        let history = self.recommendations.ask(ExportHistory { user_id: user.id }, self.ask_deadline).await??;
        let time = |at: Option<crate::domain::time::Timestamp>| at.map(|at| at.to_string());
        Ok(json!({
            "exportedAt": now().to_string(),
            "account": {
                "id": user.id,
                "email": user.email,
                "name": user.name,
                "role": user.role,
                "emailVerified": user.email_verified,
                "preferences": {
                    "orderUpdates": user.preferences.order_updates,
                    "promotions": user.preferences.promotions,
                    "recommendations": user.preferences.recommendations,
                },
                "createdAt": user.created_at.to_string(),
                "updatedAt": user.updated_at.to_string(),
            },
            "sessions": sessions.iter().map(|session| json!({
                "id": session.id,
                "userAgent": session.user_agent,
                "createdAt": session.created_at.to_string(),
                "lastUsedAt": session.last_used_at.to_string(),
                "expiresAt": session.expires_at.to_string(),
                "endedAt": time(session.revoked_at),
            })).collect::<Vec<_>>(),
            "apiKeys": keys.iter().map(|key| json!({
                "id": key.id,
                "name": key.name,
                "scopes": key.scopes.iter().collect::<Vec<_>>(),
                "createdAt": key.created_at.to_string(),
                "lastUsedAt": time(key.last_used_at),
                "expiresAt": time(key.expires_at),
                "revokedAt": time(key.revoked_at),
            })).collect::<Vec<_>>(),
            "mailRequests": requests.iter().map(|request| json!({
                "id": request.id,
                "kind": request.kind.as_str(),
                "createdAt": request.created_at.to_string(),
                "expiresAt": request.expires_at.to_string(),
                "usedAt": time(request.used_at),
                "replacedAt": time(request.replaced_at),
            })).collect::<Vec<_>>(),
            "orders": self.exported_orders(user.id).await?,
            "recommendations": history,
            "notifications": self.notifications.ask(notifications, self.ask_deadline).await??,
        }))
    }

    async fn exported_orders(&self, customer: UserId) -> Result<Vec<Value>, DomainError> {
        let filter = OrderFilter { customer_id: Some(customer), ..OrderFilter::default() };
        let mut page = PageRequest::first(MAX_PAGE_SIZE);
        let mut exported = Vec::new();
        loop {
            let listed =
                self.orders.ask(ListOrders { filter: filter.clone(), page: page.clone() }, self.ask_deadline).await??;
            page.after = listed.entries.last().map(|(cursor, _)| cursor.clone());
            exported.extend(listed.entries.iter().map(|(_, order)| exported_order(order)));
            if !listed.has_next {
                return Ok(exported);
            }
        }
    }
}

fn exported_order(order: &Order) -> Value {
    json!({
        "id": order.id,
        "number": order.number,
        "status": order.status,
        "createdAt": order.created_at.to_string(),
        "total": order.total,
        "lines": order.lines,
        "timeline": order.timeline.iter().map(|entry| json!({
            "sequence": entry.sequence,
            "status": entry.status,
            "at": entry.at.to_string(),
            "note": entry.note,
        })).collect::<Vec<_>>(),
        "idempotencyKey": order.idempotency_key,
    })
}
