# SPDX-License-Identifier: Apache-2.0
"""The terminal's table of a comparison of two alignments."""

from collections.abc import Iterator

WITHIN_MS = (10, 20, 50, 100)
SHOWN = 5


def table(r: dict, *, by_class: bool = False) -> Iterator[str]:
    """Yield the lines of a comparison.

    Args:
        r: :meth:`espnet_ext.align.evaluate.compare.Comparison.as_json`.
        by_class: Also a line for each class of phones.
    """
    yield f"A: {r['a']}"
    yield f"B: {r['b']}"
    yield f"{r['shared']} utterances in both"
    for side, missing in (("A", r["only_a"]), ("B", r["only_b"])):
        if missing:
            more = ", ..." if len(missing) > SHOWN else ""
            yield f"{len(missing)} only in {side}: {', '.join(missing[:SHOWN])}{more}"
    yield from r["notes"]
    yield ""
    yield f"{'frames equal':<16}{'all':>10}{'not silence':>14}{'frames':>12}"
    for tier, f in r["agreement"].items():
        shares = _percent(f["agreement"]), _percent(f["agreement_speech"])
        yield f"  {tier:<14}{shares[0]:>10}{shares[1]:>14}{f['frames']:>12,}"
    head = f"{'count':>10}{'mean':>9}{'median':>9}{'|mean|':>9}{'|median|':>10}"
    yield ""
    yield f"{'boundaries, ms':<20}{head}" + "".join(f"{f'<={n}':>8}" for n in WITHIN_MS)
    for tier, b in r["boundaries"].items():
        yield _row(tier, b)
        for key in ("by_kind", "by_class") if by_class else ("by_kind",):
            if tier == "phones" or key == "by_kind":
                yield from (_row(f"  {name}", part) for name, part in b[key].items())
    yield ""
    for tier, b in r["boundaries"].items():
        line = f"{tier}: {b['a']:,} in A, {b['b']:,} in B, {b['matched']:,} matched"
        if interval := b["within_20_ms_interval_95"]:
            line += f"; within 20 ms: {_percent(interval[0])} to {_percent(interval[1])} (95 %)"
        yield line
    yield "differences are B minus A; | | are sizes; intervals: bootstrap over utterances"


def _row(name: str, b: dict) -> str:
    if not b["boundaries"]:
        return f"{name:<20}{0:>10}"
    values = (b["mean_ms"], b["median_ms"], b["mean_abs_ms"])
    shares = "".join(f"{_percent(x):>8}" for x in b["within"].values())
    numbers = "".join(f"{x:>9.1f}" for x in values)
    return f"{name:<20}{b['boundaries']:>10,}{numbers}{b['median_abs_ms']:>10.1f}{shares}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"
