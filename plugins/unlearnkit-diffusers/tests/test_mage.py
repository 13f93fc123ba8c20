"""MAGE: its contract, what is frozen, its decoding, and its published layout."""

import math
from dataclasses import replace

import diffusers
import pytest
import torch
from test_layouts import MAGES, PUBLISHED, computed, drawn, layout
from torch.nn import functional as F
from unlearnkit_diffusers.autoencoder_sections import VQGAN, Mage

from unlearnkit.builtin.tasks.sections import CenterCrop, Downscaling, RandomBox, RandomTokens
from unlearnkit.contracts import hide, shared, trainable
from unlearnkit.data import seeded, view_of
from unlearnkit.errors import UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.testing import check_model

SIZES = {"width": 16, "depth": 2, "heads": 2, "decoder_width": 12, "decoder_depth": 1, "decoder_heads": 2}
TASKS = [
    CenterCrop(kind="center-crop"), RandomBox(kind="random-box"), RandomTokens(kind="random-tokens", token=4),
    Downscaling(kind="downscaling", factor=2),
]  # fmt: skip


@pytest.fixture
def first(tmp_path):
    torch.manual_seed(3)
    vqgan = VQGAN(kind="vq-gan", image_size=16, block_out_channels=(8, 8, 16), codes=24, code_width=4).build(None)
    (tmp_path / "vqgan").mkdir()
    vqgan.save(tmp_path / "vqgan")
    return tmp_path / "vqgan"


@pytest.fixture
def section(first):
    return Mage(kind="mage", **SIZES, first_stage=str(first), decoding_steps=3)


def built(section, task=TASKS[0]):
    torch.manual_seed(0)
    adapter = section.build(None)
    for parameter in trainable(adapter):  # away from the start, where all words are about as likely
        parameter.data += 0.2 * torch.randn(parameter.shape)
    images = torch.rand(2, 3, adapter.image_size, adapter.image_size, generator=seeded("images"))
    return adapter, images, view_of(adapter, task.build(), images, seeded("view"))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_it_keeps_its_contract(section, task):
    check_model(section, task.build())


def test_it_can_be_tried_out_without_a_first_stage():
    adapter = Mage(kind="mage", **SIZES, image_size=32).build(None)
    assert adapter.image_size == 32
    assert shared(adapter) == []


def test_a_frozen_decoder_stays_while_the_encoder_is_trained(section):
    adapter, _, view = built(section)
    assert shared(adapter) == []
    embedding = adapter.embed(view).detach()
    words = adapter.encoder.token_emb.word_embeddings.weight.detach().clone()
    masked = adapter._masked(view)
    with torch.no_grad():
        before = adapter.decode(embedding, view), adapter.module.decoder(embedding, masked), adapter.first_stage(view)
    optimizer = torch.optim.AdamW(trainable(adapter, "encoder"), lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        adapter.decode(adapter.embed(view), view).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        after = adapter.decode(embedding, view), adapter.module.decoder(embedding, masked), adapter.first_stage(view)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert torch.equal(before[2][0], after[2][0])
    assert not torch.equal(adapter.embed(view), embedding)
    assert not torch.equal(adapter.encoder.token_emb.word_embeddings.weight, words)


def test_training_all_leaves_the_first_stage_alone(section):
    adapter, images, view = built(section)
    assert not any(parameter.requires_grad for parameter in adapter.first.parameters())
    ids = {id(parameter) for parameter in adapter.first.parameters()}
    assert not any(id(parameter) in ids for parameter in trainable(adapter))
    before = {name: value.clone() for name, value in adapter.first.state_dict().items()}
    optimizer = torch.optim.AdamW(trainable(adapter), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(adapter.own_loss(images, view))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in adapter.first.state_dict().items())


def test_hidden_pixels_reach_neither_tokens_nor_embedding(section):
    adapter, images, view = built(section)
    other = view_of(adapter, TASKS[0].build(), images.masked_fill(view.hidden, 0.9), seeded("view"))
    assert torch.equal(adapter.first_stage(view)[0], adapter.first_stage(other)[0])
    assert torch.equal(adapter.output(view), adapter.output(other))
    tokens = adapter.first_stage(view)[0]
    masked = adapter._masked(view)
    assert tokens.dtype == torch.int64
    assert tokens.shape == masked.shape == (2, 16)
    assert masked[0].view(4, 4).tolist() == [[1 <= y < 3 and 1 <= x < 3 for x in range(4)] for y in range(4)]
    changed = torch.where(masked, (tokens + 1) % adapter.codes, tokens)
    with torch.no_grad():
        assert torch.equal(adapter.encoder(tokens, masked), adapter.encoder(changed, masked))


def test_one_hidden_pixel_masks_its_token(section):
    adapter, _, view = built(section)
    hidden = torch.zeros_like(view.on_host)
    hidden[0, 0, 7, 8] = True
    view = replace(view, degraded=hide(view.truth, hidden))
    assert adapter._masked(view).nonzero().tolist() == [[0, 1 * 4 + 2]]


def test_the_own_loss_is_the_smoothed_cross_entropy_of_the_masked_tokens(section):
    adapter, images, view = built(section)
    latents = adapter.first.encode(images * 2 - 1).latents.permute(0, 2, 3, 1).flatten(1, 2)
    wanted = torch.cdist(latents, adapter.first.quantize.embedding.weight).argmin(2)
    masked = adapter._masked(view)
    chances = adapter.module.decoder(adapter.embed(view), masked)[:, 1:, :24].log_softmax(2)[masked]
    right = chances.gather(1, wanted[masked][:, None])[:, 0]
    assert adapter.own_loss(images, view).item() == pytest.approx(
        -(0.9 * right + 0.1 * chances.mean(1)).mean().item(), rel=1e-5
    )


def test_decoding_goes_straight_through_the_codes(section):
    adapter, _, view = built(section)
    embedding = adapter.embed(view).detach().requires_grad_(True)
    image = adapter.decode(embedding, view)
    masked, (tokens,) = adapter._masked(view), adapter.first_stage(view)
    logits = adapter.module.decoder(embedding, masked)[:, 1:, :24]
    codes = torch.where(masked, logits.argmax(2), tokens)
    book = adapter.first.quantize.embedding.weight
    plain = adapter.first.decode(book[codes].view(2, 4, 4, 4).permute(0, 3, 1, 2), force_not_quantize=True).sample
    assert torch.allclose(image, plain / 2 + 0.5, atol=1e-5)
    image.square().sum().backward()
    assert embedding.grad.abs().sum() > 0


def test_output_decides_tokens_in_steps_the_surest_first(section):
    adapter, _, view = built(section)
    adapter.steps = 3
    (tokens,), unknown = adapter.first_stage(view), adapter._masked(view)
    open_after = [math.floor(4 * math.cos(math.pi / 2 * step / 3) + 1e-9) for step in (1, 2, 3)]
    assert open_after == [3, 2, 0]
    for left in open_after:
        with torch.no_grad():
            found = adapter.module.decoder(adapter.encoder(tokens, unknown), unknown)
        chance, best = found[:, 1:, :24].softmax(2).max(2)
        tokens = torch.where(unknown, best, tokens)
        for row in range(2):
            places = unknown[row].nonzero()[:, 0].tolist()
            surest = sorted(places, key=lambda place: chance[row, place])[left:]
            unknown[row, surest] = False
    codes = adapter.first.quantize.embedding.weight[tokens].view(2, 4, 4, 4).permute(0, 3, 1, 2)
    plain = adapter.first.decode(codes, force_not_quantize=True).sample / 2 + 0.5
    expected = torch.where(view.hidden, plain.clamp(0, 1), view.images)
    assert torch.allclose(adapter.output(view), expected, atol=1e-5)


def test_output_remakes_all_of_an_image_without_hidden_pixels(section):
    adapter, _, view = built(section, TASKS[3])
    assert not view.hidden.any()
    with torch.no_grad():
        assert torch.allclose(adapter.output(view), adapter.decode(adapter.embed(view), view).clamp(0, 1), atol=1e-5)


def test_a_saved_folder_brings_its_first_stage(section, first, tmp_path):
    adapter, _, view = built(section)
    (tmp_path / "saved").mkdir()
    adapter.save(tmp_path / "saved")
    again = Mage(kind="mage", decoding_steps=3).build(tmp_path / "saved")
    assert torch.equal(adapter.output(view), again.output(view))
    plain = diffusers.VQModel.from_pretrained(tmp_path / "saved" / "vqgan", use_safetensors=True)
    assert torch.equal(plain.encode(view.images).latents, adapter.first.encode(view.images).latents)
    for field, value in {"width": 32, "image_size": 32, "decoder_heads": 3}.items():
        with pytest.raises(UserError, match=rf"model\.{field}: the recipe says {value}"):
            section.model_copy(update={field: value}).build(tmp_path / "saved")
    with pytest.raises(UserError, match=r"config.json is not that of a MAGE"):
        section.build(first)
    with pytest.raises(UserError, match=r"model.heads: 5 does not divide width"):
        section.model_copy(update={"heads": 5}).build(None)
    with pytest.raises(UserError, match=r"model.first_stage: there is no file or folder nowhere"):
        section.model_copy(update={"first_stage": "nowhere"}).build(None)


def test_the_first_stage_starts_at_the_recipes_folder(first, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = tmp_path / "pretrain.yaml"
    recipe.write_text(
        "name: small\nmodel: {kind: mage, first_stage: vqgan}\ndata: {source: {kind: sample}}\n"
        "tasks: [{kind: center-crop}]\npretrain: {steps: 1}\n"
    )
    adapter = load(recipe, discover()).recipe.model.build(None)
    trained = diffusers.VQModel.from_pretrained(first, use_safetensors=True)
    assert torch.equal(adapter.first.quantize.embedding.weight, trained.quantize.embedding.weight)
    loose = Mage(kind="mage", first_stage="vqgan")
    with pytest.raises(UserError, match=r"model.first_stage: there is no file or folder vqgan"):
        loose.build(None)


def test_a_first_stage_for_images_that_are_no_squares_needs_a_side(tmp_path):
    VQGAN(kind="vq-gan", image_size=(16, 24), block_out_channels=(8, 8, 16), codes=24).build(None).save(tmp_path)
    section = Mage(kind="mage", **SIZES, first_stage=str(tmp_path))
    with pytest.raises(
        UserError, match=r"model.first_stage: its VQ-GAN is for images that are no squares; give `image"
    ):
        section.build(None)
    assert section.model_copy(update={"image_size": 16}).build(None).image_size == 16


def published(width, depth, decoder_depth, side, sizes):
    """Yield name and shape of each tensor of a published checkpoint, used or not."""
    words, places = sizes["codes"] + 1001, side**2 + 1
    yield from [("cls_token", (1, 1, width)), ("pos_embed", (1, places, width)), ("mask_token", (1, 1, width))]
    yield from [("decoder_pos_embed", (1, places, width)), ("decoder_pos_embed_learned", (1, places, width))]
    yield from [("patch_embed.proj.weight", (width, 3, 16, 16)), ("patch_embed.proj.bias", (width,))]
    yield from [("decoder_pred.weight", (768, width)), ("decoder_pred.bias", (768,))]
    yield from [("decoder_embed.weight", (width, width)), ("decoder_embed.bias", (width,))]
    yield from [("token_emb.word_embeddings.weight", (words, width)), ("token_emb.position_ids", (1, places))]
    yield from [("token_emb.position_embeddings.weight", (places, width)), ("mlm_layer.bias", (1, 1, words))]
    yield from [("mlm_layer.fc.weight", (width, width)), ("mlm_layer.fc.bias", (width,))]
    for norm in ("token_emb.LayerNorm", "norm", "decoder_norm", "mlm_layer.ln"):
        yield from [(f"{norm}.weight", (width,)), (f"{norm}.bias", (width,))]
    for blocks, count in (("blocks", depth), ("decoder_blocks", decoder_depth)):
        for number in range(count):
            block = f"{blocks}.{number}"
            for norm in ("norm1", "norm2"):
                yield from [(f"{block}.{norm}.weight", (width,)), (f"{block}.{norm}.bias", (width,))]
            for layer, after, before in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
                yield f"{block}.{layer}.weight", (after * width, before * width)
                yield f"{block}.{layer}.bias", (after * width,)
    for name, shape in layout(**sizes, mage=True):
        yield f"vqgan.{name}", shape


def logits(weights, tokens, masked, heads, decoder_heads, codes):
    """Return the published network's logits [B, 1 + N, V] from its own weights, the head tied to the embedding."""

    def linear(name, x):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name, x, eps=1e-6):
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def block(name, x, heads):
        three = [part.chunk(heads, 2) for part in linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x)).chunk(3, 2)]
        gathered = [
            torch.softmax(q @ k.transpose(1, 2) * q.shape[2] ** -0.5, 2) @ v for q, k, v in zip(*three, strict=True)
        ]
        x = x + linear(f"{name}.attn.proj", torch.cat(gathered, 2))
        return x + linear(f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))))

    first = torch.full((len(tokens), 1), codes + 1100 - 1024)
    words = torch.cat([first, torch.where(masked, torch.tensor(codes + 1000), tokens)], 1)
    table = weights["token_emb.word_embeddings.weight"]
    x = norm("token_emb.LayerNorm", table[words] + weights["token_emb.position_embeddings.weight"])
    for number in range(2):
        x = block(f"blocks.{number}", x, heads)
    x = linear("decoder_embed", norm("norm", x))
    hidden = torch.cat([torch.zeros_like(first, dtype=torch.bool), masked], 1)
    x = torch.where(hidden[..., None], x[:, :1].expand_as(x), x) + weights["decoder_pos_embed_learned"]
    x = norm("decoder_norm", block("decoder_blocks.0", x, decoder_heads))
    return norm("mlm_layer.ln", F.gelu(linear("mlm_layer.fc", x)), 1e-5) @ table.T + weights["mlm_layer.bias"]


def test_a_published_checkpoint_gives_the_published_numbers(tmp_path):
    weights = drawn(published(16, 2, 1, 4, MAGES))
    weights["token_emb.position_ids"] = torch.arange(17)[None]
    torch.save({"model": weights, "epoch": 1600}, tmp_path / "mage.pth")
    section = Mage(kind="mage", heads=4, decoder_heads=2)
    adapter = section.build(tmp_path / "mage.pth")
    assert (adapter.image_size, adapter.unit) == (16, True)
    images = torch.rand(2, 3, 16, 16, generator=seeded("images"))
    view = view_of(adapter, TASKS[0].build(), images, seeded("view"))
    vqgan = {name.removeprefix("vqgan."): value for name, value in weights.items() if name.startswith("vqgan.")}
    tokens = computed(vqgan, view.images, mage=True)[1].flatten(1)
    assert torch.equal(adapter.first_stage(view)[0], tokens)
    masked = adapter._masked(view)
    with torch.no_grad():
        found = adapter.module.decoder(adapter.embed(view), masked)
    assert torch.allclose(found, logits(weights, tokens, masked, 4, 2, 16), atol=1e-4)
    (tmp_path / "saved").mkdir()
    adapter.save(tmp_path / "saved")
    again = Mage(kind="mage").build(tmp_path / "saved")
    assert again.unit
    assert torch.equal(adapter.output(view), again.output(view))
    with pytest.raises(UserError, match=r"model.heads: .*give them"):
        Mage(kind="mage").build(tmp_path / "mage.pth")
    torch.save({"model": {name: value for name, value in weights.items() if "vqgan" not in name}}, tmp_path / "no.pth")
    with pytest.raises(UserError, match="no MAGE with its VQ-GAN"):
        section.build(tmp_path / "no.pth")


@pytest.mark.parametrize(
    ("width", "depth", "heads"), [(768, 12, (12, 16)), (1024, 24, (16, 16))], ids=["base", "large"]
)
def test_the_published_sizes_fit(width, depth, heads, monkeypatch, tmp_path):
    from unlearnkit_diffusers import mage

    with torch.device("meta"):
        weights = {name: torch.empty(shape) for name, shape in published(width, depth, 8, 16, PUBLISHED)}
        monkeypatch.setattr(mage, "read", lambda path, *wanted: weights)
        adapter = Mage(kind="mage").build(tmp_path / "mage.pth")
    assert adapter.image_size == 256
    assert adapter.sizes == {
        "width": width, "depth": depth, "heads": heads[0], "decoder_width": width, "decoder_depth": 8,
        "decoder_heads": heads[1],
    }  # fmt: skip
    assert (adapter.encoder.none, adapter.encoder.mask) == (1100, 2024)
