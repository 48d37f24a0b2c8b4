"""Errors with a name of their own, and how validation errors are put into words."""

from __future__ import annotations

import pydantic


class UnknownDatasetError(KeyError):
    """No dataset has the id asked for."""

    def __str__(self) -> str:
        return str(self.args[0])


class ManifestError(ValueError):
    """A manifest is not valid; the message names file, dataset, field and reason."""


class SizeError(ValueError):
    """A size or draw was asked for that the dataset does not have."""


class SourceError(RuntimeError):
    """No source of a dataset gave its data; the message says why for each."""


class DigestError(SourceError):
    """Data does not have the digest that the registry pins; it was not used."""


class PolicyError(ValueError):
    """A policy's output cannot be used as actions; the message says where and why."""


_MOST_PARTS = 5


def describe_validation_error(error: pydantic.ValidationError) -> str:
    """Renders a pydantic error as ``field: what was wrong (got ...)`` parts on one line."""
    items = error.errors()
    parts = [
        f"{'.'.join(str(key) for key in item['loc']) or 'document'}: {item['msg']}"
        + (f" (got {item['input']!r:.80})" if item["type"] != "missing" else "")
        for item in items[:_MOST_PARTS]
    ]
    more = len(items) - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")
