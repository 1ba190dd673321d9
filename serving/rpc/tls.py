"""--ssl_config_file: TensorFlow Serving's SSLConfig, whose fields are PEM texts, not paths."""

import os
import ssl
import tempfile
from pathlib import Path

from jaxrt.errors import UsageError
from jaxrt.serving import textproto
from jaxrt.serving.rpc.messages import message


def read(path: Path) -> ssl.SSLContext:
    """The server's side of TLS with HTTP/2. Raises UsageError for what cannot be used."""
    where = f"--ssl_config_file {path}"
    text = textproto.read_text(path, want="an SSLConfig text proto", where=where)
    config = message("SSLConfig")()
    textproto.parse(text, config, where=where)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9113, 9.2
    context.set_alpn_protocols(["h2"])
    try:
        _identify(context, config.server_cert, config.server_key)
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(
            f"{where}: server_key and server_cert are not a key and its certificate ({error}); "
            "want the texts of PEM files"
        ) from None
    try:
        if config.custom_ca:
            context.load_verify_locations(cadata=config.custom_ca)
        elif config.client_verify:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"{where}: custom_ca is no certificate ({error}); want PEM text") from None
    if config.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _identify(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL takes them from files alone: one that only this process's user can read, for now."""
    descriptor, name = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{key}\n{certificate}\n")
        context.load_cert_chain(name, password=_no_password)
    finally:
        os.unlink(name)


def _no_password() -> str:
    """Of an encrypted key: without it OpenSSL would ask on the terminal."""
    raise ValueError("the key is encrypted")
