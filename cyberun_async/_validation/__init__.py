"""What a caller gave: checked, quoted and normalised before anything is sent."""

from .arguments import (
    HOP_HEADERS as HOP_HEADERS,
    OWN_HEADERS as OWN_HEADERS,
    callable_of as callable_of,
    header_text as header_text,
    method_of as method_of,
    positive_seconds as positive_seconds,
)
from .json_values import (
    MAX_DEPTH as MAX_DEPTH,
    file_parameters_of as file_parameters_of,
    json_of as json_of,
    parameters_of as parameters_of,
    query_of as query_of,
)
from .paths import (
    WorkflowRef as WorkflowRef,
    identifier_of as identifier_of,
    management_path as management_path,
    path_for as path_for,
    quote_segment as quote_segment,
    raw_path_of as raw_path_of,
    reference_of as reference_of,
    task_id_of as task_id_of,
    workflow_path as workflow_path,
    workflow_ref as workflow_ref,
)
from .resume_tokens import looks_like_a_token as looks_like_a_token, token_of as token_of
from .urls import base_url_of as base_url_of, sends_in_clear as sends_in_clear
