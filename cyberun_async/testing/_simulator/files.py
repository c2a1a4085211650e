"""What lies in the object store: uploads, and pictures drawn when somebody asks."""

import base64
import threading
import uuid
from collections import OrderedDict

import attrs

from .png import picture
from .tasks import SimTask
from .views import file_keys


_CACHED_PICTURES = 64


@attrs.frozen
class StoredFile:
    """The bytes of a file and their type."""

    content: bytes = attrs.field(repr=False)
    content_type: str


class FileStore:
    """Uploaded files by key, and the files that tasks have made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self.uploads: dict[str, StoredFile] = {}

    def made_by(self, task: SimTask, key: str) -> StoredFile | None:
        """Return a file that a task has made."""
        if key not in file_keys(task).values():
            return None
        content = task.plan.file_content
        if content is None:
            content = self._picture(f"{task.parameters}{key.rpartition('/')[2]}")
        return StoredFile(content, "image/png")

    def _picture(self, seed: str) -> bytes:
        with self._lock:
            if seed not in self._pictures:
                self._pictures[seed] = picture(seed)
                if len(self._pictures) > _CACHED_PICTURES:
                    self._pictures.popitem(last=False)
            return self._pictures[seed]


def input_key(file_id: str, content_type: str, file_name: str) -> str:
    """Return the key under which an upload is going to be stored."""
    kind = base64.urlsafe_b64encode(content_type.encode()).decode()
    name = file_name.rpartition("/")[2]
    return f"inputs/{file_id}/{uuid.UUID(file_id).hex[-8:]}/{kind}/{name}"
