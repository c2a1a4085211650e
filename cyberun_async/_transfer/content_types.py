"""
Content types by the end of a file's name.

The standard library reads the machine's own tables for this, so that the same file would
be something else on another machine, and knows little of what workflows take.
"""

from collections.abc import Mapping
from typing import Final


ANY_TYPE: Final = "application/octet-stream"

_PICTURES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
    "png": "image/png",
    "apng": "image/apng",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic",
    "heif": "image/heif",
    "jxl": "image/jxl",
    "jp2": "image/jp2",
    "bmp": "image/bmp",
    "ico": "image/vnd.microsoft.icon",
    **dict.fromkeys(("tif", "tiff"), "image/tiff"),
    **dict.fromkeys(("svg", "svgz"), "image/svg+xml"),
    "psd": "image/vnd.adobe.photoshop",
    "dng": "image/x-adobe-dng",
    "exr": "image/x-exr",
    "hdr": "image/vnd.radiance",
    "tga": "image/x-tga",
    "dds": "image/vnd.ms-dds",
    "ktx": "image/ktx",
    "ktx2": "image/ktx2",
    "ppm": "image/x-portable-pixmap",
    "pgm": "image/x-portable-graymap",
}

_VIDEO: Final[Mapping[str, str]] = {
    **dict.fromkeys(("mp4", "m4v"), "video/mp4"),
    "webm": "video/webm",
    "mkv": "video/matroska",
    **dict.fromkeys(("mov", "qt"), "video/quicktime"),
    "avi": "video/vnd.avi",
    **dict.fromkeys(("mpg", "mpeg"), "video/mpeg"),
    "ogv": "video/ogg",
    "3gp": "video/3gpp",
    "3g2": "video/3gpp2",
    "wmv": "video/x-ms-wmv",
    "flv": "video/x-flv",
    **dict.fromkeys(("m2ts", "mts"), "video/mp2t"),
}

_SOUND: Final[Mapping[str, str]] = {
    "mp3": "audio/mpeg",
    **dict.fromkeys(("m4a", "m4b"), "audio/mp4"),
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    **dict.fromkeys(("ogg", "oga"), "audio/ogg"),
    "opus": "audio/opus",
    "weba": "audio/webm",
    "mka": "audio/matroska",
    **dict.fromkeys(("aif", "aiff", "aifc"), "audio/aiff"),
    "wma": "audio/x-ms-wma",
    **dict.fromkeys(("mid", "midi"), "audio/midi"),
    "amr": "audio/amr",
    "caf": "audio/x-caf",
}

_MODELS: Final[Mapping[str, str]] = {
    "glb": "model/gltf-binary",
    "gltf": "model/gltf+json",
    "obj": "model/obj",
    "mtl": "model/mtl",
    "stl": "model/stl",
    "ply": "model/ply",
    "usdz": "model/vnd.usdz+zip",
    "usda": "model/vnd.usda",
    **dict.fromkeys(("usd", "usdc"), "model/vnd.usd"),
    "3mf": "model/3mf",
    "dae": "model/vnd.collada+xml",
    **dict.fromkeys(("step", "stp"), "model/step"),
    **dict.fromkeys(("igs", "iges"), "model/iges"),
    # Nobody has registered these; the service shows what it is given.
    "fbx": "model/vnd.fbx",
    "splat": "model/x-splat",
    "spz": "model/x-spz",
}

_OTHERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("txt", "log"), "text/plain"),
    "csv": "text/csv",
    "md": "text/markdown",
    **dict.fromkeys(("htm", "html"), "text/html"),
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "json": "application/json",
    **dict.fromkeys(("yaml", "yml"), "application/yaml"),
    "xml": "application/xml",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "tar": "application/x-tar",
    **dict.fromkeys(("gz", "tgz"), "application/gzip"),
    "7z": "application/x-7z-compressed",
}

_TYPES: Final[Mapping[str, str]] = {**_PICTURES, **_VIDEO, **_SOUND, **_MODELS, **_OTHERS}


def content_type_of(name: str) -> str:
    """Return the content type of a file called *name*; of any bytes where its end says nothing."""
    stem, _, end = name.rpartition(".")
    return _TYPES.get(end.lower(), ANY_TYPE) if stem else ANY_TYPE
