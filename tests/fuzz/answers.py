"""What is wrong with an answer: against the schema, the GraphQL specification and GraphQL over HTTP."""

import re

import graphql

CODES = {
    "GRAPHQL_PARSE_FAILED",
    "GRAPHQL_VALIDATION_FAILED",
    "BAD_USER_INPUT",
    "QUERY_TOO_COMPLEX",
    "UNAUTHENTICATED",
    "FORBIDDEN",
    "RATE_LIMITED",
    "BUSY",
    "UNAVAILABLE",
    "TIMEOUT",
    "INTERNAL_SERVER_ERROR",
}


def _integer(bits):
    return lambda value: type(value) is int and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)


def _text(pattern):
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


SCALARS = {
    "Boolean": lambda value: isinstance(value, bool),
    "CurrencyCode": _text("[A-Z]{3}"),
    "Cursor": _text(r"\S+"),
    "DateTime": _text(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    "Decimal": _text(r"-?\d+(\.\d+)?"),
    "Float": lambda value: type(value) in (int, float),
    "ID": _text(r"\S+"),
    "Int": _integer(32),
    "Long": _integer(64),
    "String": lambda value: isinstance(value, str),
}


def violations(schema, document, status, payload, refusal_is_due=False):
    """All that is wrong, as sentences; `refusal_is_due`: the document breaks the schema, and must not be executed."""
    if not isinstance(payload, dict):
        return [f"not an object: {payload!r}"]
    found = [f"unknown key {key!r}" for key in payload if key not in ("data", "errors", "extensions")]
    if status >= 500:
        found.append(f"status {status}")
    errors = payload.get("errors", [])
    if "errors" in payload and not errors:
        found.append("`errors` is empty")
    for error in errors:
        found += _of_error(error, payload)
    codes = {error.get("extensions", {}).get("code") for error in errors if isinstance(error, dict)}
    if "data" not in payload:
        if not errors:
            found.append("neither data nor errors")
        if not 400 <= status < 500:
            found.append(f"status {status} for a request error")
        if not refusal_is_due:
            found += [f"a valid document has the error {code}" for code in codes if code and code.startswith("GRAPHQL_")]
        return found
    if refusal_is_due:
        found.append("a document that breaks the schema was executed")
    if status != 200:
        found.append(f"status {status} with data")
    operation = next(node for node in document.definitions if isinstance(node, graphql.OperationDefinitionNode))
    root = schema.get_root_type(operation.operation)
    if payload["data"] is None:
        if not errors:
            found.append("data is null without an error")
    else:
        found += _of_object(schema, root, [operation.selection_set], payload["data"], "data")
    return found


def _of_error(error, payload):
    if not isinstance(error, dict) or not isinstance(error.get("message"), str) or not error["message"]:
        return [f"an error without a message: {error!r}"]
    found = []
    code = error.get("extensions", {}).get("code")
    if code not in CODES:
        found.append(f"unknown error code {code!r}")
    if code == "INTERNAL_SERVER_ERROR":
        found.append("INTERNAL_SERVER_ERROR")
    if "data" not in payload:
        return found
    if not isinstance(error.get("path"), list):
        return [*found, "an error of the execution without a path"]
    place = payload["data"]
    for step in error["path"]:
        if place is None:
            break
        try:
            place = place[step]
        except (KeyError, IndexError, TypeError):
            return [*found, f"the error's path {error['path']} leads nowhere"]
    if place is not None:
        found.append(f"not null at the error's path {error['path']}")
    return found


def _collect(schema, type_, selection_sets, fields):
    """The fields of an object of this type by their response names."""
    for selection in (selection for selections in selection_sets for selection in selections.selections):
        if isinstance(selection, graphql.FieldNode):
            name = (selection.alias or selection.name).value
            fields.setdefault(name, []).append(selection)
        elif isinstance(selection, graphql.InlineFragmentNode):
            condition = selection.type_condition and schema.get_type(selection.type_condition.name.value)
            if condition in (None, type_) or (
                graphql.is_abstract_type(condition) and schema.is_sub_type(condition, type_)
            ):
                _collect(schema, type_, [selection.selection_set], fields)
        else:
            raise ValueError("schemathesis makes no named fragments")
    return fields


def _of_object(schema, type_, selection_sets, value, path):
    if not isinstance(value, dict):
        return [f"{path} is no object: {value!r}"]
    if graphql.is_abstract_type(type_):
        # Whoever sends the documents asks for the type wherever it is not known.
        concrete = schema.get_type(value.get("__typename", ""))
        if not graphql.is_object_type(concrete) or not schema.is_sub_type(type_, concrete):
            return [f"{path} is a {value.get('__typename')!r}, which is no {type_}"]
        type_ = concrete
    fields = _collect(schema, type_, selection_sets, {})
    # Not their order: a field that takes longer comes later.
    if fields.keys() != value.keys():
        return [f"{path} has the keys {list(value)} and not {list(fields)}"]
    found = []
    for name, nodes in fields.items():
        field = nodes[0].name.value
        if field == "__typename":
            found += [] if value[name] == type_.name else [f"{path}.{name} is {value[name]!r} and not {type_}"]
            continue
        inside = [node.selection_set for node in nodes if node.selection_set]
        found += _of_value(schema, type_.fields[field].type, inside, value[name], f"{path}.{name}")
    return found


def _of_value(schema, type_, inside, value, path):
    if graphql.is_non_null_type(type_):
        if value is None:
            return [f"{path} is null, and {type_}"]
        type_ = type_.of_type
    if value is None:
        return []
    if graphql.is_list_type(type_):
        if not isinstance(value, list):
            return [f"{path} is no list: {value!r}"]
        items = (_of_value(schema, type_.of_type, inside, item, f"{path}.{at}") for at, item in enumerate(value))
        return [violation for item in items for violation in item]
    if graphql.is_enum_type(type_):
        return [] if value in type_.values else [f"{path} is {value!r}, which is no {type_}"]
    if graphql.is_scalar_type(type_):
        return [] if SCALARS[type_.name](value) else [f"{path} is {value!r}, which is no {type_}"]
    return _of_object(schema, type_, inside, value, path)
