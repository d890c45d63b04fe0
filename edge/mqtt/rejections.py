"""Why there is no connection, in words that say what to correct.

They end up in one line of the log that the operator reads beside the configuration; they never hold a secret.
"""

import ssl

from edge.mqtt.link import LinkError, LinkSettings, Tls

CONNECT_TIMEOUT_S = 10.0
"""For reaching the broker with the TLS handshake, and again for CONNACK."""


class RejectedError(LinkError):
    """The broker, or our configuration, rejects this connection; the text says what to correct."""


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Read the files anew, so that a corrected one counts at the next attempt."""
    for key, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        if path is not None and not path.is_file():
            raise RejectedError(f"there is no file {path}: correct mqtt.tls.{key}")
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except ssl.SSLError as error:
        raise RejectedError(f"mqtt.tls.ca, cert and key must be PEM files that fit ({error})") from error
    return context


def refusal(code: int, name: str, settings: LinkSettings) -> RejectedError:
    """A CONNACK that says no, in words that help; codes are MQTT 5's."""
    match code:
        case 0x86 | 0x87:
            remedy = "correct mqtt.username and mqtt.password_file, or the broker's password file"
        case 0x84:
            remedy = 'set mqtt.protocol to the other of "5" and "3.1.1"'
        case 0x85:
            remedy = f"permit the client identifier {settings.client_id!r} in the broker"
        case _:
            remedy = "its log says why"
    return RejectedError(f"the broker refuses the connection ({name}): {remedy}")


def advice(error: Exception, settings: LinkSettings) -> str:
    """What the operator reads when an attempt failed."""
    where = f"the broker at {settings.host}:{settings.port}"
    match error:
        case RejectedError():
            return f"no connection to {where}: {error}"
        case TimeoutError():
            return (
                f"{where} does not answer ({CONNECT_TIMEOUT_S:.0f} s): check mqtt.host, mqtt.port, mqtt.tls"
            )
        case ssl.SSLError():
            return f"no TLS with {where} ({error}): check mqtt.tls.ca and the broker's certificate"
        case _:
            return f"cannot reach {where} ({error}): start it, or correct mqtt.host and mqtt.port"
