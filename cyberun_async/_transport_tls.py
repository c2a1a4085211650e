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
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    if isinstance(verify, str):
        if Path(verify).is_dir():
            return ssl.create_default_context(capath=verify)
        return ssl.create_default_context(cafile=verify)
    return shared_context() if verify else httpx.create_ssl_context(verify=False)
