"""The sample folders of docs/handed-over: one that `unlearnkit verify` accepts, and one that it refuses."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from unlearnkit.plugins import discover
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.validate import load
from unlearnkit.run.export import export
from unlearnkit.run.several import start

PLACE = Path(__file__).parents[1] / "handed-over"


def make() -> Path:
    """Write both folders and the public key again, signed with a key that is thrown away."""
    plugins, key = discover(), generate_private_key(SECP256R1())
    loaded = load(PLACE / "recipe.yaml", plugins)
    assert isinstance(loaded.recipe, Recipe)
    accepted, refused = PLACE / "accepted", PLACE / "refused"
    for folder in (accepted, refused):
        shutil.rmtree(folder, ignore_errors=True)
    with TemporaryDirectory() as place:
        run, private = Path(place) / "run", Path(place) / "private.pem"
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        start(loaded.recipe, loaded.source.text, loaded.resolved, PLACE, run, plugins, lambda event: None)
        export(run, loaded.recipe, "epsilon-at-0.5", accepted, private)
    (PLACE / "public.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    shutil.copytree(accepted, refused)
    weights = bytearray((refused / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (refused / "model.safetensors").write_bytes(weights)
    return PLACE
