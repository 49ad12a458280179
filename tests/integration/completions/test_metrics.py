"""What operators see of answers: how attempts end, what they cost, who took over from whom."""

from __future__ import annotations

from tests.integration.completions.rig import Rig, spec
from tests.integration.telemetry.samples import Samples, here
from tests.provider_server import ProviderServer


def _ended(before: Samples, after: Samples, end: str, model: str = "test") -> float:
    labels = {"model": model, "end": end}
    return after.get("llm_attempts_total", **labels) - before.get("llm_attempts_total", **labels)


async def test_a_take_over_is_counted_and_a_hand_over_is_none(rig: Rig, provider: ProviderServer) -> None:
    provider.set(n_tokens=150, tokens_per_s=100)
    before, model = here(), spec(provider.url)
    async with rig.worker(model, name="worker-a") as first:
        handed = await rig.ask(await rig.session(), "Tell me much")
        await rig.reader.has_text(handed.completion_id, 100)
        await first.stop()
    async with rig.worker(model, name="worker-b") as second:
        await rig.reader.ended(handed.completion_id)
        handed_over = here()
        assert handed_over.get("stream_take_overs_total") == before.get("stream_take_overs_total")
        left = await rig.ask(await rig.session(), "Tell me more")
        await rig.reader.has_text(left.completion_id, 100)
        await second.die()
    async with rig.worker(model, name="worker-c"):
        await rig.reader.ended(left.completion_id)
    after = here()
    assert after.get("stream_take_overs_total") - before.get("stream_take_overs_total") == 1
    assert (_ended(before, after, "handed_over"), _ended(before, after, "complete")) == (1, 2)


async def test_tokens_cost_first_tokens_and_failures_are_counted(rig: Rig, provider: ProviderServer) -> None:
    provider.set(model="bad", error_status=400)
    before = here()
    async with rig.worker(spec(provider.url), spec(provider.url, "bad")):
        asked = await rig.ask(await rig.session(), "What is a trace?")
        await rig.reader.ended(asked.completion_id)
        failing = asked.generation.model_copy(update={"model": "bad"})
        failed = await rig.ask(await rig.session(), "What is a trace?", generation=failing)
        await rig.reader.ended(failed.completion_id)
    after = here()
    usage = (await rig.usage(asked.completion_id))[0]["body"]
    for name, labels, grown in (
        ("llm_tokens_total", {"model": "test", "direction": "input"}, usage["input_tokens"]),
        ("llm_tokens_total", {"model": "test", "direction": "output"}, usage["output_tokens"]),
        ("llm_first_token_seconds_count", {"model": "test"}, 1),
        ("llm_failures_total", {"model": "bad", "code": "bad_request"}, 1),
    ):
        assert after.get(name, **labels) - before.get(name, **labels) == grown, (name, labels)
    cost = after.get("llm_cost_usd_total", model="test") - before.get("llm_cost_usd_total", model="test")
    assert abs(cost - usage["cost_usd"]) < 1e-9
    assert _ended(before, after, "failed", "bad") == 1
