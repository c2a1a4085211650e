"""Files: uploads to, and results from, the object store."""

from .downloads import allows_http as allows_http, may_fetch as may_fetch
from .filenames import MAX_NAME_BYTES as MAX_NAME_BYTES, filename_of as filename_of
from .files import Files as Files, upload_all as upload_all
from .results import Artifact as Artifact, TaskResult as TaskResult
