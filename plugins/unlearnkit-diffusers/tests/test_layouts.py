"""Weights in the layouts of taming-transformers, MAGE and TAESD give the numbers of the published networks."""

import os
from pathlib import Path

import diffusers
import pytest
import torch
from torch.nn import functional as F
from unlearnkit_diffusers import VQGAN, AutoencoderTiny, taming
from unlearnkit_diffusers.unet import pretrained

from unlearnkit.builtin.data.sections import Sample
from unlearnkit.contracts import View
from unlearnkit.contracts import whole as degraded
from unlearnkit.errors import UserError
from unlearnkit.testing import check_model
from unlearnkit.weights import read, save

PUBLISHED = {
    "ch": 128,
    "mult": (1, 1, 2, 2, 4),
    "blocks": 2,
    "attention": (16,),
    "resolution": 256,
    "z": 256,
    "codes": 1024,
}
SMALL = {"ch": 32, "mult": (1, 2), "blocks": 1, "attention": (8,), "resolution": 16, "z": 8, "codes": 16}
MAGES = SMALL | {"mult": (1, 1, 2), "blocks": 2}


def layout(ch, mult, blocks, attention, resolution, z, codes, mage=False):
    """Yield name and shape of each parameter of the published VQ-GAN, or of MAGE's tokenizer."""

    def conv(name, before, after, kernel=3, bias=not mage):
        yield f"{name}.weight", (after, before, kernel, kernel)
        if bias:
            yield f"{name}.bias", (after,)

    def norm(name, width):
        yield from ((f"{name}.weight", (width,)), (f"{name}.bias", (width,)))

    def block(name, before, after):
        yield from (*norm(f"{name}.norm1", before), *conv(f"{name}.conv1", before, after))
        yield from (*norm(f"{name}.norm2", after), *conv(f"{name}.conv2", after, after))
        if before != after:
            yield from conv(f"{name}.nin_shortcut", after if mage else before, after, 1)

    def attend(name, width):
        yield from norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            yield from conv(f"{name}.{part}", width, width, 1)

    def middle(half, width):
        yield from block(f"{half}.mid.block_1", width, width)
        if not mage:
            yield from attend(f"{half}.mid.attn_1", width)
        yield from block(f"{half}.mid.block_2", width, width)

    width = ch
    yield from conv("encoder.conv_in", 3, ch)
    for level, factor in enumerate(mult):
        for number in range(blocks):
            yield from block(f"encoder.down.{level}.block.{number}", width, ch * factor)
            width = ch * factor
            if not mage and resolution >> level in attention:
                yield from attend(f"encoder.down.{level}.attn.{number}", width)
        if not mage and level < len(mult) - 1:
            yield from conv(f"encoder.down.{level}.downsample.conv", width, width)
    yield from middle("encoder", width)
    yield from norm("encoder.norm_out", width)
    yield from conv("encoder.conv_out", width, z, 1 if mage else 3, bias=True)
    yield "quantize.embedding.weight", (codes, z)
    if not mage:
        yield from (*conv("quant_conv", z, z, 1), *conv("post_quant_conv", z, z, 1))
    yield from conv("decoder.conv_in", z, width, bias=True)
    yield from middle("decoder", width)
    for level, factor in reversed(list(enumerate(mult))):
        for number in range(blocks + (not mage)):
            yield from block(f"decoder.up.{level}.block.{number}", width, ch * factor)
            width = ch * factor
            if not mage and resolution >> level in attention:
                yield from attend(f"decoder.up.{level}.attn.{number}", width)
        if level:
            yield from conv(f"decoder.up.{level}.upsample.conv", width, width, bias=True)
    yield from norm("decoder.norm_out", width)
    yield from conv("decoder.conv_out", width, 3, bias=True)


def drawn(shapes):
    """Return random weights of these names and shapes, of a scale at which every part counts."""
    generator = torch.Generator().manual_seed(5)
    found = {}
    for name, shape in shapes:
        scale = 0.5 if len(shape) < 2 or "quantize" in name else torch.tensor(shape[1:]).prod() ** -0.5
        found[name] = torch.randn(shape, generator=generator) * scale + ("norm" in name and name.endswith("weight"))
    return found


def computed(weights, images, mage):
    """Return latents, codes and images of the published network, from its weights in their own layout."""

    def conv(name, x, **how):
        kernel = weights[f"{name}.weight"]
        return F.conv2d(x, kernel, weights.get(f"{name}.bias"), **({"padding": kernel.shape[-1] // 2} | how))

    def norm(name, x):
        return F.group_norm(x, 32, weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    def block(name, x):
        h = conv(f"{name}.conv1", F.silu(norm(f"{name}.norm1", x)))
        h = conv(f"{name}.conv2", F.silu(norm(f"{name}.norm2", h)))
        if f"{name}.nin_shortcut.weight" in weights:
            x = conv(f"{name}.nin_shortcut", h if mage else x)
        return x + h

    def attend(name, x):
        if f"{name}.q.weight" not in weights:
            return x
        h = norm(f"{name}.norm", x)
        q, k, v = (conv(f"{name}.{part}", h).flatten(2) for part in "qkv")
        among = torch.softmax(torch.einsum("bci,bcj->bij", q, k) * x.shape[1] ** -0.5, 2)
        return x + conv(f"{name}.proj_out", torch.einsum("bij,bcj->bci", among, v).view(x.shape))

    def stage(name, x):
        number = 0
        while f"{name}.block.{number}.conv1.weight" in weights:
            x = attend(f"{name}.attn.{number}", block(f"{name}.block.{number}", x))
            number += 1
        return x

    def middle(half, x):
        return block(f"{half}.mid.block_2", attend(f"{half}.mid.attn_1", block(f"{half}.mid.block_1", x)))

    levels = sum(f"encoder.down.{level}.block.0.conv1.weight" in weights for level in range(9))
    x = conv("encoder.conv_in", images)
    for level in range(levels):
        x = stage(f"encoder.down.{level}", x)
        if level < levels - 1:
            down = f"encoder.down.{level}.downsample.conv"
            x = F.avg_pool2d(x, 2) if mage else conv(down, F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)
    latents = conv("encoder.conv_out", F.silu(norm("encoder.norm_out", middle("encoder", x))))
    latents = latents if mage else conv("quant_conv", latents)
    book = weights["quantize.embedding.weight"]
    codes = (latents.permute(0, 2, 3, 1)[..., None, :] - book).square().sum(-1).argmin(-1)
    x = book[codes].permute(0, 3, 1, 2)
    x = middle("decoder", conv("decoder.conv_in", x if mage else conv("post_quant_conv", x)))
    for level in reversed(range(levels)):
        x = stage(f"decoder.up.{level}", x)
        if level:
            x = conv(f"decoder.up.{level}.upsample.conv", F.interpolate(x, scale_factor=2, mode="nearest"))
    return latents, codes, conv("decoder.conv_out", F.silu(norm("decoder.norm_out", x)))


@pytest.mark.parametrize(("sizes", "mage"), [(SMALL, False), (MAGES, True)], ids=["taming", "mage"])
def test_the_numbers_are_those_of_the_published_network(sizes, mage, tmp_path):
    weights = drawn(layout(**sizes, mage=mage))
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    latents, codes, made = computed(weights, images, mage)
    net = taming.vqgan(weights | {"loss.logvar": torch.zeros(())}, tmp_path)
    with torch.no_grad():
        found = net.encode(images).latents
        assert torch.allclose(found, latents, atol=2e-5)
        assert torch.equal(net.quantize(found)[2][2].view(codes.shape), codes)
        assert codes.unique().numel() > 4
        assert torch.allclose(net.decode(found).sample, made, atol=2e-5)


@pytest.mark.parametrize("mage", [False, True], ids=["taming", "mage"])
def test_the_published_size_fits(mage, tmp_path):
    with torch.device("meta"):
        weights = {name: torch.empty(shape) for name, shape in layout(**PUBLISHED, mage=mage)}
    weights["loss.discriminator.main.0.weight"] = torch.empty(64, 3, 4, 4, device="meta")
    net = taming.vqgan(weights, tmp_path)
    assert net.config["block_out_channels"] == (128, 128, 256, 256, 512)
    assert taming.unit(weights) == mage
    assert net.quantize.embedding.weight.shape == (1024, 256)


def whole(count, size):
    """Return a view of random images of which nothing is hidden."""
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return View(degraded(images), images)


@pytest.mark.parametrize(("sizes", "mage"), [(SMALL, False), (MAGES, True)], ids=["taming", "mage"])
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_a_vq_gan_is_read_from_a_checkpoint_and_written_for_diffusers(sizes, mage, suffix, tmp_path):
    weights = drawn(layout(**sizes, mage=mage))
    path = tmp_path / f"last.{suffix}"
    if suffix == "ckpt":
        torch.save({"state_dict": weights | {"loss.logvar": torch.zeros(())}, "global_step": 7}, path)
    else:
        save(weights, path)
    section = VQGAN(kind="vq-gan", image_size=16)
    adapter = section.build(path)
    view = whole(2, 16)
    _, _, made = computed(weights, view.images if mage else view.images * 2 - 1, mage)
    with torch.no_grad():
        found = adapter.decode(adapter.embed(view), view)
    assert torch.allclose(found, made if mage else made / 2 + 0.5, atol=2e-5)
    (tmp_path / "saved").mkdir()
    adapter.save(tmp_path / "saved")
    with torch.no_grad():
        again = VQGAN(kind="vq-gan").build(tmp_path / "saved")
        assert torch.equal(again.decode(again.embed(view), view), found)
        plain = pretrained(diffusers.VQModel, tmp_path / "saved")
        output = plain(view.images if mage else view.images * 2 - 1).sample
    assert torch.equal(output if mage else output / 2 + 0.5, found)
    check_model(section, weights=path)
    assert VQGAN(kind="vq-gan").build(path).image_size == 256
    with pytest.raises(UserError, match=r"model.codes: the recipe says 99.*16; leave it out"):
        VQGAN(kind="vq-gan", codes=99).build(path)


def test_what_is_no_vq_gan_of_taming_is_one_message(tmp_path):
    weights = drawn(layout(**SMALL))
    gumbel = {name.replace("quantize.embedding", "quantize.embed"): value for name, value in weights.items()}
    with pytest.raises(UserError, match="no codebook"):
        taming.vqgan(gumbel, tmp_path)
    with pytest.raises(UserError, match="unexpected 'norm3'"):
        taming.vqgan(weights | {"encoder.mid.block_1.norm3.weight": torch.zeros(1)}, tmp_path)
    del weights["decoder.conv_out.bias"]
    with pytest.raises(UserError, match=r"missing: decoder\.conv_out\.bias"):
        taming.vqgan(weights, tmp_path)


def taesd(width, latents, pooled):
    """Return names and shapes of TAESD's encoder and decoder, `pooled` as for FLUX.2."""

    def half(order, first, last, pools):
        for number, part in enumerate(order):
            if part == "block":
                for layer in (0, 2, 4):
                    yield f"{number}.conv.{layer}.weight", (width, width, 3, 3)
                    yield f"{number}.conv.{layer}.bias", (width,)
                if number in pools:
                    yield f"{number}.pool.0.weight", (4 * width, width, 1, 1)
                    yield from ((f"{number}.pool.1.weight", (4 * width,)), (f"{number}.pool.1.bias", (4 * width,)))
                    yield f"{number}.pool.3.weight", (width, 4 * width, 1, 1)
            elif part in ("first", "last", "conv"):
                before, after = {"first": (first, width), "last": (width, last), "conv": (width, width)}[part]
                yield f"{number}.weight", (after, before, 3, 3)
                if part != "conv":
                    yield f"{number}.bias", (after,)

    down = ["first", "block", *["conv", "block", "block", "block"] * 3, "last"]
    up = ["clamp", "first", "relu", *["block", "block", "block", "up", "conv"] * 3, "block", "last"]
    pools = {"encoder": (11, 12, 13), "decoder": (3, 4, 5)} if pooled else {"encoder": (), "decoder": ()}
    return {
        "encoder": dict(half(down, 3, latents, pools["encoder"])),
        "decoder": dict(half(up, latents, 3, pools["decoder"])),
    }


def through(weights, x, decoding):
    """Return what one half of TAESD computes."""
    x = torch.tanh(x / 3) * 3 if decoding else x
    numbers = sorted({int(name.split(".")[0]) for name in weights})
    for number in numbers:
        if f"{number}.weight" in weights:
            halving = not decoding and f"{number}.bias" not in weights
            if decoding and f"{number}.bias" not in weights:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = F.conv2d(x, weights[f"{number}.weight"], weights.get(f"{number}.bias"), 2 if halving else 1, 1)
            if decoding and number == numbers[0]:
                x = F.relu(x)
            continue
        if f"{number}.pool.0.weight" in weights:
            h = F.conv2d(x, weights[f"{number}.pool.0.weight"])
            h = F.group_norm(h, 4, weights[f"{number}.pool.1.weight"], weights[f"{number}.pool.1.bias"])
            x = x + F.conv2d(F.relu(h), weights[f"{number}.pool.3.weight"])
        h = x
        for layer in (0, 2, 4):
            h = F.relu(h) if layer else h
            h = F.conv2d(h, weights[f"{number}.conv.{layer}.weight"], weights[f"{number}.conv.{layer}.bias"], padding=1)
        x = F.relu(h + x)
    return x


@pytest.mark.parametrize(("width", "latents", "pooled"), [(64, 32, True), (64, 4, False), (8, 4, True)])
def test_taesd_gives_its_numbers(width, latents, pooled, tmp_path):
    halves = {half: drawn(shapes.items()) for half, shapes in taesd(width, latents, pooled).items()}
    (tmp_path / "taesd").mkdir()
    torch.save({name: value.half() for name, value in halves["encoder"].items()}, tmp_path / "taesd" / "ta_encoder.pth")
    save(halves["decoder"], tmp_path / "taesd" / "ta_decoder.safetensors")
    halves["encoder"] = {name: value.half().float() for name, value in halves["encoder"].items()}
    section = AutoencoderTiny(kind="autoencoder-tiny", image_size=16)
    adapter = section.build(tmp_path / "taesd")
    view = whole(2, 16)
    latent = through(halves["encoder"], view.images, False)
    with torch.no_grad():
        assert torch.allclose(adapter.embed(view), latent, rtol=1e-4, atol=1e-4 * latent.abs().max())
        made = through(halves["decoder"], latent, True)
        found = adapter.decode(adapter.embed(view), view)
        assert torch.allclose(found, made, rtol=1e-3, atol=1e-4 * made.abs().max())
    (tmp_path / "saved").mkdir()
    adapter.save(tmp_path / "saved")
    again = section.build(tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(again.decode(again.embed(view), view), found)
    assert (tmp_path / "saved" / "config.json").exists() != pooled
    if pooled:
        check_model(section, weights=tmp_path / "taesd")


def test_two_files_that_are_no_taesd_are_one_message(tmp_path):
    halves = {half: drawn(shapes.items()) for half, shapes in taesd(8, 4, False).items()}
    del halves["decoder"]["19.bias"]
    for half, tensors in halves.items():
        save(tensors, tmp_path / f"{half}.safetensors")
    section = AutoencoderTiny(kind="autoencoder-tiny")
    with pytest.raises(UserError, match=r"missing: decoder.layers.18.bias"):
        section.build(tmp_path)
    torch.save(halves["decoder"], tmp_path / "decoder.pth")
    with pytest.raises(UserError, match=r"missing: decoder.layers.18.bias"):
        section.build(tmp_path)
    save(halves["encoder"], tmp_path / "other_encoder.safetensors")
    with pytest.raises(UserError, match=r"which is the encoder, encoder.safetensors or other_encoder.safetensors"):
        section.build(tmp_path)


@pytest.mark.skipif("UNLEARNKIT_TAEF2" not in os.environ, reason="UNLEARNKIT_TAEF2 names no folder of the weights")
def test_the_real_taef2_rebuilds_photographs():
    folder = Path(os.environ["UNLEARNKIT_TAEF2"])
    adapter = AutoencoderTiny(kind="autoencoder-tiny").build(folder)
    source = Sample(kind="sample").open(Path())
    images = torch.stack([source.read(item, 64) for item in source.items[::40]]).float() / 255
    view = View(degraded(images), images)
    with torch.no_grad():
        encoder, decoder = (
            {name: value.float() for name, value in read(folder / f"taef2_{half}.pth").items()}
            for half in ("encoder", "decoder")
        )
        latent = through(encoder, view.images[:2], False)
        assert torch.allclose(adapter.embed(view[:2]), latent, rtol=1e-4, atol=1e-4)
        made = through(decoder, latent, True)
        assert torch.allclose(adapter.decode(latent, view[:2]), made, rtol=1e-3, atol=1e-4)
        error = (adapter.decode(adapter.embed(view), view).clamp(0, 1) - images).square().mean((1, 2, 3))
    assert float((-10 * error.log10()).mean()) > 24
