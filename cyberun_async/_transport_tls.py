"""
TLS contexts. The default one is shared by all clients of the process.

Loading the certificate authorities takes some 30 ms and half a megabyte, which
is too much for one disposable transport per stream. The shared context is the
one permitted module-level state: it never changes once it is made.
"""

import functools
import ssl
from pathlib import Path

import httpx

from ._errors import ConfigurationError
from ._redaction import shown


@functools.cache
def shared_context() -> ssl.SSLContext:
    """Return the process' context; SSL_CERT_FILE and SSL_CERT_DIR are read at the first call."""
    return httpx.create_ssl_context()


def context_for(verify: bool | ssl.SSLContext | str) -> ssl.SSLContext:
    """
    Return the context that *verify* stands for.

    Args:
        verify:
            True is the shared context, False one that verifies nothing, a path one that
            trusts the authorities of this file or folder only, a context is itself.

    Raises:
        ConfigurationError: The file does not exist, or holds no authority.
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    if isinstance(verify, str):
        return _trusting(verify)
    return shared_context() if verify else httpx.create_ssl_context(verify=False)


def _trusting(path: str) -> ssl.SSLContext:
    try:
        if Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = type(error).__name__
        raise ConfigurationError(
            f"verify names no file of certificates that can be read: {shown(path)} ({why})"
        ) from error
