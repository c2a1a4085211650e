"""
TLS contexts. The default one is shared by all clients of the process.

Loading the certificate authorities takes some 30 ms and half a megabyte, which
is too much for one disposable transport per stream. The shared context is the
one permitted module-level state: it never changes once it is made.
"""

import functools
import os
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx

from .._model import ConfigurationError, looks_secret, shown


_SHOWN_OF_PATH = 200


@functools.cache
def shared_context() -> ssl.SSLContext:
    """
    Return the process' context; SSL_CERT_FILE and SSL_CERT_DIR are read at the first call.

    Raises:
        ConfigurationError: One of them, or SSLKEYLOGFILE, names nothing that can be used.
    """
    bundle, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if bundle and not Path(bundle).is_file():
        raise _wrong("SSL_CERT_FILE", bundle, "there is no such file")
    # Without a word OpenSSL would trust nobody.
    if folders and not any(Path(one).is_dir() for one in folders.split(os.pathsep)):
        raise _wrong("SSL_CERT_DIR", folders, "there is no such folder")
    with _keys_can_be_logged():
        try:
            return httpx.create_ssl_context()
        except ssl.SSLError as error:
            raise _wrong("SSL_CERT_FILE", bundle or "", "it holds no certificate") from error


def reads_files(verify: bool | ssl.SSLContext | str) -> bool:
    """Return whether :func:`context_for` has files to read, which takes its time."""
    if isinstance(verify, str):
        return True
    return verify is True and not shared_context.cache_info().currsize


def context_for(verify: bool | ssl.SSLContext | str) -> ssl.SSLContext:
    """
    Return the context that *verify* stands for.

    Args:
        verify:
            True is the shared context, False one that verifies nothing, a path one that
            trusts the authorities of this file or folder only, a context is itself.

    Raises:
        ConfigurationError: The file, or one that the environment names, cannot be used.
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    if isinstance(verify, str):
        return _trusting(verify)
    return shared_context() if verify else httpx.create_ssl_context(verify=False)


def _trusting(path: str) -> ssl.SSLContext:
    with _keys_can_be_logged():
        try:
            if Path(path).is_dir():
                return ssl.create_default_context(capath=path)
            return ssl.create_default_context(cafile=path)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            if _is_of_key_log(error):
                raise
            why = type(error).__name__
            raise ConfigurationError(
                f"verify names no file of certificates that can be read: {_named(path)} ({why})"
            ) from error


@contextmanager
def _keys_can_be_logged() -> Generator[None]:
    try:
        yield
    except OSError as error:
        if not _is_of_key_log(error):
            raise
        why = error.strerror or type(error).__name__
        raise _wrong("SSLKEYLOGFILE", os.environ["SSLKEYLOGFILE"], why.lower()) from error


def _is_of_key_log(error: Exception) -> bool:
    # That of the certificates has no name of a file.
    named = os.environ.get("SSLKEYLOGFILE")
    return bool(named) and isinstance(error, OSError) and error.filename == named


def _named(path: str) -> str:
    # Paths are long, and their ends say most.
    return shown(path) if looks_secret(path) else ascii(path[-_SHOWN_OF_PATH:])


def _wrong(variable: str, value: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{variable} in the environment names {_named(value)}, but {why}; correct it or unset it"
    )
