"""Cases that schemathesis generates from the schema, for every operation as every role, against the real binary.

No answer may be a server error, panic or restart an actor, or say what the schema does not allow. `scripts/fuzz` runs this.
"""

import argparse
import collections
import json
import pathlib
import random
import sys
import time

import graphql
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.generation import GenerationMode

import planted
import shop
from answers import violations
from world import World, know_scalars, register_scalars, with_real_values, with_variables

ROLES = ("anonymous", "customer", "staff", "admin")
SCHEMA = pathlib.Path(__file__).parents[2] / "schema.graphql"
# So many cases are sent until there is new material for them.
REPLENISH_EVERY = 250
# So many of the cases that fit the schema send their arguments as variables.
VARIABLES_SHARE = 0.3
# Of so many cases one breaks the schema.
NEGATIVE_SHARE = 5
SHOWN_FAILURES = 10


class Run:
    """What is sent, and what is counted of it."""

    def __init__(self, running, schema, chosen_seed):
        self.shop, self.schema, self.seed = running, schema, chosen_seed
        self.world = World(running, ROLES)
        self.cases = collections.Counter()
        self.statuses, self.codes, self.user_errors, self.outcomes = (collections.Counter() for _ in range(4))
        self.failures = []

    def send(self, role, operation, text):
        number = self.cases.total()
        self.cases[role, operation.label] += 1
        if number and number % REPLENISH_EVERY == 0:
            self.world.replenish()
        chance = random.Random(f"{self.seed} {number}")
        document = graphql.parse(text)
        refusal_is_due = bool(graphql.validate(self.schema, document))
        variables = None
        if not refusal_is_due:
            document = with_real_values(self.schema, document, self.world, chance)
            if chance.random() < VARIABLES_SHARE:
                document, variables = with_variables(self.schema, document)
        query = graphql.print_ast(document)
        status, payload = self.shop.post(query, variables, self.world.accounts[role])
        if role != "anonymous" and "UNAUTHENTICATED" in _codes(payload):
            # An earlier case has ended the session. In a new one nothing may be answered so.
            self.world.sign_in_anew(role)
            status, payload = self.shop.post(query, variables, self.world.accounts[role])
        found = violations(self.schema, document, status, payload, refusal_is_due)
        if role != "anonymous" and "UNAUTHENTICATED" in _codes(payload):
            found.append("UNAUTHENTICATED in a new session")
        self._count(operation, status, payload)
        if found:
            self.failures.append((role, query, variables, payload, found))

    def _count(self, operation, status, payload):
        self.statuses[status] += 1
        self.codes.update(_codes(payload))
        told = [error["code"] for error in _user_errors(payload)]
        self.user_errors.update(told)
        outcome = "refused" if "data" not in payload else "errors" if "errors" in payload else "user errors" if told else "done"
        self.outcomes[operation.label, outcome] += 1


def _codes(payload):
    errors = payload.get("errors", []) if isinstance(payload, dict) else []
    return [error.get("extensions", {}).get("code") for error in errors if isinstance(error, dict)]


def _user_errors(payload):
    roots = (payload.get("data") or {}).values()
    return [error for root in roots if isinstance(root, dict) for error in root.get("told", [])]


def generated(operation, mode, count, chosen_seed):
    """Exactly so many documents, though an operation of few fields has few that differ."""
    documents = []
    while len(documents) < count:

        @seed(f"{chosen_seed} {operation.label} {mode} {len(documents)}")
        @settings(
            max_examples=count - len(documents),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def generate(case):
            documents.append(case.body)

        generate()
    return documents[:count]


def all_cases(operations, count, chosen_seed):
    """Role, operation and document of each case, in an order that follows from the seed."""
    cases = []
    for place, operation in enumerate(operations):
        # The first operations take what does not divide evenly.
        own = count // len(operations) + (place < count % len(operations))
        breaking = own // NEGATIVE_SHARE
        documents = generated(operation, GenerationMode.POSITIVE, own - breaking, chosen_seed)
        documents += generated(operation, GenerationMode.NEGATIVE, breaking, chosen_seed)
        random.Random(f"{chosen_seed} {operation.label}").shuffle(documents)
        cases += [(ROLES[at % len(ROLES)], operation, text) for at, text in enumerate(documents)]
    random.Random(chosen_seed).shuffle(cases)
    return cases


def report(run, operations, seconds, harm):
    print(f"\n{'operation':34}" + "".join(f"{role:>10}" for role in ROLES) + f"{'done':>8}{'user errors':>13}{'errors':>8}{'refused':>9}")
    for operation in operations:
        label = operation.label
        outcomes = [run.outcomes[label, outcome] for outcome in ("done", "user errors", "errors", "refused")]
        by_role = "".join(f"{run.cases[role, label]:10}" for role in ROLES)
        print(f"{label:34}{by_role}{outcomes[0]:8}{outcomes[1]:13}{outcomes[2]:8}{outcomes[3]:9}")
    totals = {role: sum(count for (own, _), count in run.cases.items() if own == role) for role in ROLES}
    print("roles: " + ", ".join(f"{role} {count:,}" for role, count in totals.items()))
    print("signed in anew: " + ", ".join(f"{role} {count}" for role, count in run.world.signed_in_anew.items()))
    print("statuses: " + ", ".join(f"{status} {count:,}" for status, count in sorted(run.statuses.items())))
    print("error codes: " + ", ".join(f"{code} {count:,}" for code, count in run.codes.most_common()))
    print("user error codes: " + ", ".join(f"{code} {count:,}" for code, count in run.user_errors.most_common()))
    for role, query, variables, payload, found in run.failures[:SHOWN_FAILURES]:
        print(f"\nFAILED as {role}: {'; '.join(found)}\n{query}\nvariables: {json.dumps(variables)}\n{json.dumps(payload)[:2000]}")
    for wound in harm:
        print(f"\nFAILED: {wound}")
    least = min(run.cases.values())
    print(
        f"\n{run.cases.total():,} cases with seed {run.seed}: {len(operations)} operations as {len(ROLES)} roles, each at least "
        f"{least} times; {len(run.failures)} wrong answers, {len(harm)} panics, restarts and ends; {seconds:.0f} s"
    )


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("cases", type=int)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--seed", type=int, required=True)
    options = arguments.parse_args()
    print(f"seed {options.seed}")
    register_scalars()
    generated_from = schemathesis.graphql.from_path(SCHEMA)
    schema = generated_from.client_schema
    know_scalars(schema)
    print(f"{planted.check(schema)} planted violations are found")
    operations = [operation.ok() for operation in generated_from.get_all_operations()]
    began = time.monotonic()
    cases = all_cases(operations, options.cases, options.seed)
    with shop.running(options.binary) as running:
        run = Run(running, schema, options.seed)
        for case in cases:
            run.send(*case)
        harm = running.harm()
    report(run, operations, time.monotonic() - began, harm)
    sys.exit(bool(run.failures or harm))


if __name__ == "__main__":
    main()
