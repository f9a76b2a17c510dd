//! What is refused before it is executed, each with something secret in it.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::walk::{SIGN_IN, User};
use crate::support::Client;

/// That cannot be parsed, or do not fit the schema.
pub fn documents(user: &User) -> Vec<String> {
    let User { email, password, token, refresh, .. } = user;
    vec![
        format!(
            "mutation {{ signIn(input: {{ email: \"{email}\", password: \"{password}\" }}) {{ session {{ accessToken }}"
        ),
        format!(
            "mutation {{ signIn(input: {{ email: \"{email}\", password: \"{password} }}) {{ session {{ id }} }} }}"
        ),
        format!("mutation {{ signIn(input: {{ email: \"{email}\", pass: \"{password}\" }}) {{ session {{ id }} }} }}"),
        format!(
            "mutation {{ signIn(input: {{ email: [\"{email}\"], password: {{ is: \"{password}\" }} }}) {{ nothing }} }}"
        ),
        format!("mutation {{ signIn(input: \"{password}\") {{ userErrors {{ code }} }} }}"),
        format!("mutation {{ tokenRefresh(refreshToken: [\"{refresh}\", 1]) {{ session {{ nothing }} }} }}"),
        format!("mutation {{ passwordReset(token: \"{token}\", newPassword: 5) {{ userErrors {{ code }} }} }}"),
        format!("{{ products(after: \"{token}\") {{ totalCount }} product(id: \"{email}\") {{ id }} }}"),
        format!("{{ users(first: \"{email}\") {{ totalCount }} }}"),
    ]
}

pub fn variables_of_a_sign_in(user: &User) -> Vec<Value> {
    let User { email, password, token, .. } = user;
    vec![
        json!({ "input": password }),
        json!({ "input": { "email": { "is": email }, "password": [password] } }),
        json!({ "input": { "email": format!("{email} {email}"), "password": password } }),
        json!({ "input": { "email": email, "password": password, "otp": token } }),
        json!({ "input": null, "and": [email, password] }),
    ]
}

/// Bodies, paths, queries and headers.
pub fn requests(user: &User, client: &Client) -> Vec<RequestBuilder> {
    let User { email, password, token, refresh, .. } = user;
    let (url, http) = (client.url("/graphql"), &client.http);
    let json_post = |body: String| http.post(&url).header("content-type", "application/json").body(body);
    let me = json!({ "query": "{ me { id } }" });
    let variables = json!({ "input": { "email": email, "password": password } }).to_string();
    vec![
        json_post(format!("{{ \"query\": \"{{ me {{ id }} }}\", \"variables\": \"{password}\" }}")),
        json_post(format!("{{ \"query\": [\"{password}\"], \"operationName\": {{ \"{email}\": 1 }} }}")),
        json_post(format!("\"{password}")),
        json_post(format!("{{ \"query\": \"{{ me {{ id }} }}\", \"operationName\": \"{token}\" }}")),
        http.post(&url).form(&[("password", password)]),
        http.get(&url).query(&[("query", SIGN_IN), ("variables", variables.as_str())]),
        http.get(client.url(&format!("/account/{email}?token={token}"))),
        http.get(client.url(&format!("/mail/{refresh}?token={token}"))),
        http.post(client.url(&format!("/mail/verify?token={refresh}"))),
        http.get(client.url(&format!("/graphql/{password}"))).bearer_auth(format!("{token}x")),
        http.post(&url).bearer_auth(format!("{token}x")).json(&me),
        http.post(&url).basic_auth(email, Some(password)).json(&me),
    ]
}
