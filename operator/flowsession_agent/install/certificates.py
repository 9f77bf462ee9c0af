"""The certificates that the tools trust if the installer's settings have some: these and the system's."""

from __future__ import annotations

import importlib.util
import os
import ssl

SYSTEM = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
OF_PIP = os.path.join("_vendor", "certifi", "cacert.pem")


def bundle(own: str) -> str:
    """Return `own` and the system's certificates as PEM. They replace a tool's defaults, and a private feed is rarely the only index."""
    return f"{_of_the_system().rstrip()}\n{own}".lstrip()


def _of_the_system() -> str:
    """Return OpenSSL's certificates, or else the Linux distribution's, or pip's; empty if the image has none of them."""
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
