# SPDX-License-Identifier: Apache-2.0
"""The loss of stage 1 is what section 2 of the method says, written out here clip by clip."""

import math

import pytest
import torch
from small_conformer import FEATURES, WIDTH, SmallConformer, conf
from torch.nn import functional as F

from espnet_ext.multistage.audio_visual import VALIDATION_SEED, AudioVisual
from espnet_ext.multistage.decoder import sinusoids
from espnet_ext.multistage.masking import random_mask

LENGTHS = torch.tensor([67, 41, 50])
TOKENS, STEPS, AREA = [16, 9, 11], 2, 4
ALIGNED = {"clr_tokens": "aligned", "video_sampling": "uniform"}
CASES = {
    "mae": {},
    "all_tokens": {"mae_loss_on": "all", "mask_ratio": 0.3},
    "zero": {"mask_mode": "zero", "decoder_start": "random"},
    "other_targets": {"normalise_audio": True, "normalise_video": False},
    "audio": {"modalities": "audio"},
    "clr": {"objective": "clr", "tau": 0.1, "clr_weight": 3.0},
    "both": {"objective": "mae+clr", "clr_weight": 0.25},
    "one_pass": {"objective": "mae+clr", "clr_on_masked": True},
    "one_pass_aligned": {"objective": "mae+clr", "clr_on_masked": True, **ALIGNED},
    "aligned": {"objective": "clr", **ALIGNED},
    "centred": {"objective": "clr", **ALIGNED, "clr_tokens": "centred"},
}


def clips():
    g = torch.Generator().manual_seed(0)
    feats = torch.randn(3, 67, FEATURES, generator=g)
    return feats, LENGTHS, torch.randint(0, 256, (3, 4, 8, 8, 3), generator=g, dtype=torch.uint8)


def _grid(place):
    return torch.stack(
        [place.time[t, 0] + place.space[s] for t in range(STEPS) for s in range(AREA)]
    )


class WrittenOut:
    """The same parameters, one clip at a time, without padding."""

    def __init__(self, model, encoder):
        self.model, self.encoder, self.conf = model, encoder, model.conf

    def hidden(self, counts, b):
        """Which tokens of clip ``b`` are hidden, and the places of the others."""
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        scored = random_mask(torch.tensor(counts), self.conf.mask_ratio, generator).scored
        hidden = scored[b, : counts[b]]
        return hidden, (~hidden).nonzero()[:, 0]

    def blocks(self, tokens):
        mask = torch.ones(1, 1, len(tokens), dtype=torch.bool)
        x = tokens[None]
        for block in self.encoder.encoders:
            x, mask = block(x, mask)
        return F.layer_norm(x[0], (WIDTH,))

    def patches(self, pixels):
        part = self.model.video_patches
        return part.embed(pixels) + _grid(part.positions)

    def error(self, name, seen, keep, target, hidden, normalise):
        """Squared errors of the scored tokens, a mean over the elements of each."""
        decoder = self.model.decoder
        x = decoder.mask_token.expand(len(target), -1).clone()
        x[keep] = decoder.embed(seen)
        if name == "audio":
            slowest = {"near": 100.0, "random": 10000.0}[self.conf.decoder_start]
            x = x + sinusoids(torch.arange(len(target)).float(), x.shape[1], slowest)
        else:
            place = decoder.positions["video"]
            x = x + torch.stack(
                [place.time[n // AREA, 0] + place.space[n % AREA] for n in range(8)]
            )
        if normalise:
            spread = (target.var(1, keepdim=True) + 1e-6).sqrt()
            target = (target - target.mean(1, keepdim=True)) / spread
        error = (decoder.out[name](decoder.blocks(x[None])[0]) - target).square().mean(1)
        return error if self.conf.mae_loss_on == "all" else error[hidden]

    def audio(self, b, feats):
        """Encoded seen tokens, their places, errors, and the encoded whole clip."""
        x = feats[b, : LENGTHS[b]]
        tokens = self.encoder.embed(x[None], torch.ones(1, 1, len(x), dtype=torch.bool))[0][0]
        hidden, keep = self.hidden(TOKENS, b)
        if self.conf.mask_mode == "drop":
            seen = self.blocks(tokens[keep])
        else:
            seen = self.blocks(tokens * ~hidden[:, None])[keep]
        if "mae" not in self.conf.losses:
            return seen, keep, None, self.blocks(tokens)
        target = torch.stack([x[4 * k + 2 : 4 * k + 6].flatten() for k in range(TOKENS[b])])
        linear = self.model.audio_out[0]
        wide = F.layer_norm(linear(seen), (self.conf.width,))
        error = self.error("audio", wide, keep, target, hidden, self.conf.normalise_audio)
        return seen, keep, error, self.blocks(tokens)

    def video(self, b, pixels):
        tokens = self.patches(pixels[b])
        hidden, keep = self.hidden([STEPS * AREA] * 3, b)
        seen = self.model.video_encoder(tokens[None, keep])[0]
        whole = self.model.video_encoder(tokens.view(STEPS, AREA, -1).mean(1)[None])[0]
        if "mae" not in self.conf.losses:
            return seen, keep, None, whole
        error = self.error("video", seen, keep, pixels[b], hidden, self.conf.normalise_video)
        return seen, keep, error, whole

    def vector(self, tokens, steps, project):
        """Of one clip: the mean, or unit vectors of the steps beside one another."""
        if self.conf.clr_tokens == "mean":
            return project(tokens.mean(0))
        means = {s: project(tokens[steps == s].mean(0)) for s in steps.unique().tolist()}
        if self.conf.clr_tokens == "centred":
            whole = sum(means.values()) / len(means)
            means = {s: m - whole for s, m in means.items()}
        none = torch.zeros(self.conf.width)
        return torch.cat(
            [F.normalize(means[s], dim=0) if s in means else none for s in range(STEPS)]
        )

    def clr(self, sounds, pictures):
        masked, a, v = self.conf.clr_on_masked, [], []
        for b in range(3):
            seen, keep, _, whole = sounds[b]
            place = keep if masked else torch.arange(TOKENS[b])
            a.append(self.vector(seen if masked else whole, place * STEPS // TOKENS[b],
                                 self.model.clr_audio))  # fmt: skip
            seen, keep, _, whole = pictures[b]
            step = keep // AREA if masked else torch.arange(STEPS)
            v.append(self.vector(seen if masked else whole, step, lambda x: x))
        tau = 0.07 if self.conf.tau == "learned" else self.conf.tau
        s = [[float(F.cosine_similarity(x, y, dim=0)) / tau for y in v] for x in a]
        loss = 0.0
        for i in range(3):
            row = math.log(sum(math.exp(s[i][j]) for j in range(3)))
            column = math.log(sum(math.exp(s[j][i]) for j in range(3)))
            loss += (row + column - 2 * s[i][i]) / 6
        return loss

    def loss(self, feats, video):
        sounds = [self.audio(b, feats) for b in range(3)]
        pixels = self.model.video_patches.targets(video) if self.conf.with_video else None
        pictures = [self.video(b, pixels) for b in range(3)] if self.conf.with_video else []
        out = {}
        if "mae" in self.conf.losses:
            for name, made in (("mae_audio", sounds), ("mae_video", pictures)):
                if made:
                    out[name] = float(torch.cat([error for _, _, error, _ in made]).mean())
        if "clr" in self.conf.losses:
            out["clr"] = self.clr(sounds, pictures)
        return out


@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_its_parts(case):
    torch.manual_seed(1)
    options, encoder = CASES[case], SmallConformer().eval()
    model = AudioVisual(conf(**options), FEATURES, WIDTH).eval()
    feats, lengths, video = clips()
    with torch.no_grad():
        loss, stats = model(encoder, feats, lengths, video)
        expected = WrittenOut(model, encoder).loss(feats, video)
    found = {
        name: float(stats[name]) for name in stats if name in ("mae_audio", "mae_video", "clr")
    }
    assert found == pytest.approx(expected, rel=1e-4)
    weight = options.get("clr_weight", 1.0) if "mae" in options.get("objective", "mae") else 1.0
    total = sum(v * (weight if name == "clr" else 1) for name, v in expected.items())
    assert float(loss) == pytest.approx(total, rel=1e-4)
    if "clr" in expected:
        assert float(stats["tau"]) == pytest.approx(options.get("tau", 0.07))
