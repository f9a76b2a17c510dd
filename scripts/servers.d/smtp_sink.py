"""smtp_sink.py PORT FOLDER: an SMTP server that keeps each mail as FOLDER/mails/NUMBER.eml.

The header `X-Sink` before each says how it came: `TLSv1.3 souk`, or `plain nobody`. STARTTLS with FOLDER/certificate.pem
and FOLDER/key.pem; sign-in as souk, password souk; neither is required. The recipient's local part asks for a reply to
RCPT: `421...`, `450...`, `550...` and the like, or `stall...` for one that never comes; `drop...` closes the connection
in the middle of DATA.
"""

import asyncio
import pathlib
import re
import signal
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
mails = folder / "mails"


class Sink:
    kept = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        asked = re.match(r"[45]\d\d", address)
        if asked:
            return f"{asked[0]} as asked"
        if address.startswith("stall"):
            await asyncio.Event().wait()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if any(address.startswith("drop") for address in envelope.rcpt_tos):
            server.transport.abort()
            return "451 dropped"
        Sink.kept += 1
        half = mails / f".{Sink.kept}"
        tls = session.ssl["cipher"][1] if session.ssl else "plain"
        user = session.login_data.decode() if session.authenticated else "nobody"
        half.write_bytes(f"X-Sink: {tls} {user}\r\n".encode() + envelope.content)
        half.rename(mails / f"{Sink.kept}.eml")
        return "250 OK"


def sign_in(server, session, envelope, mechanism, data):
    known = (data.login, data.password) == (b"souk", b"souk")
    return AuthResult(success=known, handled=False, auth_data=data)


async def main():
    mails.mkdir(exist_ok=True)
    Sink.kept = max((int(mail.stem) for mail in mails.glob("*.eml")), default=0)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    loop = asyncio.get_running_loop()
    sink = Sink()

    def connection():
        return SMTP(sink, hostname="localhost", tls_context=tls, authenticator=sign_in, loop=loop)

    server = await loop.create_server(connection, "127.0.0.1", port)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


asyncio.run(main())
