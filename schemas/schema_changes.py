"""What differs between two JSON Schemas, and for whom it matters.

A change *tightens* if something that was valid is not any more: whoever wrote by the old schema is not understood. It
*loosens* if something is valid that was not: whoever reads by the old schema meets what it does not know. A field that
is added and optional does neither, for readers ignore what they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Schema = Mapping[str, Any]
Effect = Literal["tightens", "loosens", "removes", "changes"]

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_FORMS = ("pattern", "format", "contentEncoding")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: where, what (a sentence's end: "is gone"), and its effect.

    A field that is gone `removes`; one whose absence means something else `changes`.
    """

    field: str
    what: str
    effect: Effect


def changes(old: Schema, new: Schema, *, old_root: Schema, new_root: Schema) -> Iterator[Change]:
    """The differences, outermost first; references lead into the roots."""
    yield from _Comparison(old_root, new_root).of(old, new, "")


class _Comparison:
    def __init__(self, old_root: Schema, new_root: Schema) -> None:
        self._old_root = old_root
        self._new_root = new_root
        self._under_way: set[tuple[str, str]] = set()

    def of(self, old: Schema, new: Schema, field: str) -> Iterator[Change]:
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if all(pair):
            if pair in self._under_way:
                return
            self._under_way.add(pair)
        before, after = _alternatives(old, self._old_root), _alternatives(new, self._new_root)
        if "integer" in before and "number" in after and before.keys() - after.keys() == {"integer"}:
            yield Change(field, "may have a fraction now", "loosens")
            before = {("number" if name == "integer" else name): one for name, one in before.items()}
        common = before.keys() & after.keys()
        if not common - {"null"}:
            if before.keys() != after.keys():
                what = f"was {_named(before)} and is {_named(after)}"
                if "anything" not in after:
                    yield Change(field, what, "tightens")
                if "anything" not in before:
                    yield Change(field, what, "loosens")
        else:
            if gone := before.keys() - after.keys():
                yield Change(field, f"may not be {_named(gone)} any more", "tightens")
            if added := after.keys() - before.keys():
                yield Change(field, f"may be {_named(added)} now", "loosens")
        for name in sorted(common):
            yield from self._same_kind(before[name], after[name], field)
        self._under_way.discard(pair)

    def _same_kind(self, old: Schema, new: Schema, field: str) -> Iterator[Change]:
        yield from _values(old, new, field)
        yield from _bounds(old, new, field)
        yield from self._properties(old, new, field)
        for keyword, suffix in (("items", "[]"), ("additionalProperties", ".*")):
            before, after = old.get(keyword), new.get(keyword)
            if isinstance(before, Mapping) and isinstance(after, Mapping):
                yield from self.of(before, after, f"{field}{suffix}")
            elif isinstance(after, Mapping):
                kinds = _named(_alternatives(after, self._new_root))
                yield Change(f"{field}{suffix}", f"must be {kinds} now", "tightens")
            elif isinstance(before, Mapping) and after is not False:
                yield Change(f"{field}{suffix}", "may be anything now", "loosens")

    def _properties(self, old: Schema, new: Schema, field: str) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        had_to, has_to = set(old.get("required", ())), set(new.get("required", ()))
        for name in before:
            path = f"{field}.{name}".lstrip(".")
            if name not in after:
                yield Change(path, "is gone", "removes")
                continue
            if name in has_to - had_to:
                yield Change(path, "was optional and is required", "tightens")
            if name in had_to - has_to:
                yield Change(path, "was always there and is optional", "loosens")
            if "default" in before[name] and "default" in after[name]:
                was, now = (json.dumps(one[name]["default"]) for one in (before, after))
                if was != now:
                    yield Change(path, f"means {now} where it is left out, and meant {was}", "changes")
            yield from self.of(before[name], after[name], path)
        for name in sorted((after.keys() - before.keys()) & has_to):
            yield Change(f"{field}.{name}".lstrip("."), "is new and required", "tightens")


def _alternatives(schema: Schema, root: Schema) -> dict[str, Schema]:
    """What a value may be: the schema of each kind, by a name that a person understands."""
    while "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        kinds = [item for branch in branches for item in _alternatives(branch, root).items()]
        names = [name for name, _ in kinds]
        return {_unique(name, one, names): one for name, one in kinds}
    if len(schema.get("allOf", ())) == 1:
        return _alternatives(schema["allOf"][0], root)
    kind = schema.get("type") or (_kind_of(schema["const"]) if "const" in schema else "anything")
    return dict.fromkeys(kind, schema) if isinstance(kind, list) else {kind: schema}


def _unique(name: str, schema: Schema, names: list[str]) -> str:
    return f"{name} {schema.get('title', '')}" if names.count(name) > 1 else name


def _kind_of(value: object) -> str:
    return {str: "string", bool: "boolean", int: "integer", type(None): "null"}.get(type(value), "anything")


def _named(kinds: Mapping[str, Any] | set[str]) -> str:
    return " or ".join(sorted(kinds))


def _values(old: Schema, new: Schema, field: str) -> Iterator[Change]:
    before, after = _enumerated(old), _enumerated(new)
    if before is None and after is None:
        return
    if after is not None and (before is None or before - after):
        what = f"may not be {_listed(before - after)} any more" if before else f"must be one of {_listed(after)}"
        yield Change(field, what, "tightens")
    if before is not None and (after is None or after - before):
        yield Change(field, f"may be {_listed(after - before)} now" if after else "may be anything now", "loosens")


def _enumerated(schema: Schema) -> set[str] | None:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return None if values is None else {repr(value) for value in values}


def _listed(values: set[str]) -> str:
    return ", ".join(sorted(values))


def _bounds(old: Schema, new: Schema, field: str) -> Iterator[Change]:
    for name in (*_LOWER, *_UPPER):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        is_higher = before is not None and after is not None and after > before
        tightens = before is None or (after is not None and is_higher == (name in _LOWER))
        yield Change(field, f"has {name} {after}, had {before}", "tightens" if tightens else "loosens")
    for name in _FORMS:
        before, after = old.get(name), new.get(name)
        if before != after and after is not None:
            yield Change(field, f"has {name} {after}, had {before}", "tightens")
        if before != after and before is not None:
            yield Change(field, f"has {name} {after}, had {before}", "loosens")
