"""What a change of the contracts breaks, for whom, and what to do: a sentence each, for whoever made the change.

Compared are the committed documents with those of the code. A record lives long and is read by many: what tightens
breaks our own consumers, which meet old records; what loosens breaks subscribers, and the consumers of the release that
still runs while this one is deployed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemas.asyncapi import CE_HEADERS
from schemas.schema_changes import Change, changes

Json = dict[str, Any]

_METHODS = ("get", "put", "post", "patch", "delete")


def broken_records(old: Json, new: Json) -> list[str]:
    """What the new AsyncAPI document breaks of the old one; empty if nothing."""
    return [*_channels(old, new), *_headers(old, new), *_messages(old, new)]


def _channels(old: Json, new: Json) -> Iterator[str]:
    for name, before in old["channels"].items():
        readers = _readers(old, [name])
        after = new["channels"].get(name)
        if after is None:
            yield f"Topic {name} is gone. That breaks {readers}. Put it back; a topic is never removed."
            continue
        for what, was, now in (
            ("partitions", _partitions(before), _partitions(after)),
            ("key", before["x-key"], after["x-key"]),
        ):
            if was != now:
                yield (
                    f"Topic {name}: its {what} changed from {was} to {now}. That breaks the order that {readers} rely"
                    f" on. Put it back, or make a new topic."
                )
        if before["x-public"] and not after["x-public"]:
            yield f"Topic {name} is not public any more. That breaks subscribers outside. Put it back."
        was_kept, is_kept = _kept(before), _kept(after)
        if is_kept != was_kept and not _is_longer(is_kept, than=was_kept):
            yield (
                f"Topic {name}: its records were kept by {was_kept} and are by {is_kept}. That breaks {readers}, which"
                " find less than they were promised. Put it back."
            )
        for kind in sorted(before["messages"].keys() - after["messages"].keys()):
            yield (
                f"{_title(old, kind)} ({kind}) is gone from {name}. That breaks {readers}: records of it stand there,"
                " in its archive and dead letters. Put it back, or keep the class and add an upcaster to what replaces"
                " it (Topic.upcasters)."
            )


def _partitions(channel: Json) -> int:
    partitions: int = channel["bindings"]["kafka"]["partitions"]
    return partitions


def _kept(channel: Json) -> Json:
    """What Kafka removes by."""
    settings: Json = channel["bindings"]["kafka"]["topicConfiguration"]
    return {name: settings[name] for name in ("cleanup.policy", "retention.ms") if name in settings}


def _is_longer(now: Json, *, than: Json) -> bool:
    days = "retention.ms"
    return now.keys() == than.keys() == {"cleanup.policy", days} and now[days] > than[days]


def _headers(old: Json, new: Json) -> Iterator[str]:
    """Every record has them, so they have no newer version."""
    before, after = (document["components"]["schemas"][CE_HEADERS] for document in (old, new))
    for change in changes(before, after, old_root=old, new_root=new):
        who = f"subscribers outside and {_services(old, list(old['channels']))}"
        yield f"Header `{change.field}` of every record {change.what}. That breaks {who}. Put it back."


def _messages(old: Json, new: Json) -> Iterator[str]:
    for kind, before in old["components"]["messages"].items():
        after = new["components"]["messages"].get(kind)
        if after is None:
            continue
        topics = [name for name, channel in old["channels"].items() if kind in channel["messages"]]
        if any(golden not in after.get("examples", ()) for golden in before.get("examples", ())):
            yield (
                f"{_title(old, kind)} ({kind}): a golden payload is changed or gone. That breaks"
                f" {_services(old, topics)} unseen: it stands for the records that must decode for ever. Put it back,"
                " and write another beside it."
            )
        for change in changes(before["payload"], after["payload"], old_root=old, new_root=new):
            yield (
                f"{_title(old, kind)} ({kind}): field `{change.field}` {change.what}. That breaks"
                f" {_broken_by(change, old, topics)}. {_remedy(change, kind)}"
            )


def _broken_by(change: Change, old: Json, topics: list[str]) -> str:
    if change.effect == "tightens":
        return f"{_services(old, topics)}, which cannot decode what stands in {' and '.join(topics)} any more"
    return f"{_readers(old, topics)}, who read by the old schema"


def _remedy(change: Change, kind: str) -> str:
    stem, _, version = kind.rpartition(".v")
    newer = f"make a {stem}.v{int(version) + 1} beside it, with an upcaster (docs/subscribe.md, New versions)"
    if change.what == "is new and required":
        return f"Give it a default, or {newer}."
    return f"Put it back, or {newer}."


def _services(document: Json, topics: list[str]) -> str:
    reading = {
        operation["x-service"]
        for operation in document["operations"].values()
        if operation["action"] == "receive" and operation["channel"]["$ref"].rpartition("/")[2] in topics
    }
    return f"our own consumers ({', '.join(sorted(reading))})" if reading else "rebuilds from the archive"


def _readers(document: Json, topics: list[str]) -> str:
    """Who reads the topics: ours, and if they are public, others."""
    ours = f"{_services(document, topics)} of the release that runs during a deploy"
    public = [name for name in topics if document["channels"][name]["x-public"]]
    return f"subscribers outside (of {' and '.join(public)}) and {ours}" if public else ours


def _title(document: Json, kind: str) -> str:
    title: str = document["components"]["messages"][kind]["title"]
    return title


def broken_routes(old: Json, new: Json) -> list[str]:
    """What the new OpenAPI document breaks of the old one; empty if nothing."""
    return list(_routes(old, new))


def _routes(old: Json, new: Json) -> Iterator[str]:
    for path, methods in old["paths"].items():
        for method in (one for one in _METHODS if one in methods):
            name = f"{method.upper()} {path}"
            after = new["paths"].get(path, {}).get(method)
            if after is None:
                yield f"{name} is gone. That breaks every client that calls it. Put it back; an API ends with its /v1."
                continue
            before = methods[method]
            for what, who in (
                *_parameters(before, after, old, new),
                *_bodies(before, after, old, new),
                *_answers(before, after, old, new),
            ):
                yield f"{name}: {what}. That breaks clients that {who}. Put it back, or make it a new, optional thing."


def _parameters(before: Json, after: Json, old: Json, new: Json) -> Iterator[tuple[str, str]]:
    was = {(one["in"], one["name"]): one for one in before.get("parameters", ())}
    now = {(one["in"], one["name"]): one for one in after.get("parameters", ())}
    for place in sorted(was.keys() | now.keys()):
        name = f"{place[0]} parameter `{place[1]}`"
        if place not in now:
            yield f"{name} is gone", "send it"
        elif now[place].get("required") and not was.get(place, {}).get("required"):
            yield f"{name} is required", "do not send it"
        elif place in was:
            yield from _sent(was[place]["schema"], now[place]["schema"], old, new, name)


def _bodies(before: Json, after: Json, old: Json, new: Json) -> Iterator[tuple[str, str]]:
    was, now = before.get("requestBody", {}), after.get("requestBody", {})
    if now.get("required") and not was.get("required"):
        yield "a body is required", "send none"
    for media_type, content in was.get("content", {}).items():
        if media_type not in now.get("content", {}):
            yield f"{media_type} is not taken any more", "send it"
        else:
            yield from _sent(content["schema"], now["content"][media_type]["schema"], old, new, "the body")


def _sent(was: Json, now: Json, old: Json, new: Json, what: str) -> Iterator[tuple[str, str]]:
    for change in changes(was, now, old_root=old, new_root=new):
        if change.effect != "loosens":
            where = f"{what}'s field `{change.field}`" if change.field else what
            yield f"{where} {change.what}", "send what was right until now"


def _answers(before: Json, after: Json, old: Json, new: Json) -> Iterator[tuple[str, str]]:
    for status, was in before["responses"].items():
        now = after["responses"].get(status)
        if now is None:
            yield f"answer {status} is gone", "wait for it"
            continue
        for media_type, content in was.get("content", {}).items():
            if media_type not in now.get("content", {}):
                yield f"answer {status} is not {media_type} any more", "read it"
                continue
            told = now["content"][media_type].get("schema", {})
            for change in changes(content.get("schema", {}), told, old_root=old, new_root=new):
                if change.effect != "tightens":
                    where = f"field `{change.field}` of answer" if change.field else "answer"
                    yield f"{where} {status} {change.what}", "read it"
