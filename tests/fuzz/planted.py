"""Answers that are wrong in one way each: what finds nothing in them would find nothing in a shop's."""

import graphql

from answers import violations

PRODUCT = "{ node(id: 1) { __typename id ... on Product { name available price { minorUnits currency } } } }"
RIGHT = {
    "__typename": "Product",
    "id": "prd_1",
    "name": "Lamp",
    "available": 3,
    "price": {"minorUnits": 5, "currency": "EUR"},
}
ORDER = "{ order(id: 1) { status createdAt timeline { sequence } } }"
RIGHT_ORDER = {"status": "PENDING", "createdAt": "2026-01-01T00:00:00.000Z", "timeline": [{"sequence": 1}]}


def _error(code, **more):
    return {"message": "no", "extensions": {"code": code}, **more}


WRONG = [
    # A document, a status and an answer.
    (PRODUCT, 200, {"data": {"node": {**RIGHT, "name": None}}}),
    (PRODUCT, 200, {"data": {"node": {**RIGHT, "available": 2**31}}}),
    (PRODUCT, 200, {"data": {"node": {**RIGHT, "available": True}}}),
    (PRODUCT, 200, {"data": {"node": {**RIGHT, "secret": 1}}}),
    (PRODUCT, 200, {"data": {"node": {key: RIGHT[key] for key in ("__typename", "id")}}}),
    (PRODUCT, 200, {"data": {"node": {**RIGHT, "__typename": "Money"}}}),
    (PRODUCT, 200, {"data": {"node": {**RIGHT, "price": {"minorUnits": "5", "currency": "EUR"}}}}),
    (PRODUCT, 200, {"data": {"node": {**RIGHT, "price": {"minorUnits": 5, "currency": "euro"}}}}),
    (PRODUCT, 200, {"data": {"node": [RIGHT]}}),
    (PRODUCT, 200, {"data": {}}),
    (PRODUCT, 200, {"data": None}),
    (PRODUCT, 500, {"data": {"node": RIGHT}}),
    (PRODUCT, 400, {"data": {"node": RIGHT}}),
    (PRODUCT, 200, {"data": {"node": RIGHT}, "status": "ok"}),
    (PRODUCT, 200, {"data": {"node": RIGHT}, "errors": []}),
    (PRODUCT, 200, {"data": {"node": None}, "errors": [_error("INTERNAL_SERVER_ERROR", path=["node"])]}),
    (PRODUCT, 200, {"data": {"node": None}, "errors": [_error("OOPS", path=["node"])]}),
    (PRODUCT, 200, {"data": {"node": None}, "errors": [_error("FORBIDDEN")]}),
    (PRODUCT, 200, {"data": {"node": RIGHT}, "errors": [_error("FORBIDDEN", path=["node", "name"])]}),
    (PRODUCT, 200, {"data": {"node": RIGHT}, "errors": [_error("FORBIDDEN", path=["node", "lines", 0])]}),
    (PRODUCT, 200, {"errors": [_error("BAD_USER_INPUT")]}),
    (PRODUCT, 400, {"errors": [_error("GRAPHQL_VALIDATION_FAILED")]}),
    (PRODUCT, 400, {"errors": [{"extensions": {"code": "BAD_USER_INPUT"}}]}),
    (PRODUCT, 400, {}),
    (PRODUCT, 200, ["data"]),
    (ORDER, 200, {"data": {"order": {**RIGHT_ORDER, "status": "LOST"}}}),
    (ORDER, 200, {"data": {"order": {**RIGHT_ORDER, "createdAt": "yesterday"}}}),
    (ORDER, 200, {"data": {"order": {**RIGHT_ORDER, "timeline": [None]}}}),
    (ORDER, 200, {"data": {"order": {**RIGHT_ORDER, "timeline": {"sequence": 1}}}}),
]

RIGHT_ONES = [
    (PRODUCT, 200, {"data": {"node": RIGHT}}),
    (PRODUCT, 200, {"data": {"node": None}}),
    (PRODUCT, 200, {"data": {"node": None}, "errors": [_error("FORBIDDEN", path=["node", "name"])]}),
    (PRODUCT, 400, {"errors": [_error("BAD_USER_INPUT")], "extensions": {}}),
    (ORDER, 200, {"data": {"order": RIGHT_ORDER}}),
]


def check(schema):
    """Fails unless every planted violation is found, and nothing where there is none."""
    for query, status, payload in RIGHT_ONES:
        found = violations(schema, graphql.parse(query), status, payload)
        assert not found, f"{found} in the right answer {payload}"
    for query, status, payload in WRONG:
        assert violations(schema, graphql.parse(query), status, payload), f"nothing is found in {payload}"
    refused = violations(schema, graphql.parse(PRODUCT), 200, {"data": {"node": None}}, refusal_is_due=True)
    assert refused, "nothing is found where a document that breaks the schema is executed"
    return len(WRONG) + 1
