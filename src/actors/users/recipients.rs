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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use actix::{Actor, Addr};
    use uuid::Uuid;

    use super::*;
    use crate::actors::ask::Address;
    use crate::actors::server_secret::ServerSecret;
    use crate::actors::users::api_key_uses::ApiKeyUses;
    use crate::actors::users::hasher::PasswordHasher;
    use crate::actors::users::key_ring::KeyMaterial;
    use crate::actors::users::mail_tokens::MailTokens;
    use crate::actors::users::messages::{
        CreateAccount, DeleteAccount, Password, RequestPasswordReset, RequestVerification, ResetPassword, SignInClient,
        VerifyEmail,
    };
    use crate::actors::users::networks::Networks;
    use crate::actors::users::tokens::AccessTokens;
    use crate::domain::ids::{MailRequestId, TypedId};
    use crate::domain::mail_requests::MailRequestKind;
    use crate::domain::text::Email;
    use crate::domain::users::{Role, Subscription, User};
    use crate::store::sqlite::SqliteUserStore;
    use crate::store::users::UserStore;

    struct World {
        users: Addr<UserActor>,
        store: Arc<SqliteUserStore>,
        tokens: MailTokens,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Arc::new(SqliteUserStore::open_in(folder.path()).unwrap().0);
            let secret = ServerSecret::new([7; 32]);
            let tokens = MailTokens::new(&secret);
            let tools = UserTools {
                store: store.clone(),
                api_keys: store.clone(),
                api_key_uses: ApiKeyUses::default(),
                tokens: AccessTokens::new(&[KeyMaterial::generate()], "souk", "souk", 900).unwrap(),
                followed_keys: None,
                mail_tokens: tokens.clone(),
                networks: Networks::new(&secret),
                hasher: PasswordHasher::start(4, 1, 8, Duration::from_secs(60)),
                refresh_token_days: 1,
                orders: Address::reserve("orders"),
                recommendations: Address::reserve("recommendations"),
                notifications: Address::reserve("notifications"),
                ask_deadline: Duration::from_secs(5),
                sign_in_changed: Box::new(|_| {}),
            };
            Self { users: UserActor::new(Arc::new(tools)).start(), store, tokens, _folder: folder }
        }

        async fn sign_up(&self, email: &str) -> User {
            let account = CreateAccount {
                email: Email::parse(email).unwrap(),
                name: "Ada".into(),
                password: Password("correct horse".into()),
                role: Role::Customer,
            };
            self.users.send(account).await.unwrap().unwrap()
        }

        /// The newest request of a user and kind.
        async fn request(&self, user: UserId, kind: MailRequestKind) -> MailRequestId {
            let requests = self.store.mail_requests(user).await.unwrap();
            requests.iter().find(|request| request.kind == kind).unwrap().id
        }

        async fn recipient(&self, user_id: UserId, link: Option<LinkWanted>) -> Option<Recipient> {
            self.users.send(GetRecipient { user_id, link }).await.unwrap().unwrap()
        }

        async fn link(&self, user_id: UserId, wanted: LinkWanted) -> Option<String> {
            match self.recipient(user_id, Some(wanted)).await.unwrap().link.unwrap() {
                MailLink::Token(token) => Some(token),
                MailLink::Void => None,
            }
        }
    }

    #[actix::test]
    async fn every_attempt_to_send_gets_the_same_token_until_it_is_void() {
        let world = World::new();
        let ada = world.sign_up("ada@example.com").await;
        let first = world.request(ada.id, MailRequestKind::Verification).await;
        let token = world.link(ada.id, LinkWanted::Request(first)).await.unwrap();
        assert_eq!(world.link(ada.id, LinkWanted::Request(first)).await, Some(token.clone()));
        // Replaced by a newer one.
        world.users.send(RequestVerification { user_id: ada.id }).await.unwrap().unwrap();
        assert_eq!(world.link(ada.id, LinkWanted::Request(first)).await, None);
        assert!(matches!(world.users.send(VerifyEmail { token }).await.unwrap(), Err(DomainError::TokenInvalid)));
        let second = world.request(ada.id, MailRequestKind::Verification).await;
        let token = world.link(ada.id, LinkWanted::Request(second)).await.unwrap();
        assert!(world.users.send(VerifyEmail { token }).await.unwrap().unwrap().email_verified);
        // Used.
        assert_eq!(world.link(ada.id, LinkWanted::Request(second)).await, None);
        assert!(world.recipient(ada.id, None).await.unwrap().email_verified);
    }

    #[actix::test]
    async fn a_link_is_only_for_whom_it_was_asked() {
        let world = World::new();
        let (ada, eve) = (world.sign_up("ada@example.com").await, world.sign_up("eve@example.com").await);
        let of_ada = LinkWanted::Request(world.request(ada.id, MailRequestKind::Verification).await);
        assert_eq!(world.link(eve.id, of_ada).await, None);
        let unknown = LinkWanted::Request(MailRequestId::from_uuid(Uuid::from_u128(1)));
        assert_eq!(world.link(ada.id, unknown).await, None);
        let token = world.link(ada.id, LinkWanted::Unsubscribe(Subscription::Promotions)).await.unwrap();
        assert_eq!(world.tokens.open_unsubscribe(&token, now()), Some((ada.id, Subscription::Promotions)));
        assert!(world.recipient(ada.id, None).await.unwrap().link.is_none());
        assert!(world.recipient(UserId::from_uuid(Uuid::from_u128(1)), None).await.is_none());
    }

    #[actix::test]
    async fn a_reset_works_by_the_mailed_token_alone() {
        let world = World::new();
        let ada = world.sign_up("ada@example.com").await;
        world.users.send(RequestPasswordReset { email: "ADA@example.com".into() }).await.unwrap().unwrap();
        let request = LinkWanted::Request(world.request(ada.id, MailRequestKind::PasswordReset).await);
        let token = world.link(ada.id, request).await.unwrap();
        let reset = |token: &str, password: &str| ResetPassword {
            token: token.to_owned(),
            new_password: Password(password.into()),
            signs_in: true,
            client: SignInClient::default(),
        };
        let weak = world.users.send(reset(&token, "short")).await.unwrap();
        assert!(matches!(weak, Err(DomainError::WeakPassword(_))));
        let signed_in = world.users.send(reset(&token, "another horse")).await.unwrap().unwrap().unwrap();
        assert_eq!((signed_in.user.id, signed_in.user.token_epoch), (ada.id, ada.token_epoch + 1));
        let again = world.users.send(reset(&token, "a third horse")).await.unwrap();
        assert!(matches!(again, Err(DomainError::TokenInvalid)));
    }

    #[actix::test]
    async fn nobody_is_written_to_after_deletion() {
        let world = World::new();
        let ada = world.sign_up("ada@example.com").await;
        let request = LinkWanted::Request(world.request(ada.id, MailRequestKind::Verification).await);
        let audience = async || {
            let message = ListAudience { subscription: Subscription::OrderUpdates, after: None, limit: 10 };
            world.users.send(message).await.unwrap().unwrap()
        };
        assert_eq!(audience().await, [ada.id]);
        let password = Password("correct horse".into());
        world.users.send(DeleteAccount { user_id: ada.id, password }).await.unwrap().unwrap();
        assert!(world.recipient(ada.id, Some(request)).await.is_none());
        assert_eq!(audience().await, []);
    }
}
