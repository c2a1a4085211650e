"""The errors that the service answers with, and the two ways to end a connection."""

from starlette.responses import Response

from ..faults import message_body


class ServiceError(Exception):
    """The service's answer to a request it refuses."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def response(self) -> Response:
        """Return the answer."""
        body = message_body(self.message)
        return Response(body, self.status, media_type="application/json")


class StoreError(ServiceError):
    """The object store's answer to a request it refuses, in XML."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, message)
        self.code = code

    def response(self) -> Response:
        """Return the answer."""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>"
        )
        return Response(body, self.status, media_type="application/xml")


class ConnectionCutError(Exception):
    """The connection is to be cut here."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("the service cut the connection")
        self.reset = reset


class StreamEndError(Exception):
    """The stream is to be ended in good order here."""
