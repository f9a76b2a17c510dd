//! The schema: the areas put together, its limits, its text.

use async_graphql::{MergedObject, MergedSubscription, Request, SDLExportOptions, Schema, SchemaBuilder};

use super::access::{Guarded, Owned, annotate};
use super::accounts::AccountMutation;
use super::api_keys::ApiKeyMutation;
use super::campaigns::{CampaignMutation, CampaignQuery};
use super::context::{RequestInfo, Shop, Viewer};
use super::dead_letters::{DeadLetterMutation, DeadLetterQuery, DeadLetterSubscription};
use super::loaders::Loaders;
use super::node::NodeQuery;
use super::notifications::{NotificationMutation, NotificationSubscription};
use super::order_placement::OrderPlacementMutation;
use super::order_updates::OrderSubscription;
use super::orders::{OrderMutation, OrderQuery};
use super::passwords::PasswordMutation;
use super::products::{ProductMutation, ProductQuery};
use super::recommendations::{RecommendationMutation, RecommendationSubscription};
use super::sessions::SessionMutation;
use super::stock_updates::StockSubscription;
use super::supervision::{SupervisionQuery, SupervisionSubscription};
use super::users::{UserMutation, UserQuery};
use crate::domain::ids::UserId;

/// What can be read.
#[derive(MergedObject, Default)]
#[graphql(name = "Query")]
pub struct QueryAreas(NodeQuery, UserQuery, ProductQuery, OrderQuery, CampaignQuery, DeadLetterQuery, SupervisionQuery);

/// What can be changed.
#[derive(MergedObject, Default)]
#[graphql(name = "Mutation")]
pub struct MutationAreas(
    SessionMutation,
    PasswordMutation,
    AccountMutation,
    ApiKeyMutation,
    UserMutation,
    ProductMutation,
    OrderPlacementMutation,
    OrderMutation,
    RecommendationMutation,
    CampaignMutation,
    DeadLetterMutation,
    NotificationMutation,
);

/// What can be watched.
#[derive(MergedSubscription, Default)]
#[graphql(name = "Subscription")]
pub struct SubscriptionAreas(
    OrderSubscription,
    StockSubscription,
    DeadLetterSubscription,
    NotificationSubscription,
    RecommendationSubscription,
    SupervisionSubscription,
);

macro_rules! roots {
    ($($areas:ident),*) => {$(
        /// A root belongs to nobody.
        impl Owned for $areas {
            fn owner(&self) -> Option<UserId> {
                None
            }
        }
    )*};
}
roots!(QueryAreas, MutationAreas, SubscriptionAreas);

pub type SoukSchema = Schema<Guarded<QueryAreas>, Guarded<MutationAreas>, Guarded<SubscriptionAreas>>;

/// What a request may ask at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaLimits {
    /// Levels of fields.
    pub max_depth: usize,
    /// The sum of the fields' costs: see `connections`.
    pub max_complexity: usize,
    /// Directives on one field.
    pub max_directives: usize,
    /// False hides the schema from clients.
    pub introspection: bool,
}

impl Default for SchemaLimits {
    fn default() -> Self {
        // GraphiQL's own introspection is 15 levels deep.
        Self { max_depth: 16, max_complexity: 15_000, max_directives: 8, introspection: true }
    }
}

type Builder = SchemaBuilder<Guarded<QueryAreas>, Guarded<MutationAreas>, Guarded<SubscriptionAreas>>;

fn builder() -> Builder {
    Schema::build(
        Guarded(QueryAreas::default()),
        Guarded(MutationAreas::default()),
        Guarded(SubscriptionAreas::default()),
    )
    .disable_suggestions()
}

/// The schema in front of a shop.
pub fn build_schema(shop: Shop, limits: SchemaLimits) -> SoukSchema {
    let builder = builder()
        .data(shop)
        .limit_depth(limits.max_depth)
        .limit_complexity(limits.max_complexity)
        .limit_directives(limits.max_directives)
        // Fragments inside fragments count here too: what is deeper is refused before it is looked at.
        .limit_recursive_depth(2 * limits.max_depth);
    if limits.introspection { builder.finish() } else { builder.disable_introspection().finish() }
}

/// A request with loaders of its own: what resolvers need besides the viewer and the request's info.
pub fn with_loaders(request: Request) -> Request {
    request.data(Loaders::default())
}

/// A request with all that its resolvers need: who asks, where from, and loaders of its own.
pub fn with_viewer(request: Request, viewer: Viewer, info: RequestInfo) -> Request {
    with_loaders(request.data(viewer).data(info))
}

/// The schema's text: what `souk schema print` prints and `schema.graphql` holds.
pub fn sdl() -> String {
    let options = SDLExportOptions::new().use_space_ident().prefer_single_line_descriptions();
    let text = builder().finish().sdl_with_options(options);
    // What every GraphQL server knows needs no declaration.
    let own: Vec<&str> = text.split_inclusive('\n').collect();
    let known = |line: &str| {
        ["@include", "@skip", "@deprecated"]
            .iter()
            .any(|name| line.strip_prefix("directive ").is_some_and(|rest| rest.starts_with(name)))
    };
    let mut kept = String::with_capacity(text.len());
    for (index, line) in own.iter().enumerate() {
        let describes_known = line.starts_with('"') && own.get(index + 1).is_some_and(|next| known(next));
        if !known(line) && !describes_known {
            kept.push_str(line);
        }
    }
    annotate(&kept)
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_schema;
    use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
    use async_graphql::{EmptyMutation, EmptySubscription, Object, Response, Variables};

    use super::*;
    use crate::config::Config;
    use crate::domain::ids::{SessionId, TypedId};
    use crate::domain::text::Email;
    use crate::domain::time::Timestamp;
    use crate::domain::users::{Preferences, Role, User as DomainUser};
    use crate::gateway::access::rule_of;
    use crate::gateway::errors::{finish_response, refine_value_errors};
    use crate::gateway::request_ids::RequestIds;
    use crate::gateway::users::User;
    use actix_web::http::header::HeaderMap;
    use futures_util::StreamExt;
    use serde_json::json;
    use uuid::Uuid;

    /// Those of a server whose configuration says nothing.
    fn shipped_limits() -> SchemaLimits {
        let gateway = Config::default().gateway;
        SchemaLimits { max_depth: gateway.max_depth, max_complexity: gateway.max_complexity, ..SchemaLimits::default() }
    }

    #[test]
    fn the_limits_of_the_code_are_those_that_are_shipped() {
        assert_eq!(shipped_limits(), SchemaLimits::default());
    }

    /// The schema without a shop behind it: whoever gets past the guards meets INTERNAL_SERVER_ERROR.
    fn empty_schema() -> SoukSchema {
        let limits = shipped_limits();
        builder()
            .limit_depth(limits.max_depth)
            .limit_complexity(limits.max_complexity)
            .limit_directives(limits.max_directives)
            .limit_recursive_depth(2 * limits.max_depth)
            .finish()
    }

    fn info() -> RequestInfo {
        RequestInfo { ids: RequestIds::of(&HeaderMap::new()), client_address: [127, 0, 0, 1].into(), user_agent: None }
    }

    fn viewer(role: Option<Role>) -> Viewer {
        role.map_or(Viewer::Anonymous, |role| Viewer::SignedIn {
            user_id: UserId::from_uuid(Uuid::from_u128(1)),
            role,
            session_id: Some(SessionId::from_uuid(Uuid::nil())),
        })
    }

    fn code(mut response: Response, query: &str) -> String {
        refine_value_errors(&mut response, query);
        finish_response(&mut response, &info());
        let errors = serde_json::to_value(&response.errors).unwrap();
        errors[0]["extensions"]["code"].as_str().unwrap_or("-").to_owned()
    }

    async fn answer(query: &str, variables: serde_json::Value, role: Option<Role>) -> String {
        let request = Request::new(query).variables(Variables::from_json(variables));
        let request = with_viewer(request, viewer(role), info());
        let response = empty_schema().execute_stream(request).next().await.unwrap_or_default();
        code(response, query)
    }

    const ORDER: &str = "ord_00000000000000000000000001";
    const PRODUCT: &str = "prd_00000000000000000000000001";

    /// A call of every root field.
    fn call(root: &str, field: &str) -> String {
        let user_id = "usr_00000000000000000000000001";
        let body = match field {
            "node" => format!("node(id: \"{PRODUCT}\") {{ id }}"),
            "me" | "categories" | "supervision" | "supervisionChanged" => format!("{field} {{ __typename }}"),
            "user" => format!("user(id: \"{user_id}\") {{ id }}"),
            "product" => format!("product(id: \"{PRODUCT}\") {{ id }}"),
            "order" => format!("order(id: \"{ORDER}\") {{ id }}"),
            "users" | "products" | "orders" | "campaigns" | "deadLetters" => format!("{field} {{ totalCount }}"),
            "signUp" => r#"signUp(input: {email: "a@b.co", name: "A", password: "x"}) { __typename }"#.into(),
            "signIn" => r#"signIn(input: {email: "a@b.co", password: "x"}) { __typename }"#.into(),
            "tokenRefresh" => r#"tokenRefresh(refreshToken: "x") { __typename }"#.into(),
            "signOut" => r#"signOut(refreshToken: "x") { __typename }"#.into(),
            "passwordResetRequest" => r#"passwordResetRequest(email: "a@b.co") { accepted }"#.into(),
            "passwordReset" => r#"passwordReset(token: "x", newPassword: "y") { __typename }"#.into(),
            "passwordChange" => r#"passwordChange(currentPassword: "x", newPassword: "y") { __typename }"#.into(),
            "emailVerify" | "unsubscribe" => format!("{field}(token: \"x\") {{ __typename }}"),
            "emailVerificationResend" => format!("{field} {{ __typename }}"),
            "userUpdate" => "userUpdate(input: {}) { __typename }".into(),
            "accountExport" | "accountDelete" => format!("{field}(password: \"x\") {{ __typename }}"),
            "apiKeyCreate" => r#"apiKeyCreate(input: {name: "n", scopes: [ORDERS_READ]}) { __typename }"#.into(),
            "apiKeyRevoke" => r#"apiKeyRevoke(id: "key_00000000000000000000000001") { __typename }"#.into(),
            "preferencesUpdate" => "preferencesUpdate(input: {}) { __typename }".into(),
            "userRoleUpdate" => format!("userRoleUpdate(id: \"{user_id}\", role: STAFF) {{ __typename }}"),
            "productCreate" => r#"productCreate(input: {sku: "s", name: "n", category: "c",
                price: {minorUnits: 1, currency: "EUR"}, available: 1}) { __typename }"#
                .into(),
            "productUpdate" => {
                format!("productUpdate(id: \"{PRODUCT}\", input: {{expectedVersion: 1}}) {{ __typename }}")
            }
            "productArchive" => format!("productArchive(id: \"{PRODUCT}\", expectedVersion: 1) {{ __typename }}"),
            "stockAdjust" => format!("stockAdjust(productId: \"{PRODUCT}\", delta: 1, reason: \"r\") {{ __typename }}"),
            "orderPlace" => r#"orderPlace(input: {idempotencyKey: "k", lines: []}) { __typename }"#.into(),
            "orderCancel" | "orderShip" | "orderDeliver" => format!("{field}(id: \"{ORDER}\") {{ __typename }}"),
            "orderUpdated" => format!("orderUpdated(id: \"{ORDER}\") {{ cursor }}"),
            "deadLetterReplay" | "deadLetterDiscard" => format!("{field}(ids: [\"dlt_YQ\"]) {{ __typename }}"),
            "campaignLaunch" => {
                r#"campaignLaunch(input: {idempotencyKey: "k", subject: "s", message: "m"}) { __typename }"#.into()
            }
            "deadLetterAdded" => "deadLetterAdded { id }".into(),
            "orderUpdates" => "orderUpdates { cursor }".into(),
            "notificationsMarkRead" => "notificationsMarkRead(all: true) { __typename }".into(),
            "notificationReceived" => "notificationReceived { id }".into(),
            "stockChanged" => format!("stockChanged(productIds: [\"{PRODUCT}\"]) {{ id }}"),
            "recommendationRate" => {
                format!("recommendationRate(productId: \"{PRODUCT}\", liked: true) {{ __typename }}")
            }
            "recommendationsUpdated" => "recommendationsUpdated { score }".into(),
            unknown => panic!("{unknown} needs a call here"),
        };
        format!("{} {{ {body} }}", root.to_lowercase())
    }

    /// The root fields as the schema's text has them.
    fn root_fields() -> Vec<(String, String)> {
        let mut fields = Vec::new();
        for definition in parse_schema(sdl()).unwrap().definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let root = definition.node.name.node.to_string();
            if let (TypeKind::Object(object), "Query" | "Mutation" | "Subscription") =
                (definition.node.kind, root.as_str())
            {
                fields.extend(object.fields.iter().map(|field| (root.clone(), field.node.name.node.to_string())));
            }
        }
        fields
    }

    #[tokio::test]
    async fn every_root_field_admits_whom_its_rule_names_and_nobody_else() {
        assert!(root_fields().len() > 25);
        for (root, field) in root_fields() {
            let rule = rule_of(&root, &field).unwrap();
            for role in [None, Some(Role::Customer), Some(Role::Staff), Some(Role::Admin)] {
                let denied = match rule.check(viewer(role), None) {
                    Ok(()) => None,
                    Err(denied) => async_graphql::Error::from(denied).extensions,
                };
                let expected = denied.map(|extensions| extensions.get("code").cloned().unwrap());
                let found = answer(&call(&root, &field), json!({}), role).await;
                match expected {
                    Some(expected) => {
                        assert_eq!(json!(found), expected.into_json().unwrap(), "{root}.{field} {role:?}")
                    }
                    // `me` of nobody is null.
                    None if found == "-" => assert_eq!((field.as_str(), role), ("me", None)),
                    None => assert_eq!(found, "INTERNAL_SERVER_ERROR", "{root}.{field} {role:?}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn what_the_library_refuses_gets_its_documented_code() {
        let many = |field: &str, count: usize| -> String { (0..count).map(|n| format!("a{n}: {field} ")).collect() };
        let sign_in = r#"signIn(input: {email: "a@b.co", password: "x"}) { __typename }"#;
        let nested = "{ customer { orders { nodes ".repeat(8) + "{ id }" + &" } } }".repeat(8);
        let cases = [
            ("{ me {".to_owned(), json!({}), "GRAPHQL_PARSE_FAILED"),
            (String::new(), json!({}), "GRAPHQL_PARSE_FAILED"),
            ("query A { me { id } } query A { me { id } }".into(), json!({}), "GRAPHQL_PARSE_FAILED"),
            ("{ nonsense }".into(), json!({}), "GRAPHQL_VALIDATION_FAILED"),
            ("{ me }".into(), json!({}), "GRAPHQL_VALIDATION_FAILED"),
            ("{ product { id } }".into(), json!({}), "GRAPHQL_VALIDATION_FAILED"),
            ("{ product(id: {a: 1}) { id } }".into(), json!({}), "GRAPHQL_VALIDATION_FAILED"),
            ("{ products(sort: CHEAP) { totalCount } }".into(), json!({}), "GRAPHQL_VALIDATION_FAILED"),
            ("{ products(first: \"x\") { totalCount } }".into(), json!({}), "GRAPHQL_VALIDATION_FAILED"),
            ("query($n: Int) { products(first: $n) { totalCount } }".into(), json!({"n": "x"}), "BAD_USER_INPUT"),
            (
                "query($s: ProductSort) { products(sort: $s) { totalCount } }".into(),
                json!({"s": "CHEAP"}),
                "BAD_USER_INPUT",
            ),
            ("query($id: ID!) { product(id: $id) { id } }".into(), json!({}), "BAD_USER_INPUT"),
            ("{ products(first: 4000000000) { totalCount } }".into(), json!({}), "GRAPHQL_VALIDATION_FAILED"),
            (
                "query($n: Int) { products(first: $n) { totalCount } }".into(),
                json!({"n": 4_000_000_000u64}),
                "BAD_USER_INPUT",
            ),
            ("{ products(first: 0) { totalCount } }".into(), json!({}), "BAD_USER_INPUT"),
            ("query A { me { id } } query B { me { id } }".into(), json!({}), "BAD_USER_INPUT"),
            (format!("mutation {{ {} }}", many(sign_in, 1_000)), json!({}), "QUERY_TOO_COMPLEX"),
            (format!("{{ {} }}", many("me { id }", 1_000)), json!({}), "QUERY_TOO_COMPLEX"),
            (
                "{ products(first: 100) { nodes { id } edges { node { id name sku } } } }".into(),
                json!({}),
                "INTERNAL_SERVER_ERROR",
            ),
            (
                format!("{{ {} }}", many("products(first: 100) { nodes { id name price { amount } } }", 30)),
                json!({}),
                "QUERY_TOO_COMPLEX",
            ),
            (format!("{{ order(id: \"{ORDER}\") {nested} }}"), json!({}), "QUERY_TOO_COMPLEX"),
            (
                format!("{{ me {}{} }}", "{ ... on User ".repeat(40), "{ id }".to_owned() + &"}".repeat(40)),
                json!({}),
                "QUERY_TOO_COMPLEX",
            ),
            (format!("{{ me {{ id {} }} }}", "@include(if: true) ".repeat(9)), json!({}), "QUERY_TOO_COMPLEX"),
        ];
        for (query, variables, expected) in cases {
            let start: String = query.chars().take(120).collect();
            assert_eq!(answer(&query, variables, None).await, expected, "{start}");
        }
    }

    #[tokio::test]
    async fn the_introspection_of_graphiql_is_within_the_limits() {
        let of_type = "ofType { kind name ".repeat(9) + &"}".repeat(9);
        let query = format!(
            "{{ __schema {{ queryType {{ name }} types {{ ...T }} directives {{ name args {{ ...V }} }} }} }}
             fragment T on __Type {{ kind name fields(includeDeprecated: true) {{ name args {{ ...V }} type {{ ...R }} }}
               inputFields {{ ...V }} interfaces {{ ...R }} enumValues {{ name }} possibleTypes {{ ...R }} }}
             fragment V on __InputValue {{ name type {{ ...R }} defaultValue }}
             fragment R on __Type {{ kind name {of_type} }}"
        );
        assert_eq!(answer(&query, json!({}), None).await, "-");
    }

    #[tokio::test]
    async fn the_largest_page_of_orders_with_what_staff_look_at_is_within_the_limits() {
        let query = "query($after: Cursor) { orders(first: 100, after: $after, where: { status: [CONFIRMED] }) {
            totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
            edges { cursor node { id number status createdAt availableTransitions
              total { minorUnits amount currency } customer { id name email }
              lines { productId sku name category quantity unitPrice { amount currency } total { amount currency } }
              timeline { sequence status at note } } } } }";
        assert_eq!(answer(query, json!({}), Some(Role::Staff)).await, "INTERNAL_SERVER_ERROR");
    }

    #[tokio::test]
    async fn a_page_for_each_entry_of_a_page_is_not_cheap() {
        let orders: String = (0..5).map(|n| format!("o{n}: orders(first: 1) {{ totalCount }} ")).collect();
        let query = format!("{{ users(first: 100) {{ nodes {{ {orders} }} }} }}");
        assert_eq!(answer(&query, json!({}), Some(Role::Staff)).await, "QUERY_TOO_COMPLEX");
    }

    struct Lookout;

    #[Object]
    impl Lookout {
        async fn user(&self) -> User {
            User::new(ada())
        }
        async fn signed_in(&self) -> User {
            User::shown_to(ada(), Some(viewer(Some(Role::Customer))))
        }
    }

    fn ada() -> DomainUser {
        DomainUser {
            id: UserId::from_uuid(Uuid::from_u128(1)),
            email: Email::parse("ada@example.com").unwrap(),
            name: "Ada".into(),
            role: Role::Customer,
            email_verified: false,
            preferences: Preferences::default(),
            token_epoch: 0,
            demo: false,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            event_sequence: 1,
            erased_at: None,
        }
    }

    #[tokio::test]
    async fn an_objects_own_fields_are_guarded_too() {
        let schema = Schema::new(Lookout, EmptyMutation, EmptySubscription);
        let ask = async |query: &str, viewer: Viewer| {
            let response = schema.execute(with_viewer(Request::new(query), viewer, info())).await;
            code(response, query)
        };
        let stranger = Viewer::SignedIn {
            user_id: UserId::from_uuid(Uuid::from_u128(2)),
            role: Role::Customer,
            session_id: Some(SessionId::from_uuid(Uuid::nil())),
        };
        assert_eq!(ask("{ user { email } }", stranger).await, "FORBIDDEN");
        assert_eq!(ask("{ user { email } }", Viewer::Anonymous).await, "UNAUTHENTICATED");
        assert_eq!(ask("{ user { email preferences { promotions } } }", viewer(Some(Role::Customer))).await, "-");
        assert_eq!(ask("{ user { email } }", viewer(Some(Role::Staff))).await, "-");
        assert_eq!(ask("{ signedIn { email } }", Viewer::Anonymous).await, "-");
    }
}
