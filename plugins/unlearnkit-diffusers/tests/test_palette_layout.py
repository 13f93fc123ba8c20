"""The released Palette's weights give the released Palette's numbers."""

import math

import pytest
import torch
from diffusers import UNet2DModel
from torch.nn import functional as F
from unlearnkit_diffusers import palette_layout
from unlearnkit_diffusers.diffusion_sections import Palette

from unlearnkit.errors import UserError

PUBLISHED = {"inner": 64, "mults": (1, 2, 4, 8), "blocks": 2, "attention": (16,), "head": 32}
SMALL = {"inner": 32, "mults": (1, 2), "blocks": 2, "attention": (), "head": 32}
WITH_ATTENTION = {"inner": 32, "mults": (1, 2, 2), "blocks": 1, "attention": (2,), "head": 16}


def plan(inner, mults, blocks, attention, head):
    """Yield the blocks of the released network: name, kind, channels in and out, in the order they run in."""
    channels, skips, rate = inner * mults[0], [inner * mults[0]], 1
    yield "input_blocks.0.0", "conv", 6, channels
    number = 1
    for level, mult in enumerate(mults):
        for _ in range(blocks):
            yield f"input_blocks.{number}.0", "residual", channels, mult * inner
            channels = mult * inner
            if rate in attention:
                yield f"input_blocks.{number}.1", "attention", channels, channels
            skips.append(channels)
            number += 1
        if level < len(mults) - 1:
            yield f"input_blocks.{number}.0", "down", channels, channels
            skips.append(channels)
            number, rate = number + 1, rate * 2
    for place, kind in enumerate(("residual", "attention", "residual")):
        yield f"middle_block.{place}", kind, channels, channels
    number = 0
    for level, mult in reversed(list(enumerate(mults))):
        for index in range(blocks + 1):
            yield f"output_blocks.{number}.0", "residual", channels + skips.pop(), mult * inner
            channels = mult * inner
            place = 1
            if rate in attention:
                yield f"output_blocks.{number}.1", "attention", channels, channels
                place = 2
            if level and index == blocks:
                yield f"output_blocks.{number}.{place}", "up", channels, channels
                rate //= 2
            number += 1
    yield "out.0", "norm", channels, channels
    yield "out.2", "conv", channels, 3


def shapes(inner, **sizes):
    """Return names and shapes of the released network's parameters."""
    wide = 4 * inner
    found = {"cond_embed.0.weight": (wide, inner), "cond_embed.0.bias": (wide,)}
    found |= {"cond_embed.2.weight": (wide, wide), "cond_embed.2.bias": (wide,)}
    for name, kind, before, after in plan(inner, **sizes):
        if kind == "conv":
            found |= {f"{name}.weight": (after, before, 3, 3), f"{name}.bias": (after,)}
        elif kind == "norm":
            found |= {f"{name}.weight": (after,), f"{name}.bias": (after,)}
        elif kind == "attention":
            found |= {f"{name}.norm.weight": (after,), f"{name}.norm.bias": (after,)}
            found |= {f"{name}.qkv.weight": (3 * after, after, 1), f"{name}.qkv.bias": (3 * after,)}
            found |= {f"{name}.proj_out.weight": (after, after, 1), f"{name}.proj_out.bias": (after,)}
        else:
            found |= {f"{name}.in_layers.0.weight": (before,), f"{name}.in_layers.0.bias": (before,)}
            found |= {f"{name}.in_layers.2.weight": (after, before, 3, 3), f"{name}.in_layers.2.bias": (after,)}
            found |= {f"{name}.emb_layers.1.weight": (2 * after, wide), f"{name}.emb_layers.1.bias": (2 * after,)}
            found |= {f"{name}.out_layers.0.weight": (after,), f"{name}.out_layers.0.bias": (after,)}
            found |= {f"{name}.out_layers.3.weight": (after, after, 3, 3), f"{name}.out_layers.3.bias": (after,)}
            if before != after:
                found |= {
                    f"{name}.skip_connection.weight": (after, before, 1, 1), f"{name}.skip_connection.bias": (after,)
                }  # fmt: skip
    return found


def released(sizes, device="cpu", prefix="denoise_fn."):
    """Return a released file's tensors: the network and the tables of its noise schedule."""
    generator = torch.Generator().manual_seed(0)

    def filled(name, shape):
        if device == "meta":
            return torch.empty(shape, device="meta")
        return 0.2 * torch.randn(shape, generator=generator) + (0.5 if len(shape) == 1 and "norm" in name else 0)

    tensors = {prefix + name: filled(name, shape) for name, shape in shapes(**sizes).items()}
    if prefix:
        tensors |= {"gammas": torch.zeros(2000), "posterior_mean_coef1": torch.zeros(2000)}
    return tensors


def recomputed(weights, sizes, x, gamma):
    """Return what the released network gives, computed from its weights in its own layout."""

    def norm(x, name):
        return F.group_norm(x, 32, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def linear(x, name):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def conv(x, name):
        weight = weights[f"{name}.weight"]
        return F.conv2d(x, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def residual(x, name, resize):
        h = conv(resize(F.silu(norm(x, f"{name}.in_layers.0"))), f"{name}.in_layers.2")
        scale, shift = linear(F.silu(time), f"{name}.emb_layers.1")[:, :, None, None].chunk(2, dim=1)
        h = conv(F.silu(norm(h, f"{name}.out_layers.0") * (1 + scale) + shift), f"{name}.out_layers.3")
        x = resize(x)
        return h + (conv(x, f"{name}.skip_connection") if f"{name}.skip_connection.weight" in weights else x)

    def attention(x, name):
        batch, channels, height, width = x.shape
        flat = norm(x, f"{name}.norm").flatten(2)
        qkv = F.conv1d(flat, weights[f"{name}.qkv.weight"], weights[f"{name}.qkv.bias"])
        found = []
        for one in qkv.chunk(channels // sizes["head"], dim=1):
            q, k, v = one.chunk(3, dim=1)
            found.append(v @ (q.transpose(1, 2) @ k / math.sqrt(sizes["head"])).softmax(-1).transpose(1, 2))
        h = F.conv1d(torch.cat(found, 1), weights[f"{name}.proj_out.weight"], weights[f"{name}.proj_out.bias"])
        return x + h.view(batch, channels, height, width)

    half = sizes["inner"] // 2
    angles = gamma[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    time = linear(torch.cat([angles.cos(), angles.sin()], dim=1), "cond_embed.0")
    time = linear(F.silu(time), "cond_embed.2")
    skips = {}
    for name, kind, _, _ in plan(**sizes):
        side, *place = name.split(".")
        if side == "output_blocks" and place[1] == "0":
            x = torch.cat([x, skips.pop(max(skips))], dim=1)
        if kind == "conv":
            x = conv(x if side == "input_blocks" else F.silu(x), name)
        elif kind == "norm":
            x = norm(x, name)
        elif kind == "attention":
            x = attention(x, name)
        else:
            resize = {"residual": lambda x: x, "down": lambda x: F.avg_pool2d(x, 2), "up": doubled}[kind]
            x = residual(x, name, resize)
        if side == "input_blocks":
            skips[int(place[0])] = x
    return x


def doubled(x):
    return F.interpolate(x, scale_factor=2, mode="nearest")


def test_published_size_fits_name_by_name(tmp_path):
    config, weights = palette_layout.convert(released(PUBLISHED, "meta"), 32, tmp_path)
    with torch.device("meta"):
        unet = UNet2DModel(**config, sample_size=256)
    wanted = {name: value.shape for name, value in unet.state_dict().items()}
    assert {name: value.shape for name, value in weights.items()} == wanted
    assert sum(math.prod(shape) for shape in shapes(**PUBLISHED).values()) == unet.num_parameters()
    # attn_res 16 names a rate that four levels never reach: the middle block alone has attention.
    assert set(config["down_block_types"]) == {"ResnetDownsampleBlock2D"}


@pytest.mark.parametrize("sizes", [SMALL, WITH_ATTENTION], ids=["published-shape", "attention"])
@pytest.mark.parametrize("prefix", ["denoise_fn.", ""])
def test_numbers_are_the_released_networks(tmp_path, sizes, prefix):
    tensors = released(sizes, prefix=prefix)
    torch.save(tensors, tmp_path / "200_Network_ema.pth")
    adapter = Palette(
        kind="palette", image_size=16, attention_head_dim=sizes["head"], scheduler="DDPMScheduler", steps=2
    ).build(tmp_path / "200_Network_ema.pth")
    x, gamma = torch.randn(2, 6, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([0.9, 0.013])
    weights = {name.removeprefix(prefix): value for name, value in tensors.items()}
    with torch.no_grad():
        expected, found = recomputed(weights, sizes, x, gamma), adapter.module(x, gamma)
        plain = adapter.unet(x, gamma).sample
    assert torch.equal(found, plain)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max().clamp(min=1)
    assert expected.std() > 0.1


def test_released_weights_bring_their_schedule_and_survive_saving(tmp_path):
    torch.save(released(SMALL), tmp_path / "model.pth")
    section = Palette(kind="palette", image_size=16, steps=2)
    adapter = section.build(tmp_path / "model.pth")
    assert adapter.noising.levels
    assert len(adapter.noising.gammas) == 2000
    assert float(adapter.noising.gammas[0]) == pytest.approx(1 - 1e-6)
    (tmp_path / "saved").mkdir()
    adapter.save(tmp_path / "saved")
    again = section.build(tmp_path / "saved")
    assert again.noising.levels
    assert torch.equal(again.noising.gammas, adapter.noising.gammas)
    mine, other = adapter.module.state_dict(), again.module.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert section.build(tmp_path / "model.pth").image_size == 16
    assert Palette(kind="palette").build(tmp_path / "model.pth").image_size == 256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t | {"denoise_fn.input_blocks.3.0.op.weight": torch.zeros(1)}, "plain convolutions"),
        (lambda t: {n: v for n, v in t.items() if "cond_embed" not in n}, "no network of `guided_diffusion`"),
        (lambda t: {n: v for n, v in t.items() if "output_blocks" not in n}, "cannot be converted"),
        (lambda t: t | {"denoise_fn.strange.0.weight": torch.zeros(1)}, "cannot be converted"),
        (lambda t: {n: v for n, v in t.items() if "output_blocks.1.0.in_layers.2" not in n}, "missing"),
    ],
)
def test_what_is_no_such_network_is_refused(tmp_path, change, words):
    torch.save(change(released(SMALL)), tmp_path / "model.pth")
    with pytest.raises(UserError, match=words):
        Palette(kind="palette", image_size=16).build(tmp_path / "model.pth")


def test_a_head_that_does_not_divide_is_refused(tmp_path):
    with pytest.raises(UserError, match="attention_head_dim 48 does not divide"):
        palette_layout.convert(released(SMALL), 48, tmp_path / "model.pth")
