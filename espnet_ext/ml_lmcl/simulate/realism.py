# SPDX-License-Identifier: Apache-2.0
"""How near simulated ASR text is to the real one: at the same word error rate, what else differs.

A classifier sees sentences, not words: of two texts with equal word error rates, that with fewer
sentences without error is the harder one, and so is that with more inserted words.
"""

from collections.abc import Mapping

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.simulate.confusion import ConfusionModel
from espnet_ext.ml_lmcl.simulate.generate import Simulator, measure
from espnet_ext.scoring.edits import Score
from espnet_ext.text.normalize import normalize

SAMPLE = 2000  # sentences that are simulated for it


def compare(
    model: ConfusionModel, manual: Mapping[str, str], asr: Mapping[str, str], seed: int = 1
) -> dict[str, list[float]]:
    """Simulate the text that a model was estimated from, at the real word error rate.

    Args:
        model: The model.
        manual: Utterance id to manual transcript.
        asr: Utterance id to ASR transcript, of the same utterances.
        seed: Draws the errors.

    Returns:
        ``[real, simulated]`` in percent: ``wer``, ``exact`` (sentences without error), and
        ``insertions`` (of the words spoken). Empty where there is no error to simulate.
    """
    utts = sorted(manual)
    utts = utts[:: -(-len(utts) // SAMPLE)]
    simulator = Simulator(model, {u: manual[u] for u in utts}, seed)
    real = measure(simulator.refs, {u: normalize(asr[u], model.normalize) for u in utts})
    if not real.rate:
        return {}
    try:
        made = simulator.reach(real.rate).score
    except UsageError:  # such a rate is out of this model's reach
        return {}
    pairs = zip(_figures(real).items(), _figures(made).values(), strict=True)
    return {name: [round(a, 2), round(b, 2)] for (name, a), b in pairs}


def _figures(score: Score) -> dict[str, float]:
    total = score.totals()
    exact = 100.0 * float((score.errors == 0).mean())
    return {"wer": score.rate, "exact": exact, "insertions": 100.0 * total["ins"] / total["ref"]}


def told(found: Mapping[str, list[float]]) -> str:
    """Tell what :func:`compare` found on one line; empty where it found nothing."""
    if not found:
        return ""
    wer, exact, inserted = (found[k] for k in ("wer", "exact", "insertions"))
    return (
        f"real against simulated text at a WER of {wer[0]:.1f} %: {exact[0]:.1f} against "
        f"{exact[1]:.1f} % of the sentences without error, insertions {inserted[0]:.1f} against "
        f"{inserted[1]:.1f} % of the words"
    )
