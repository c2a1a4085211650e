"""
A slow and obvious reader of event streams, written from the HTML standard.

It takes the whole input at once, so it knows nothing of chunks, and walks through it
character by character and line by line, in the order and the words of the standard's
section "Interpreting an event stream". The real framing is compared with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    event: str
    data: str
    id: str
    retry: int | None


@dataclass
class Interpretation:
    messages: list[Message] = field(default_factory=list[Message])
    last_event_id: str = ""
    retry: int | None = None


def interpret(stream: bytes) -> Interpretation:
    """Return all that *stream* has said by its last byte."""
    result = Interpretation()
    data_buffer = ""
    event_type_buffer = ""
    last_event_id_buffer = ""
    retry_of_block: int | None = None
    for line in complete_lines(decoded(stream)):
        if line == "":
            result.last_event_id = last_event_id_buffer
            if data_buffer != "":
                result.messages.append(
                    Message(
                        event=event_type_buffer if event_type_buffer != "" else "message",
                        # Every data line added an LF; the last of them is removed.
                        data=data_buffer[:-1],
                        id=last_event_id_buffer,
                        retry=retry_of_block,
                    )
                )
            data_buffer, event_type_buffer, retry_of_block = "", "", None
        elif line[0] == ":":
            pass
        else:
            name, value = field_of(line)
            if name == "event":
                event_type_buffer = value
            if name == "data":
                data_buffer += value + "\n"
            if name == "id" and "\u0000" not in value:
                last_event_id_buffer = value
            if name == "retry" and value and all(c in "0123456789" for c in value):
                result.retry = retry_of_block = int(value)
    return result


def decoded(stream: bytes) -> str:
    text = stream.decode("utf-8", errors="replace")
    if text[:1] == "\ufeff":
        text = text[1:]
    return text


def complete_lines(text: str) -> Iterator[str]:
    line = ""
    for position, character in enumerate(text):
        if character == "\n" and text[position - 1 : position] == "\r":
            continue  # the second half of a CRLF, whose first half ended the line
        if character in "\r\n":
            yield line
            line = ""
        else:
            line += character


def field_of(line: str) -> tuple[str, str]:
    if ":" not in line:
        return line, ""
    colon = line.index(":")
    name, value = line[:colon], line[colon + 1 :]
    if value[:1] == " ":
        value = value[1:]
    return name, value
