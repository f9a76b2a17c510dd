//! Pages, filters and cursors.

use serde_json::{Value, json};

use crate::row::{Row, field_error, is_null, request_error};
use crate::world::World;

#[actix_rt::test]
async fn lists_refuse_what_is_no_page_of_theirs() {
    let world = World::new().await;
    let (customer, staff) = (Some(world.customer.token.as_str()), Some(world.staff.token.as_str()));
    let bad = |field: &str| field_error("BAD_USER_INPUT", field);
    let mut rows = Vec::new();
    for list in ["users", "products", "orders", "campaigns", "deadLetters"] {
        let query =
            format!("query($first: Int, $after: Cursor) {{ {list}(first: $first, after: $after) {{ totalCount }} }}");
        let mut row = |name: &str, variables: Value, expected| {
            rows.push(Row::post(&format!("{list}: {name}"), staff, &query, variables, expected));
        };
        for first in [0, -1, 101, i32::MAX, i32::MIN] {
            row(&format!("first {first}"), json!({ "first": first }), bad("first"));
        }
        for after in ["", "x", "////", "\0", "dTo", "bzo", "cDo", "MQ", "dTpNUQ", "AQ"] {
            row(&format!("after {after:?}"), json!({ "after": after }), bad("after"));
        }
        if list != "users" {
            row("a cursor of users", json!({ "after": world.user_cursor }), bad("after"));
        }
        row("first past 2^31 - 1", json!({ "first": 2_147_483_648_u32 }), request_error("BAD_USER_INPUT"));
        row("a text for first", json!({ "first": "1" }), request_error("BAD_USER_INPUT"));
        row("a number for after", json!({ "after": 1 }), request_error("BAD_USER_INPUT"));
    }
    let mine = "query($first: Int, $after: Cursor) { me { orders(first: $first, after: $after) { totalCount } } }";
    rows.push(Row::post("me.orders: first 0", customer, mine, json!({ "first": 0 }), bad("first")));
    rows.push(Row::post(
        "me.orders: a cursor of users",
        customer,
        mine,
        json!({ "after": world.user_cursor }),
        bad("after"),
    ));

    let products =
        "query($where: ProductWhere, $sort: ProductSort) { products(where: $where, sort: $sort) { totalCount } }";
    let money = |minor: Value, currency: &str| json!({ "minorUnits": minor, "currency": currency });
    for (name, filter, expected) in [
        ("NUL in search", json!({ "search": "a\0" }), bad("where.search")),
        ("tab in search", json!({ "search": "a\tb" }), bad("where.search")),
        ("search of 5,001", json!({ "search": "a".repeat(5_001) }), bad("where.search")),
        ("NUL in category", json!({ "category": ["Tests", "\0"] }), bad("where.category")),
        ("another currency from", json!({ "minPrice": money(json!(1), "USD") }), bad("where.minPrice.currency")),
        ("another currency to", json!({ "maxPrice": money(json!(1), "USD") }), bad("where.maxPrice.currency")),
        ("price past 2^63 - 1", json!({ "maxPrice": money(json!(u64::MAX), "EUR") }), request_error("BAD_USER_INPUT")),
        ("a text for inStock", json!({ "inStock": "yes" }), request_error("BAD_USER_INPUT")),
        ("an unknown filter", json!({ "colour": "red" }), request_error("BAD_USER_INPUT")),
        ("a null category", json!({ "category": [null] }), request_error("BAD_USER_INPUT")),
    ] {
        rows.push(Row::post(&format!("products: {name}"), None, products, json!({ "where": filter }), expected));
    }
    rows.push(Row::post(
        "products: unknown sort",
        None,
        products,
        json!({ "sort": "CHEAP" }),
        request_error("BAD_USER_INPUT"),
    ));

    let orders = "query($where: OrderWhere) { orders(where: $where) { totalCount } }";
    for (name, filter, expected) in [
        ("NUL in the number", json!({ "number": "\0" }), bad("where.number")),
        ("unknown status", json!({ "status": ["LOST"] }), request_error("BAD_USER_INPUT")),
        ("no time", json!({ "placedAfter": "noon" }), request_error("BAD_USER_INPUT")),
        ("an impossible day", json!({ "placedBefore": "2026-02-30T00:00:00Z" }), request_error("BAD_USER_INPUT")),
        ("a number for a time", json!({ "placedAfter": 0 }), request_error("BAD_USER_INPUT")),
    ] {
        rows.push(Row::post(&format!("orders: {name}"), staff, orders, json!({ "where": filter }), expected));
    }
    let users = "query($search: String) { users(search: $search) { totalCount } }";
    rows.push(Row::post("users: NUL in search", staff, users, json!({ "search": "\0" }), bad("search")));
    rows.push(Row::post("users: search of 301", staff, users, json!({ "search": "a".repeat(301) }), bad("search")));
    let letters = "query($source: String) { deadLetters(source: $source) { totalCount } }";
    rows.push(Row::post("deadLetters: NUL in source", staff, letters, json!({ "source": "\0" }), bad("source")));
    rows.push(Row::post(
        "deadLetters: source of 101",
        staff,
        letters,
        json!({ "source": "a".repeat(101) }),
        bad("source"),
    ));
    for field in [
        "users { totalCount }",
        "orders { totalCount }",
        "campaigns { totalCount }",
        "deadLetters { totalCount }",
        "supervision { name }",
    ] {
        let query = format!("{{ {field} }}");
        rows.push(Row::post(
            &format!("{field}: anonymous"),
            None,
            &query,
            json!({}),
            field_error("UNAUTHENTICATED", ""),
        ));
        rows.push(Row::post(&format!("{field}: customer"), customer, &query, json!({}), field_error("FORBIDDEN", "")));
    }
    // What only looks dangerous.
    for text in ["'; DROP TABLE products; --", "\" OR 1=1", "*", "a* NOT b", "NEAR(", "%_", "\u{202e}"] {
        let query = "query($text: String) { products(where: { search: $text }) { nodes { id } } me { id } }";
        rows.push(Row::post(
            &format!("products: search {text:?}"),
            None,
            query,
            json!({ "text": text }),
            is_null("me"),
        ));
    }
    world.judge(&rows).await;
}
