//! What an API key may be used for: one table beside the one of access rules. A key does what its user may do, and of that
//! what its scopes name; `Guarded` asks both tables.
//!
//! Fields whose rule is PUBLIC are everybody's, with a key as without. What is a person's own business (passwords, sessions,
//! keys, roles, the end of an account) is done by no key, whatever its scopes: a key that leaks opens no way to another one.

use async_graphql::Context;

use super::access::{AccessRule, Denied, rule_of};
use super::context::Viewer;
use crate::domain::api_keys::ApiKeyScope;

/// Which keys may use a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// Every key of whom the field's rule admits.
    Every,
    /// Those with this scope, or one that includes it.
    With(ApiKeyScope),
    Never,
}

/// The keys that may use a field. `None`: nobody has decided, so none may.
pub fn key_use(type_name: &str, field: &str) -> Option<KeyUse> {
    use ApiKeyScope::{AccountRead, AccountWrite, Campaigns, CatalogueWrite, Operations, OrdersRead, OrdersWrite};
    use KeyUse::{Every, Never, With};
    if rule_of(type_name, field)? == AccessRule::Public {
        return Some(Every);
    }
    Some(match type_name {
        "Query" => match field {
            "user" | "users" => With(AccountRead),
            "order" | "orders" => With(OrdersRead),
            "campaigns" => With(Campaigns),
            "deadLetters" | "supervision" => With(Operations),
            _ => return None,
        },
        "Mutation" => match field {
            "userUpdate" | "preferencesUpdate" | "notificationsMarkRead" | "recommendationRate" => With(AccountWrite),
            "orderPlace" | "orderCancel" | "orderShip" | "orderDeliver" => With(OrdersWrite),
            "productCreate" | "productUpdate" | "productArchive" | "stockAdjust" => With(CatalogueWrite),
            "campaignLaunch" => With(Campaigns),
            "deadLetterReplay" | "deadLetterDiscard" => With(Operations),
            "passwordChange"
            | "emailVerificationResend"
            | "accountExport"
            | "accountDelete"
            | "signOut"
            | "userRoleUpdate"
            | "apiKeyCreate"
            | "apiKeyRevoke" => Never,
            _ => return None,
        },
        "Subscription" => match field {
            "orderUpdates" | "orderUpdated" => With(OrdersRead),
            "notificationReceived" | "recommendationsUpdated" => With(AccountRead),
            "supervisionChanged" | "deadLetterAdded" => With(Operations),
            _ => return None,
        },
        "User" => match field {
            // Whose key it is.
            "id" => Every,
            "orders" => With(OrdersRead),
            "sessions" | "apiKeys" => Never,
            _ => With(AccountRead),
        },
        "Preferences" | "Notification" | "Recommendation" => With(AccountRead),
        "Order" | "OrderLine" | "OrderEvent" | "OrderUpdate" => With(OrdersRead),
        "Session" | "SignedInSession" | "ApiKey" => Never,
        "Campaign" => With(Campaigns),
        "ActorStatus" | "DeadLetter" | "Header" => With(Operations),
        _ => return None,
    })
}

/// Whether the viewer may use a field that their role admits them to. Who came without a key may.
pub fn check(viewer: Viewer, type_name: &str, field: &str) -> Result<(), Denied> {
    let Viewer::ByKey { scopes, .. } = viewer else { return Ok(()) };
    match key_use(type_name, field) {
        Some(KeyUse::Every) => Ok(()),
        Some(KeyUse::With(scope)) if scopes.allow(scope) => Ok(()),
        Some(KeyUse::With(scope)) => Err(Denied::WithoutScope(scope)),
        Some(KeyUse::Never) | None => Err(Denied::NeverByKey),
    }
}

/// As [`check`], of the viewer of a request, for objects of this type that are found by their ids alone.
pub fn check_object(ctx: &Context<'_>, type_name: &str) -> Result<(), Denied> {
    check(Viewer::of(ctx), type_name, "id")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use async_graphql::parser::parse_schema;
    use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
    use uuid::Uuid;

    use super::*;
    use crate::domain::api_keys::ApiKeyScopes;
    use crate::domain::ids::{TypedId, UserId};
    use crate::domain::users::Role;
    use crate::gateway::schema::sdl;

    /// Every field of every object of the schema's text.
    fn fields() -> Vec<(String, String)> {
        let mut fields = Vec::new();
        for definition in parse_schema(sdl()).unwrap().definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            if let TypeKind::Object(object) = &definition.node.kind {
                let name = definition.node.name.node.to_string();
                fields.extend(object.fields.iter().map(|field| (name.clone(), field.node.name.node.to_string())));
            }
        }
        fields
    }

    fn by_key(scopes: ApiKeyScopes) -> Viewer {
        Viewer::ByKey { user_id: UserId::from_uuid(Uuid::nil()), role: Role::Admin, scopes }
    }

    #[test]
    fn every_field_is_some_scopes_or_every_keys_or_no_keys() {
        let fields = fields();
        assert!(fields.len() > 150, "{}", fields.len());
        for (type_name, field) in &fields {
            let decided = key_use(type_name, field);
            assert!(decided.is_some(), "{type_name}.{field}: which keys may use it?");
            let is_public = rule_of(type_name, field) == Some(AccessRule::Public);
            let is_every_keys = decided == Some(KeyUse::Every);
            let is_own_id = (type_name.as_str(), field.as_str()) == ("User", "id");
            assert_eq!(is_every_keys, is_public || is_own_id, "{type_name}.{field}");
        }
    }

    #[test]
    fn every_scope_is_good_for_something_at_the_roots() {
        let mut uses = BTreeMap::<&str, usize>::new();
        for (type_name, field) in fields() {
            if let ("Query" | "Mutation" | "Subscription", Some(KeyUse::With(scope))) =
                (type_name.as_str(), key_use(&type_name, &field))
            {
                *uses.entry(scope.as_str()).or_default() += 1;
            }
        }
        assert!(ApiKeyScope::ALL.iter().all(|scope| uses.contains_key(scope.as_str())), "{uses:?}");
    }

    #[test]
    fn a_key_is_denied_by_the_scope_that_it_lacks_and_some_things_always() {
        let all = by_key(ApiKeyScope::ALL.into_iter().collect());
        for own in [
            "passwordChange",
            "emailVerificationResend",
            "accountExport",
            "accountDelete",
            "signOut",
            "userRoleUpdate",
            "apiKeyCreate",
            "apiKeyRevoke",
        ] {
            assert_eq!(check(all, "Mutation", own), Err(Denied::NeverByKey), "{own}");
        }
        for own in ["sessions", "apiKeys"] {
            assert_eq!(check(all, "User", own), Err(Denied::NeverByKey), "{own}");
        }
        for (type_name, field) in fields() {
            let Some(KeyUse::With(scope)) = key_use(&type_name, &field) else { continue };
            let none = by_key(ApiKeyScopes::default());
            assert_eq!(check(none, &type_name, &field), Err(Denied::WithoutScope(scope)), "{type_name}.{field}");
            assert_eq!(check(by_key([scope].into_iter().collect()), &type_name, &field), Ok(()));
            assert_eq!(check(all, &type_name, &field), Ok(()));
            assert_eq!(check(Viewer::Anonymous, &type_name, &field), Ok(()), "roles decide about who has no key");
        }
        assert_eq!(key_use("Query", "secrets"), None);
        assert_eq!(check(all, "Query", "secrets"), Err(Denied::NeverByKey));
    }
}
