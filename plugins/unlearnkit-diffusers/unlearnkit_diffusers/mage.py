"""MAGE: a transformer that fills in masked tokens of a frozen VQ-GAN (Li et al., CVPR 2023).

Parameters have the names of the published checkpoints, with one difference: there the last layer's output matrix *is*
the encoder's token embedding, so that a frozen decoder would drift while the encoder is trained. Here the decoder has
that matrix as a parameter of its own, `words`, a copy at first.

Tokens are those of T(x), and one whose patch has a hidden pixel is masked. No token is dropped from the encoder's
input, as in the published generation, and no activation, as in the unlearning of Li et al. (ICLR 2024).

Shape suffixes: B images, N tokens, D width, V words, C width of a code.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import VQModel
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import Embedding, ModelAdapter, View, staged
from unlearnkit.disk import write_json
from unlearnkit.errors import UserError
from unlearnkit.weights import fit, read, resolve
from unlearnkit.weights import save as save_tensors
from unlearnkit_diffusers import loading, taming
from unlearnkit_diffusers.autoencoders import LEVELS, SIDE, autoencoder
from unlearnkit_diffusers.sizes import chosen, ratio, read_facts, require_given, require_side

CLASSES = 1000
"""Words between the codes and the mask word: the published vocabulary has one for each class of ImageNet."""
NO_CLASS = 76
"""Which of the classes' words stands first in every sequence, as published."""
SMOOTHING = 0.1
"""Label smoothing of the loss, as published."""
SMALL = {"width": 192, "depth": 4, "heads": 4, "decoder_width": 192, "decoder_depth": 3, "decoder_heads": 4}
SIZES = tuple(SMALL)
HEADS = {"heads": "width", "decoder_heads": "decoder_width"}
"""The field of the width that each number of heads divides."""
PUBLISHED_HEADS = {768: {"heads": 12, "decoder_heads": 16}, 1024: {"heads": 16, "decoder_heads": 16}}
"""Heads of the published models by width (ViT-B, ViT-L), which a checkpoint does not say."""
PUBLISHED = {"token_emb.word_embeddings.weight", "decoder_embed.weight", "vqgan.quantize.embedding.weight"}
"""Names that tell a published checkpoint."""
DECODER = ("decoder_embed.", "decoder_pos_embed_learned", "decoder_blocks.", "decoder_norm.", "mlm_layer.")
UNUSED = ("cls_token", "pos_embed", "patch_embed.", "mask_token", "decoder_pos_embed", "decoder_pred.")
"""What a published checkpoint holds beside what it uses."""


_norm = partial(nn.LayerNorm, eps=1e-6)


class Attention(nn.Module):
    """Self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each token gathers, [B, N, D]."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = _norm(width), Attention(width, heads), _norm(width)
        inner = OrderedDict(fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width))
        self.mlp = nn.Sequential(inner)

    def forward(self, x: Tensor) -> Tensor:
        """Return x [B, N, D] after both."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Words(nn.Module):
    """Embedding of words and their places."""

    def __init__(self, words: int, width: int, places: int) -> None:
        super().__init__()
        self.word_embeddings, self.position_embeddings = nn.Embedding(words, width), nn.Embedding(places, width)
        self.LayerNorm = _norm(width)

    def forward(self, words: Tensor) -> Tensor:
        """Return embeddings [B, N, D] of words [B, N]."""
        return self.LayerNorm(self.word_embeddings(words) + self.position_embeddings.weight[: words.shape[1]])


class Encoder(nn.Module):
    """From tokens to embeddings."""

    def __init__(self, codes: int, tokens: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.none, self.mask = codes + NO_CLASS, codes + CLASSES
        self.token_emb = Words(codes + CLASSES + 1, width, tokens + 1)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = _norm(width)

    def forward(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """Return embeddings [B, 1 + N, D] of tokens [B, N], those `masked` [B, N] hidden from it."""
        words = F.pad(tokens.masked_fill(masked, self.mask), (1, 0), value=self.none)
        return self.norm(self.blocks(self.token_emb(words)))


class Head(nn.Module):
    """The last layer, but for the matrix it is multiplied with."""

    def __init__(self, decoder_width: int, width: int, words: int) -> None:
        super().__init__()
        self.fc, self.ln = nn.Linear(decoder_width, width), nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(1, 1, words))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """Return a logit for each word, [B, N, V]."""
        return self.ln(F.gelu(self.fc(x))) @ words.T + self.bias


class Decoder(nn.Module):
    """From embeddings to logits."""

    def __init__(self, words: Tensor, tokens: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        count, encoder_width = words.shape
        self.decoder_embed = nn.Linear(encoder_width, width)
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, tokens + 1, width))
        self.decoder_blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.decoder_norm = _norm(width)
        self.mlm_layer = Head(width, encoder_width, count)
        self.words = nn.Parameter(words.detach().clone())

    def forward(self, embedding: Tensor, masked: Tensor) -> Tensor:
        """Return logits [B, 1 + N, V]; at a masked token the decoder starts from the first one's embedding."""
        x = self.decoder_embed(embedding)
        x = torch.where(F.pad(masked, (1, 0))[..., None], x[:, :1], x) + self.decoder_pos_embed_learned
        return self.mlm_layer(self.decoder_norm(self.decoder_blocks(x)), self.words)


class Parts(nn.Module):
    """Both halves of the transformer and the VQ-GAN."""

    def __init__(self, vqgan: Any, tokens: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        codes = vqgan.config["num_vq_embeddings"]
        self.encoder = Encoder(codes, tokens, *(sizes[name] for name in SIZES[:3])).apply(_initialise)
        words = self.encoder.token_emb.word_embeddings.weight
        self.decoder = Decoder(words, tokens, *(sizes[name] for name in SIZES[3:])).apply(_initialise)
        nn.init.normal_(self.decoder.decoder_pos_embed_learned, std=0.02)
        self.vqgan = vqgan.requires_grad_(False)

    def transformer(self) -> dict[str, Tensor]:
        """Return the weights of all but the VQ-GAN."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("vqgan.")}


class MageAdapter(ModelAdapter):
    """The transformer as encoder and decoder over the tokens of a frozen VQ-GAN."""

    module: Parts
    image_size: int

    def __init__(self, module: Parts, sizes: Mapping[str, int], image_size: int, steps: int, unit: bool) -> None:
        """Take sizes by field, the steps of decoding, and whether the VQ-GAN's images are in [0, 1], not [-1, 1]."""
        self.module, self.sizes, self.image_size, self.steps, self.unit = module, sizes, image_size, steps, unit
        self.encoder, self.first = module.encoder, module.vqgan
        self.codes: int = module.vqgan.config["num_vq_embeddings"]
        self.patch = ratio(module.vqgan)

    def first_stage(self, view: View) -> tuple[Tensor, ...]:
        """Return the tokens of the degraded images, [B, N] int64."""
        return (self._tokens(view.images),)

    def embed(self, view: View) -> Embedding:
        """Return the embeddings of all tokens and of the word before them, [B, 1 + N, D]."""
        (tokens,) = staged(self, view)
        return self.encoder(tokens, self._masked(view))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return the images of the likeliest codes of masked tokens, of all where none is, in one pass.

        The gradient is that of the codes' expectation (straight through).
        """
        assert isinstance(embedding, Tensor)
        (tokens,) = staged(self, view)
        masked = self._masked(view)
        logits = self._logits(embedding, masked)
        book = self.module.vqgan.quantize.embedding.weight
        expected = logits.softmax(2) @ book
        made = expected + (book[logits.argmax(2)] - expected).detach()
        return self._images(torch.where(_region(masked)[..., None], made, book[tokens]))

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the smoothed cross-entropy of the masked tokens among the codes, of all tokens where none is masked.

        That is the loss of Li et al. (2023), with the task's masks in place of random ones.
        """
        masked = self._masked(view)
        with torch.no_grad():
            wanted = self._tokens(images)
        logits = self._logits(self.encoder(*staged(self, view), masked), masked)
        loss = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none", label_smoothing=SMOOTHING)
        weight = _region(masked).float()
        return (loss * weight).sum() / weight.sum()

    @torch.no_grad()
    def output(self, view: View) -> Tensor:
        """Return the image of tokens decided in steps, in each those the model is surest of (Chang et al. 2022).

        How many are left open after a step falls as a cosine. Greedy, so that it is the same each time.
        """
        (tokens,) = staged(self, view)
        unknown = self._masked(view)
        count, decided = unknown.sum(1), _region(unknown)
        for step in range(1, self.steps + 1):
            chance, best = self._logits(self.encoder(tokens, unknown), unknown).softmax(2).max(2)
            tokens = torch.where(decided, best, tokens)
            left = (count * math.cos(math.pi / 2 * step / self.steps)).floor()
            rank = chance.masked_fill(~unknown, math.inf).argsort(dim=1, stable=True).argsort(1)
            decided = unknown = unknown & (rank < left[:, None])
            if not bool(unknown.any()):
                break
        return view.filled(self._images(self.module.vqgan.quantize.embedding.weight[tokens]).clamp(0, 1))

    def save(self, folder: Path) -> None:
        """Write `config.json`, the transformer as `model.safetensors`, and the VQ-GAN as diffusers does in `vqgan/`."""
        write_json(folder / "config.json", {"model": "mage", "image_size": self.image_size, **self.sizes})
        save_tensors(self.module.transformer(), folder / "model.safetensors")
        (folder / "vqgan").mkdir(exist_ok=True)
        loading.save(self.module.vqgan, self.unit, folder / "vqgan")

    def _masked(self, view: View) -> Tensor:
        """Return which tokens are masked, [B, N]."""
        return F.max_pool2d(view.hidden.float(), self.patch).flatten(1).bool()

    def _tokens(self, images: Tensor) -> Tensor:
        vqgan = self.module.vqgan
        # In fp32 within autocast too, so that tokens are the same whether they are found in a step or once before.
        with torch.autocast(images.device.type, enabled=False):
            latents = vqgan.encode(images if self.unit else images * 2 - 1).latents
            return vqgan.quantize(latents)[2][2].view(len(images), -1)

    def _logits(self, embedding: Tensor, masked: Tensor) -> Tensor:
        """Return the logits of the codes for each token, [B, N, codes] in fp32."""
        return self.module.decoder(embedding, masked)[:, 1:, : self.codes].float()

    def _images(self, codes: Tensor) -> Tensor:
        """Return images [B, 3, H, W] in [0, 1], not clamped, of codes [B, N, C]."""
        side = self.image_size // self.patch
        vqgan = self.module.vqgan
        images = vqgan.decoder(vqgan.post_quant_conv(codes.transpose(1, 2).unflatten(2, (side, side)))).float()
        return images if self.unit else images / 2 + 0.5


def _region(masked: Tensor) -> Tensor:
    """Return which tokens the model is to make: the masked ones, or all of an image without any."""
    return masked | ~masked.any(1, keepdim=True)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def mage(
    weights: Path | None, base: Path, *, first_stage: str | None, decoding_steps: int, **given: int | None
) -> MageAdapter:
    """Return the adapter of a MAGE with sizes by field; raise `UserError` where sizes or weights do not fit."""
    tensors: dict[str, Tensor] = {}
    if weights is None:
        vqgan, unit = _first_stage(first_stage, base, given["image_size"])
        facts = chosen(given, SMALL | {"image_size": vqgan.config["sample_size"]})
    else:
        vqgan, unit, facts, tensors = _read(weights, given)
        require_given(given, {name: facts[name] for name in (*SIZES, "image_size")}, weights)
    image_size, sizes, patch = facts["image_size"], {name: facts[name] for name in SIZES}, ratio(vqgan)
    if not isinstance(image_size, int):
        raise UserError("model.first_stage: its VQ-GAN is for images that are no squares; give `image_size`, one side")
    require_side(image_size, patch)
    for heads, width in HEADS.items():
        if sizes[width] % sizes[heads]:
            raise UserError(
                f"model.{heads}: {sizes[heads]} does not divide {width} ({sizes[width]}); give one that does"
            )
    module = Parts(vqgan, (image_size // patch) ** 2, sizes)
    if weights is not None:
        fit(module.transformer(), tensors, weights)
    return MageAdapter(module, sizes, image_size, decoding_steps, unit)


def _first_stage(reference: str | None, base: Path, image_size: int | None) -> tuple[Any, bool]:
    """Return the VQ-GAN that a new transformer is to work on, and whether its images are in [0, 1]."""
    path = resolve(reference, base, "model.first_stage")
    if path is not None:
        return loading.load(VQModel, path)
    levels: tuple[int, ...] = LEVELS
    while (image_size or SIDE) > 16 * 2 ** (len(levels) - 1):  # at most 16 x 16 tokens
        levels += levels[-1:]
    return autoencoder(None, kind="vq-gan", image_size=image_size, block_out_channels=levels).net, False


def _read(weights: Path, given: Mapping[str, int | None]) -> tuple[Any, bool, dict[str, Any], dict[str, Tensor]]:
    """Return the VQ-GAN, whether its images are in [0, 1], the sizes, and the transformer's weights."""
    if not weights.is_dir():
        return _published(read(weights, PUBLISHED), weights, given)
    facts = read_facts(weights / "config.json")
    if facts.get("model") != "mage" or not {"image_size", *SIZES} <= facts.keys():
        raise UserError(
            f"{weights}: its config.json is not that of a MAGE; give a folder that unlearnkit wrote for one, or a "
            f"published checkpoint (such as mage-vitb-1600.pth)"
        )
    return *loading.load(VQModel, weights / "vqgan"), facts, read(weights / "model.safetensors")


def _published(
    found: Mapping[str, Tensor], path: Path, given: Mapping[str, int | None]
) -> tuple[Any, bool, dict[str, Any], dict[str, Tensor]]:
    """Return the same of a published checkpoint; `given` holds the heads of one of another size."""
    first = {name.removeprefix("vqgan."): value for name, value in found.items() if name.startswith("vqgan.")}
    words = found.get("token_emb.word_embeddings.weight")
    if words is None or "decoder_embed.weight" not in found or not first:
        raise UserError(
            f"{path}: this is no MAGE with its VQ-GAN; give a published checkpoint (such as mage-vitb-1600.pth), or a "
            f"folder that unlearnkit wrote for one"
        )
    vqgan = taming.vqgan(first, path)
    width, decoder_width = words.shape[1], found["decoder_embed.weight"].shape[0]
    heads = chosen(given, PUBLISHED_HEADS.get(width, dict.fromkeys(HEADS)))
    if unknown := [name for name in heads if heads[name] is None]:
        raise UserError(f"model.{unknown[0]}: {path} is of a size whose heads are not known; give them")
    facts = {
        "image_size": math.isqrt(found["token_emb.position_embeddings.weight"].shape[0] - 1) * ratio(vqgan),
        "width": width, "depth": _count(found, "blocks"),
        "decoder_width": decoder_width, "decoder_depth": _count(found, "decoder_blocks"), **heads,
    }  # fmt: skip
    tensors = {"decoder.words": words}
    for name, value in found.items():
        if name.startswith(DECODER):
            tensors[f"decoder.{name}"] = value
        elif not name.startswith((*UNUSED, "vqgan.")) and name != "token_emb.position_ids":
            tensors[f"encoder.{name}"] = value
    return vqgan, taming.unit(first), facts, tensors


def _count(found: Mapping[str, Tensor], blocks: str) -> int:
    return len({name.split(".")[1] for name in found if name.startswith(f"{blocks}.")})
