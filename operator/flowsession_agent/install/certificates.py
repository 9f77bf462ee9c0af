"""The certificates that the tools trust where the installer's settings bring some: these, beside those of the system."""

from __future__ import annotations

import importlib.util
import os
import ssl

SYSTEM = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
OF_PIP = os.path.join("_vendor", "certifi", "cacert.pem")


def bundle(own: str) -> str:
    """PEM: the tools take one file in place of all that they would trust otherwise, and a private feed is mostly not the only index."""
    return f"{_of_the_system().rstrip()}\n{own}".lstrip()


def _of_the_system() -> str:
    """Return what OpenSSL goes by, or the distribution, or pip; empty where the image has none of them."""
    for path in (ssl.get_default_verify_paths().cafile, *SYSTEM, _of_pip()):
        try:
            with open(path or "", encoding="utf-8") as file:
                return file.read()
        except (OSError, UnicodeDecodeError):
            continue
    return ""


def _of_pip() -> str:
    found = importlib.util.find_spec("pip")
    return os.path.join(os.path.dirname(found.origin), OF_PIP) if found and found.origin else ""
