"""The masked autoencoder: its contract, the official layout, and a computation of its own for comparison."""

import errno
import math
import os

import pytest
import torch
import unlearnkit_timm
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from unlearnkit_timm import MAE

from unlearnkit.builtin.tasks.sections import CenterCrop, RandomBox, Reconstruction
from unlearnkit.contracts import Degraded, View, hide
from unlearnkit.data import seeded, view_of
from unlearnkit.errors import Exit, UserError
from unlearnkit.testing import check_model, check_plugin

SIZES = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
DECODER = {"decoder_width": 12, "decoder_depth": 1, "decoder_heads": 3}
SMALL = MAE(kind="mae", **SIZES, **DECODER)
TASKS = [CenterCrop(kind="center-crop"), RandomBox(kind="random-box"), Reconstruction(kind="reconstruction")]
# Width, depth, patch and patches of the published encoders (He et al. 2022, and the official checkpoints).
PUBLISHED = {
    "vit_base_patch16_224": (768, 12, 16, 196),
    "vit_large_patch16_224": (1024, 24, 16, 196),
    "vit_huge_patch14_224": (1280, 32, 14, 256),
}


def layout(width: int, depth: int, patch: int, patches: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of an official checkpoint with its decoder of 512 by 8."""

    def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (size,), f"{name}.bias": (size,)}

    def block(name: str, size: int) -> dict[str, tuple[int, ...]]:
        return {
            **norm(f"{name}.norm1", size), **linear(f"{name}.attn.qkv", 3 * size, size),
            **linear(f"{name}.attn.proj", size, size), **norm(f"{name}.norm2", size),
            **linear(f"{name}.mlp.fc1", 4 * size, size), **linear(f"{name}.mlp.fc2", size, 4 * size),
        }  # fmt: skip

    shapes = {
        "cls_token": (1, 1, width), "pos_embed": (1, patches + 1, width), "mask_token": (1, 1, 512),
        "decoder_pos_embed": (1, patches + 1, 512),
        "patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,),
        **norm("norm", width), **linear("decoder_embed", 512, width), **norm("decoder_norm", 512),
        **linear("decoder_pred", 3 * patch**2, 512),
    }  # fmt: skip
    for number in range(depth):
        shapes |= block(f"blocks.{number}", width)
    for number in range(8):
        shapes |= block(f"decoder_blocks.{number}", 512)
    return shapes


def views(adapter, task, count=2):
    images = torch.rand(count, 3, adapter.image_size, adapter.image_size, generator=seeded("images"))
    return images, view_of(adapter, task.build(), images, seeded("view"))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_it_keeps_its_contract(task, norm_pix_loss):
    check_model(SMALL.model_copy(update={"norm_pix_loss": norm_pix_loss}), task.build())


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be written \(No space left") as error:
        SMALL.build(None).save(tmp_path)
    assert error.value.code == Exit.FOLDER
    assert not list(tmp_path.iterdir())


def test_the_plugin_registers_and_its_model_keeps_the_contract(tmp_path):
    assert check_plugin(unlearnkit_timm, tmp_path, {"mae": SIZES | DECODER}) == ["mae"]


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_names_and_shapes_are_those_of_the_official_checkpoints(architecture):
    with torch.device("meta"):
        found = MAE(kind="mae", architecture=architecture).build(None).module.official()
    assert {name: tuple(value.shape) for name, value in found.items()} == layout(*PUBLISHED[architecture])


def test_an_official_checkpoint_of_base_size_loads(tmp_path):
    torch.manual_seed(1)
    state = {name: torch.randn(shape) * 0.02 for name, shape in layout(*PUBLISHED["vit_base_patch16_224"]).items()}
    torch.save({"model": state}, tmp_path / "mae_pretrain_vit_base_full.pth")
    adapter = MAE(kind="mae").build(tmp_path / "mae_pretrain_vit_base_full.pth")
    assert all(torch.equal(value, state[name]) for name, value in adapter.module.official().items())


def independent(state: dict[str, torch.Tensor], images: torch.Tensor, keep: list[int], patch: int) -> tuple:
    """Compute embedding and prediction of images that show the patches `keep`, from the official names alone."""

    def attention(x, name, heads):
        q, k, v = F.linear(x, state[f"{name}.qkv.weight"], state[f"{name}.qkv.bias"]).chunk(3, dim=-1)
        out = []
        for head in range(heads):
            place = slice(head * q.shape[-1] // heads, (head + 1) * q.shape[-1] // heads)
            scores = (q[..., place] @ k[..., place].transpose(1, 2)) / (q.shape[-1] // heads) ** 0.5
            out.append(scores.softmax(-1) @ v[..., place])
        return F.linear(torch.cat(out, -1), state[f"{name}.proj.weight"], state[f"{name}.proj.bias"])

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def block(x, name, heads):
        x = x + attention(norm(x, f"{name}.norm1"), f"{name}.attn", heads)
        hidden = F.linear(norm(x, f"{name}.norm2"), state[f"{name}.mlp.fc1.weight"], state[f"{name}.mlp.fc1.bias"])
        return x + F.linear(F.gelu(hidden), state[f"{name}.mlp.fc2.weight"], state[f"{name}.mlp.fc2.bias"])

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images - mean[:, None, None]) / std[:, None, None]
    x = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2) + state["pos_embed"][:, 1:]
    x = torch.cat([(state["cls_token"] + state["pos_embed"][:, :1]).expand(len(x), -1, -1), x[:, keep]], 1)
    for number in range(2):
        x = block(x, f"blocks.{number}", 2)
    embedding = norm(x, "norm")
    y = F.linear(embedding, state["decoder_embed.weight"], state["decoder_embed.bias"])
    count = state["decoder_pos_embed"].shape[1] - 1
    full = state["mask_token"].repeat(len(x), count, 1)
    full[:, keep] = y[:, 1:]
    y = torch.cat([y[:, :1], full], 1) + state["decoder_pos_embed"]
    y = norm(block(y, "decoder_blocks.0", 3), "decoder_norm")
    values = F.linear(y, state["decoder_pred.weight"], state["decoder_pred.bias"])[:, 1:]
    side = int(count**0.5)
    picture = torch.empty(len(x), 3, side * patch, side * patch)
    for number in range(count):  # a patch's values run over rows, columns and then colours
        row, column = number // side * patch, number % side * patch
        tile = values[:, number].view(len(x), patch, patch, 3).permute(0, 3, 1, 2)
        picture[:, :, row : row + patch, column : column + patch] = tile
    return embedding, values, picture * std[:, None, None] + mean[:, None, None]


def test_a_converted_checkpoint_computes_what_the_paper_says(tmp_path):
    torch.manual_seed(2)
    state = {name: torch.randn(value.shape) * 0.3 for name, value in SMALL.build(None).module.official().items()}
    torch.save({"model": state, "epoch": 799}, tmp_path / "mae.pth")
    adapter = SMALL.build(tmp_path / "mae.pth")
    _, view = views(adapter, CenterCrop(kind="center-crop"))
    keep = [number for number in range(16) if number not in (5, 6, 9, 10)]
    embedding, _, picture = independent(state, view.images, keep, 4)
    with torch.no_grad():
        found = adapter.embed(view)
        assert torch.allclose(found, embedding, rtol=0, atol=1e-5)
        assert torch.allclose(adapter.decode(found, view), picture, rtol=0, atol=1e-5)


def box(*sides: int) -> torch.Tensor:
    """Return masks of 16 px, each with a hidden square in its upper left corner."""
    hidden = torch.zeros(len(sides), 1, 16, 16, dtype=torch.bool)
    for row, side in enumerate(sides):
        hidden[row, :, :side, :side] = True
    return hidden


def shown(images: torch.Tensor, hidden: torch.Tensor) -> View:
    """Return a view whose hidden pixels are as they were, so that reading one would show."""
    return View(Degraded(images, hidden), images)


@pytest.mark.parametrize(
    "architecture",
    ["vit_base_patch16_224", "vit_base_patch16_clip_224", "vit_base_patch16_xp_224", "vit_small_patch16_18x2_224"],
)
def test_an_image_without_hidden_patches_passes_as_in_timm(architecture):
    torch.manual_seed(6)
    adapter = SMALL.model_copy(update={"architecture": architecture}).build(None)
    with torch.no_grad():
        for parameter in adapter.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        images = torch.rand(2, 3, 16, 16)
        vit, normal = adapter.encoder.vit, (images - adapter.module.mean) / adapter.module.std
        x = vit.patch_embed(normal) + vit.pos_embed[:, 1:]
        x = torch.cat([(vit.cls_token + vit.pos_embed[:, :1]).expand(2, -1, -1), x], 1)
        expected = vit.norm(vit.blocks(vit.norm_pre(x)))
        assert torch.allclose(adapter.embed(shown(images, box(0, 0))), expected, atol=1e-5)
        both, alone = adapter.embed(shown(images, box(8, 4)))[:1], adapter.embed(shown(images[:1], box(8)))
    assert torch.allclose(both[:, : alone.shape[1]], alone, atol=1e-5), "padding is masked in every kind of block"


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_the_own_loss_is_that_of_the_hidden_patches(norm_pix_loss):
    torch.manual_seed(3)
    adapter = SMALL.model_copy(update={"norm_pix_loss": norm_pix_loss}).build(None)
    images, view = views(adapter, CenterCrop(kind="center-crop"))
    keep = [number for number in range(16) if number not in (5, 6, 9, 10)]
    _, values, _ = independent(adapter.module.official(), view.images, keep, 4)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = (images - mean[:, None, None]) / std[:, None, None]
    errors = []
    for number in (5, 6, 9, 10):
        row, column = number // 4 * 4, number % 4 * 4
        tile = wanted[:, :, row : row + 4, column : column + 4].permute(0, 2, 3, 1).flatten(1)
        if norm_pix_loss:
            tile = (tile - tile.mean(1, keepdim=True)) / (tile.var(1, keepdim=True) + 1e-6).sqrt()
        errors.append((values[:, number] - tile).square().mean())
    assert adapter.own_loss(images, view).item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_the_embedding_depends_on_the_encoder_alone():
    adapter = SMALL.build(None)
    _, view = views(adapter, RandomBox(kind="random-box"))
    adapter.embed(view).square().mean().backward()
    assert all(parameter.grad is not None for parameter in adapter.encoder.parameters())
    assert all(parameter.grad is None for parameter in adapter.module.decoder.parameters())


def test_normalised_patches_are_shown_in_the_colours_around_them():
    adapter = SMALL.model_copy(update={"norm_pix_loss": True}).build(None)
    torch.nn.init.zeros_(adapter.module.decoder.decoder_pred.weight)  # every patch is predicted as its mean
    ramp = torch.linspace(0.2, 0.8, 16).expand(1, 3, 16, 16) * torch.ones(3)[:, None, None]
    view = view_of(adapter, CenterCrop(kind="center-crop").build(), ramp, seeded("view"))
    # The deviation does not matter where the normalised prediction is zero.
    with torch.no_grad():
        shown = adapter.decode(adapter.embed(view), view)
    gray = torch.full_like(ramp, 0.5)
    assert (shown - ramp)[..., 4:12].abs().mean() < (gray - ramp)[..., 4:12].abs().mean()
    left, right = shown[..., 4:12, 4:8].mean(), shown[..., 4:12, 8:12].mean()
    assert left < right, "the hidden patches follow the ramp of the visible ones"


def test_without_a_visible_patch_all_visible_pixels_give_the_colours():
    torch.manual_seed(7)
    adapter = SMALL.model_copy(update={"norm_pix_loss": True, "normalize": "half"}).build(None)
    images = torch.rand(2, 3, 16, 16)
    hidden = box(0, 8)
    hidden[0, :, ::4, ::4] = True  # a pixel of every patch of the first image
    view = View(hide(images, hidden), images)
    with torch.no_grad():
        embedding = adapter.embed(view)
        shown = adapter.decode(embedding, view)
        values = adapter.module.decoder(embedding[:1, :1], torch.empty(1, 0, dtype=torch.long), torch.empty(1, 0) > 0)
        alone = adapter.decode(adapter.embed(view[:1]), view[:1])
    pixels = images[0].permute(1, 2, 0)[~hidden[0, 0]]
    corner = values[0, 0].view(4, 4, 3).permute(2, 0, 1) * pixels.std(correction=0) + pixels.mean()
    assert torch.allclose(shown[0, :, :4, :4], corner, atol=1e-4)
    assert torch.allclose(alone, shown[:1], atol=1e-5)


def test_a_shorter_row_of_a_batch_is_embedded_as_if_alone():
    torch.manual_seed(4)
    adapter = SMALL.build(None)
    images = torch.rand(2, 3, 16, 16)
    hidden = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    hidden[0, :, 4:12, 4:12] = True
    hidden[1, :, 4:8, 4:8] = True
    with torch.no_grad():
        both = adapter.embed(shown(images, hidden))
        alone = adapter.embed(shown(images[:1], hidden[:1]))
        whole = adapter.decode(both, shown(images, hidden))
        single = adapter.decode(alone, shown(images[:1], hidden[:1]))
    assert torch.allclose(both[:1, :13], alone, atol=1e-5)
    assert not both[0, 13:].any(), "padding is zero"
    assert torch.allclose(whole[:1], single, atol=1e-5)


def test_half_precision_files_and_folders_load(tmp_path):
    adapter = SMALL.build(None)
    adapter.save(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "half").mkdir()
    save_file({name: value.half() for name, value in state.items()}, tmp_path / "half" / "model.safetensors")
    again = SMALL.build(tmp_path / "half")
    assert all(torch.allclose(value, again.module.official()[name], atol=1e-3) for name, value in state.items())


def test_an_encoder_alone_needs_a_word(tmp_path):
    state = {
        name: value for name, value in SMALL.build(None).module.official().items()
        if not name.startswith(("decoder_", "mask_token"))
    } | {"head.weight": torch.ones(1000, 16), "head.bias": torch.ones(1000)}  # fmt: skip
    save_file(state, tmp_path / "encoder.safetensors")
    with pytest.raises(UserError, match=r"encoder alone; .*`decoder: fresh`"):
        SMALL.build(tmp_path / "encoder.safetensors")
    fresh = SMALL.model_copy(update={"decoder": "fresh"})
    torch.manual_seed(8)
    made = fresh.build(None).module.official()
    torch.manual_seed(8)
    found = fresh.build(tmp_path / "encoder.safetensors").module.official()
    for name, value in found.items():
        assert torch.equal(value, made[name] if name.startswith(("decoder_", "mask_token")) else state[name])


def test_a_file_with_decoder_brings_it_even_where_a_fresh_one_is_allowed(tmp_path):
    adapter = SMALL.build(None)
    adapter.save(tmp_path)
    again = SMALL.model_copy(update={"decoder": "fresh"}).build(tmp_path)
    assert torch.equal(again.module.official()["mask_token"], adapter.module.official()["mask_token"])


@pytest.mark.parametrize("name", ["model.safetensors", "mae.pth"])
def test_a_truncated_file_is_named(tmp_path, name):
    state = SMALL.build(None).module.official()
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save({"model": state}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=f"{name}: this is no complete") as caught:
        SMALL.build(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_size_is_named(tmp_path):
    SMALL.build(None).save(tmp_path)
    with pytest.raises(UserError, match=r"other shapes: .* in the file and .* in the model"):
        SMALL.model_copy(update={"width": 20}).build(tmp_path)


def test_another_transformer_is_not_taken_for_an_encoder(tmp_path):
    names = ("patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight")  # as in a Swin transformer
    save_file({name: torch.zeros(16, 3, 4, 4) for name in names}, tmp_path / "swin.safetensors")
    with pytest.raises(UserError, match="do not fit the model; missing"):
        SMALL.build(tmp_path / "swin.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "vit_bass_patch16_224"}, "did you mean 'vit_base_patch16_224'"),
        ({"architecture": "vit_base_patch16_siglip_224"}, "no plain vision transformer"),
        ({"architecture": "vit_base_r50_s16_224", "patch_size": None, "depth": 1}, "no plain vision transformer"),
        ({"patch_size": None}, r"16 px must divide image_size \(24 px\)"),
        ({"heads": None}, "timm cannot build"),
    ],
)
def test_sizes_that_do_not_fit_are_one_message(changes, words):
    with pytest.raises(UserError, match=words) as caught:
        MAE(**(SMALL.model_dump() | {"image_size": 24} | changes)).build(None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_size": 5}, r"patch_size \(5\) must divide image_size \(16\)"),
        ({"heads": 5}, r"heads \(5\) must divide width"),
        ({"decoder_heads": 5}, r"decoder_heads \(5\) must divide decoder_width"),
    ],
)
def test_sizes_that_do_not_divide_are_found_without_building(changes, words):
    with pytest.raises(ValidationError, match=words):
        MAE(**(SMALL.model_dump() | changes))


def test_a_checkpoint_of_another_family_is_named(tmp_path):
    from unlearnkit.builtin.models.sections import VitMae

    other = VitMae(kind="vit-mae", image_size=16, patch_size=4, width=16, depth=1, heads=2).build(None)
    other.save(tmp_path)
    with pytest.raises(UserError, match="looks like unlearnkit's own vit-mae"):
        SMALL.build(tmp_path)


def test_fresh_weights_come_from_the_seed():
    first, second = (MAE(kind="mae", **SIZES, **DECODER) for _ in range(2))
    torch.manual_seed(5)
    one = first.build(None)
    torch.manual_seed(5)
    assert all(
        torch.equal(value, one.module.official()[name]) for name, value in second.build(None).module.official().items()
    )


@pytest.fixture(params=[False, True], ids=["pixels", "normalised"])
def vitmae(request, tmp_path):
    """Return transformers' own model and its folder."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTMAEConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4,
        decoder_hidden_size=12, decoder_num_hidden_layers=1, decoder_num_attention_heads=3,
        decoder_intermediate_size=48, mask_ratio=0.25, norm_pix_loss=request.param,
    )  # fmt: skip
    torch.manual_seed(9)
    model = transformers.ViTMAEForPreTraining(config).eval()
    model.save_pretrained(tmp_path / "published")
    return model, tmp_path / "published"


@pytest.mark.parametrize("way", ["loaded", "exported"])
def test_a_folder_of_transformers_computes_what_transformers_computes(way, vitmae, tmp_path):
    model, folder = vitmae
    adapter = MAE(kind="mae").build(folder)
    if way == "exported":
        torch.manual_seed(11)
        with torch.no_grad():  # as after unlearning
            for parameter in adapter.module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        adapter.save(tmp_path)
        model = type(model).from_pretrained(tmp_path).eval()
    assert adapter.norm_pix_loss == model.config.norm_pix_loss
    images, view = views(adapter, CenterCrop(kind="center-crop"))
    hidden = torch.zeros(16)
    hidden[[5, 6, 9, 10]] = 1  # the patches with the largest noise are hidden there
    places = torch.tensor([[place for place in range(16) if not hidden[place]]] * 2)
    with torch.no_grad():
        theirs = model(adapter._in(images), noise=hidden.expand(2, -1))
        ours = adapter.module.decoder(adapter.module.encoder(adapter._in(view.images), places, None), places, None)
        assert torch.allclose(ours, theirs.logits, rtol=0, atol=1e-5)
        assert adapter.own_loss(images, view).item() == pytest.approx(theirs.loss.item(), abs=1e-5)


def test_what_came_from_transformers_goes_back(vitmae, tmp_path):
    model, folder = vitmae
    (tmp_path / "again").mkdir()
    MAE(kind="mae").build(folder).save(tmp_path / "again")
    again, info = type(model).from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(info.values())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    # The names that modules of transformers have, in a pickle.
    torch.save(model.state_dict(), tmp_path / "again" / "pytorch_model.bin")
    (tmp_path / "again" / "model.safetensors").unlink()
    found = MAE(kind="mae").build(tmp_path / "again").module.official()
    assert all(
        torch.equal(value, found[name]) for name, value in MAE(kind="mae").build(folder).module.official().items()
    )


def test_what_a_configuration_of_transformers_says_counts(vitmae):
    _, folder = vitmae
    with pytest.raises(UserError, match=r"model\.heads: the recipe says 4, but the weights .* 2; leave it out"):
        MAE(kind="mae", heads=4).build(folder)
    with pytest.raises(UserError, match=r"ViTMAE; give its folder with config\.json"):
        SMALL.build(folder / "model.safetensors")
    said = (folder / "config.json").read_text()
    (folder / "config.json").write_text(said.replace('"gelu"', '"relu"'))
    with pytest.raises(UserError, match="hidden_act: relu is not supported"):
        MAE(kind="mae").build(folder)


def test_fresh_positions_are_those_of_the_authors_code():
    """get_2d_sincos_pos_embed of facebookresearch/mae: the column in the first half of the width, then the row."""
    found = SMALL.build(None).module.encoder.vit.pos_embed[0]
    rates = [10000 ** (-rate / 4) for rate in range(4)]

    def axis(place: int) -> list[float]:
        return [wave(place * rate) for wave in (math.sin, math.cos) for rate in rates]

    expected = [axis(column) + axis(row) for row in range(4) for column in range(4)]
    torch.testing.assert_close(found, torch.tensor([[0.0] * 16, *expected]))
