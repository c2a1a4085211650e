"""Real proxies as child processes: found, configured, started, struck and ended."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import types
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import attrs
import pytest


_PATIENCE: Final = 10.0
_SYSTEM: Final = "/usr/sbin:/usr/bin:/sbin:/bin"


def found(name: str) -> str:
    """Return the path of a program, or skip the test and say why."""
    path = shutil.which(name) or shutil.which(name, path=_SYSTEM)
    if path is None:
        pytest.skip(f"{name} is not installed; on Debian: apt-get install {name}")
    return path


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port: int = line.getsockname()[1]
        return port


@attrs.define(eq=False)
class Program:
    """One proxy, in a process group of its own."""

    command: Sequence[str]
    port: int
    log: Path
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, and return once it accepts connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, start_new_session=True, cwd=self.log.parent
            )
        ends = time.monotonic() + _PATIENCE
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > ends:
                message = f"{self.command[0]} does not serve:\n{self.log.read_text('utf-8')}"
                raise RuntimeError(message)
            time.sleep(0.02)

    def _accepts(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def send(self, number: int) -> None:
        """Send its main process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill_workers(self) -> int:
        """End the processes that it started with SIGKILL, and return how many there were."""
        assert self._process is not None
        children = list(_children(self._process.pid))
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return len(children)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_PATIENCE)

    def restart(self, seconds: float, number: int = signal.SIGKILL) -> None:
        """Be gone for so long."""
        self.stop(number)
        time.sleep(seconds)
        self.start()


def _children(parent: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, which may hold anything, stands in brackets.
            fields = path.read_text("utf-8").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                yield int(path.parent.name)


class Place:
    """A folder that a proxy may use under any user, and the programs started there."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cyberun-proxies-")
        self.folder = Path(self._folder.name)
        self._programs: list[Program] = []

    def __enter__(self) -> Self:
        self.folder.chmod(0o777)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        for program in self._programs:
            program.stop()
        self._folder.cleanup()

    def write(self, name: str, text: str) -> Path:
        """Write a file that everybody may read."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        path.chmod(0o644)
        return path

    def run(self, port: int, *command: str) -> Program:
        """Start a program that listens on *port*."""
        program = Program(command, port, self.folder / "output.log")
        self._programs.append(program)
        program.start()
        return program


# nginx, haproxy: reverse proxies.

_NGINX: Final = """\
{user}
worker_processes 2;
worker_shutdown_timeout 1s;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        location / {{
            {location}
            proxy_pass http://127.0.0.1:{target};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


def nginx(
    place: Place, target: int, files: tuple[Path, Path], *, location: str = "", http: str = ""
) -> Program:
    """Start nginx with TLS before a plain service."""
    path, port = found("nginx"), free_port()
    chain, key = files
    config = _NGINX.format(
        user="user root;" if os.geteuid() == 0 else "",
        folder=place.folder,
        port=port,
        target=target,
        chain=chain,
        key=key,
        location=location,
        http=http,
    )
    file = place.write("nginx.conf", config)
    folder = str(place.folder)
    return place.run(
        port, path, "-p", folder, "-c", str(file), "-e", f"{folder}/e.log", "-g", "daemon off;"
    )


_HAPROXY: Final = """\
global
    maxconn 500
defaults
    timeout connect 2s
    timeout client {idle}
    timeout server {idle}
    timeout http-request 10s
listen front
    mode {mode}
    bind 127.0.0.1:{port} {tls}
    {rules}
    server back 127.0.0.1:{target}
"""


def haproxy(
    place: Place,
    target: int,
    *,
    mode: str,
    pem: Path | None = None,
    idle: str = "60s",
    rules: str = "",
) -> Program:
    """Start haproxy, which passes on bytes (`tcp`) or requests (`http`)."""
    path, port = found("haproxy"), free_port()
    config = _HAPROXY.format(
        idle=idle,
        mode=mode,
        port=port,
        target=target,
        rules=rules,
        tls="" if pem is None else f"ssl crt {pem}",
    )
    return place.run(port, path, "-db", "-f", str(place.write("haproxy.cfg", config)))


# squid, tinyproxy: forward proxies.

_SQUID: Final = """\
http_port 127.0.0.1:{port}
pid_filename {folder}/squid.pid
cache_log {folder}/cache.log
access_log none
cache deny all
pinger_enable off
netdb_filename none
shutdown_lifetime 0 seconds
connect_retries 0
connect_timeout 2 seconds
{rules}
http_access allow localhost
http_access deny all
"""
_SQUID_LOGIN: Final = """\
auth_param basic program {helper} {file}
acl known proxy_auth REQUIRED
http_access deny !known
"""


def squid(place: Place, *, password: str | None = None, rules: str = "") -> Program:
    """Start squid; with a password it wants it of the user `user`."""
    path, port = found("squid"), free_port()
    if password is not None:
        # Understood by the helper as it stands: crypt's MD5, made by openssl.
        salted = subprocess.check_output(["openssl", "passwd", "-apr1", password], text=True)
        users = place.write("users", f"user:{salted.strip()}\n")
        helper = "/usr/lib/squid/basic_ncsa_auth"
        rules += _SQUID_LOGIN.format(helper=helper, file=users)
    config = _SQUID.format(port=port, folder=place.folder, rules=rules)
    file = place.write("squid.conf", config)
    return place.run(port, path, "-N", "-f", str(file), "-n", f"t{port}")


_TINYPROXY: Final = """\
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 200
LogLevel Warning
DisableViaHeader Yes
{rules}
"""


def tinyproxy(place: Place, *, password: str | None = None, rules: str = "") -> Program:
    """Start tinyproxy; with a password it wants it of the user `user`."""
    path, port = found("tinyproxy"), free_port()
    if password is not None:
        rules += f"BasicAuth user {password}\n"
    file = place.write("tinyproxy.conf", _TINYPROXY.format(port=port, rules=rules))
    return place.run(port, path, "-d", "-c", str(file))
