//! Whom mails go to: recipients with the tokens of their links, and audiences.

use actix::{Context, Handler, ResponseFuture};

use super::messages::{GetRecipient, LinkWanted, ListAudience, MailLink, Recipient};
use super::{UserActor, UserTools};
use crate::actors::clock::now;
use crate::actors::errors::DomainError;
use crate::domain::ids::UserId;

impl UserTools {
    async fn link(&self, user_id: UserId, wanted: LinkWanted) -> Result<MailLink, DomainError> {
        Ok(match wanted {
            LinkWanted::Unsubscribe(subscription) => {
                MailLink::Token(self.mail_tokens.unsubscribe(user_id, subscription, now()))
            }
            LinkWanted::Request(id) => match self.store.mail_request(id).await? {
                Some(request) if request.user_id == user_id && request.is_open(now()) => {
                    MailLink::Token(self.mail_tokens.of_request(request.kind, id))
                }
                _ => MailLink::Void,
            },
        })
    }
}

impl Handler<GetRecipient> for UserActor {
    type Result = ResponseFuture<Result<Option<Recipient>, DomainError>>;

    fn handle(&mut self, GetRecipient { user_id, link }: GetRecipient, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let user = tools.store.users(&[user_id]).await?.into_iter().find(|user| user.erased_at.is_none());
            let Some(user) = user else { return Ok(None) };
            let link = match link {
                Some(wanted) => Some(tools.link(user_id, wanted).await?),
                None => None,
            };
            Ok(Some(Recipient {
                email: user.email,
                name: user.name,
                preferences: user.preferences,
                email_verified: user.email_verified,
                demo: user.demo,
                link,
            }))
        })
    }
}

impl Handler<ListAudience> for UserActor {
    type Result = ResponseFuture<Result<Vec<UserId>, DomainError>>;

    fn handle(&mut self, message: ListAudience, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let ListAudience { subscription, after, limit } = message;
            Ok(tools.store.audience(subscription, after, limit).await?)
        })
    }
}
