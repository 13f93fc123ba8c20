"""OpenSSF Model Signing 1.0 of an exported folder, with a key of the user's own and nobody asked over the network."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from unlearnkit.disk import PART, read_plain
from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.seal import SEAL

SIGNATURE = "model.sig"
GIT = (".git", ".gitattributes", ".github", ".gitignore")
"""What a signature leaves out as well: https://github.com/ossf/model-signing-spec, 6.2."""
KEYS = "an elliptic-curve key as PEM, such as `openssl ecparam -name prime256v1 -genkey -noout` makes"


def signer(key: Path) -> Any:
    """Return what signs with a private key; raise `UserError` for what is no key."""
    config = _library().signing.Config()
    try:
        config.use_elliptic_key_signer(private_key=key)
    except Exception as error:  # whatever the libraries make of a file that anybody may have written
        wrong = f"no private key that can be used ({_why(error)}); give {KEYS}, without a password"
        raise UserError(f"--attest {key}: {wrong}", Exit.USAGE) from None
    return config


def sign(folder: Path, key: Path, name: str) -> None:
    """Sign all files of a folder with a private key, as a model of that name."""
    config = signer(key)
    config.set_hashing_config(_library().hashing.Config().set_ignored_paths(paths=[SIGNATURE, SEAL]))
    with TemporaryDirectory(dir=folder.parent, prefix=".", suffix=PART) as place:
        named = folder.rename(Path(place) / name)  # as the signature has the folder's name
        config.sign(named, named / SIGNATURE)
        named.rename(folder)


def check(folder: Path, key: Path, signature: Path) -> None:
    """Check a signature of a folder with a public key; raise `UserError` saying what it does not hold for."""
    config = _library().verifying.Config()
    try:
        config.use_elliptic_key_verifier(public_key=key)
    except Exception as error:
        wrong = f"no public key that can be used ({_why(error)}); give the public half of {KEYS}"
        raise UserError(f"--key {key}: {wrong}", Exit.USAGE) from None
    read_plain(signature)  # which says what is the matter with the file
    try:
        config.verify(folder.resolve(), signature.resolve())  # the library follows no link to the folder
    except Exception as error:
        said = first_line(error) or "it is not that of this key"
        raise UserError(f"{signature}: the signature does not hold: {said}", Exit.REFUSED) from None


def _why(error: Exception) -> str:
    return "it is of another sort" if isinstance(error, AttributeError) else first_line(error)


def _library() -> ModuleType:
    try:
        import model_signing
    except ImportError:
        missing = "signatures need the package model-signing: pip install 'unlearnkit[attest]'"
        raise UserError(missing, Exit.USAGE) from None
    return model_signing
