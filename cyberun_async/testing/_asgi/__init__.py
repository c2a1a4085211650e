"""Calling an ASGI application in process, with streaming."""
