"""What there is in the shop: the objects that cases are about, and the values by which they get past the first check.

schemathesis makes up every value of a document. Most mutations end at the first of them, so many are replaced by one that
the shop knows, chosen by the name of the argument.
"""

import dataclasses
import re

import graphql
from hypothesis import strategies as st
from schemathesis import graphql as schemathesis_graphql
from schemathesis.graphql import nodes

from shop import ADMIN, PASSWORD, REFUSED

# Every second case has nothing but real values where there are any, of the others so many are.
REAL_SHARE = 0.5
CATEGORIES = ["Lamps", "Chairs"]

INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"

# What the names of the root fields begin with that are about such an object.
IDS_OF = {
    "apiKeys": ("apiKey",),
    "campaigns": ("campaign",),
    "confirmed": ("orderShip", "orderCancel"),
    "deadLetters": ("deadLetter",),
    "notifications": ("notification",),
    "orders": ("order",),
    "products": ("product", "stock", "recommendation"),
    "shipped": ("orderDeliver",),
    "users": ("user",),
}

# The tokens that a mutation takes, by the page of the link that brings them.
TOKENS_OF = {"emailVerify": "verify", "passwordReset": "reset", "unsubscribe": "unsubscribe"}

PRODUCT = "mutation($i: ProductCreateInput!) { productCreate(input: $i) { userErrors { code } } }"
ORDER = "mutation($i: OrderPlaceInput!) { orderPlace(input: $i) { order { id } userErrors { code } } }"
CAMPAIGN = "mutation($i: CampaignLaunchInput!) { campaignLaunch(input: $i) { userErrors { code } } }"
OWN = "{ me { notifications(first: 10) { nodes { id } } apiKeys { id } } }"
API_KEY = """mutation { apiKeyCreate(input: { name: "A key", scopes: [ORDERS_READ] }) { userErrors { code } } }"""
EVERYTHING = """{
  campaigns(first: 10) { nodes { id } edges { cursor } }
  deadLetters(first: 10) { nodes { id } edges { cursor } }
  confirmed: orders(first: 10, where: { status: [CONFIRMED] }) { nodes { id } edges { cursor } }
  shipped: orders(first: 10, where: { status: [SHIPPED] }) { nodes { id } edges { cursor } }
  orders(first: 10) { nodes { id number } edges { cursor } }
  products(first: 30) { nodes { id } edges { cursor } }
  users(first: 30) { nodes { id email } edges { cursor } }
}"""


def register_scalars():
    """What schemathesis cannot know of the schema's own scalars. (`Decimal` is no input.)"""
    instants = st.datetimes().map(lambda time: f"{time.isoformat()}Z") | st.text()
    strategies = {
        "CurrencyCode": st.sampled_from(["EUR", "USD", "JPY", "eur"]) | st.text(max_size=4),
        "Cursor": st.text(),
        "DateTime": instants,
    }
    for name, strategy in strategies.items():
        schemathesis_graphql.scalar(name, strategy.map(nodes.String))
    schemathesis_graphql.scalar("Long", (st.integers(0, 10_000) | st.integers(-(2**63), 2**63 - 1)).map(nodes.Int))


def know_scalars(schema):
    """Tells the schema what is a time, so that a document with another text breaks it."""

    def parse(node, _=None):
        if isinstance(node, graphql.StringValueNode) and re.fullmatch(INSTANT, node.value):
            return node.value
        raise graphql.GraphQLError("not a time")

    schema.get_type("DateTime").parse_literal = parse


class World:
    """The roles' accounts and the ids, cursors and tokens of the shop."""

    def __init__(self, shop, roles):
        self.shop = shop
        self.signed_in_anew = dict.fromkeys(roles, 0)
        for place in range(8):
            self._product(CATEGORIES[place % 2], 0 if place == 7 else 100_000)
        self.accounts = {"anonymous": None}
        self.accounts |= {role: self._with_orders(shop.account(role)) for role in roles if role != "anonymous"}
        self.replenish()

    def sign_in_anew(self, role):
        """A new account in place of one that was deleted, signed out, or has another role or password."""
        self.signed_in_anew[role] += 1
        self.accounts[role] = self._with_orders(self.shop.account(role))

    def replenish(self):
        """Orders, campaigns and dead letters are used up by the cases: there are new ones, and what there is is looked up."""
        shop = self.shop
        for account in filter(None, self.accounts.values()):
            shop.post(ORDER, self._order(), account)
            shop.post(API_KEY, account=account)
        shop.account("customer", REFUSED)
        stranger = shop.account("customer", "stranger")
        placed = shop.ask(ORDER, self._order(), stranger)["orderPlace"]["order"]
        shop.ask("mutation($id: ID!) { orderShip(id: $id) { userErrors { code } } }", placed, shop.admin)
        shop.ask("mutation($email: String!) { passwordResetRequest(email: $email) { accepted } }", stranger["user"])
        campaign = {"idempotencyKey": shop.unique("campaign"), "subject": "Lamps", "message": "Half price."}
        shop.ask(CAMPAIGN, {"i": campaign}, shop.admin)
        found = shop.ask(EVERYTHING, account=shop.admin)
        self.ids = {kind: [node["id"] for node in found[kind]["nodes"]] for kind in found}
        users = [user for user in found["users"]["nodes"] if user["email"] != ADMIN]
        self.ids["users"] = [user["id"] for user in users]
        self.emails = [user["email"] for user in users]
        self.numbers = [order["number"] for order in found["orders"]["nodes"]]
        self.cursors = {kind: [edge["cursor"] for edge in found[kind]["edges"][:5]] for kind in found}
        # A session that a case has ended has no answer.
        answers = [shop.post(OWN, account=account)[1].get("data") for account in self.accounts.values() if account]
        own = [answer["me"] for answer in answers if answer]
        self.ids["notifications"] = [node["id"] for me in own for node in me["notifications"]["nodes"]]
        self.ids["apiKeys"] = [key["id"] for me in own for key in me["apiKeys"]]

    def _product(self, category, available):
        product = {"sku": self.shop.unique("SKU"), "name": self.shop.unique("Lamp"), "category": category}
        product |= {"price": {"minorUnits": 1250, "currency": "EUR"}, "available": available}
        self.shop.ask(PRODUCT, {"i": product}, self.shop.admin)

    def _order(self):
        products = self.shop.ask("{ products(first: 8) { nodes { id } } }")["products"]["nodes"]
        lines = [{"productId": product["id"], "quantity": 1} for product in products[:2]]
        return {"i": {"idempotencyKey": self.shop.unique("key"), "lines": lines}}

    def _with_orders(self, account):
        for _ in range(2):
            self.shop.ask(ORDER, self._order(), account)
        return account

    def _ids(self, root, name):
        kinds = {"productId": ["products"], "productIds": ["products"], "customerId": ["users"]}.get(name)
        if kinds is None and root != "node":
            kinds = [kind for kind, names in IDS_OF.items() if root.startswith(names)]
        ids = [id_ for kind in kinds or self.ids for id_ in self.ids[kind]]
        # One that is well formed and of nobody is among them.
        return [*ids, ids[0][:-1] + ("1" if ids[0].endswith("0") else "0")] if ids else []

    def real(self, root, name):
        """Values for an argument or a field of an input, by its name and the root field that it is below."""
        if name in ("id", "ids", "productId", "productIds", "customerId"):
            return self._ids(root, name)
        if name == "refreshToken":
            return [account["refreshToken"] for account in self.accounts.values() if account]
        values = {
            # Of another list or filter a cursor is wrong too.
            "after": self.cursors.get(root, self.cursors["orders"]),
            "available": [0, 1, 1000],
            "category": [*CATEGORIES, "Tables"],
            "currency": ["EUR"],
            "currentPassword": [PASSWORD],
            "description": ["Bright."],
            "delta": [-1, 1, 100],
            "email": [*self.emails[:6], *[f"{self.shop.unique('fuzz')}@test.example"] * 3],
            "expectedVersion": [1, 2, 3],
            "expiresAt": ["2100-01-01T00:00:00Z"],
            "first": [1, 3, 20, 100],
            "idempotencyKey": ["one", "two", self.shop.unique("fuzz")],
            "message": ["Half price."],
            "minorUnits": [0, 1, 1250, 5000],
            "name": ["A Name", "Lamp"],
            "newPassword": [PASSWORD],
            "note": ["By post."],
            "number": self.numbers,
            "password": [PASSWORD],
            "placedAfter": ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00.5+01:00"],
            "placedBefore": ["2100-01-01T00:00:00Z"],
            "quantity": [1, 2, 3],
            "reason": ["Too big."],
            "search": ["lamp", "user", "a"],
            "sku": [self.shop.unique("FUZZ")],
            "source": ["notifications", "inventory"],
            "subject": ["Lamps"],
            "token": self.shop.mails.tokens[TOKENS_OF.get(root, "verify")][-5:],
            "waitMs": [0, 100],
        }
        return values.get(name, [])


TYPENAME = graphql.parse("{ __typename }").definitions[0].selection_set.selections
USER_ERRORS = graphql.parse("{ told: userErrors { __typename code } }").definitions[0].selection_set.selections


class _Real(graphql.Visitor):
    """Puts real values in place of made-up ones, and asks for the type where the schema leaves it open, and for user errors."""

    def __init__(self, types, values, chance):
        super().__init__()
        self.types, self.values, self.chance, self.root = types, values, chance, None
        self.only_real = chance.random() < 0.5

    def enter_field(self, node, *_):
        self.root = self.root or node.name.value

    def enter_selection_set(self, node, *_):
        parent = self.types.get_parent_type()
        if graphql.is_abstract_type(parent):
            return dataclasses.replace(node, selections=(*TYPENAME, *node.selections))
        if "userErrors" in getattr(parent, "fields", {}):
            return dataclasses.replace(node, selections=(*USER_ERRORS, *node.selections))
        return None

    def enter_argument(self, node, *_):
        values = self.values(self.root, node.name.value)
        if values and (self.only_real or self.chance.random() < REAL_SHARE):
            if graphql.is_list_type(graphql.get_nullable_type(self.types.get_input_type())):
                values = [self.chance.choices(values, k=self.chance.randint(1, 3))]
            return dataclasses.replace(node, value=_literal(self.chance.choice(values)))
        return None

    enter_object_field = enter_argument


def _literal(value):
    if isinstance(value, list):
        return nodes.List([_literal(item) for item in value])
    return nodes.Int(value) if isinstance(value, int) else nodes.String(value)


def with_real_values(schema, document, world, chance):
    """The document, in which what could be real sometimes is."""
    types = graphql.TypeInfo(schema)
    return graphql.visit(document, graphql.TypeInfoVisitor(types, _Real(types, world.real, chance)))


def with_variables(schema, document):
    """The document with the arguments of its root field as variables, and their values."""
    [operation] = document.definitions
    [root] = operation.selection_set.selections
    field = schema.get_root_type(operation.operation).fields[root.name.value]
    arguments, definitions, values = [], [], {}
    for argument in root.arguments or ():
        name = argument.name.value
        values[name] = graphql.value_from_ast_untyped(argument.value)
        variable = graphql.VariableNode(name=graphql.NameNode(value=name))
        arguments.append(dataclasses.replace(argument, value=variable))
        type_ = graphql.parse_type(str(field.args[name].type))
        definitions.append(graphql.VariableDefinitionNode(variable=variable, type=type_, directives=()))
    root = dataclasses.replace(root, arguments=tuple(arguments))
    selection_set = dataclasses.replace(operation.selection_set, selections=(root,))
    operation = dataclasses.replace(operation, variable_definitions=tuple(definitions), selection_set=selection_set)
    return dataclasses.replace(document, definitions=(operation,)), values
