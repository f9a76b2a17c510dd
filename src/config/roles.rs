//! What a process does: all roles, or some of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a process does besides running the group `dead-letters`, which every process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Gateway,
    Inventory,
    Orders,
    Recommendations,
    Notifications,
    Campaigns,
}

impl Role {
    pub const ALL: [Self; 6] =
        [Self::Gateway, Self::Inventory, Self::Orders, Self::Recommendations, Self::Notifications, Self::Campaigns];

    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Inventory => "inventory",
            Self::Orders => "orders",
            Self::Recommendations => "recommendations",
            Self::Notifications => "notifications",
            Self::Campaigns => "campaigns",
        }
    }
}

/// The roles of a process, written as a list: `["all"]`, or some of the names of [`Role`]. All six named one by one are
/// the same as `all`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    pub fn all() -> Self {
        Self(Role::ALL.into())
    }

    pub fn is_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }

    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    pub fn iter(&self) -> impl Iterator<Item = Role> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().collect())
    }
}

impl TryFrom<Vec<String>> for Roles {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Self, Self::Error> {
        if names.is_empty() {
            return Err("a process without a role does nothing".into());
        }
        if names == ["all"] {
            return Ok(Self::all());
        }
        names
            .iter()
            .map(|name| match Role::ALL.into_iter().find(|role| role.name() == name) {
                Some(role) => Ok(role),
                None if name == "all" => Err("`all` stands alone".to_owned()),
                None => Err(format!("there is no role `{name}`")),
            })
            .collect()
    }
}

impl From<Roles> for Vec<String> {
    fn from(roles: Roles) -> Self {
        if roles.is_all() { vec!["all".into()] } else { roles.iter().map(|role| role.name().into()).collect() }
    }
}
