"""The real binary on a folder of its own, with a mail server beside it, and accounts of every role."""

import collections
import contextlib
import itertools
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading

import requests
from aiosmtpd.controller import Controller

PASSWORD = "correct horse battery"
REFUSED = "refused"
SETTINGS = {
    "DEMO": "false",
    "ADMIN__LISTEN": "127.0.0.1:0",
    "AUTH__BCRYPT_COST": "4",
    "LIMITS__ENABLED": "false",
    "LOG__FORMAT": "json",
    "MAIL__KIND": "smtp",
    "NOTIFICATIONS__MAX_ATTEMPTS": "1",
}


class Mails:
    """Takes every mail and keeps its token, but for addresses that are refused for good: those mails become dead letters."""

    def __init__(self):
        # By the page of their links.
        self.tokens = collections.defaultdict(list)
        # The controller takes no port 0.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._server = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        if address.startswith(REFUSED):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, _server, _session, envelope):
        # A long line of quoted-printable text is broken by `=` at its end.
        text = envelope.content.decode().replace("=\r\n", "").replace("=3D", "=")
        for page, token in re.findall(r"/mail/(\w+)\?token=([\w.-]+)", text):
            self.tokens[page].append(token)
        return "250 ok"

    @contextlib.contextmanager
    def serving(self):
        self._server.start()
        try:
            yield self.port
        finally:
            self._server.stop()


class Shop:
    """A running shop. `admin` is an account that no case knows of."""

    def __init__(self, process, mails):
        self._process, self.mails = process, mails
        self._http = requests.Session()
        self._numbers = itertools.count(1)
        self.log = []
        self._url = self._address("souk ready: ")
        self._address("souk admin: ")
        threading.Thread(target=lambda: self.log.extend(process.stderr), daemon=True).start()

    def _address(self, before):
        line = self._process.stdout.readline().decode()
        if not line.startswith(before):
            raise SystemExit(f"the shop did not start: {line}{self._process.stderr.read().decode()}")
        return line.removeprefix(before).strip()

    def post(self, query, variables=None, account=None):
        """The status and the answer."""
        headers = {"Accept": "application/graphql-response+json"}
        if account:
            headers["Authorization"] = f"Bearer {account['accessToken']}"
        answer = self._http.post(self._url, json={"query": query, "variables": variables}, headers=headers, timeout=60)
        return answer.status_code, answer.json()

    def ask(self, query, variables=None, account=None):
        """The data of an answer that must have no errors."""
        _, payload = self.post(query, variables, account)
        if "errors" in payload:
            raise SystemExit(f"{query} is answered {payload}")
        return payload["data"]

    def unique(self, name):
        return f"{name}-{next(self._numbers)}"

    def sign_in(self, email):
        query = "mutation($i: SignInInput!) { signIn(input: $i) { session { accessToken refreshToken user { id email } } } }"
        return self.ask(query, {"i": {"email": email, "password": PASSWORD}})["signIn"]["session"]

    def account(self, role, name="user"):
        """A new account of a role, signed in."""
        email = f"{self.unique(name)}@test.example"
        query = "mutation($i: SignUpInput!) { signUp(input: $i) { session { accessToken refreshToken user { id email } } } }"
        preferences = {"promotions": True, "recommendations": True}
        account = {"email": email, "name": "A Name", "password": PASSWORD, "preferences": preferences}
        session = self.ask(query, {"i": account})["signUp"]["session"]
        if role == "customer":
            return session
        query = "mutation($id: ID!, $role: Role!) { userRoleUpdate(id: $id, role: $role) { userErrors { code } } }"
        self.ask(query, {"id": session["user"]["id"], "role": role.upper()}, self.admin)
        return self.sign_in(email)

    def harm(self):
        """What is wrong with the process: it has ended, something in it panicked or was restarted."""
        found = []
        if self._process.poll() is not None:
            return [f"the process ended with {self._process.returncode}"]
        found += [f"in the log: {line}" for line in map(bytes.decode, self.log) if "panicked" in line]
        actors = [self.ask(SUPERVISION, account=self.sign_in(ADMIN))["supervision"]]
        while actors:
            actor = actors.pop()
            actors += actor.get("children", [])
            if actor["restarts"] or actor["lastPanic"]:
                found.append(f"{actor['name']} was restarted {actor['restarts']} times: {actor['lastPanic']}")
        return found


ADMIN = "root@test.example"
SUPERVISION = """{ supervision { ...actor children { ...actor children { ...actor children { ...actor } } } } }
fragment actor on ActorStatus { name state restarts lastPanic }"""


@contextlib.contextmanager
def running(binary):
    """A shop on a temporary folder; gone at the end."""
    mails = Mails()
    with tempfile.TemporaryDirectory(prefix="souk-fuzz-") as folder, mails.serving() as port:
        own = {name: value for name, value in os.environ.items() if not name.startswith("SOUK__")}
        settings = {f"SOUK__{name}": value for name, value in SETTINGS.items()}
        settings["SOUK__MAIL__URI"] = f"smtp://127.0.0.1:{port}?tls=none"
        command = [str(pathlib.Path(binary).resolve()), "--data-dir", f"{folder}/data"]
        create = ["admin", "create", "--email", ADMIN, "--name", "Root", "--password-stdin"]
        options = {"cwd": folder, "env": own | settings}
        subprocess.run(command + create, input=PASSWORD.encode(), check=True, capture_output=True, **options)
        serve = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )
        try:
            shop = Shop(serve, mails)
            shop.admin = shop.sign_in(ADMIN)
            yield shop
        finally:
            serve.terminate()
            try:
                serve.wait(timeout=60)
            except subprocess.TimeoutExpired:
                serve.kill()
