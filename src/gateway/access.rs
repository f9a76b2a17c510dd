//! Who may use a field: one table, from which both the schema's `@access` and its enforcement are made.
//!
//! `rule_of` is the table. `Guarded` wraps an object type and looks each field up before it resolves it; a field that
//! the table does not know is refused. Objects that are reached only through a guarded one (an order's lines, a
//! user's preferences) carry its rule without being asked again. Who comes with an API key is asked for its scopes besides
//! (`scopes`).
//!
//! OWNER at the root only asks for a sign-in: whose object it is, is decided with the object in hand, by the actor or
//! by the object's own guard.

use std::borrow::Cow;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::resolve_container;
use async_graphql::{
    ContainerType, Context, ContextSelectionSet, Error, ObjectType, OutputType, Positioned, Response, ServerError,
    ServerResult, SubscriptionType, Value,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::context::Viewer;
use super::errors::Code;
use super::scopes;
use crate::domain::api_keys::ApiKeyScope;
use crate::domain::ids::UserId;
use crate::domain::users::Role;

/// Who may use a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessRule {
    Public,
    /// Signed in.
    User,
    /// The signed-in owner, or staff.
    Owner,
    Staff,
    Admin,
}

impl AccessRule {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "PUBLIC",
            Self::User => "USER",
            Self::Owner => "OWNER",
            Self::Staff => "STAFF",
            Self::Admin => "ADMIN",
        }
    }

    /// Whether the viewer may use a field of this rule; `owner` is known only with an object in hand.
    pub fn check(self, viewer: Viewer, owner: Option<UserId>) -> Result<(), Denied> {
        let Some(role) = viewer.role() else {
            return if self == Self::Public { Ok(()) } else { Err(Denied::Unauthenticated) };
        };
        let admitted = match self {
            Self::Public | Self::User => true,
            Self::Owner => role.is_staff() || owner.is_none_or(|owner| viewer.user_id() == Some(owner)),
            Self::Staff => role.is_staff(),
            Self::Admin => role == Role::Admin,
        };
        if admitted { Ok(()) } else { Err(Denied::Forbidden) }
    }
}

/// Why a field is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Unauthenticated,
    Forbidden,
    /// The API key lacks this scope.
    WithoutScope(ApiKeyScope),
    /// Its user may do it, but not with an API key.
    NeverByKey,
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Code::Unauthenticated.error("sign in first"),
            Denied::Forbidden => Code::Forbidden.error("you may not do this"),
            Denied::WithoutScope(scope) => Code::Forbidden.error(format!("the API key lacks the scope {scope}")),
            Denied::NeverByKey => Code::Forbidden.error("this is not done with an API key: sign in"),
        }
    }
}

/// The rule of a field. `None`: nobody has decided, so nobody may.
pub fn rule_of(type_name: &str, field: &str) -> Option<AccessRule> {
    use AccessRule::{Admin, Owner, Public, Staff, User};
    Some(match type_name {
        "Query" => match field {
            "node" | "me" | "product" | "products" | "categories" => Public,
            "user" | "order" => Owner,
            "users" | "orders" | "campaigns" | "deadLetters" | "supervision" => Staff,
            _ => return None,
        },
        "Mutation" => match field {
            "signUp" | "signIn" | "tokenRefresh" => Public,
            "passwordResetRequest" | "passwordReset" | "emailVerify" | "unsubscribe" => Public,
            "passwordChange"
            | "emailVerificationResend"
            | "userUpdate"
            | "accountExport"
            | "accountDelete"
            | "apiKeyCreate" => User,
            "signOut" | "preferencesUpdate" | "orderPlace" | "notificationsMarkRead" | "recommendationRate" => User,
            "orderCancel" | "apiKeyRevoke" => Owner,
            "productCreate" | "productUpdate" | "productArchive" | "stockAdjust" | "orderShip" | "orderDeliver"
            | "campaignLaunch" | "deadLetterReplay" | "deadLetterDiscard" => Staff,
            "userRoleUpdate" => Admin,
            _ => return None,
        },
        "Subscription" => match field {
            "stockChanged" => Public,
            "orderUpdates" | "notificationReceived" | "recommendationsUpdated" => User,
            "orderUpdated" => Owner,
            "supervisionChanged" | "deadLetterAdded" => Staff,
            _ => return None,
        },
        "User" | "Preferences" | "Session" | "SignedInSession" | "ApiKey" | "Order" | "OrderLine" | "OrderEvent"
        | "OrderUpdate" | "Recommendation" => Owner,
        "Notification" => match field {
            "lastError" => Staff,
            _ => Owner,
        },
        "ActorStatus" | "DeadLetter" | "Header" | "Campaign" => Staff,
        // Reached only through a field with a rule of its own.
        "Node"
        | "PageInfo"
        | "Money"
        | "UserError"
        | "InputError"
        | "InsufficientStockError"
        | "RetryLaterError"
        | "Product"
        | "Category"
        | "UserConnection"
        | "UserEdge"
        | "ProductConnection"
        | "ProductEdge"
        | "OrderConnection"
        | "OrderEdge"
        | "NotificationConnection"
        | "NotificationEdge"
        | "NotificationsMarkReadPayload"
        | "SessionPayload"
        | "SignOutPayload"
        | "PasswordResetRequestPayload"
        | "UnsubscribePayload"
        | "AccountExportPayload"
        | "AccountDeletePayload"
        | "ApiKeyCreatePayload"
        | "ApiKeyPayload"
        | "UserPayload"
        | "ProductPayload"
        | "OrderPlacePayload"
        | "OrderPayload"
        | "CampaignConnection"
        | "CampaignEdge"
        | "CampaignPayload"
        | "DeadLetterConnection"
        | "DeadLetterEdge"
        | "DeadLetterPayload"
        | "RecommendationRatePayload" => Public,
        _ => return None,
    })
}

/// An object that belongs to somebody, or a root, which belongs to nobody.
pub trait Owned: Send + Sync {
    fn owner(&self) -> Option<UserId>;
    /// Who looks at it when that is not the viewer of the request: the user whom a sign-in is about.
    fn shown_to(&self) -> Option<Viewer> {
        None
    }
}

/// An object type whose fields are answered only to whom their rule admits.
pub struct Guarded<T>(pub T);

impl<T> std::ops::Deref for Guarded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Owned> Guarded<T> {
    fn check(&self, ctx: &Context<'_>, type_name: &str) -> Result<(), Denied> {
        let field = &ctx.item.node.name.node;
        match rule_of(type_name, field) {
            Some(AccessRule::Public) => Ok(()),
            Some(rule) => {
                let viewer = self.shown_to().unwrap_or_else(|| Viewer::of(ctx));
                rule.check(viewer, self.owner())?;
                scopes::check(viewer, type_name, field)
            }
            None => Err(Denied::Forbidden),
        }
    }
}

impl<T: ObjectType + Owned> ContainerType for Guarded<T> {
    async fn resolve_field(&self, ctx: &Context<'_>) -> ServerResult<Option<Value>> {
        self.check(ctx, &T::type_name())
            .map_err(|denied| ctx.set_error_path(Error::from(denied).into_server_error(ctx.item.pos)))?;
        self.0.resolve_field(ctx).await
    }
}

impl<T: ObjectType + Owned> OutputType for Guarded<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _field: &Positioned<Field>) -> ServerResult<Value> {
        resolve_container(ctx, self).await
    }
}

impl<T: ObjectType + Owned> ObjectType for Guarded<T> {}

impl<T: SubscriptionType + Owned> SubscriptionType for Guarded<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    fn create_field_stream<'a>(
        &'a self,
        ctx: &'a Context<'_>,
    ) -> Option<std::pin::Pin<Box<dyn futures_util::Stream<Item = Response> + Send + 'a>>> {
        if let Err(denied) = self.check(ctx, &T::type_name()) {
            let error: ServerError = ctx.set_error_path(Error::from(denied).into_server_error(ctx.item.pos));
            let denial: BoxStream<'a, Response> =
                futures_util::stream::once(async move { Response::from_errors(vec![error]) }).boxed();
            return Some(denial);
        }
        self.0.create_field_stream(ctx)
    }
}

/// Writes `@access` behind every field of the schema's text, and declares the directive.
pub fn annotate(sdl: &str) -> String {
    let mut annotated = String::with_capacity(sdl.len() * 3 / 2);
    let mut type_name = None;
    let mut field = None;
    let mut in_description = false;
    for line in sdl.lines() {
        annotated.push_str(line);
        let quotes = line.matches("\"\"\"").count();
        let is_description = in_description || quotes > 0;
        in_description ^= quotes % 2 == 1;
        if is_description {
            annotated.push('\n');
            continue;
        }
        if let Some(head) = line.strip_prefix("type ").or_else(|| line.strip_prefix("interface ")) {
            type_name = head.split([' ', '{']).next();
        } else if line == "}" {
            type_name = None;
        } else if let Some(type_name) = type_name {
            // A field's own lines are indented by one step; deeper ones are its arguments.
            let text = line.strip_prefix("  ").filter(|text| !text.starts_with([' ', '"']));
            if let Some(text) = text {
                if !text.starts_with(')') {
                    field = text.split(['(', ':']).next();
                }
                let rule = field.and_then(|field| rule_of(type_name, field));
                if let (false, Some(rule)) = (text.ends_with('('), rule) {
                    annotated.push_str(" @access(rule: ");
                    annotated.push_str(rule.as_str());
                    annotated.push(')');
                }
            }
        }
        annotated.push('\n');
    }
    annotated.push_str(DIRECTIVE);
    annotated
}

const DIRECTIVE: &str = r#"
"Who may use a field."
directive @access(
  "Whom the field admits."
  rule: AccessRule!
) on FIELD_DEFINITION

"Who may use a field."
enum AccessRule {
  "Everybody."
  PUBLIC
  "Who is signed in."
  USER
  "The signed-in owner, or staff."
  OWNER
  "Staff and admins."
  STAFF
  "Admins."
  ADMIN
}
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{SessionId, TypedId};
    use uuid::Uuid;

    fn signed_in(id: u128, role: Role) -> Viewer {
        Viewer::SignedIn {
            user_id: UserId::from_uuid(Uuid::from_u128(id)),
            role,
            session_id: Some(SessionId::from_uuid(Uuid::nil())),
        }
    }

    #[test]
    fn each_rule_admits_whom_it_names() {
        use AccessRule::{Admin, Owner, Public, Staff, User};
        let owner = Some(UserId::from_uuid(Uuid::from_u128(1)));
        let viewers = [
            Viewer::Anonymous,
            signed_in(2, Role::Customer),
            signed_in(1, Role::Customer),
            signed_in(3, Role::Staff),
            signed_in(4, Role::Admin),
        ];
        for (rule, admitted) in [
            (Public, [true, true, true, true, true]),
            (User, [false, true, true, true, true]),
            (Owner, [false, false, true, true, true]),
            (Staff, [false, false, false, true, true]),
            (Admin, [false, false, false, false, true]),
        ] {
            assert_eq!(viewers.map(|viewer| rule.check(viewer, owner).is_ok()), admitted, "{rule:?}");
        }
        assert_eq!(Staff.check(Viewer::Anonymous, None), Err(Denied::Unauthenticated));
        assert_eq!(Staff.check(viewers[1], None), Err(Denied::Forbidden));
        assert_eq!(Owner.check(viewers[1], None), Ok(()));
    }

    #[test]
    fn a_field_that_nobody_decided_about_is_nobodys() {
        assert_eq!(rule_of("Query", "secrets"), None);
        assert_eq!(rule_of("Secret", "text"), None);
    }

    #[test]
    fn every_field_of_the_text_gets_its_rule() {
        let sdl =
            "\"A.\"\ntype Query {\n  \"B (c): d\"\n  me: User\n  order(\n    \"Which.\"\n    id: ID!\n  ): Order\n}\n";
        let annotated = annotate(sdl);
        assert!(annotated.contains("  me: User @access(rule: PUBLIC)\n"));
        assert!(annotated.contains("    id: ID!\n  ): Order @access(rule: OWNER)\n"));
    }

    #[test]
    fn a_description_of_several_lines_gets_none() {
        let description = "  \"\"\"\n  The first line: of two,\n  and the second.\n  \"\"\"\n";
        let annotated = annotate(&format!("type OrderUpdate {{\n{description}  order: Order!\n}}\n"));
        assert!(annotated.contains(description), "{annotated}");
        assert!(annotated.contains("  order: Order! @access(rule: OWNER)\n"));
    }
}
