"""What the API answers when it refuses."""

from __future__ import annotations


class ApiError(Exception):
    """An answer that is not a success: an HTTP status with one code and message in the envelope's `errors`.

    The codes 2008 to 2016 (origin), 10000 (authentication) and 7003 (no such route) are Cloudflare's. Others, which
    its documentation does not name, are this stand-in's own, from 20001 on.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


INVALID = 20_001
NOT_FOUND = 20_002
NAME_TAKEN = 20_003
QUOTA = 20_004
IN_USE = 20_005


def invalid(message: str) -> ApiError:
    """The request's body is not what it should be."""
    return ApiError(400, INVALID, message)


def not_found(what: str) -> ApiError:
    return ApiError(404, NOT_FOUND, f"{what} does not exist.")
