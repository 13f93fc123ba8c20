"""Whether an exported folder is as it was handed over: files, signature, and what follows from its statement."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from unlearnkit import __version__
from unlearnkit.disk import as_json
from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.report.bill import bill
from unlearnkit.report.card import card
from unlearnkit.report.statement import FORGOTTEN, LONG, STATEMENT, Statement, files, forgotten, read, solution
from unlearnkit.run.signature import GIT, SIGNATURE, check
from unlearnkit.seal import SEAL, UNSEALED, Sealed

FACTS = "unlearnkit.json"
"""The model section for a recipe that uses the weights."""


class Handed(NamedTuple):
    """An exported folder that is as it was handed over."""

    sealed: Sealed
    signed: str
    """Whose signature there is."""
    stated: Statement


def derived(its: Statement) -> dict[str, str]:
    """Return what an exported folder says for people and for other tools, all of it from its statement."""
    return {"README.md": card(its), "bom.cdx.json": as_json(bill(its))}


def opened(folder: Path, key: Path | None = None) -> Handed:
    """Return an exported folder; raise `UserError` naming the file that is not as it was handed over.

    Without a public key the files are held against the folder's own seal alone, which whoever changes them can write
    again.
    """
    try:
        sealed = Sealed.of(folder)
        sealed.verify()
        _refuse_strange(sealed)
        signed = _signed(sealed, key)  # before anything that is written there is read
        stated = read(sealed)
        _refuse_unlike(sealed, stated)
    except UserError as error:
        raise UserError(str(error), Exit.REFUSED if error.code == Exit.FOLDER else error.code) from None
    return Handed(sealed, signed, stated)


def _refuse_strange(sealed: Sealed) -> None:
    known = {*sealed.files, SEAL} if STATEMENT in sealed.files else {*sealed.files, *UNSEALED}
    for path in (path for path in sorted(sealed.folder.rglob("*")) if path.is_file()):
        name = path.relative_to(sealed.folder)
        if name.as_posix() not in known and name.parts[0] not in GIT:
            raise UserError(f"{path}: this file was not handed over with the others; remove it", Exit.REFUSED)


def _refuse_unlike(sealed: Sealed, stated: Statement) -> None:
    """Refuse weights, a list, a card and a bill of materials that are not those of the statement."""
    its, folder = stated["predicate"], sealed.folder
    for name, digest in files(stated).items():
        if sealed.files.get(name) != digest:
            raise UserError(f"{folder / name}: this is not the file that the statement is about", Exit.REFUSED)
    if hashlib.sha256(sealed.read(FORGOTTEN)).hexdigest() != forgotten(its)["files_sha256"]:
        raise UserError(f"{folder / FORGOTTEN}: this is not the list that the statement is about", Exit.REFUSED)
    if its["unlearnkit"] != __version__:  # another one may write them in another way
        return
    try:
        texts = derived(stated)
    except Exception as error:  # whatever a template makes of claims that somebody else wrote
        wrong = f"it is not as `unlearnkit export` writes one ({first_line(error)})"
        raise UserError(f"{folder / STATEMENT}: {wrong}", Exit.REFUSED) from None
    for name, text in texts.items():
        if _parsed(name, sealed.read(name).decode(errors="replace")) != _parsed(name, text):
            raise UserError(f"{folder / name}: it is not what follows from the statement", Exit.REFUSED)
    facts: Any = _parsed(FACTS, sealed.read(FACTS).decode(errors="replace"))
    row = facts.get("solution") if isinstance(facts, dict) else None
    said = {key: value for key, value in row.items() if key not in LONG} if isinstance(row, dict) else None
    if (said, facts and facts.get("original_weights")) != (solution(its), its["manifest"]["weights"]):
        raise UserError(f"{folder / FACTS}: it is not what follows from the statement", Exit.REFUSED)


def _parsed(name: str, text: str) -> object:
    """Return what JSON, or the head and the body of a card, say, however they are written; None of what is neither."""
    with suppress(ValueError, RecursionError, yaml.YAMLError):
        if name.endswith(".json"):
            return json.loads(text)
        head, _, body = text.removeprefix("---\n").partition("\n---\n")
        return yaml.safe_load(head), body
    return None


def _signed(sealed: Sealed, key: Path | None) -> str:
    """Say whose signature there is; raise `UserError` where it does not hold."""
    there = SIGNATURE in sealed.files
    if key is None:
        return "not checked; give its public key with --key" if there else "there is none"
    if not there:
        raise UserError(f"{sealed.folder / SIGNATURE}: there is no signature, so none by {key}", Exit.REFUSED)
    check(sealed.folder, key, sealed.folder / SIGNATURE)
    return f"that of {key}, for all files"
